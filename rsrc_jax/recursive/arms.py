"""An arm of a recursive run: a model, its supervision, and their settings."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rsrc_jax.data.grids import PuzzleData
from rsrc_jax.models import recursive
from rsrc_jax.models.recursive import Recursive
from rsrc_jax.recursive import puzzles, train_step
from rsrc_jax.recursive.train_step import Items
from rsrc_jax.rl import learner
from rsrc_jax.types import TrainState


class Arm(NamedTuple):
  """A model and how it is supervised."""

  name: str
  model: Recursive
  settings: Any  # its block of the config
  init: Any  # key -> TrainState
  step: Any  # jitted (state, items) -> state, metrics; donates the state


def arm_of(
  config: ml_collections.ConfigDict, name: str, data: PuzzleData
) -> Arm:
  """Builds an arm.

  Raises:
    ValueError: see models.recursive.make and train_step.make.
  """
  own = config.arms[name]
  model = recursive.make(
    vocab_size=data.vocab_size, cells=data.cells,
    identities=data.identities, **{**config.model, **own.model},
  )  # fmt: skip
  rate = own.learning_rate or config.optimizer.learning_rate
  tx = learner.optimizer(
    **{**config.optimizer, "learning_rate": rate}, steps=own.steps
  )
  begin, step = train_step.make(
    model, tx, batch_size=config.batch_size, supersteps=own.supersteps,
    scheme=own.targets, halting=own.model.get("halting", False),
    explore=config.explore, ema=config.ema,
  )  # fmt: skip

  @jax.jit
  def state_of(key, items, seed):
    params = model.init(key)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=tx.init(params),
      carry=begin(params, items),
      curriculum=None,
      seed=seed,
    )

  def init(key):
    return state_of(key, items_of(config, data, 0), np.uint32(config.seed))

  return Arm(name, model, own, init, jax.jit(step, donate_argnums=0))


def items_of(
  config: ml_collections.ConfigDict, data: PuzzleData, step: int
) -> Items:
  """The Items [batch_size, ...] that may enter at a step.

  They are a function of config.seed and the step alone.
  """
  rng = np.random.default_rng((config.seed, 1, step))
  rows = rng.integers(len(data.train.question), size=config.batch_size)
  return puzzles.batch(data, rows, rng)


def step_flops(arm: Arm, batch_size: int) -> float:
  """FLOPs of a training step by formula: a backward pass is two forward."""
  model = arm.model
  return model.call_flops(batch_size) * (
    model.calls + 2 * model.calls_with_gradient
  )
