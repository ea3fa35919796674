"""What a code is worth: short is only better where it worked."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.ops import rewards

BUDGET = 16
priced = jax.jit(rewards.priced, static_argnames=("budget",))
above_empty = jax.jit(rewards.above_empty)
lengths = np.arange(BUDGET + 1)
fidelities = st.floats(-1, 1, width=32, allow_subnormal=False)
prices = st.floats(0, 1, width=32, allow_subnormal=False)
few = settings(deadline=None, max_examples=50)


def of_lengths(value, price):
  """The reward of every length up to the budget."""
  value = np.full(BUDGET + 1, value, np.float32)
  return np.asarray(priced(value, lengths, budget=BUDGET, price=price))


@pytest.mark.parametrize(
  "word, empty, expected",
  [
    (0.42, 0.42, 0.0),  # as much as without a code
    (1.0, 0.42, 1.0),
    (0.71, 0.42, 0.5),  # half of the .58 that there were to win
    (0.13, 0.42, -0.5),
    (-1.0, 0.0, -1.0),  # a reader that is misled
    (0.5, -1.0, 0.75),  # 1.5 of 2
    # Nothing is left to convey: over the least room of .05, not over 0.
    (1.0, 1.0, 0.0),
    (0.95, 1.0, -1.0),
  ],
)
def test_above_the_empty_code_by_hand(word, empty, expected):
  found = above_empty(np.float32(word), np.float32(empty))
  np.testing.assert_allclose(found, expected, atol=1e-6)


@few
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_parts_above_the_empty_code_are_those_of_the_sum(x):
  """A word in two parts, each within its weight, of two codes."""
  word, empty = (
    {"verifier": 0.75 * np.float32(y[:-1]), "reader": 0.25 * np.float32(y[1:])}
    for y in (x[:3], x[3:])
  )
  parts = rewards.parts_above_empty(word, empty)
  whole = above_empty(sum(word.values()), sum(empty.values()))
  np.testing.assert_allclose(sum(parts.values()), whole, atol=1e-5)


def test_by_hand():
  # Half the budget at price 0.4 costs a fifth: 0.5 * (1 - 0.4 * 8 / 16) = 0.4.
  found = priced(np.float32(0.5), np.int32(8), budget=16, price=0.4)
  np.testing.assert_allclose(found, 0.4, rtol=1e-6)
  # A code that misleads keeps what it has, whatever its length and the price.
  found = priced(np.float32(-0.5), np.int32(8), budget=16, price=0.4)
  assert found == -0.5
  # At price 1 a full code earns nothing.
  assert of_lengths(0.5, 1.0)[-1] == 0.0
  # A price of each source: the first is announced, and pays none.
  found = priced(
    np.full((2, 1), 0.5, np.float32), np.full((2, 1), 8), budget=16,
    price=np.float32([[0.0], [0.4]]),
  )  # fmt: skip
  np.testing.assert_allclose(found, [[0.5], [0.4]], rtol=1e-6)


@few
@given(st.floats(-3, 1, width=32, allow_subnormal=False))
def test_a_price_of_0_changes_nothing(value):
  assert (of_lengths(value, 0.0) == np.float32(value)).all()


@few
@given(st.floats(-3, 1, width=32, allow_subnormal=False), prices)
def test_useless_tokens_never_raise_the_reward(value, price):
  found = of_lengths(value, price)
  assert (np.diff(found) <= 0).all()
  assert (found <= value).all() and (found >= min(value, 0)).all()


@few
@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_useless_tokens_cost_where_there_is_a_price(fidelity, price):
  assert (np.diff(of_lengths(fidelity, price)) < 0).all()


@few
@given(st.floats(-3, 0, width=32, allow_subnormal=False), prices)
def test_a_failed_code_is_not_better_for_being_short(value, price):
  """At 0 and below it length changes nothing: failing fast gains nothing."""
  assert (of_lengths(value, price) == np.float32(value)).all()


@few
@given(fidelities, fidelities, prices)
def test_fidelity_never_lowers_the_reward(one, other, price):
  low, high = sorted((one, other))
  assert (of_lengths(low, price) <= of_lengths(high, price)).all()
