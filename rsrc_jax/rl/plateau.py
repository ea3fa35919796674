"""The plateau rule: has a reward stopped rising, as far as its noise can tell?

A least-squares line is laid through the last `window` rewards, and its slope is
compared with its own standard error, which the residuals give. The noise is so
estimated in the run, and no threshold depends on the scale of the reward. At a
look, every `look` rewards, the reward is flat if the slope is at most `errors`
standard errors. The window begins anew with each level, since a relaxation
lifts the reward by itself: a level lasts at least `window` rewards.

docs/forced_vocabulary.md has the rates of false alarms, which
benchmarks/plateaus.py measures.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.rules import number, whole

# Ends.by
GOES_ON, PLATEAU, TIMER = range(3)
NAMES = {PLATEAU: "plateau", TIMER: "timer"}


class Rule(NamedTuple):
  """The settings of the rule."""

  window: int = 0  # rewards that the line is laid through; 0: no rule
  look: int = 10  # rewards from one look to the next
  errors: float = 2.0  # standard errors: a slope above them is a rise


class Watch(NamedTuple):
  """The rewards that the rule has seen. Each count is [] int32."""

  rewards: Any  # [window], the last one at the end; () without a rule
  seen: jax.Array  # since the level began
  count: jax.Array  # since the arm began: looks are at multiples of `look`


class Ends(NamedTuple):
  """How each level has ended, [levels + 1]: the last row is the arm's own."""

  step: jax.Array  # int32: training steps made by then
  by: jax.Array  # int32: GOES_ON, PLATEAU or TIMER
  slope: jax.Array  # rise of the reward from one of the window to the next
  error: jax.Array  # standard error of the slope; both nan: too few rewards


def _window(value: Any) -> str:
  fewer = "a line through fewer has no residuals"
  return whole(0, 100_000)(value) or (
    f"0 for no rule, or at least 3: {fewer}" if value in (1, 2) else ""
  )


RULES = {"window": _window, "look": whole(1), "errors": number(0)}


def begin(rule: Rule) -> Watch:
  """The state before the first reward."""
  none = jnp.int32(0)
  return Watch(jnp.zeros(rule.window) if rule.window else (), none, none)


def anew(watch: Watch) -> Watch:
  """The state at the beginning of a level."""
  rewards = jax.tree.map(jnp.zeros_like, watch.rewards)
  return watch._replace(rewards=rewards, seen=jnp.zeros_like(watch.seen))


def saw(watch: Watch, reward: jax.Array) -> Watch:
  """The state after one more reward []; one that is not finite is left out."""
  reward = jnp.asarray(reward, jnp.float32)
  known = jnp.isfinite(reward)
  rewards = jnp.concatenate([watch.rewards[1:], reward[None]])
  return Watch(
    jnp.where(known, rewards, watch.rewards),
    watch.seen + known.astype(jnp.int32),
    watch.count + 1,
  )


def flat(rule: Rule, watch: Watch) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Whether the reward is flat at this look. -> [] bool, slope [], error []

  False between two looks and before `window` rewards. Slope and error are nan
  before `window` rewards.
  """
  full = watch.seen >= rule.window
  slope, error = (
    jnp.where(full, x, jnp.nan).astype(jnp.float32)
    for x in trend(watch.rewards)
  )
  look = watch.count % rule.look == 0
  return look & full & (slope <= rule.errors * error), slope, error


def trend(rewards: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Slope of the least-squares line and its standard error. [..., w] -> [...]

  Of equal rewards both are exactly 0.
  """
  w = rewards.shape[-1]
  at = jnp.arange(w, dtype=jnp.float32) - (w - 1) / 2
  spread = w * (w * w - 1) / 12  # sum of at ** 2
  y = rewards - rewards[..., :1]
  y = y - jnp.mean(y, -1, keepdims=True)
  slope = jnp.sum(y * at, -1) / spread
  rest = y - slope[..., None] * at
  variance = jnp.sum(rest * rest, -1) / (w - 2)
  return slope, jnp.sqrt(variance / spread)


def none_ended(levels: int) -> Ends:
  """Ends of `levels` levels, none of which has ended."""
  of = lambda dtype: jnp.zeros(levels + 1, dtype)
  return Ends(of(jnp.int32), of(jnp.int32), of(jnp.float32), of(jnp.float32))


def end(ends: Ends, level: jax.Array, due: jax.Array, *how: Any) -> Ends:
  """The ends with those of `level` [] set to `how`, where that is `due` [].

  how: step, by, slope, error, [] each.
  """
  here = (jnp.arange(ends.by.shape[0]) == level) & due
  both = zip(how, ends, strict=True)
  return Ends(*(jnp.where(here, x, old) for x, old in both))


def record(ends: Ends, every: int = 1) -> list[dict[str, Any]]:
  """The ends in their order, for a summary: step, by, slope, error.

  Args:
    ends: of one arm, on any device.
    every: training steps from one reward to the next; slope and error are given
      for a step.
  """
  found = jax.device_get(ends)
  return [
    {
      "step": int(step),
      "by": NAMES[int(by)],
      "slope": _known(slope, every),
      "error": _known(error, every),
    }
    for step, by, slope, error in zip(*found, strict=True)
    if by != GOES_ON
  ]


def _known(value: Any, every: int) -> float | None:
  return float(value) / every if np.isfinite(value) else None
