"""Schedules that relax: their ends, their direction, what they refuse.

`replay` drives a curriculum as a run does: an update before every step and,
where the curve has a reward, an observation after it. The rule itself has
test_plateau.py.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.rl import curriculum
from rsrc_jax.rl import plateau as trends
from rsrc_jax.runtime import checkpoint
from rsrc_jax.types import TrainState

settled = settings(deadline=None, max_examples=50)
RELAXED = ("hidden", "inject", "ban", "bonus")
LINEAR = dict(hidden=0.5, steps=3, explore_steps=0)


@functools.cache
def start():
  """Of a line without a rule, whatever it is: nothing of it is read."""
  return curriculum.linear(**LINEAR).init()


def at(schedule, step):
  return schedule.update(start(), jnp.int32(step)).schedule


def plateau(**overrides):
  """Three rewards, a look at each, no error allowed, hardly a timer."""
  return curriculum.plateau(
    **dict(
      hidden=0.5,
      levels=2,
      temperature=2.0,
      budgets=0.25,
      window=3,
      look=1,
      errors=0.0,
      max_steps=10_000,
      explore_steps=4,
    )
    | overrides
  )


# One compilation for each setting and length.
@functools.cache
def _replay(fields, make=plateau):
  relax = make(**dict(fields))

  def one(state, x):
    step, reward, told = x
    state = relax.update(state, step)
    # The scan's carry keeps its types only if both functions do.
    state = jax.tree.map(
      functools.partial(jnp.where, told), relax.observe(state, reward), state
    )
    return state, state

  return jax.jit(lambda state, xs: jax.lax.scan(one, state, xs)), relax


def replay(curve, make=plateau, **overrides):
  """States after each step, [steps]. None in the curve is not reported."""
  run, relax = _replay(tuple(sorted(overrides.items())), make)
  told = np.array([reward is not None for reward in curve])
  rewards = np.array([reward or 0.0 for reward in curve], np.float32)
  steps = np.arange(len(curve), dtype=np.int32)
  return run(relax.init(), (steps, rewards, told))[1]


def last(states):
  return jax.tree.map(lambda x: np.asarray(x)[-1], states)


def ended(curve, **overrides):
  """Of each level that has ended: after how many steps, and by what."""
  states = replay(curve, **overrides)
  levels = np.asarray(states.schedule.level)
  assert set(np.diff(levels, prepend=0)) <= {0, 1}
  return [(x["step"], x["by"]) for x in curriculum.record(last(states))]


def plateaus(*steps):
  return [(step, "plateau") for step in steps]


def timers(*steps):
  return [(step, "timer") for step in steps]


def test_linear_by_hand():
  schedule = curriculum.linear(hidden=0.8, steps=100, explore_steps=50)
  found = schedule.init().schedule
  np.testing.assert_allclose(found, [0.8, 1, 1, 1, 1, 1, 1, 0], rtol=1e-6)
  # A quarter, a half, three quarters and all of the way for `hidden`.
  for step, hidden, explore in [
    (0, 0.8, 1.0),
    (25, 0.6, 0.5),
    (50, 0.4, 0.0),
    (75, 0.2, 0.0),
    (100, 0.0, 0.0),
    (10_000, 0.0, 0.0),
  ]:
    found = at(schedule, step)
    np.testing.assert_allclose(found.hidden, hidden, atol=1e-6)
    np.testing.assert_allclose(found.explore, explore, atol=1e-6)
    np.testing.assert_allclose(found[2:5], [hidden / 0.8] * 3, atol=1e-6)
    assert (found.temperature, found.budgets, found.level) == (1, 1, 0)


@settled
@given(
  st.floats(0, 0.999),
  st.integers(0, 1000),
  st.integers(0, 1000),
  st.integers(0, 2000),
)
def test_linear_is_the_closed_form_to_the_bit(hidden, steps, explore, step):
  """max(1 - step / steps, 0), rounded as jax rounds an int32 step.

  In float32: the step, the length, their quotient, 1 less it, the product.
  """
  f32 = np.float32

  def left(steps):
    line = f32(1) - f32(step) / f32(steps) if steps else f32(0)
    return max(line, f32(0))

  schedule = curriculum.linear(
    hidden=hidden, steps=steps, explore_steps=explore
  )
  found = at(schedule, jnp.int32(step))
  assert found.hidden == f32(hidden) * left(steps)
  assert found.explore == left(explore)
  assert found.inject == found.ban == found.bonus == left(steps)


@settled
@given(
  st.floats(0, 0.999),
  st.integers(1, 1000),
  st.integers(1, 1000),
  st.lists(st.integers(0, 2000), min_size=2, max_size=6).map(sorted),
)
def test_linear_only_falls(hidden, steps, explore_steps, times):
  schedule = curriculum.linear(
    hidden=hidden, steps=steps, explore_steps=explore_steps
  )
  found = np.array([at(schedule, t)[:5] for t in times])
  assert (np.diff(found, axis=0) <= 0).all()
  assert (found >= 0).all()
  assert (found <= [np.float32(hidden), 1, 1, 1, 1]).all()
  assert at(schedule, steps).hidden == 0 == at(schedule, explore_steps).explore
  before = at(schedule, explore_steps - 1).explore
  assert before > 0


def test_linear_is_of_the_step_alone():
  """A resumed run sees what an uninterrupted one does, whatever the state."""
  schedule = curriculum.linear(hidden=0.5, steps=10, explore_steps=10)
  state = schedule.init()
  for step in range(4):
    state = schedule.observe(schedule.update(state, np.int32(step)), 1.0)
  chex.assert_trees_all_equal(
    state, schedule.update(schedule.init(), np.int32(3))
  )
  # Without a rule it has seen nothing.
  assert state.watch.rewards == () and state.watch.seen == 0 == state.age
  assert state.step == 4 and not curriculum.converged(state)


def test_a_level_ends_at_a_plateau_and_the_window_begins_anew():
  """Flat from the start: three rewards a level, and the last one ends once."""
  assert ended([1] * 12) == plateaus(3, 6, 9)
  levels = np.asarray(replay([1] * 12).schedule.level)
  np.testing.assert_array_equal(levels, [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2])
  # The schedule is that of the level from the next step on.
  hidden = np.asarray(replay([1] * 12).schedule.hidden)
  np.testing.assert_array_equal(hidden, [0.5] * 3 + [0.25] * 3 + [0] * 6)


def test_a_relaxation_that_lifts_the_reward_is_not_held_against_a_level():
  """Levels of 4, 8, 8: had the window kept the 4s, the second would rise.

  Steps 4 to 6 see 4 8 8, 8 8 8 or 4 4 8; what they see is 8 8 8 alone, so that
  the second level ends as soon as it has three rewards.
  """
  assert ended([4, 4, 4, 8, 8, 8, 8, 8, 8]) == plateaus(3, 6, 9)
  states = replay([4, 4, 4, 8, 8])
  np.testing.assert_array_equal(states.watch.rewards[3], [0, 0, 8])
  np.testing.assert_array_equal(states.watch.seen, [1, 2, 0, 1, 2])
  np.testing.assert_array_equal(states.watch.count, [1, 2, 3, 4, 5])


def test_a_rise_ends_where_it_ends():
  """0 to 4 rise; 3 4 4 still does, and 4 4 4 is flat: after 7 steps."""
  curve = [0, 1, 2, 3, 4, 4, 4, 4, 4, 4]
  assert ended(curve) == plateaus(7, 10)
  slope = np.asarray(replay(curve).ends.slope)[-1]
  np.testing.assert_array_equal(slope, [0, 0, 0])


def test_looks_come_at_stated_intervals():
  """Of 4 steps: at 4 the window is full; then at 8 and at 12."""
  assert ended([1] * 13, look=4) == plateaus(4, 8, 12)
  # A reward that is seen every third step: the third one after 9 steps.
  told = [1 if step % 3 == 0 else None for step in range(1, 28)]
  assert ended(told) == plateaus(9, 18, 27)
  assert ended(told, look=2) == plateaus(12, 24)


def test_the_timer_ends_what_rises():
  """7 steps a level, the last of which has no limit."""
  curve = [i / 64 for i in range(40)]
  assert ended(curve, max_steps=7) == timers(7, 14)
  ends = last(replay(curve, max_steps=7)).ends
  np.testing.assert_array_equal(ends.slope, [1 / 64, 1 / 64, 0])
  np.testing.assert_array_equal(ends.error, [0, 0, 0])
  # A plateau that comes first starts the timer anew.
  assert ended([1] * 3 + curve, max_steps=7) == [
    *plateaus(3), *timers(10),
  ]  # fmt: skip


def test_a_level_lasts_as_many_steps_as_its_timer_says():
  ages = np.asarray(replay([None] * 20, max_steps=7).age)
  np.testing.assert_array_equal(ages[:15], [*range(1, 8)] * 2 + [1])
  assert ages[-1] == 6  # of the last level, which has no limit
  levels = np.asarray(replay([None] * 20, max_steps=7).schedule.level)
  assert np.flatnonzero(np.diff(levels)).tolist() == [6, 13]


def test_what_is_never_reported_ends_by_the_timer():
  assert ended([None] * 20, max_steps=7) == timers(7, 14)
  assert ended([float("nan")] * 20, max_steps=7) == timers(7, 14)
  record = curriculum.record(last(replay([None] * 20, max_steps=7)))
  assert {(x["slope"], x["error"]) for x in record} == {(None, None)}
  # So does everything without a rule.
  assert ended([1] * 20, max_steps=7, window=0) == timers(7, 14)


def test_an_arm_that_should_end_at_its_plateau_says_by_what_it_ended():
  flat = last(replay([1] * 12))
  assert curriculum.converged(flat)
  assert curriculum.record(flat, ended=True) == curriculum.record(flat)
  rising = last(replay([1] * 6 + [i / 64 for i in range(20)]))
  assert not curriculum.converged(rising)
  assert curriculum.record(rising, every=2) == [
    {"step": step, "by": "plateau", "slope": 0.0, "error": 0.0}
    for step in (3, 6)
  ]
  assert curriculum.record(rising, every=2, ended=True)[-1] == {
    "step": 26, "by": "timer", "slope": 1 / 128, "error": 0.0,
  }  # fmt: skip


def test_linear_tells_a_plateau_after_its_last_constraint():
  """Flat all along, relaxed from step 5 on: three rewards of steps 5, 6, 7."""
  make = functools.partial(
    curriculum.linear, hidden=0.5, steps=5, explore_steps=9, window=3, look=1,
    errors=0.0,
  )  # fmt: skip
  states = replay([1] * 12, make)
  (record,) = curriculum.record(last(states))
  assert (record["step"], record["by"]) == (8, "plateau")
  assert curriculum.converged(last(states))
  np.testing.assert_array_equal(states.watch.seen[:8], [1] * 5 + [1, 2, 0])
  # The schedule is the line that it is without a rule.
  plain = replay([1] * 12, functools.partial(
    curriculum.linear, hidden=0.5, steps=5, explore_steps=9
  ))  # fmt: skip
  chex.assert_trees_all_close(states.schedule, plain.schedule, rtol=1e-6)


def test_levels_are_equal_steps_down_to_nothing():
  """Level p of 4: 1 - p/4 of the start; halves and quarters, so exact."""
  states = replay([None] * 9, levels=4, max_steps=2, hidden=0.5, window=0)
  found = jax.tree.map(lambda x: np.asarray(x[2::2]), states.schedule)
  np.testing.assert_array_equal(found.level, [1, 2, 3, 4])
  np.testing.assert_array_equal(found.hidden, [0.375, 0.25, 0.125, 0])
  for name in ("inject", "ban", "bonus"):
    share = getattr(found, name)
    np.testing.assert_array_equal(share, [0.75, 0.5, 0.25, 0])
  np.testing.assert_array_equal(found.temperature, [1.75, 1.5, 1.25, 1])
  np.testing.assert_array_equal(found.budgets, [0.4375, 0.625, 0.8125, 1])
  # The entropy bonus is of the step: 1 - step / 4, for steps 0 to 8.
  np.testing.assert_array_equal(
    states.schedule.explore, [1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0]
  )


def test_the_first_schedule_holds_all_constraints():
  found = plateau(hidden=0.9, temperature=1.5, budgets=0.3).init().schedule
  np.testing.assert_allclose(found, [0.9, 1, 1, 1, 1, 1.5, 0.3, 0], rtol=1e-7)
  assert plateau(explore_steps=0).init().schedule.explore == 0


rewards = st.one_of(st.none(), st.floats(-2, 2, width=32))


@settled
@given(
  st.lists(rewards, min_size=60, max_size=60),
  st.sampled_from([(3, 9, 1, 0.0), (4, 11, 2, 2.0), (6, 6, 3, 0.5)]),
)
def test_never_flaps(curve, setting):
  """Whatever is reported, every level lasts window to timer, and they end."""
  window, most, look, errors = setting
  options = dict(
    window=window, max_steps=most, look=look, errors=errors,
    levels=5, hidden=0.7, temperature=1.3, budgets=0.1,
  )  # fmt: skip
  found = ended(curve, **options)  # asserts that a level rises by 1 or not
  lengths = np.diff([0, *(step for step, _ in found[:5])])
  assert len(found) in (5, 6)
  assert lengths.min() >= window and lengths.max() <= most
  # A plateau is found at a look alone, and what a timer ends is as long as it.
  for length, (step, by) in zip(lengths, found, strict=False):
    told = sum(x is not None for x in curve[:step])
    assert told % look == 0 if by == "plateau" else length == most
  found = replay(curve, **options).schedule
  for name in (*RELAXED, "temperature"):
    assert (np.diff(getattr(found, name)) <= 0).all()
  assert (np.diff(found.budgets) >= 0).all()
  assert all(getattr(found, name)[-1] == 0 for name in RELAXED)
  assert found.temperature[-1] == found.budgets[-1] == 1


NOISY = np.random.default_rng(0).normal(size=40).astype(np.float32)
SETTING = dict(
  window=4, look=2, errors=1.0, levels=3, max_steps=12, hidden=0.9,
  temperature=1.3, budgets=0.1, explore_steps=30,
)  # fmt: skip


def drive(relax, state, steps, update, observe):
  for step in steps:
    state = update(state, jnp.int32(step))
    if step % 2:
      state = observe(state, NOISY[step])
  return state


@pytest.mark.parametrize("kind", ["plateau", "linear"])
def test_jit_and_a_checkpoint_change_nothing(kind, tmp_path):
  """Buffers are donated, as a training step does with its state."""
  linear = dict(
    hidden=0.9, steps=25, explore_steps=30, window=4, look=1, errors=2.0
  )
  relax = (
    curriculum.linear(**linear) if kind == "linear" else plateau(**SETTING)
  )
  update = jax.jit(relax.update, donate_argnums=0, keep_unused=True)
  observe = jax.jit(relax.observe, donate_argnums=0)
  plain = drive(relax, relax.init(), range(40), relax.update, relax.observe)
  jitted = drive(relax, relax.init(), range(40), update, observe)
  chex.assert_trees_all_close(jitted, plain, rtol=1e-6)
  assert plain.schedule.level == jitted.schedule.level == 3 * (kind[0] == "p")
  np.testing.assert_array_equal(jitted.ends.step, plain.ends.step)
  assert (np.asarray(plain.ends.by) != trends.GOES_ON).any()

  half = drive(relax, relax.init(), range(17), update, observe)
  wrap = lambda s: TrainState(
    jnp.int32(17), {"w": jnp.ones(2)}, (), (), s, jnp.uint32(0)
  )
  saver = checkpoint.open_saver(
    tmp_path, keep_last=1, keep_best=1, metric="nll_bits"
  )
  checkpoint.save(saver, wrap(half), {}, {"nll_bits": 1.0})
  back, _ = checkpoint.restore(saver, wrap(relax.init()))
  checkpoint.close(saver)
  chex.assert_trees_all_equal(back.curriculum, half)
  resumed = drive(relax, back.curriculum, range(17, 40), update, observe)
  chex.assert_trees_all_equal(resumed, jitted)


def test_seeds_in_one_program_end_each_at_its_own_step():
  """vmap of two arms: one is flat at once, the other after 8 steps."""
  run, relax = _replay(())
  curves = np.float32([[1] * 12, [*range(8), *[7] * 4]])
  steps, told = np.arange(12, dtype=np.int32), np.ones(12, bool)
  both = jax.vmap(lambda x: run(relax.init(), (steps, x, told))[0])(curves)
  for i, (curve, known) in enumerate(
    zip(curves, (plateaus(3, 6, 9), plateaus(10)), strict=True)
  ):
    mine = jax.tree.map(lambda x, i=i: np.asarray(x)[i], both)
    assert [(x["step"], x["by"]) for x in curriculum.record(mine)] == known
    chex.assert_trees_all_close(mine, last(replay(curve)), rtol=1e-6)


@pytest.mark.parametrize("make", [
  plateau,
  functools.partial(plateau, window=0),
  functools.partial(curriculum.linear, **LINEAR),
  functools.partial(curriculum.linear, **LINEAR, window=5),
])  # fmt: skip
def test_states_keep_their_types(make):
  relax = make()
  state = relax.init()
  floats = [*state.schedule[:-1], state.ends.slope, state.ends.error]
  floats += [state.watch.rewards] * bool(relax.rule.window)
  counts = [
    state.schedule.level, state.step, state.age, *state.watch[1:],
    state.ends.step, state.ends.by,
  ]  # fmt: skip
  assert {x.dtype for x in floats} == {jnp.dtype("float32")}
  assert {x.dtype for x in counts} == {jnp.dtype("int32")}
  assert {x.shape for x in state.ends} == {(relax.levels + 1,)}
  # No leaf is empty: a checkpoint could not hold it.
  assert all(x.size for x in jax.tree.leaves(state))
  after = jax.eval_shape(relax.update, state, jnp.int32(1))
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
  after = jax.eval_shape(relax.observe, state, jnp.float32(1))
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@pytest.mark.parametrize("hidden", [-0.1, 1.0, 1.5, float("nan")])
def test_linear_refuses(hidden):
  with pytest.raises(ValueError, match=r"config.curriculum.hidden=.*\[0, 1\)"):
    curriculum.linear(hidden=hidden, steps=10, explore_steps=10)


@pytest.mark.parametrize("field", ["steps", "explore_steps"])
def test_linear_refuses_a_negative_length(field):
  lengths = {"steps": 10, "explore_steps": 10} | {field: -1}
  with pytest.raises(ValueError, match=rf"config.curriculum.{field}=-1 must"):
    curriculum.linear(hidden=0.5, **lengths)


@pytest.mark.parametrize("field, value", [
  ("hidden", 1.0), ("hidden", float("nan")), ("levels", 0),
  ("temperature", 0.0), ("temperature", float("inf")),
  ("budgets", 0.0), ("budgets", 1.1), ("window", 1), ("window", 2),
  ("window", -3), ("look", 0), ("errors", -0.1), ("errors", float("nan")),
  ("max_steps", 0), ("explore_steps", -1),
])  # fmt: skip
def test_plateau_refuses(field, value):
  match = rf"^config.curriculum.{field}={value} must be .*\.$"
  with pytest.raises(ValueError, match=match):
    plateau(**{field: value})


def test_a_timer_that_leaves_no_time_for_a_plateau_is_refused():
  assert ended([1] * 12, window=6, max_steps=6) == plateaus(6, 12)
  with pytest.raises(ValueError) as error:
    plateau(window=6, max_steps=5)
  assert str(error.value) == (
    "config.curriculum.max_steps=5 must be at least 6, or the timer ends every "
    "level: a plateau is seen in config.curriculum.window=6 rewards, one in 1 "
    "steps by config.curriculum.every."
  )
