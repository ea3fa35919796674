"""Several patterns on one set of weights: the choice of a step's pattern.

The order of "Theory of RSI on LLMs through ordinary RL (Kolmogorov
Compressor)": converge on C -> D -> V first, then the two inference patterns. An
arm lists patterns and their weights for each level of the curriculum
(`config.arms.NAME.phases`). Each step draws a pattern by weight, as a function
of the seed and the step only. Every pattern has a carry of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsrc_jax.lm.keys import MIXTURE
from rsrc_jax.types import Pattern, TrainState

Levels = tuple[tuple[tuple[str, float], ...], ...]


def check(
  name: str, phases: Sequence, watched: str, curriculum: dict
) -> Levels:
  """The levels of a mixture, as tuples.

  Args:
    name: of the arm.
    phases: for each level a list of (pattern, weight).
    watched: the pattern whose held-out reward the curriculum sees.
    curriculum: its block of the config.

  Raises:
    ValueError: no level, a weight out of range, a watched pattern that is never
      played, or more levels than the curriculum reaches.
  """
  field = f"config.arms.{name}.phases"
  found = tuple(tuple((str(p), float(w)) for p, w in part) for part in phases)
  if not found or not all(found):
    raise ValueError(f"{field}={phases}: give each level a pattern at least.")
  for pattern, weight in (pair for part in found for pair in part):
    if not 0 < weight < np.inf:
      raise ValueError(
        f"{field}: {pattern} has the weight {weight}: give one above 0, finite."
      )
  if watched not in [pattern for part in found for pattern, _ in part]:
    raise ValueError(
      f"config.arms.{name}.pattern={watched!r} is what the curriculum watches; "
      f"{field} never plays it."
    )
  levels = curriculum.get("levels", 0)
  if len(found) - 1 > levels:
    raise ValueError(
      f"{field} has {len(found)} levels and level {levels} never ends: a "
      f"{curriculum['name']!r} curriculum relaxes {levels} times. Set "
      f"config.curriculum.name='plateau' with levels >= {len(found) - 1}."
    )
  return found


def draw_pattern(levels: Levels, seed: int, step: int, level: int) -> str:
  """The pattern of a step. Levels beyond the last use the last one."""
  part = levels[min(level, len(levels) - 1)]
  weights = np.array([w for _, w in part])
  rng = np.random.default_rng((seed, step, MIXTURE))
  draw = rng.random() * weights.sum()
  return part[int(np.searchsorted(np.cumsum(weights), draw, "right"))][0]


def init_carries(patterns: dict[str, Pattern]) -> Callable[[], dict[str, Any]]:
  """init() -> the carries of all patterns, by their names."""
  return lambda: {name: p.init() for name, p in patterns.items()}


def with_own_carry(step: Callable, name: str) -> Callable:
  """A pattern's step on a state that holds the carries of several patterns."""

  def run(state: TrainState, *rest):
    own = state._replace(carry=state.carry[name])
    after, metrics = step(own, *rest)
    carries = state.carry | {name: after.carry}
    return after._replace(carry=carries), metrics

  return run
