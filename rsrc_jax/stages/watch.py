"""A pattern played on held-out sources: what is seen, nothing is learnt."""

from collections.abc import Callable

import jax

from rsrc_jax import types
from rsrc_jax.build import writers
from rsrc_jax.build.patterns import make as make_pattern
from rsrc_jax.build.setup import Setup, arm_config
from rsrc_jax.lm import keys


def make_observe(
  setup: Setup, config, kind: str, relax, prepare, bind, mixed: bool
) -> Callable:
  """Plays a held-out batch and shows its reward to the curriculum."""
  pattern = make_pattern(setup, config, kind, monitor=True)

  def observe(state, frozen, batch):
    # Not a child of the step's key that its rollouts or lessons use.
    key = keys.step_key(state.seed, state.step)
    k_ask, k_play = _held_out_keys(keys.child(key, keys.Step.HELD_OUT))
    ask = prepare(frozen, batch, k_ask, state.curriculum.schedule)
    episode, _ = pattern.play(
      bind(state.params, frozen), frozen,
      state.carry[kind] if mixed else state.carry, batch, k_play, ask,
    )  # fmt: skip
    seen = relax.observe(state.curriculum, episode.metrics["reward"])
    metrics = {f"held_{k}": v for k, v in episode.metrics.items()}
    return state._replace(curriculum=seen), metrics

  return observe


def watched(setup: Setup, arm: str) -> Callable[..., types.Metrics]:
  """look(params, frozen, batch, key, schedule) -> metrics of injection.py.

  Of an arm that injects, under its own settings and the given schedule; L is
  measured whether it is paid for or not, and nothing is learnt.
  """
  config = arm_config(setup.config, arm)
  kind, mode = setup.config.arms[arm].pattern, setup.config.arms[arm].write
  pattern = make_pattern(setup, config, kind, monitor=True)
  constrain = writers.make_controls(setup, config, mode)

  def look(params, frozen, batch, key, schedule):
    k_ask, k_play = _held_out_keys(key)
    ask = constrain(k_ask, batch, schedule)
    carry = pattern.init()
    return pattern.play(params, frozen, carry, batch, k_play, ask)[0].metrics

  return jax.jit(look)


def _held_out_keys(key):
  """-> what constraints are drawn by, and what stands for a step's key."""
  return (
    keys.child(key, keys.HeldOut.CONSTRAINTS),
    keys.child(key, keys.HeldOut.PLAY),
  )
