"""A controller of C's entropy: the bonus that holds it where it should be.

A fixed entropy bonus is a force whose effect nobody knows beforehand. Here the
entropy itself has a schedule, and the bonus follows from it: config.loss.hold.

  share   C's entropy a sampled token / ln of the ids that it might write there
  target  the share wanted, from `first` down to `last` along a line
  bonus   config.loss.entropy_bonus.C times a multiplier, in the place of the
          curriculum's `explore`
  error            = ln (target / share)
  level           += rate error
  ln multiplier    = level + gain error

Four things are so because of what went wrong without them:

1. The share is of ln of the ids *allowed*. With 90 % of 120 ids hidden at most
   .52 of ln 120 can be reached, so that a target of .5 of ln 120 asks for noise
   at first, and for something else as the mask is relaxed.
2. The multiplier has a floor and a ceiling, and so has the level that is kept.
   While the share lies above its target by itself, as under a mask at first,
   the level would otherwise fall for as long as that lasts, be missing when it
   is needed, and overshoot when it comes.
3. The error has a gain of its own. A bonus sets the speed at which entropy
   changes rather than its value: below some multiplier it falls to nothing,
   above it rises to all there is. A multiplier that only sums up errors swings
   around such a policy. tests/rl/test_entropy.py has both.
4. The error is a ratio. Where little entropy is left it changes in proportion
   to itself, and a difference of .03 is all of a target of .03.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import rollout
from rsrc_jax.lm.roles import Role
from rsrc_jax.rl import numbers
from rsrc_jax.types import Metrics, Rollout

ROLE = "C"  # whose entropy is held
LEAST = 1e-3  # smaller shares count as this one


def _limits_in_order(settings, run):
  """The rule of the limits of the multiplier."""
  del run
  own = Hold._field_defaults | dict(settings)
  if own["ceiling"] < own["floor"]:
    return "ceiling", f"at least {rules.HERE}.floor={own['floor']}"
  return None


# The rules of config.loss.hold.
RULES = {
  **dict.fromkeys(
    ("first", "last"),
    rules.number(above=0, most=1, why="a share of ln of the ids allowed"),
  ),
  "until": rules.share(),
  "gain": rules.number(0, 1_000),
  "rate": rules.number(above=0, most=10, why="at 0 nothing is held"),
  **dict.fromkeys(
    ("floor", "ceiling"),
    rules.number(above=0, why="a multiplier of 0 never comes back"),
  ),
  rules.BLOCK: (_limits_in_order,),
}


class Hold(NamedTuple):
  """The settings of the controller: config.loss.hold."""

  first: float = 0.5  # the share at the first step
  last: float = 0.03  # and from the share `until` of the steps on
  until: float = 0.85
  gain: float = 4.0  # ln multiplier for a share that is off by a factor of e
  rate: float = 0.02  # and by how much its level moves in a step
  floor: float = 0.05  # of the multiplier
  ceiling: float = 3.0


class State(NamedTuple):
  """What the controller keeps between steps, each []."""

  level: jax.Array  # ln multiplier of the bonus that no error corrects
  log_multiplier: jax.Array  # of the next step; both are within the limits


class Controller(NamedTuple):
  """A controller as pure functions.

  init() -> State
  multiplier(state) -> [], what the bonus is multiplied by
  update(state, step, share, numbers) -> (State, metrics): after a step whose
    entropy was `share` []. numbers: see rl/numbers.py; they may hold the
    settings under "loss.hold".
  """

  init: Callable[[], State]
  multiplier: Callable[[State], jax.Array]
  update: Callable[..., tuple[State, Metrics]]


def make(*, steps: int, **settings: Any) -> Controller:
  """Builds the controller.

  Args:
    steps: of the arm.
    **settings: the fields of Hold.

  Raises:
    ValueError: a setting is out of its range, or there is none of its name.
  """
  rules.check(RULES, settings, "config.loss.hold")
  how = Hold(**settings)

  def init() -> State:
    start = jnp.log(jnp.float32(min(max(1.0, how.floor), how.ceiling)))
    return State(start, jnp.copy(start))

  def update(state: State, step: jax.Array, share: jax.Array, given=None):
    own = numbers.replaced(how, given, "loss.hold")
    wanted = target(own, step, steps)
    limits = jnp.log(own.floor), jnp.log(own.ceiling)
    error = jnp.log(wanted / jnp.maximum(share, LEAST))
    level = jnp.clip(state.level + own.rate * error, *limits)
    ready = jnp.clip(level + own.gain * error, *limits)
    metrics = {
      "hold_target": wanted,
      "hold_multiplier": jnp.exp(state.log_multiplier),  # of this step
    }
    return State(level, ready), metrics

  return Controller(init, lambda state: jnp.exp(state.log_multiplier), update)


def target(how: Hold, step: jax.Array, steps: int) -> jax.Array:
  """The share that is wanted at a step. -> [] float32"""
  line = step / jnp.maximum(jnp.float32(how.until) * steps, 1.0)
  return how.first + (how.last - how.first) * jnp.minimum(line, 1.0)


def room(role: Role, r: Rollout) -> jax.Array:
  """Most entropy of the sampled tokens, a token: nats, [] float32.

  ln of the number of ids that each row allows, the end token among them.
  """
  allowed = rollout.allowed_ids(role, r.constraints)
  most = jnp.log(jnp.sum(allowed, -1) * 1.0)[..., None]  # [B, g, 1]
  mask = r.output.mask
  return jnp.sum(most * mask) / jnp.maximum(jnp.sum(mask), 1)


def shares(roles: dict[str, Role], rollouts: dict[str, Rollout], metrics):
  """{ROLE_entropy_share} of a step: entropy a token over `room`, in [0, 1].

  1 where a role has nothing to choose from. metrics: with {ROLE_entropy}.
  """
  found = {}
  for name, r in rollouts.items():
    most, entropy = room(roles[name], r), metrics[f"{name}_entropy"]
    share = entropy / jnp.where(most > 0, most, 1.0)
    found[f"{name}_entropy_share"] = jnp.where(most > 0, share, 1.0)
  return found
