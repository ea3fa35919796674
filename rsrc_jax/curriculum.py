"""Constraints that are relaxed over training, as a pair (init, update)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Curriculum(NamedTuple):
  """init() -> state; update(state, step) -> state."""

  init: Callable[[], Any]
  update: Callable[[Any, jax.Array], Any]


class Schedule(NamedTuple):
  """What the curriculum sets."""

  hidden: jax.Array  # [] share of the vocabulary hidden from each source
  explore: jax.Array  # [] share of the entropy bonus that is still paid


def linear(*, hidden: float, steps: int, explore_steps: int) -> Curriculum:
  """Relaxes along straight lines.

  Args:
    hidden: share of the vocabulary hidden at first.
    steps: after so many nothing is hidden any more.
    explore_steps: after so many no entropy bonus is paid any more.

  Raises:
    ValueError: hidden is no probability below 1.
  """
  if not 0.0 <= hidden < 1.0:
    raise ValueError(f"config.curriculum.hidden={hidden} must be in [0, 1).")

  def update(state: Schedule, step: jax.Array) -> Schedule:
    del state
    left = lambda n: jnp.maximum(1.0 - step / max(n, 1), 0.0)
    return Schedule(jnp.float32(hidden) * left(steps), left(explore_steps))

  return Curriculum(
    lambda: Schedule(jnp.float32(hidden), jnp.float32(1.0)), update
  )
