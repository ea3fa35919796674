"""What V says of codes: by what D writes, and by nothing else but shaping."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import scripted, tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.lm import tokens
from rsrc_jax.rl import judging, verifier
from rsrc_jax.types import Judged, Tokens

S, K, END = tiny.SOURCE, tiny.BUDGET, tokenizer.END


def wanted(params, prompt, step):
  """D writes the first word of what it reads over and over, then ends; with
  odds that the last word says. Without a text it ends at once."""
  del params
  order = jnp.argsort(~prompt.mask, stable=True)
  ids, size = prompt.ids[order], jnp.sum(prompt.mask)
  word = jnp.where((step < S) & (size > 2), ids[1], END)
  sure = jnp.where(size > 2, ids[size - 2] - 5.0, 20.0)
  sure = jnp.where(ids[0] == tokenizer.D, sure, 0.0)
  return sure * jax.nn.one_hot(word, tiny.VOCAB)


POLICY = scripted.policy(wanted, None, tiny.VOCAB)
FROZEN = {"base": (), "reader": ()}


def hearing(word, shaping, decodes=1):
  verify = verifier.make(
    POLICY, tiny.ROLES["V"], weights={"edit": word}, shaping={"gain": shaping},
    positions=None,
  )  # fmt: skip
  return judging.make(POLICY, tiny.ROLES, verify, decodes)


def text(rows, length):
  ids = np.array([row + [0] * (length - len(row)) for row in rows], np.int32)
  return Tokens(ids, ids > 0)


# Two sources; codes with the same first word, and others.
SOURCE = text([[8] * S, [9] * S], S)
CODES = text(
  [[8, 10], [8, 19], [9, 10], [], [9, 9, 18], [9, 11, 8], [8, 9], [9]], K
)
READ = tokens.reshape(CODES, 2, 4)


@functools.cache
def judged(word, shaping, decodes=1):
  how = hearing(word, shaping, decodes)
  found = jax.jit(
    lambda s, read, each, empty: judging.judge(
      how, (), FROZEN, s, read, each, empty
    )
  )(SOURCE, READ, jax.random.split(jax.random.key(0), 8), jax.random.key(1))
  return jax.device_get(found)


def test_equal_decodes_are_paid_alike():
  """All words right, or none; whatever D's odds of writing them were."""
  found = judged(1.0, 0.0)
  assert set(found.parts) == {"verifier"} and found.log_lik is None
  right = [[1, 1, 0, 0], [1, 1, 0, 1]]
  np.testing.assert_allclose(found.worth, right, atol=1e-6)
  np.testing.assert_array_equal(found.word, found.worth)
  said = [[8], [8], [9], []], [[9], [9], [8], [9]]
  ids, mask = found.decoded
  for row, group in enumerate(said):
    for i, word in enumerate(group):
      assert ids[row, i][mask[row, i]].tolist() == word * S


def test_shaping_pays_the_likelihood_and_is_told_apart():
  found = judged(3.0, 1.0)
  assert set(found.parts) == {"verifier", "shaping"}
  np.testing.assert_allclose(found.parts["verifier"], 0.75 * found.word)
  np.testing.assert_allclose(found.word, judged(1.0, 0.0).word, atol=1e-6)
  shaped = found.parts["shaping"]
  # D is surer of the second code: right on one source, wrong on the other.
  assert shaped[0, 1] > shaped[0, 0] + 0.01
  assert abs(shaped).max() < 0.25 and shaped[0, 2] < 0 < shaped[0, 0]
  np.testing.assert_allclose(found.worth, sum(found.parts.values()))


def test_nothing_is_decoded_for_a_v_that_hears_nothing():
  found = judged(0.0, 1.0)
  assert found.decoded is None and found.sampled is None
  np.testing.assert_array_equal(found.word, found.parts["shaping"])
  np.testing.assert_allclose(
    found.worth, judged(3.0, 1.0).parts["shaping"] * 4, rtol=1e-5
  )


def test_several_decodes_are_sampled_and_averaged():
  found = judged(1.0, 0.0, 64)
  assert found.sampled.output.ids.shape[0] > 8 * 64
  sure, unsure = found.word[0, 1], found.word[0, 0]
  assert sure > 0.99 and 0.8 < unsure < 0.98  # 148 to 12 a word


@jax.jit
def beside(cc, key):
  return judging.beside(
    hearing(1.0, 0.0), tokenizer.SEPARATOR, (), FROZEN, jnp.arange(2), key, cc,
    READ, SOURCE,
  )  # fmt: skip


@pytest.mark.parametrize("cc", [[], [9]], ids=["none", "some"])
def test_d_reads_the_memory_first(cc):
  found = beside(tokens.reshape(text([cc] * 8, 2), 2, 4), jax.random.key(0))
  right = [[0] * 4, [1] * 4] if cc else judged(1.0, 0.0).worth
  np.testing.assert_allclose(found.worth, right, atol=1e-6)


def test_a_code_is_worth_less_its_length():
  """At 0.3 a full one; one that misleads is not made better by being short."""
  mask = jnp.arange(K) < jnp.array([[2], [2], [0]])
  code = tokens.expand(Tokens(mask * 1, mask))
  worth = jnp.array([[0.25], [-0.25], [0.0]])
  found = Judged({"verifier": worth, "shaping": worth}, worth, None, None, None)
  value, parts = judging.priced(found, code, budget=K, price=0.3)
  np.testing.assert_allclose(value[:, 0], [0.5 * 0.8, -0.5, 0.0], rtol=1e-6)
  np.testing.assert_allclose(sum(parts.values()), value, rtol=1e-6)
  np.testing.assert_allclose(parts["price"][:, 0], [-0.1, 0, 0], atol=1e-6)
