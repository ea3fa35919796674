"""Constraints that are relaxed over training: (init, update, observe).

"Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)" hides
vocabulary, injects random ids and bans tokens, so that codes cannot be plain
English. It relaxes the constraints once the reward plateaus. `plateau` does so
in equal levels, by the rule of plateau.py and by a timer where the rule has not
ended a level. `linear` relaxes as a function of the step only. After the last
constraint the same rule tells whether the arm has converged.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import rules
from rsrc_jax.rl import plateau as trends
from rsrc_jax.rl.plateau import Ends, Rule, Watch
from rsrc_jax.rules import number, whole

WINDOW = 120  # tells a rise of .0003 a step from none in noise of .02


def window_of(block: Mapping[str, Any]) -> int:
  """Rule.window of a block config.curriculum."""
  return block.get("window", WINDOW if block.get("name") == "plateau" else 0)


def _before_the_timer(settings, run):
  """The rule that a level can end by its plateau at all."""
  del run
  window = settings.get("window", WINDOW)
  every = max(settings.get("every", 0), 1)
  if settings["max_steps"] >= window * every:
    return None
  return "max_steps", (
    f"at least {window * every}, or the timer ends every level: a plateau is "
    f"seen in {rules.HERE}.window={window} rewards, one in {every} steps by "
    f"{rules.HERE}.every"
  )


# The rules of each kind, config.curriculum without its name and `every`.
LINEAR = {
  "hidden": number(0, below=1),
  "steps": whole(),
  "explore_steps": whole(),
  **trends.RULES,
}
PLATEAU = {
  "hidden": number(0, below=1),
  "levels": whole(1, 10_000),
  "temperature": number(above=0),
  "budgets": number(above=0, most=1),
  "max_steps": whole(1),
  "explore_steps": whole(),
  **trends.RULES,
  rules.BLOCK: (_before_the_timer,),
}
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
  """A schedule, what the rule has seen, and how levels have ended."""

  schedule: Schedule
  step: jax.Array  # [] int32: training steps begun
  age: jax.Array  # [] int32: those at this level; 0 in `linear`
  watch: Watch
  ends: Ends


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
  """Pure functions on a State.

  init() -> State
  update(state, step) -> State: before each training step; a level that has
    lasted as long as it may ends, and the schedule of the step is set
  observe(state, reward) -> State: after a training step, or at a look at
    held-out sources: the reward [] that was got under the present constraints.
    A level ends where the rule finds a plateau; `update` then relaxes.
  """

  init: Callable[[], State]
  update: Callable[[State, jax.Array], State]
  observe: Callable[[State, jax.Array], State]
  # What shapes a State, and what `observe` depends on.
  rule: Rule
  levels: int


def linear(
  *,
  hidden: float,
  steps: int,
  explore_steps: int,
  window: int = 0,
  look: int = Rule().look,
  errors: float = Rule().errors,
) -> Curriculum:
  """Relaxes linearly in the step, whatever the reward. The level stays 0.

  Args:
    hidden: share of the vocabulary hidden at first.
    steps: from this step on nothing is hidden, injected or banned, and there is
      no injection bonus.
    explore_steps: from this step on there is no entropy bonus.
    window: of the plateau rule, which sees the rewards from `steps` on and
      tells whether the arm has converged; 0: nothing does.
    look: of the rule.
    errors: of the rule.

  Raises:
    ValueError: hidden is not in [0, 1), or another setting is out of its range.
  """
  rule = Rule(window, look, errors)
  given = {"hidden": hidden, "steps": steps, "explore_steps": explore_steps}
  rules.check(LINEAR, given | rule._asdict(), "config.curriculum")

  def update(state: State, step: jax.Array) -> State:
    left, one = _left(step, steps), jnp.float32(1.0)
    schedule = Schedule(
      hidden=hidden * left,
      explore=_left(step, explore_steps),
      inject=left,
      ban=left,
      bonus=left,
      temperature=one,
      budgets=one,
      level=jnp.int32(0),
    )
    watch = _where(step <= steps, trends.anew(state.watch), state.watch)
    step = jnp.asarray(step, jnp.int32) + 1
    return state._replace(schedule=schedule, step=step, watch=watch)

  def init() -> State:
    state = update(_start(full(), rule, 0), jnp.int32(0))
    return _apart(state._replace(step=jnp.int32(0)))

  observe = functools.partial(_observe, rule, 0)
  return Curriculum(init, update, observe, rule, 0)


class Plateau(NamedTuple):
  """The settings of `plateau`."""

  hidden: float  # share of the vocabulary hidden at first
  # How often the constraints are relaxed, each time by 1 / levels of what they
  # were at first.
  levels: int
  temperature: float  # times the role's own at first; 1 at the end
  budgets: float  # share of the list of budgets in use at first; 1 at the end
  max_steps: int  # training steps that a level but the last lasts at most
  explore_steps: int  # from this step on there is no entropy bonus
  # Of the rule, see plateau.Rule; with a window of 0 the timer alone relaxes.
  window: int = WINDOW
  look: int = Rule().look
  errors: float = Rule().errors


def plateau(**settings) -> Curriculum:
  """Relaxes by one of equal levels whenever the reward plateaus.

  A level ends at the first look at which the rule finds the reward flat, or
  after `max_steps` training steps without one. Levels never go back, and the
  last one, without constraints, never ends: a plateau there says that the arm
  has converged.

  Args:
    **settings: the fields of Plateau.

  Raises:
    ValueError: a setting is out of its range.
  """
  how = Plateau(**settings)
  rules.check(PLATEAU, settings, "config.curriculum")
  rule = Rule(how.window, how.look, how.errors)
  table = _levels(how.hidden, how.levels, how.temperature, how.budgets)

  def init() -> State:
    explore = _left(jnp.int32(0), how.explore_steps)
    schedule = _row(table, jnp.int32(0), explore)
    return _apart(_start(schedule, rule, how.levels))

  def update(state: State, step: jax.Array) -> State:
    step = jnp.asarray(step, jnp.int32)
    due = (state.age >= how.max_steps) & (state.schedule.level < how.levels)
    state = _end(how.levels, state, due, trends.TIMER, *_trend(rule, state))
    explore = _left(step, how.explore_steps)
    schedule = _row(table, state.schedule.level, explore)
    return state._replace(schedule=schedule, step=step + 1, age=state.age + 1)

  observe = functools.partial(_observe, rule, how.levels)
  return Curriculum(init, update, observe, rule, how.levels)


def converged(state: State) -> bool:
  """Whether the reward was flat once nothing was constrained; on the host."""
  return bool(jax.device_get(state.ends.by)[-1] == trends.PLATEAU)


def record(
  state: State, every: int = 1, *, ended: bool = False
) -> list[dict[str, Any]]:
  """How the levels of an arm have ended: `plateaus` of its summary.

  Args:
    state: of the arm, when it was trained.
    every: training steps from one reward to the next.
    ended: the arm should have ended at its plateau; where it had none, a last
      entry says that its steps have ended it.
  """
  state = jax.device_get(state)
  ends = state.ends
  if ended and not converged(state):
    rule = Rule(len(state.watch.rewards))
    last = ends.by.shape[0] - 1
    how = (state.step, trends.TIMER, *_trend(rule, state))
    ends = trends.end(ends, last, True, *how)
  return trends.record(ends, every)


def _observe(rule: Rule, levels: int, state: State, reward) -> State:
  """Curriculum.observe. It does nothing without a rule."""
  if not rule.window:
    return state
  state = state._replace(watch=trends.saw(state.watch, reward))
  due, *trend = trends.flat(rule, state.watch)
  return _end(levels, state, due, trends.PLATEAU, *trend)


def _trend(rule: Rule, state: State) -> tuple[jax.Array, jax.Array]:
  """Slope and error of the last rewards; nan where there are too few."""
  if not rule.window:
    return jnp.float32(jnp.nan), jnp.float32(jnp.nan)
  return trends.flat(rule, state.watch)[1:]


def _end(levels: int, state: State, due, by: int, slope, error) -> State:
  """Ends the present level where that is `due`; the last one ends once."""
  level = state.schedule.level
  due = due & (state.ends.by[level] == trends.GOES_ON)
  after = State(
    schedule=state.schedule._replace(level=jnp.minimum(level + 1, levels)),
    step=state.step,
    age=jnp.zeros_like(state.age),
    watch=trends.anew(state.watch),
    ends=trends.end(state.ends, level, due, state.step, by, slope, error),
  )
  return _where(due, after, state)


# `table` has the schedule of each level, see `_levels`.


def _row(table: Schedule, level: jax.Array, explore: jax.Array) -> Schedule:
  return jax.tree.map(lambda row: row[level], table)._replace(explore=explore)


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


def _start(schedule: Schedule, rule: Rule, levels: int) -> State:
  """The state of an arm before its first step."""
  none = jnp.int32(0)
  return State(
    schedule, none, none, trends.begin(rule), trends.none_ended(levels)
  )


def _apart(state: State) -> State:
  """A buffer for each leaf: a shared buffer cannot be donated twice."""
  return jax.tree.map(jnp.copy, state)


def _where(condition: jax.Array, then: Any, other: Any) -> Any:
  """One of two trees."""
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, other)


def _left(step: jax.Array, steps: int) -> jax.Array:
  """Falls from 1 at step 0 to 0 at `steps`; always 0 if `steps` is 0."""
  return jnp.maximum(1.0 - step / steps, 0.0) if steps else jnp.float32(0.0)
