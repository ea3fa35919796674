"""Schedules that relax: their ends, their direction, what they refuse.

`replay` drives a curriculum as a run does: an update every step and, where the
curve has a reward, an observation after it. Rewards are dyadic fractions, so
that averages and margins meet to the bit.
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
from rsrc_jax.runtime import checkpoint
from rsrc_jax.types import TrainState

settled = settings(deadline=None, max_examples=50)
RELAXED = ("hidden", "inject", "ban", "bonus")


def at(schedule, step):
  return schedule.update(schedule.init(), np.int32(step)).schedule


def plateau(**overrides):
  """No smoothing, nothing ignored, no limits: what a test adds is its point."""
  return curriculum.plateau(
    **dict(
      hidden=0.5,
      levels=2,
      temperature=2.0,
      budgets=0.25,
      decay=0.0,
      patience=2,
      margin=0.0,
      settle=0,
      min_steps=0,
      max_steps=10_000,
      explore_steps=4,
    )
    | overrides
  )


# One compilation for each setting and length.
@functools.cache
def _replay(fields):
  relax = plateau(**dict(fields))

  def one(state, x):
    step, reward, told = x
    state = relax.update(state, step)
    # The scan's carry keeps its types only if both functions do.
    state = jax.tree.map(
      functools.partial(jnp.where, told), relax.observe(state, reward), state
    )
    return state, state

  return jax.jit(lambda state, xs: jax.lax.scan(one, state, xs)), relax


def replay(curve, **overrides):
  """States after each step, [steps]. None in the curve is not reported."""
  run, relax = _replay(tuple(sorted(overrides.items())))
  told = np.array([reward is not None for reward in curve])
  rewards = np.array([reward or 0.0 for reward in curve], np.float32)
  steps = np.arange(len(curve), dtype=np.int32)
  return run(relax.init(), (steps, rewards, told))[1]


def changes(curve, **overrides):
  """After which steps, from 1, the level had gone up."""
  levels = np.asarray(replay(curve, **overrides).schedule.level)
  rises = np.diff(levels, prepend=0)
  assert set(rises) <= {0, 1}
  return (np.flatnonzero(rises) + 1).tolist()


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
  found = schedule.update(None, jnp.int32(step)).schedule
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
  chex.assert_trees_all_equal(state, schedule.update(None, np.int32(3)))
  assert not any(state[1:])


def test_a_step_up_then_flat():
  """Average 1/2, margin 1/8, patience 2, one observation ignored a level.

  rewards   0    0   1     1     1     1       1       1
  average   -    0   1/2   3/4   7/8   15/16   31/32   63/64
  best      -    0   1/2   3/4   3/4   15/16   15/16   15/16
  waited    -    0   0     0     1     0       1       2

  7/8 does not exceed 3/4 + 1/8, 15/16 does; 1 + 1/16 is out of reach: the level
  ends at step 8. Each later one ignores 1, has its best at the next and waits
  for 2: 4 steps.
  """
  curve = [0, 0, *[1] * 14]
  options = dict(decay=0.5, margin=0.125, settle=1, levels=3)
  assert changes(curve, **options) == [8, 12, 16]
  # Without the margin each average is a new best until float32 meets 1.
  assert changes(curve, **options | {"margin": 0.0}) == []
  states = replay(curve[:6], **options)
  average = [0, 0, 0.5, 0.75, 0.875, 0.9375]
  np.testing.assert_array_equal(states.average, average)
  np.testing.assert_array_equal(states.best, [0, 0, 0.5, 0.75, 0.75, 0.9375])
  np.testing.assert_array_equal(states.waited, [0, 0, 0, 0, 1, 0])
  np.testing.assert_array_equal(states.seen, [1, 2, 3, 4, 5, 6])


def test_noise_about_a_flat_reward():
  """Rewards -1, 1, -1, 1, ...: a raw reward beats its best just once.

  Raw, margin 1: best -1, then 1 > 0 is better, then waits at 3 and 4: [4].
  Average 1/2: -1, 0, -1/2, 1/4, -3/8; with margin 1, 0 > 0 is no improvement,
  so steps 2 and 3 are the waits: [3]. With margin 1/8: 0 is better, -1/2 waits,
  1/4 > 1/8 is better, -3/8 waits, 5/16 > 3/8 is not: [6].
  """
  curve = [-1, 1] * 4
  assert changes(curve, levels=1, margin=1) == [4]
  assert changes(curve, levels=1, margin=1, decay=0.5) == [3]
  assert changes(curve, levels=1, margin=0.125, decay=0.5) == [6]


def test_a_sawtooth():
  """0 1 2 3 quarters, again and again: no tooth is above the first one's tip.

  Best 3/4 at step 4; the fourth wait is the second tip, at 8. The next level
  starts at its own foot: 0 is best at 9, 3/4 at 12, and the wait ends at 16.
  Patience 5 lasts a step beyond the tip, at 9; that level begins with 1/4 at
  10, has its best at 12 and ends at 17.
  """
  curve = [0, 0.25, 0.5, 0.75] * 5
  assert changes(curve, patience=4) == [8, 16]
  assert changes(curve, patience=5) == [9, 17]


def test_a_slow_ramp():
  """1/64 an observation against a margin of 1/8: better at the ninth one.

  The eighth is above the best by 1/8 sharp, which does not count, so patience 8
  ends levels of 9 and patience 9 none. What crawls is a plateau by the limit.
  """
  curve = [i / 64 for i in range(40)]
  ramp = dict(margin=0.125, levels=3)
  assert changes(curve, **ramp, patience=8) == [9, 18, 27]
  assert changes(curve, **ramp, patience=9) == []
  assert changes(curve, **ramp, patience=9, max_steps=15) == [15, 30]


def test_a_level_that_is_never_reported_ends_by_its_length():
  assert changes([None] * 30, max_steps=7, levels=3) == [7, 14, 21]
  assert changes([float("nan")] * 30, max_steps=7, levels=3) == [7, 14, 21]
  # The last one has no limit, and goes on being aged and watched.
  ages = np.asarray(replay([None] * 30, max_steps=7, levels=3).age)
  np.testing.assert_array_equal(ages[20:], range(10))
  waited = np.asarray(replay([1] * 12, levels=1).waited)
  np.testing.assert_array_equal(waited[3:], range(9))


def test_what_is_not_finite_is_not_seen():
  """Nor does it end the wait of others: the same curve with gaps, as long."""
  curve = [1, float("nan"), 1, float("inf"), None, 1, -float("inf"), 1]
  assert changes(curve, levels=1) == [6]
  assert np.isfinite(replay(curve, levels=1).average).all()


def test_a_level_is_not_cut_short():
  """Flat: the wait is over after 3 observations, the level after 5 steps."""
  assert changes([1] * 12, levels=3) == [3, 6, 9]
  assert changes([1] * 12, levels=3, min_steps=5) == [5, 10]
  # Observed every third step, it ends at the first observation from 5 on.
  told = [1 if step % 3 == 0 else None for step in range(1, 22)]
  assert changes(told, levels=3, min_steps=5) == [9, 18]
  # An improvement before the least length is over starts the wait again.
  assert changes([1, 1, 1, 2, 2, 2, 2], levels=1, min_steps=5) == [6]


def test_a_jump_at_a_relaxation_is_not_held_against_the_next_level():
  """Phase 0 ends at step 3 with best 4. Then 9 (ignored), 0, 1, 2, 3.

  Against 4, or against the ignored 9, none would be an improvement and the
  level would end at 6; against its own first, 0, each of them is.
  """
  curve = [4, 4, 4, 9, 0, 1, 2, 3, 3, 3]
  assert changes([0, *curve], settle=1) == [4, 11]
  states = replay([0, *curve], settle=1)
  assert (states.average[4], states.best[5], states.average[5]) == (0, 0, 0)


def test_levels_are_equal_steps_down_to_nothing():
  """Phase p of 4: 1 - p/4 of the start; halves and quarters, so exact."""
  states = replay([None] * 9, levels=4, max_steps=2, hidden=0.5)
  found = jax.tree.map(lambda x: np.asarray(x[1::2]), states.schedule)
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
  st.sampled_from([(0, 5, 0, 0.0), (3, 9, 1, 0.5), (6, 6, 2, 0.75)]),
)
def test_never_flaps(curve, setting):
  """Whatever is reported, every level lasts min to max steps, and they end."""
  least, most, settle, decay = setting
  options = dict(
    min_steps=least, max_steps=most, settle=settle, decay=decay, patience=1,
    levels=5, hidden=0.7, temperature=1.3, budgets=0.1,
  )  # fmt: skip
  ends = changes(curve, **options)  # asserts that a level rises by 1 or not
  lengths = np.diff([0, *ends])
  assert len(ends) == 5
  assert lengths.min() >= least and lengths.max() <= most
  found = replay(curve, **options).schedule
  for name in (*RELAXED, "temperature"):
    assert (np.diff(getattr(found, name)) <= 0).all()
  assert (np.diff(found.budgets) >= 0).all()
  assert all(getattr(found, name)[-1] == 0 for name in RELAXED)
  assert found.temperature[-1] == found.budgets[-1] == 1


NOISY = np.random.default_rng(0).normal(size=40).astype(np.float32)
SETTING = dict(
  decay=0.7, margin=0.05, settle=1, levels=3, min_steps=4, max_steps=15,
  hidden=0.9, temperature=1.3, budgets=0.1, explore_steps=30,
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
  linear = dict(hidden=0.9, steps=25, explore_steps=30)
  relax = (
    curriculum.linear(**linear) if kind == "linear" else plateau(**SETTING)
  )
  update = jax.jit(relax.update, donate_argnums=0, keep_unused=True)
  observe = jax.jit(relax.observe, donate_argnums=0)
  plain = drive(relax, relax.init(), range(40), relax.update, relax.observe)
  jitted = drive(relax, relax.init(), range(40), update, observe)
  chex.assert_trees_all_close(jitted, plain, rtol=1e-6)
  assert plain.schedule.level == jitted.schedule.level == 3 * (kind[0] == "p")

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


@pytest.mark.parametrize("make", [
  plateau,
  functools.partial(curriculum.linear, hidden=0.5, steps=3, explore_steps=0),
])  # fmt: skip
def test_states_keep_their_types(make):
  relax = make()
  state = relax.init()
  floats = [x.dtype for x in (*state.schedule[:-1], state.average, state.best)]
  counts = (state.schedule.level, state.waited, state.age, state.seen)
  assert set(floats) == {jnp.dtype("float32")}
  assert {x.dtype for x in counts} == {jnp.dtype("int32")}
  assert {x.shape for x in jax.tree.leaves(state)} == {()}
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
  ("budgets", 0.0), ("budgets", 1.1), ("decay", 1.0), ("decay", -0.1),
  ("patience", 0), ("margin", -0.1), ("margin", float("nan")), ("settle", -1),
  ("min_steps", -1), ("max_steps", 0), ("explore_steps", -1),
])  # fmt: skip
def test_plateau_refuses(field, value):
  match = rf"^config.curriculum.{field}={value} must be .*\.$"
  with pytest.raises(ValueError, match=match):
    plateau(**{field: value})


def test_a_level_as_long_as_its_limit_is_allowed():
  assert changes([1] * 12, min_steps=6, max_steps=6) == [6, 12]
  with pytest.raises(ValueError, match=r"max_steps=5 must be at least 6"):
    plateau(min_steps=6, max_steps=5)
