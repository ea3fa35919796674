"""Paths from question to answer: counted, monotone, alike at the ends."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.recursive import targets

settled = settings(deadline=None, max_examples=25)


def drawn(seed, rows=4, cells=12):
  rng = np.random.default_rng(seed)
  question = rng.integers(0, 3, (rows, cells))
  answer = np.where(rng.random((rows, cells)) < 0.6, 4 + question, question)
  answer[0] = question[0]  # nothing to do
  order = np.where(question != answer, rng.integers(1, 5, (rows, cells)), 0)
  return question, answer, order


def frames(name, seed, steps):
  question, answer, order = drawn(seed)
  due = targets.target_schedule(
    name, jax.random.key(seed), question, answer, order, steps
  )
  at = lambda s: np.asarray(
    targets.target_at(jnp.full(len(question), s), due, question, answer)
  )
  return question, answer, order, [at(s) for s in range(steps + 1)]


@settled
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 16))
def test_a_path_replaces_its_share_at_every_step(seed, steps):
  for name in ("random_linear", "solver_order"):
    question, answer, _, found = frames(name, seed, steps)
    np.testing.assert_array_equal(found[0], question)
    np.testing.assert_array_equal(found[-1], answer)
    count = (question != answer).sum(1)
    for s, frame in enumerate(found):
      replaced = (frame != question).sum(1)
      np.testing.assert_array_equal(replaced, s * count // steps)
      assert ((frame == question) | (frame == answer)).all()
    for before, after in itertools.pairwise(found):
      kept = before == answer
      assert (after == answer)[kept].all()  # never further from the answer


def test_the_final_target_is_the_answer_from_the_first_step_on():
  question, answer, _, found = frames("final", 0, 6)
  np.testing.assert_array_equal(found[0], question)
  for frame in found[1:]:
    np.testing.assert_array_equal(frame, answer)


def test_the_solvers_order_is_kept():
  question, answer, order, found = frames("solver_order", 3, 6)
  for frame in found:
    for row in range(len(question)):
      differs = question[row] != answer[row]
      done = order[row][differs & (frame[row] == answer[row])]
      left = order[row][differs & (frame[row] == question[row])]
      if len(done) and len(left):
        assert done.max() <= left.min()


def test_orders_are_drawn_anew():
  question, answer, order = drawn(1)
  due = [
    np.asarray(
      targets.target_schedule(
        "random_linear", jax.random.key(k), question, answer, order, 6
      )
    )
    for k in range(2)
  ]
  assert (due[0] != due[1]).any()
  assert due[0][0].max() == 0  # a row with nothing to do


def test_an_unknown_scheme_is_named():
  with pytest.raises(ValueError, match="'sideways' is none of final"):
    targets.target_schedule("sideways", jax.random.key(0), *drawn(0), 6)


def test_a_chain_goes_to_what_is_strictly_better():
  value = np.asarray([0.3, 0.3, 0.2, 0.5, 0.9, 0.9])
  index, live = targets.verified_chain(value)
  np.testing.assert_array_equal(index, [3, 3, 3, 4, 4, 5])
  np.testing.assert_array_equal(live, [1, 1, 1, 1, 0, 0])
  index, live = targets.verified_chain(value, final=True)
  np.testing.assert_array_equal(index, [4, 4, 4, 4, 4, 5])
  np.testing.assert_array_equal(live, [1, 1, 1, 1, 0, 0])
