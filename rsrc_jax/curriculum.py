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
    ValueError: hidden is no probability below 1, or a length is negative.
  """
  if min(steps, explore_steps) < 0:
    raise ValueError(
      f"config.curriculum: steps={steps} and explore_steps={explore_steps} "
      "can't be negative."
    )
  if not 0.0 <= hidden < 1.0:
    raise ValueError(f"config.curriculum.hidden={hidden} must be in [0, 1).")

  def update(state: Schedule, step: jax.Array) -> Schedule:
    del state
    return Schedule(hidden * _left(step, steps), _left(step, explore_steps))

  return Curriculum(lambda: update(None, jnp.int32(0)), update)


def _left(step: jax.Array, steps: int) -> jax.Array:
  """1 at step 0, 0 from `steps` on; 0 throughout where there are none."""
  return jnp.maximum(1.0 - step / steps, 0.0) if steps else jnp.float32(0.0)
