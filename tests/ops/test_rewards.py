"""What a code is worth: short is only better where it worked."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.ops import rewards

BUDGET = 16
priced = jax.jit(rewards.priced, static_argnames=("budget",))
lengths = np.arange(BUDGET + 1)
fidelities = st.floats(-1, 1, width=32)
prices = st.floats(0, 1, width=32)
few = settings(deadline=None, max_examples=50)


def of_lengths(fidelity, price):
  """The reward of every length up to the budget."""
  fidelity = np.full(BUDGET + 1, fidelity, np.float32)
  return np.asarray(priced(fidelity, lengths, budget=BUDGET, price=price))


def test_by_hand():
  # Half the budget at price 0.4 costs a fifth: 0.5 * (1 - 0.4 * 8 / 16) = 0.4.
  found = priced(np.float32(0.5), np.int32(8), budget=16, price=0.4)
  np.testing.assert_allclose(found, 0.4, rtol=1e-6)
  # Free of charge, a reward is the fidelity; at price 1 a full code has none.
  np.testing.assert_array_equal(of_lengths(0.5, 0.0), 0.5)
  assert of_lengths(0.5, 1.0)[-1] == 0.0


@few
@given(fidelities, prices)
def test_useless_tokens_never_raise_the_reward(fidelity, price):
  found = of_lengths(fidelity, price)
  assert (np.diff(found) <= 0).all()
  assert (found >= 0).all() and (found <= max(fidelity, 0)).all()


@few
@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_useless_tokens_cost_where_there_is_a_price(fidelity, price):
  assert (np.diff(of_lengths(fidelity, price)) < 0).all()


@few
@given(st.floats(-1, 0, width=32), prices)
def test_a_failed_code_is_not_better_for_being_short(fidelity, price):
  """At 0 and, clipped, below it: nothing to gain from failing fast."""
  assert (of_lengths(fidelity, price) == 0.0).all()


@few
@given(fidelities, fidelities, prices)
def test_fidelity_never_lowers_the_reward(one, other, price):
  low, high = sorted((one, other))
  assert (of_lengths(low, price) <= of_lengths(high, price)).all()
