"""Constraints that are relaxed over training: (init, update, observe).

"Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)" hides
vocabulary, injects random ids and bans tokens, so that codes cannot be plain
English. It relaxes the constraints once the reward plateaus. `plateau` does so
in equal levels. `linear` relaxes as a function of the step only.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import rules
from rsrc_jax.rules import number, whole


def _levels_end(settings, run):
  """The rule of how long a level lasts."""
  del run
  least = max(settings.get("min_steps", 0), 1)
  if settings.get("max_steps", least) < least:
    return (
      "max_steps",
      f"at least {least}: 1, and no less than {rules.HERE}.min_steps",
    )
  return None


# The rules of each kind, config.curriculum without its name and `every`.
LINEAR = {
  "hidden": number(0, below=1),
  "steps": whole(),
  "explore_steps": whole(),
}
PLATEAU = {
  "hidden": number(0, below=1),
  "levels": whole(1, 10_000),
  "temperature": number(above=0),
  "budgets": number(above=0, most=1),
  "decay": number(0, below=1),
  "patience": whole(1),
  "margin": number(0),
  **dict.fromkeys(("settle", "min_steps", "max_steps", "explore_steps"),
                  whole()),
  rules.BLOCK: (_levels_end,),
}  # fmt: skip
RULES = {"linear": LINEAR, "plateau": PLATEAU}


class Schedule(NamedTuple):
  """The settings of one step. Each [] float32, except for the int32 level."""

  hidden: jax.Array  # share of the vocabulary hidden from each source
  explore: jax.Array  # share of the entropy bonus that remains
  inject: jax.Array  # share of the injected ids that remains
  ban: jax.Array  # share of the banned tokens that remains
  bonus: jax.Array  # share of the injection bonus that remains
  temperature: jax.Array  # times the role's own
  budgets: jax.Array  # share of the list of budgets that is in use
  level: jax.Array  # int32: how often the constraints were relaxed


class State(NamedTuple):
  """A schedule, and the statistics that decide the next one. Each [].

  The smoothed reward and the counts are those of the present level. They stay 0
  in the `linear` curriculum.
  """

  schedule: Schedule
  average: jax.Array  # exponential moving average of the held-out reward
  best: jax.Array  # the average when it last improved
  waited: jax.Array  # int32: observations since then
  age: jax.Array  # int32: training steps at this level
  seen: jax.Array  # int32: observations at this level


def full() -> Schedule:
  """The schedule before any relaxation: everything hidden; NumPy scalars."""
  one = np.float32(1.0)
  return Schedule(
    hidden=one,
    explore=one,
    inject=one,
    ban=one,
    bonus=one,
    temperature=one,
    budgets=one,
    level=np.int32(0),
  )


def relaxed() -> Schedule:
  """The schedule without any constraint; NumPy scalars."""
  zero, one = np.float32(0.0), np.float32(1.0)
  return Schedule(
    hidden=zero,
    explore=zero,
    inject=zero,
    ban=zero,
    bonus=zero,
    temperature=one,
    budgets=one,
    level=np.int32(0),
  )


class Curriculum(NamedTuple):
  """Pure functions on a State; `update` runs every training step.

  init() -> State
  update(state, step) -> State
  observe(state, reward) -> State: a held-out reward was measured under the
    present constraints
  """

  init: Callable[[], State]
  update: Callable[[Any, jax.Array], State]
  observe: Callable[[State, jax.Array], State]


def linear(*, hidden: float, steps: int, explore_steps: int) -> Curriculum:
  """Relaxes linearly in the step, whatever the reward. The level stays 0.

  Args:
    hidden: share of the vocabulary hidden at first.
    steps: from this step on nothing is hidden, injected or banned, and there is
      no injection bonus.
    explore_steps: from this step on there is no entropy bonus.

  Raises:
    ValueError: hidden is not in [0, 1), or a number of steps is negative.
  """
  given = {"hidden": hidden, "steps": steps, "explore_steps": explore_steps}
  rules.check(LINEAR, given, "config.curriculum")

  def update(state: State | None, step: jax.Array) -> State:
    del state
    left, one = _left(step, steps), jnp.float32(1.0)
    explore = _left(step, explore_steps)
    return _start(
      Schedule(
        hidden=hidden * left,
        explore=explore,
        inject=left,
        ban=left,
        bonus=left,
        temperature=one,
        budgets=one,
        level=jnp.int32(0),
      )
    )

  init = lambda: _apart(update(None, jnp.int32(0)))
  return Curriculum(init, update, lambda state, reward: state)


class Plateau(NamedTuple):
  """The settings of `plateau`."""

  hidden: float  # share of the vocabulary hidden at first
  # How often the constraints are relaxed, each time by 1 / levels of what they
  # were at first.
  levels: int
  temperature: float  # times the role's own at first; 1 at the end
  budgets: float  # share of the list of budgets in use at first; 1 at the end
  decay: float  # of the average: weight of the past at each observation
  patience: int  # observations without improvement that end a level
  margin: float  # by which an average must exceed the best one to improve it
  settle: int  # observations ignored at the start of every level
  min_steps: int  # training steps that a level lasts at least
  max_steps: int  # training steps that a level but the last lasts at most
  explore_steps: int  # from this step on there is no entropy bonus


def plateau(**settings) -> Curriculum:
  """Relaxes by one of equal levels whenever the held-out reward plateaus.

  The first `settle` observations of a level are ignored, since the reward jumps
  when the constraints change. The next observation restarts the average, which
  is the first best. From then on an average above best + margin is the new
  best, and any other average counts as a wait. A level ends at the first
  observation with `patience` waits and `min_steps` steps, or after `max_steps`
  without one. Levels never go back, and the last one, without constraints,
  never ends. An observation that is not finite is ignored.

  Args:
    **settings: the fields of Plateau.

  Raises:
    ValueError: a setting is out of its range.
  """
  how = Plateau(**settings)
  rules.check(PLATEAU, settings, "config.curriculum")
  table = _levels(how.hidden, how.levels, how.temperature, how.budgets)

  def init() -> State:
    explore = _left(jnp.int32(0), how.explore_steps)
    return _apart(_start(_row(table, jnp.int32(0), explore)))

  return Curriculum(
    init,
    functools.partial(_update, how, table),
    functools.partial(_judge, how, table),
  )


# `table` has the schedule of each level, see `_levels`.


def _row(table: Schedule, level: jax.Array, explore: jax.Array) -> Schedule:
  return jax.tree.map(lambda row: row[level], table)._replace(explore=explore)


def _relax(how: Plateau, table: Schedule, state: State, due: jax.Array):
  """The next level, if it is `due` and there is one. -> State"""
  due = due & (state.schedule.level < how.levels)
  level = jnp.minimum(state.schedule.level + 1, how.levels)
  fresh = _start(_row(table, level, state.schedule.explore))
  return _where(due, fresh, state)


def _update(
  how: Plateau, table: Schedule, state: State, step: jax.Array
) -> State:
  """Curriculum.update: a level ends after `max_steps` at the latest."""
  schedule = _row(table, state.schedule.level, _left(step, how.explore_steps))
  state = state._replace(schedule=schedule, age=state.age + 1)
  return _relax(how, table, state, state.age >= how.max_steps)


def _judge(
  how: Plateau, table: Schedule, state: State, reward: jax.Array
) -> State:
  """Curriculum.observe: a level ends where the smoothed reward is flat."""
  reward = jnp.asarray(reward, jnp.float32)
  first = state.seen == how.settle
  average = how.decay * state.average + (1.0 - how.decay) * reward
  average = jnp.where(first, reward, average)
  better = first | (average > state.best + how.margin)
  judged = state._replace(
    average=average,
    best=jnp.where(better, average, state.best),
    waited=jnp.where(better, 0, state.waited + 1),
  )
  after = _where(state.seen >= how.settle, judged, state)
  after = after._replace(seen=state.seen + 1)
  flat = (after.waited >= how.patience) & (after.age >= how.min_steps)
  return _where(jnp.isfinite(reward), _relax(how, table, after, flat), state)


def _levels(
  hidden: float, levels: int, temperature: float, budgets: float
) -> Schedule:
  """The schedule of each level, [levels + 1]; `explore` depends on the step.

  A table, so that the values at both ends are exact, whatever the compiler
  does.
  """
  level = np.arange(levels + 1)
  left = (levels - level) / levels
  rows = Schedule(
    hidden=hidden * left,
    explore=left,
    inject=left,
    ban=left,
    bonus=left,
    temperature=left * temperature + (1.0 - left),
    budgets=left * budgets + (1.0 - left),
    level=level,
  )
  rows = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), rows)
  return rows._replace(level=jnp.asarray(level, jnp.int32))


def _start(schedule: Schedule) -> State:
  """The state at the start of a level."""
  zero, none = jnp.float32(0.0), jnp.int32(0)
  return State(schedule, zero, zero, none, none, none)


def _apart(state: State) -> State:
  """A buffer for each leaf: a shared buffer cannot be donated twice."""
  return jax.tree.map(jnp.copy, state)


def _where(condition: jax.Array, then: State, other: State) -> State:
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, other)


def _left(step: jax.Array, steps: int) -> jax.Array:
  """Falls from 1 at step 0 to 0 at `steps`; always 0 if `steps` is 0."""
  return jnp.maximum(1.0 - step / steps, 0.0) if steps else jnp.float32(0.0)
