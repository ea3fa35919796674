"""Verified bits: hand-derived messages, a decoder, and cheats."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.metrics import capability
from rsrc_jax.types import Tokens

SYMBOLS = 7  # and an end: 3 bits a token
words = st.lists(st.integers(1, SYMBOLS), max_size=6)


def tokens(*rows, width=None):
  width = width or max(max(map(len, rows)), 1)
  ids, mask = (
    np.zeros((len(rows), width), np.int32),
    np.zeros((len(rows), width), bool),
  )
  for i, row in enumerate(rows):
    ids[i, : len(row)], mask[i, : len(row)] = row, True
  return Tokens(ids, mask)


def saved(s, c, d, budget=8):
  source = tokens(s, width=8)
  bits = capability.uniform_bits(source, SYMBOLS)
  return capability.verified_bits(
    source, tokens(c, width=8), tokens(d, width=8), bits,
    symbols=SYMBOLS, budget=budget,
  )  # fmt: skip


def residual(s, d):
  return saved(s, [], d).residual[0]


def test_messages_by_hand():
  # Perfect: gamma(1) = 1 bit, log2(0 + 1) = 0.
  assert residual([1, 2, 3], [1, 2, 3]) == pytest.approx(1.0)
  # One replacement: gamma(2) = 3, insertions of {0, 1} = 1, one place among
  # three = log2 3, none of one edit inserts = 0, replace or delete = 1, and the
  # token = 3.
  assert residual([1, 2, 3], [1, 5, 3]) == pytest.approx(
    3 + 1 + math.log2(3) + 0 + 1 + 3
  )
  # One insertion: as before, but three steps (d's two and the new one) and no
  # bit for the kind.
  assert residual([1, 2, 3], [1, 3]) == pytest.approx(3 + 1 + math.log2(3) + 3)
  # One deletion: gamma 3, insertions 1, one place among three, its kind 1.
  assert residual([1, 3], [1, 2, 3]) == pytest.approx(3 + 1 + math.log2(3) + 1)
  # Nothing from nothing: e = 0.
  assert residual([], []) == pytest.approx(1.0)


def test_wire_and_raw_by_hand():
  out = saved([1, 2, 3], [4, 5], [1, 2, 3], budget=2)
  assert out.raw[0] == pytest.approx(4 * 3)  # three tokens and the end
  assert out.wire[0] == pytest.approx(2 * 3)  # a full code needs no end
  assert saved([1], [4, 5], [1], budget=3).wire[0] == pytest.approx(3 * 3)
  assert out.bits[0] == pytest.approx(12 - 6 - 1)


@given(words, words)
@settings(max_examples=200, deadline=None)
def test_new_tokens_are_never_more_than_the_source(s, d):
  value = residual(s, d)
  assert value >= 1.0
  # Deleting all of d and inserting all of s is one of the messages.
  e, i, m = len(s) + len(d), len(s), len(d)
  if e:
    choose = lambda n, k: math.log2(math.comb(n, k))
    naive = 2 * math.floor(math.log2(e + 1)) + 1 + math.log2(e + 1)
    naive += choose(m + i, e) + choose(e, i) + m + 3 * i
    slack = 2 * e * (math.log2(m + 2) + 2)  # the price is approximate
    assert value <= naive + slack


@given(words, words)
@settings(max_examples=200, deadline=None)
def test_edits_are_levenshteins_when_tokens_are_dear(s, d):
  """With dear tokens fewer new ones win; with all equal, fewer edits do."""
  source = tokens(s, width=8)
  free = np.zeros((1, 9))
  n, m = np.array([len(s)]), np.array([len(d)])
  edits, _, _ = capability._align(
    source.ids, tokens(d, width=8).ids, n, m, free
  )
  assert edits[0] == levenshtein(s, d)


def levenshtein(a, b):
  row = list(range(len(b) + 1))
  for i, x in enumerate(a, 1):
    row, above = [i], row
    for j, y in enumerate(b, 1):
      row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
  return row[-1]


def test_a_row_does_not_depend_on_its_batch():
  rng = np.random.default_rng(0)
  rows = [list(rng.integers(1, 8, rng.integers(0, 7))) for _ in range(40)]
  source, decoded = tokens(*rows, width=8), tokens(*rows[::-1], width=8)
  bits = capability.uniform_bits(source, SYMBOLS)
  both = capability.residual_bits(source, decoded, bits)
  alone = [residual(s, d) for s, d in zip(rows, rows[::-1], strict=True)]
  np.testing.assert_allclose(both, alone)


def test_a_frozen_model_makes_only_its_own_surprises_dear():
  source = tokens([1, 2, 3], width=3)
  bits = np.array([[0.5, 9.0, 0.5, 0.25]])
  out = lambda d: capability.residual_bits(source, tokens(d, width=3), bits)[0]
  # The same kind of message, but for the token that is new.
  assert out([1, 5, 3]) - out([5, 2, 3]) == pytest.approx(8.5)
  got = capability.verified_bits(
    source, tokens([1]), source, bits, symbols=SYMBOLS, budget=1
  )
  assert got.raw[0] == pytest.approx(10.25)  # end included


RNG = np.random.default_rng(1)
CORPUS = [list(RNG.integers(1, 8, 8)) for _ in range(200)]


def mean_bits(cheat):
  """Mean saving of (c, d) = cheat(s) over random, incompressible sources."""
  out = []
  for s in CORPUS:
    c, d = cheat(s)
    source = tokens(s)
    out.append(
      capability.verified_bits(
        source, tokens(c, width=16), tokens(d, width=16),
        capability.uniform_bits(source, SYMBOLS), symbols=SYMBOLS, budget=16,
      ).bits[0]
    )  # fmt: skip
  return np.mean(out)


@pytest.mark.parametrize(
  "cheat",
  [
    lambda s: (s[:3], s[:3]),  # truncation: the rest has to be sent
    lambda s: ([*s, 1, 2, 3, 4], s),  # appended vocabulary
    lambda s: (s, s),  # a copy
    lambda s: ([], []),  # silence
    lambda s: ([], CORPUS[0]),  # one memorised training text for everything
    lambda s: ([s[0]] * 8, [s[0]] * 8),  # repetition
  ],
)
def test_cheats_save_nothing(cheat):
  assert mean_bits(cheat) <= 0


def test_a_copy_costs_the_message_that_says_so_and_clips_to_zero():
  # 1 bit for "no edits"; the sender that sends raw instead pays nothing.
  assert mean_bits(lambda s: (s, s)) == pytest.approx(-1 - 0.0)
  assert max(0.0, mean_bits(lambda s: (s, s))) == 0.0


def test_overlap_with_training_is_refused():
  train, heldout = tokens([1, 2], [3], width=4), tokens([5], [1, 2], width=3)
  with pytest.raises(ValueError, match="1 held-out sources"):
    capability.check_disjoint(train, heldout)
  capability.check_disjoint(train, tokens([1], [2, 1]))
