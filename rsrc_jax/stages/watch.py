"""A pattern played on held-out sources, for metrics only."""

from collections.abc import Callable

import jax

from rsrc_jax import types
from rsrc_jax.build import writers
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.patterns import make as make_pattern
from rsrc_jax.build.setup import Setup
from rsrc_jax.lm import keys


def make_observe(
  setup: Setup, config, kind: str, relax, prepare, bind, mixed: bool
) -> Callable:
  """Builds observe(state, frozen, batch) -> (state, metrics).

  It plays a held-out batch and updates the curriculum with its reward.
  """
  pattern = make_pattern(setup, config, kind, monitor=True)

  def observe(state, frozen, batch):
    # Not a key of the step's rollouts or supervised batches.
    key = keys.step_key(state.seed, state.step)
    k_controls, k_play = _held_out_keys(keys.child(key, keys.Step.HELD_OUT))
    controls = prepare(frozen, batch, k_controls, state.curriculum.schedule)
    episode, _ = pattern.play(
      bind(state.params, frozen), frozen,
      state.carry[kind] if mixed else state.carry, batch, k_play, controls,
    )  # fmt: skip
    observed = relax.observe(state.curriculum, episode.metrics["reward"])
    metrics = {f"held_{k}": v for k, v in episode.metrics.items()}
    return state._replace(curriculum=observed), metrics

  return observe


def watched(setup: Setup, arm: str) -> Callable[..., types.Metrics]:
  """Builds watch(params, frozen, batch, key, schedule) -> metrics.

  They are those of rl/injection.py for an arm that injects ids, with its own
  settings and this schedule. L is measured even if it earns no bonus, and
  nothing is trained.
  """
  config = arm_config(setup.config, arm)
  kind, mode = setup.config.arms[arm].pattern, setup.config.arms[arm].write
  pattern = make_pattern(setup, config, kind, monitor=True)
  constrain = writers.make_controls(setup, config, mode)

  def watch(params, frozen, batch, key, schedule):
    k_controls, k_play = _held_out_keys(key)
    controls = constrain(k_controls, batch, schedule)
    carry = pattern.init()
    episode, _ = pattern.play(params, frozen, carry, batch, k_play, controls)
    return episode.metrics

  return jax.jit(watch)


def _held_out_keys(key):
  """The keys of the constraints and of the rollouts of a held-out batch."""
  return (
    keys.child(key, keys.HeldOut.CONSTRAINTS),
    keys.child(key, keys.HeldOut.PLAY),
  )
