"""Schedules that relax: their ends, their direction, what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax import curriculum

settled = settings(deadline=None, max_examples=50)


def at(schedule, step):
  return schedule.update(schedule.init(), np.int32(step))


def test_linear_by_hand():
  schedule = curriculum.linear(hidden=0.8, steps=100, explore_steps=50)
  np.testing.assert_allclose(schedule.init(), [0.8, 1.0], rtol=1e-6)
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
  found = np.array([at(schedule, t) for t in times])
  assert (np.diff(found, axis=0) <= 0).all()
  assert (found >= 0).all() and (found <= [np.float32(hidden), 1]).all()
  assert at(schedule, steps).hidden == 0 == at(schedule, explore_steps).explore
  before = at(schedule, explore_steps - 1).explore
  assert before > 0


def test_state_carries_the_schedule_only():
  """A resumed run sees what an uninterrupted one does, whatever the state."""
  schedule = curriculum.linear(hidden=0.5, steps=10, explore_steps=10)
  state = schedule.init()
  for step in range(4):
    state = schedule.update(state, np.int32(step))
  np.testing.assert_array_equal(state, at(schedule, 3))


@pytest.mark.parametrize("hidden", [-0.1, 1.0, 1.5, float("nan")])
def test_linear_refuses(hidden):
  with pytest.raises(ValueError, match=r"config.curriculum.hidden=.*\[0, 1\)"):
    curriculum.linear(hidden=hidden, steps=10, explore_steps=10)
