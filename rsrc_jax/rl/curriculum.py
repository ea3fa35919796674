"""Constraints that are relaxed over training: (init, update, observe).

"Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)" forces a
language off English by hiding vocabulary, injecting random ids and banning
tokens, and gives the constraints up once reward plateaus. `plateau` does so in
equal levels; `linear` relaxes by the step alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Schedule(NamedTuple):
  """What the curriculum sets. Each [], float32 but for the phase."""

  hidden: jax.Array  # share of the vocabulary hidden from each source
  explore: jax.Array  # share of the entropy bonus that is still paid
  inject: jax.Array  # share of the injected ids that is still injected
  ban: jax.Array  # share of the banned tokens that is still banned
  bonus: jax.Array  # share of the injection bonus that is still paid
  temperature: jax.Array  # times the role's own
  budgets: jax.Array  # share of the list of budgets that is in use
  phase: jax.Array  # int32: how often the constraints were relaxed


class State(NamedTuple):
  """A schedule and what decides the next one. Each [].

  The smoothed reward and the counts are of the present phase; they stay 0 where
  the step alone decides.
  """

  schedule: Schedule
  average: jax.Array  # exponential moving average of the held-out reward
  best: jax.Array  # the average when it last improved
  waited: jax.Array  # int32: observations since then
  age: jax.Array  # int32: training steps in this phase
  seen: jax.Array  # int32: observations in this phase


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
  """Relaxes along straight lines, whatever the reward; the phase stays 0.

  Args:
    hidden: share of the vocabulary hidden at first.
    steps: after so many nothing is hidden, injected, banned or paid as a bonus
      any more.
    explore_steps: after so many no entropy bonus is paid any more.

  Raises:
    ValueError: hidden is no probability below 1, or a length is negative.
  """
  _check("steps", steps, steps >= 0, "at least 0")
  _check("explore_steps", explore_steps, explore_steps >= 0, "at least 0")
  _check("hidden", hidden, 0.0 <= hidden < 1.0, "in [0, 1)")

  def update(state: State | None, step: jax.Array) -> State:
    del state
    left, one = _left(step, steps), jnp.float32(1.0)
    explore = _left(step, explore_steps)
    return _start(
      Schedule(hidden * left, explore, left, left, left, one, one, jnp.int32(0))
    )

  init = lambda: _apart(update(None, jnp.int32(0)))
  return Curriculum(init, update, lambda state, reward: state)


def plateau(
  *,
  hidden: float,
  levels: int,
  temperature: float,
  budgets: float,
  decay: float,
  patience: int,
  margin: float,
  settle: int,
  min_steps: int,
  max_steps: int,
  explore_steps: int,
) -> Curriculum:
  """Relaxes by one of equal levels whenever the held-out reward plateaus.

  A phase begins with `settle` observations that are ignored: the reward jumps
  or dips when the constraints change. The next one starts the average anew and
  is the first best. From then on an average above best + margin is the new
  best, and any other one is a wait. A phase ends at the first observation with
  `patience` waits behind it, if it has lasted `min_steps`, or without one after
  `max_steps`. It never goes back, and the last phase, of no constraints, never
  ends. An observation that is not finite is ignored.

  Args:
    hidden: share of the vocabulary hidden at first.
    levels: how often the constraints are relaxed, each time by 1 / levels of
      what they were at first.
    temperature: times the role's own at first; 1 at the end.
    budgets: share of the list of budgets in use at first; 1 at the end.
    decay: of the average: the weight of what was before an observation.
    patience: waits that make a plateau.
    margin: of reward, by which an average must exceed the best to count.
    settle: observations ignored at the start of every phase.
    min_steps: training steps that a phase lasts at least.
    max_steps: training steps that a phase but the last lasts at most.
    explore_steps: after so many no entropy bonus is paid any more.

  Raises:
    ValueError: a setting is out of its range.
  """
  _check("hidden", hidden, 0.0 <= hidden < 1.0, "in [0, 1)")
  _check("levels", levels, levels >= 1, "at least 1")
  _check(
    "temperature", temperature, 0.0 < temperature < np.inf, "above 0, finite"
  )
  _check("budgets", budgets, 0.0 < budgets <= 1.0, "in (0, 1]")
  _check("decay", decay, 0.0 <= decay < 1.0, "in [0, 1)")
  _check("patience", patience, patience >= 1, "at least 1")
  _check("margin", margin, 0.0 <= margin < np.inf, "at least 0, finite")
  _check("settle", settle, settle >= 0, "at least 0")
  _check("min_steps", min_steps, min_steps >= 0, "at least 0")
  least = max(min_steps, 1)
  _check(
    "max_steps", max_steps, max_steps >= least,
    f"at least {least}: 1, and no less than min_steps",
  )  # fmt: skip
  _check("explore_steps", explore_steps, explore_steps >= 0, "at least 0")
  table = _levels(hidden, levels, temperature, budgets)

  def at(phase: jax.Array, explore: jax.Array) -> Schedule:
    return jax.tree.map(lambda row: row[phase], table)._replace(explore=explore)

  def relax(state: State, due: jax.Array) -> State:
    due = due & (state.schedule.phase < levels)
    phase = jnp.minimum(state.schedule.phase + 1, levels)
    return _where(due, _start(at(phase, state.schedule.explore)), state)

  def update(state: State, step: jax.Array) -> State:
    schedule = at(state.schedule.phase, _left(step, explore_steps))
    state = state._replace(schedule=schedule, age=state.age + 1)
    return relax(state, state.age >= max_steps)

  def observe(state: State, reward: jax.Array) -> State:
    reward = jnp.asarray(reward, jnp.float32)
    first = state.seen == settle
    average = decay * state.average + (1.0 - decay) * reward
    average = jnp.where(first, reward, average)
    better = first | (average > state.best + margin)
    judged = state._replace(
      average=average,
      best=jnp.where(better, average, state.best),
      waited=jnp.where(better, 0, state.waited + 1),
    )
    after = _where(state.seen >= settle, judged, state)
    after = after._replace(seen=state.seen + 1)
    flat = (after.waited >= patience) & (after.age >= min_steps)
    return _where(jnp.isfinite(reward), relax(after, flat), state)

  def init() -> State:
    explore = _left(jnp.int32(0), explore_steps)
    return _apart(_start(at(jnp.int32(0), explore)))

  return Curriculum(init, update, observe)


def _levels(
  hidden: float, levels: int, temperature: float, budgets: float
) -> Schedule:
  """What each phase sets, [levels + 1]; `explore` is of the step, not of it.

  A table, so that the ends are exact and no compiler rounds them otherwise.
  """
  phase = np.arange(levels + 1)
  left = (levels - phase) / levels
  rows = Schedule(
    hidden=hidden * left,
    explore=left,
    inject=left,
    ban=left,
    bonus=left,
    temperature=left * temperature + (1.0 - left),
    budgets=left * budgets + (1.0 - left),
    phase=phase,
  )
  rows = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), rows)
  return rows._replace(phase=jnp.asarray(phase, jnp.int32))


def _start(schedule: Schedule) -> State:
  """A phase of which nothing is known yet."""
  zero, none = jnp.float32(0.0), jnp.int32(0)
  return State(schedule, zero, zero, none, none, none)


def _apart(state: State) -> State:
  """A buffer for each leaf: one that is shared can't be donated twice."""
  return jax.tree.map(jnp.copy, state)


def _where(condition: jax.Array, then: State, other: State) -> State:
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, other)


def _left(step: jax.Array, steps: int) -> jax.Array:
  """1 at step 0, 0 from `steps` on; 0 throughout where there are none."""
  return jnp.maximum(1.0 - step / steps, 0.0) if steps else jnp.float32(0.0)


def _check(field: str, value: float, holds: bool, needed: str) -> None:
  if not holds:
    raise ValueError(f"config.curriculum.{field}={value} must be {needed}.")
