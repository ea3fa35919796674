"""experiments/cc: what the sources before can tell of the next one."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import memory
from rsrc_jax.runtime import configs
from rsrc_jax.types import Tokens

ROOT = Path(__file__).resolve().parents[2]
MANY, WAYS, DRIFT = 8_000, {3: 2, 4: 4}, 0.3


def ceiling_bits(*args):
  plot = configs.module(ROOT / "experiments" / "cc" / "plot.py")
  return plot.ceiling_bits(*args)


def streams():
  """ids [n, 3, 5] of many streams whose shared facts have 2 and 4 ways."""
  rng = np.random.default_rng(5)
  ids = rng.integers(8, 20, (MANY, 3, 1, 5))
  for place, ways in WAYS.items():
    ids[..., place] = rng.integers(8, 8 + ways, ids.shape[:-1])
  found = memory.stream(
    Tokens(jnp.asarray(ids, jnp.int32), jnp.ones(ids.shape, bool)),
    tuple(WAYS), DRIFT, jax.random.key(0),
  )  # fmt: skip
  return np.asarray(found.ids[:, :, 0])


def left(given, told):
  """Conditional entropy in bits of one column of labels given another."""
  pair = np.unique(np.stack([given, told], -1), axis=0, return_counts=True)[1]
  one = np.unique(given, return_counts=True)[1]
  entropy = lambda n: -np.sum(n / n.sum() * np.log2(n / n.sum()))
  return entropy(pair) - entropy(one)


def labels(*columns):
  return np.unique(np.stack(columns, -1), axis=0, return_inverse=True)[
    1
  ].ravel()


def test_ceiling_by_hand():
  np.testing.assert_allclose(ceiling_bits([8, 8, 4, 2], 0.0), 9.0)
  np.testing.assert_allclose(ceiling_bits([8, 4, 2], 1.0), 0.0, atol=1e-12)
  np.testing.assert_allclose(ceiling_bits([1], 0.5), 0.0, atol=1e-12)
  assert ceiling_bits([], 0.3) == 0.0
  # Two ways, half of the time drawn anew: the same in three of four cases.
  hand = 1 - (0.75 * np.log2(4 / 3) + 0.25 * 2)
  np.testing.assert_allclose(ceiling_bits([2], 0.5), hand)
  np.testing.assert_allclose(ceiling_bits([2, 2], 0.5), 2 * hand)


def test_ceiling_is_what_streams_tell():
  """What was counted in streams; half a percent of it is the count's own."""
  got = streams()
  total = 0.0
  for place, ways in WAYS.items():
    x = got[..., place]
    bits = np.log2(ways) - left(labels(x[:, 0], x[:, 1]), x[:, 2])
    np.testing.assert_allclose(bits, ceiling_bits([ways], DRIFT), atol=0.03)
    # The one before tells all that there is to tell.
    bits = np.log2(ways) - left(x[:, 1], x[:, 2])
    np.testing.assert_allclose(bits, ceiling_bits([ways], DRIFT), atol=0.03)
    total += bits
  both = [labels(*(got[:, r, place] for place in WAYS)) for r in (1, 2)]
  bits = 3.0 - left(*both)
  expected = ceiling_bits([*WAYS.values()], DRIFT)
  np.testing.assert_allclose(bits, expected, atol=0.04)
