"""English of an equal dictionary by RL: C chooses among words and pairs of s.

A code holds the words of s and the pairs of pairs.py whose two words stand in s
in this order, in any order and as often as C likes, as in the mode "source".
The arm of pairs.py has taught D what a pair means, and is a fair start:
`config.arms.NAME.start`.
"""

from pathlib import Path

import jax.numpy as jnp

from rsrc_jax.build import writers
from rsrc_jax.runtime import configs
from rsrc_jax.types import Batch, Constraints

# A writer's file is run by its path, wherever the process is.
pairs = configs.module(Path(__file__).with_name("pairs.py"))


def admit(
  found: pairs.Dictionary, batch: Batch, limits: Constraints
) -> Constraints:
  """Adds the pairs that stand in s to the words that a code may hold.

  limits: of the mode "source", whose `allowed` [B, 1, V] lists words of s.
  """
  rows, _, size = limits.allowed.shape
  words, row = limits.allowed[:, 0], jnp.arange(rows)[:, None]
  two = pairs.standing(found, batch.source).reshape(rows, -1)
  # The place after the last is for pads of either list.
  may = jnp.zeros((rows, size + 1), bool)
  may = may.at[row, jnp.where(words >= 0, words, size)].set(True)
  may = may.at[row, jnp.where(two > 0, two, size)].set(True)[:, :size]
  return limits._replace(allowed=jnp.where(may, jnp.arange(size), -1)[:, None])


def _make(setup, config, name):
  del name
  found = pairs.make(setup.corpus)
  of_words = writers.make_controls(setup, config, "source")
  words_alone = writers.make_limits(setup, config, "source")

  def constrain(key, batch, schedule):
    controls = of_words(key, batch, schedule)
    return controls._replace(
      constraints=admit(found, batch, controls.constraints)
    )

  def limits(batch, budget, announced=True):
    return admit(found, batch, words_alone(batch, budget, announced))

  return writers.as_policy(setup, config, constrain, limits)


WRITER = writers.Writer(_make, english=True, words=False, symbols=pairs.symbols)
