"""shares.py: what rewards consist of within groups, against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.rl import learner, shares
from rsrc_jax.types import Episode

PARTS = ("verifier", "shaping", "price")
few = settings(deadline=None, max_examples=25)
measure = jax.jit(shares.measure, static_argnums=0)


def drawn(seed, dead=0.0):
  """Parts [6, 4] of three, of unlike sizes; some groups are all equal."""
  rng = np.random.default_rng(seed)
  size = {"verifier": 1.0, "shaping": 0.3, "price": 0.05}
  alike = rng.random((6, 1)) < dead
  parts = {}
  for name in PARTS:
    x = rng.normal(rng.normal(), size[name], (6, 4))
    parts[name] = np.where(alike, x[:, :1], x).astype(np.float32)
  return parts, ~alike[:, 0]


@few
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5]))
def test_shares_are_covariances_within_groups_and_add_up(seed, dead):
  parts, alive = drawn(seed, dead)
  reward = sum(parts.values())
  found = jax.device_get(measure("C", reward, parts))
  np.testing.assert_allclose(found["C_dead_groups"], 1 - alive.mean())
  np.testing.assert_allclose(
    found["C_reward_std"], reward.std(-1).mean(), rtol=1e-4, atol=1e-6
  )
  covariance = {
    name: sum(
      np.cov(x, r, ddof=0)[0, 1] for x, r in zip(part, reward, strict=True)
    )
    for name, part in parts.items()
  }
  whole = sum(r.var() for r in reward)
  for name, part in parts.items():
    share = covariance[name] / whole if alive.any() else 0.0
    np.testing.assert_allclose(found[f"C_share_{name}"], share, atol=1e-4)
    spread = np.sqrt(sum(x.var() for x in part) / whole) if alive.any() else 0
    np.testing.assert_allclose(
      found[f"C_spread_{name}"], spread, rtol=1e-3, atol=1e-4
    )
  total = sum(float(found[f"C_share_{name}"]) for name in PARTS)
  np.testing.assert_allclose(total, float(alive.any()), atol=1e-4)


def test_shares_by_hand():
  """Two codes of two sources: rewards (0, 3) and (5, 5).

  The first group's are (0, 2) of V and (0, 1) of shaping: with the reward, V
  covaries by 1 * 1.5 and shaping by .5 * 1.5 of 1.5 * 1.5. What differs between
  groups counts nowhere. The second is dead, though its parts differ.
  """
  parts = {
    "verifier": np.float32([[0, 2], [9, 1]]),
    "shaping": np.float32([[0, 1], [-4, 4]]),
  }
  found = shares.measure("A", sum(parts.values()), parts)
  assert {k: round(float(v), 6) for k, v in found.items()} == {
    "A_share_verifier": 0.666667, "A_share_shaping": 0.333333,
    "A_spread_verifier": 0.666667, "A_spread_shaping": 0.333333,
    "A_dead_groups": 0.5, "A_reward_std": 0.75,
  }  # fmt: skip


@pytest.mark.parametrize("value", [0.1, -7.3, 1e4])
def test_equal_rewards_have_no_shares(value):
  """Rounding is no spread: parts differ, and add up to the same."""
  ramp = np.linspace(0, 1, 5, dtype=np.float32)
  up = np.stack([value + ramp, value - ramp]).astype(np.float32)
  parts = {"verifier": up, "price": np.float32(value) - up}
  reward = np.full((2, 5), value, np.float32)
  found = jax.device_get(measure("D", reward, parts))
  assert found.pop("D_dead_groups") == 1.0
  for name in ("share", "spread"):
    assert found[f"D_{name}_verifier"] == found[f"D_{name}_price"] == 0.0


def test_a_role_without_parts_has_its_dead_groups_alone():
  found = shares.measure("R", jnp.array([[1.0, 1.0], [0.0, 1.0]]), None)
  assert set(found) == {"R_dead_groups", "R_reward_std"}
  assert found["R_dead_groups"] == 0.5


def test_what_the_kl_takes_is_a_part_too():
  """The learner measures what it learns from, the KL penalty taken off."""
  parts, _ = drawn(0)
  reward = sum(parts.values())
  episode = Episode({}, {"C": reward, "A": reward}, {}, {}, None, {"C": parts})
  taken = np.random.default_rng(1).random((6, 4)).astype(np.float32)
  shaped = {"C": reward - taken, "A": reward}
  found = learner._paid(episode, shaped, True)
  names = [x for x in found if "_share_" in x]
  assert set(names) == {f"C_share_{x}" for x in (*PARTS, "kl")}
  np.testing.assert_allclose(sum(found[x] for x in names), 1.0, rtol=1e-5)
  want = shares.measure("C", shaped["C"], {"kl": -taken})
  np.testing.assert_allclose(found["C_share_kl"], want["C_share_kl"])
  assert found["A_dead_groups"] == 0.0
  # Without a price of the KL there is no such part.
  free = learner._paid(episode, episode.rewards, False)
  assert "C_share_kl" not in free and "A_share_verifier" not in free
