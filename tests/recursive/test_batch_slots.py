"""Slots: replaced where done, spread over steps, never of another shape."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsrc_jax.recursive import batch_slots


def run(count, limit, steps, halts=lambda slots: False):
  """Items are numbers in the order in which they are offered."""
  offered = iter(range(0, 10**6, count))
  nothing = jnp.full(count, -1, jnp.int32)
  slots = batch_slots.empty(nothing, jnp.zeros(count), limit)
  lives, seen = [], []
  advance = jax.jit(lambda *a: batch_slots.advance(*a))
  refill = jax.jit(lambda *a: batch_slots.refill(*a, limit))
  for _ in range(steps):
    fresh = next(offered) + jnp.arange(count, dtype=jnp.int32)
    slots = refill(slots, fresh, jnp.zeros(count))
    seen.append((np.asarray(slots.item), np.asarray(slots.step)))
    done = jnp.broadcast_to(halts(slots), (count,))
    slots = advance(slots, slots.state + 1.0, jnp.asarray(done))
    for i in np.flatnonzero(slots.done):
      lives.append((int(slots.item[i]), int(slots.state[i])))
  assert refill._cache_size() == advance._cache_size() == 1
  return lives, seen


def test_every_item_gets_its_steps_and_a_batch_holds_all_of_them():
  lives, seen = run(count=6, limit=3, steps=12)
  first = {item: steps for item, steps in lives if item < 6}
  assert first == {0: 1, 1: 2, 2: 3, 3: 1, 4: 2, 5: 3}
  assert {steps for item, steps in lives if item >= 6} == {3}
  for _, step in seen[3:]:
    np.testing.assert_array_equal(np.bincount(step, minlength=3), [2, 2, 2])


def test_a_state_begins_anew_with_its_item():
  _, seen = run(count=4, limit=2, steps=6)
  for (item, step), (after, later) in itertools.pairwise(seen):
    same = item == after
    np.testing.assert_array_equal(later[same], step[same] + 1)
    np.testing.assert_array_equal(later[~same], 0)


def test_an_item_that_says_so_leaves_early():
  lives, _ = run(3, 5, 10, halts=lambda s: (s.item % 2 == 0) & (s.step == 1))
  later = [(i, n) for i, n in lives if i >= 3]
  assert {n for i, n in later if i % 2 == 0} == {2}
  assert {n for i, n in later if i % 2} == {5}


def test_no_step_is_refused():
  with pytest.raises(ValueError, match="limit=0"):
    batch_slots.empty(jnp.zeros(2), jnp.zeros(2), 0)
