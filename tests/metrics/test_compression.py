"""How well d matches s, against plain Python over lists."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.metrics import compression
from rsrc_jax.types import Tokens

S, T = 6, 8  # slots of s and of d
few = settings(deadline=None, max_examples=60)
# Few different words, so that random texts have something in common.
sources = st.lists(st.integers(2, 5), max_size=S)
decodes = st.lists(st.integers(2, 5), max_size=T)


def tokens(words, length):
  """One text, padded on the right."""
  ids = list(words) + [0] * (length - len(words))
  mask = [True] * len(words) + [False] * (length - len(words))
  return Tokens(jnp.array(ids, jnp.int32), jnp.array(mask, bool))


def levenshtein(a, b):
  """The textbook recursion, row by row."""
  row = list(range(len(b) + 1))
  for i, x in enumerate(a, 1):
    above, row = row, [i]
    for j, y in enumerate(b, 1):
      row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
  return row[-1]


@jax.jit
def measured(s, d):
  return {
    "edit": compression.edit_similarity(s, d),
    "edit_back": compression.edit_similarity(d, s),
    "accuracy": compression.token_accuracy(s, d),
    "accuracy_back": compression.token_accuracy(d, s),
    "exact": compression.exact_match(s, d),
    "exact_back": compression.exact_match(d, s),
    "novel": compression.novel(s, d),
    "novel_fraction": compression.novel_fraction(s, d),
  }


def accuracy(s, d):
  return sum(x == y for x, y in zip(s, d, strict=False)) / max(len(s), 1)


@few
@given(sources, decodes)
def test_against_plain_python(s, d):
  found = measured(tokens(s, S), tokens(d, T))
  edit = 1 - levenshtein(s, d) / max(len(s), len(d), 1)
  new = [x not in s for x in d]
  expected = {
    "edit": edit,
    "edit_back": edit,
    "accuracy": accuracy(s, d),
    "accuracy_back": accuracy(d, s),
    "exact": s == d,
    "exact_back": s == d,
    "novel": new + [False] * (T - len(d)),
    "novel_fraction": sum(new) / max(len(d), 1),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


@few
@given(sources)
def test_a_text_is_like_itself(s):
  """In a wider array too: pads neither count nor cost."""
  found = measured(tokens(s, S), tokens(s, T))
  assert found["edit"] == found["exact"] == 1.0
  assert found["accuracy"] == (1.0 if s else 0.0)
  assert not found["novel"].any()


def test_edit_similarity_by_hand():
  # abcd -> acbd: two replacements of four. abc -> xabc: one insertion of four.
  # Nothing in common: 0, whatever the lengths.
  for s, d, expected in [
    ([2, 3, 4, 5], [2, 4, 3, 5], 1 / 2),
    ([2, 3, 4], [5, 2, 3, 4], 3 / 4),
    ([2, 3, 4], [5], 0),
    ([], [], 1),
    ([2], [], 0),
  ]:
    found = measured(tokens(s, S), tokens(d, T))["edit"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_ids_under_a_pad_do_not_count():
  """A rollout's pads are 0, but no metric may lean on that."""
  s = Tokens(jnp.array([4, 5, 9]), jnp.array([True, True, False]))
  d = Tokens(jnp.array([4, 5, 9, 9]), jnp.array([True, True, False, False]))
  assert compression.exact_match(s, d) == 1.0
  assert compression.edit_similarity(s, d) == 1.0
  other = d._replace(ids=jnp.array([4, 5, 8, 8]))
  assert compression.exact_match(s, other) == 1.0
  # The 9 of d is new: that of s is a pad.
  longer = d._replace(mask=jnp.array([True, True, True, False]))
  assert compression.novel(s, longer).tolist() == [False, False, True, False]
  assert compression.exact_match(s, longer) == 0.0
  assert compression.token_accuracy(s, longer) == 1.0  # 2 of the 2 of s


def test_leading_axes():
  """[B, G, T], as the verifier calls it, is row by row."""
  rng = np.random.default_rng(0)
  ids, others = rng.integers(2, 4, (2, 2, 3, S))
  lengths = rng.integers(0, S + 1, (2, 2, 3))
  mask, other_mask = np.arange(S) < lengths[..., None]
  s = Tokens(jnp.asarray(ids), jnp.asarray(mask))
  d = Tokens(jnp.asarray(others), jnp.asarray(other_mask))
  found = measured(s, d)
  assert found["edit"].shape == (2, 3) and found["novel"].shape == (2, 3, S)
  for i in np.ndindex(2, 3):
    a, b = ids[i][mask[i]].tolist(), others[i][other_mask[i]].tolist()
    edit = 1 - levenshtein(a, b) / max(len(a), len(b), 1)
    np.testing.assert_allclose(found["edit"][i], edit, atol=1e-6)
    np.testing.assert_allclose(found["accuracy"][i], accuracy(a, b), atol=1e-6)


def test_slots():
  s = tokens([2, 9, 3, 9, 4, 5], S)
  positions = (0, 2, 4, 5)
  slots = lambda words: compression.slots(s, tokens(words, T), positions)
  assert slots([2, 9, 3, 9, 4, 5]) == 1.0
  # The frame (9) is not asked for.
  assert slots([2, 7, 3, 7, 4, 5, 8, 8]) == 1.0
  # A fact elsewhere is wrong; what d does not reach is wrong.
  assert slots([3, 9, 2, 9, 4, 5]) == 1 / 2
  assert slots([2, 9, 3]) == 1 / 2
  assert slots([]) == 0.0
  # d in fewer slots than s has.
  short = compression.slots(s, tokens([2, 9, 3], 3), positions)
  assert short == 1 / 2


def test_novel_by_hand():
  # Of 3, 3, 7, 8 two are not in s.
  s, code = tokens([2, 3, 4], S), tokens([3, 3, 7, 8], T)
  assert compression.novel(s, code).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
  assert compression.novel_fraction(s, code) == 1 / 2
  assert compression.novel_fraction(s, tokens([], T)) == 0.0
  assert compression.novel_fraction(tokens([], S), code) == 1.0


@pytest.mark.parametrize(
  "vocab_size, budget",
  [(1, 0), (1, 5), (2, 3), (120, 3), (32_768, 32), (256_000, 64)],
)
def test_channel_nats(vocab_size, budget):
  """math.log takes exact integers of any size."""
  codes = sum(vocab_size**length for length in range(budget + 1))
  found = compression.channel_nats(vocab_size, budget)
  assert isinstance(found, float)
  np.testing.assert_allclose(found, math.log(codes), rtol=1e-6, atol=1e-7)


def test_channel_nats_by_hand():
  # Two words, at most 3: 1 + 2 + 4 + 8 = 15 codes.
  np.testing.assert_allclose(compression.channel_nats(2, 3), np.log(15), 1e-6)
  # Of 120 ids and 3 tokens, about 3 log2 120 = 20.72 bits.
  bits = compression.channel_nats(120, 3) / np.log(2)
  np.testing.assert_allclose(bits, 20.73, atol=0.005)
