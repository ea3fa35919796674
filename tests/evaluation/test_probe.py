"""probe.py: what a trained reader can answer from a text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.evaluation import probe
from rsrc_jax.types import Batch, Cache, Policy, Tokens

ASKS = (20, 21)  # what stands first, and fourth
ROLE = tiny.ROLES["V"]._replace(length=1)
WORDS = 12


def right_words(s):
  return s.ids[:, jnp.array([0, 3])]


def batch(seed, rows=64):
  rng = np.random.default_rng(seed)
  ids = rng.integers(8, 8 + WORDS, (rows, tiny.SOURCE)).astype(np.int32)
  mask = np.ones((rows, tiny.SOURCE), bool)
  return Batch(Tokens(jnp.asarray(ids), jnp.asarray(mask)), jnp.arange(rows))


def echo(params, tokens, positions, *, prefix=None, cache=None, index=0):
  """Answers a question with the token that stands `params[question]` slots in.

  The prompt: tag, text, question, separator.
  """
  del positions, prefix, index
  if cache is not None:  # only the first token is an answer
    return jnp.zeros((*tokens.ids.shape, tiny.VOCAB)), cache
  ids = tokens.ids[:, 0]
  assert ids.shape[1] == tiny.SOURCE + 3
  place = params[ids[:, -2]]
  word = jnp.take_along_axis(ids, 1 + place[:, None], 1)
  asked = (ids[:, 0] == ROLE.tag) & (ids[:, -1] == tokenizer.SEPARATOR)
  logits = 9.0 * asked[:, None] * jax.nn.one_hot(word[:, 0], tiny.VOCAB)
  hidden = jnp.broadcast_to(
    logits[:, None, None], (*tokens.ids.shape, tiny.VOCAB)
  )
  return hidden, Cache((), (), ())


def test_answers_by_hand():
  """A reader that knows where the first answer stands, and not the second."""
  policy = Policy(
    None, echo, lambda params, hidden: hidden,
    lambda *shape: Cache((), (), ()),
  )  # fmt: skip
  found = probe.make(policy, ROLE, ASKS, right_words, learning_rate=0.0)
  places = jnp.zeros(tiny.VOCAB, jnp.int32).at[21].set(2)
  s = batch(0).source
  right = np.asarray(found[1](places, s, s))
  assert right.shape == (64, 2) and right.dtype == bool
  ids = np.asarray(s.ids)
  assert right[:, 0].all()
  np.testing.assert_array_equal(right[:, 1], ids[:, 2] == ids[:, 3])
  assert right[:, 1].any()
  share = probe.accuracy(found, places, s, s)
  np.testing.assert_allclose(share, right.mean(-1))
  # Read from another text, the answers are that text's, judged by the source.
  other = Tokens(jnp.roll(s.ids, 1, 0), s.mask)
  right = np.asarray(found[1](places, s, other))
  np.testing.assert_array_equal(
    right[:, 0], ids[:, 0] == np.roll(ids, 1, 0)[:, 0]
  )


@pytest.fixture(scope="module")
def reader():
  return probe.make(tiny.POLICY, ROLE, ASKS, right_words, learning_rate=1e-2)


def taught(reader, shown, steps=300, seed=0):
  """A reader of the first `shown` tokens of every source, and what it read."""
  asked = []

  def write(batch, k):
    asked.append(k)
    mask = batch.source.mask & (jnp.arange(tiny.SOURCE) < shown)
    return Tokens(jnp.where(mask, batch.source.ids, 0), mask)

  params = tiny.params()
  before = jax.device_get(params)
  found = probe.train(
    reader, params, write, (batch(i) for i in range(steps)), steps=steps,
    budgets=(2, 3, 5), seed=seed,
  )  # fmt: skip
  for x, y in zip(
    jax.tree.leaves(before), jax.tree.leaves(params), strict=True
  ):
    np.testing.assert_array_equal(x, y)  # a copy learns
  assert asked == ([2, 3, 5] * steps)[:steps]
  new = batch(10_000, rows=256)
  right = np.asarray(reader[1](found, new.source, write(new, 0)))
  return found, right.mean(0)


def test_a_reader_finds_what_is_there(reader):
  """From one token the first answer alone; from nothing neither."""
  chance = 1 / WORDS
  bound = 5 * np.sqrt(chance * (1 - chance) / 256)
  _, one = taught(reader, 1)
  assert one[0] > 0.9 and abs(one[1] - chance) < bound
  params, none = taught(reader, 0, steps=60)
  assert (np.abs(none - chance) < bound).all()
  again, _ = taught(reader, 0, steps=60)
  for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(x, y)
  other, _ = taught(reader, 0, steps=60, seed=1)
  assert (other["embed"] != params["embed"]).any()
