"""Advantages, the clipped surrogate and the KL penalty, against plain maths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rsrc_jax.ops import grpo

few = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)
rewards = hnp.arrays(np.float32, (3, 4), elements=st.floats(-1, 1, width=16))

advantages = jax.jit(grpo.advantages, static_argnames="normalize_std")


def test_advantages_by_hand():
  rewards = jnp.array([[1.0, 0.0, 0.0, 1.0], [0.9, 0.5, 0.4, 0.2]])
  # Means 1/2 and 1/2.
  expected = np.array([[0.5, -0.5, -0.5, 0.5], [0.4, 0.0, -0.1, -0.3]])
  np.testing.assert_allclose(advantages(rewards), expected, atol=1e-7)
  # Standard deviations 1/2 and sqrt((.16 + 0 + .01 + .09) / 4) = sqrt(.065).
  expected /= np.array([[0.5], [np.sqrt(0.065)]])
  found = advantages(rewards, normalize_std=True)
  np.testing.assert_allclose(found, expected, atol=1e-4)


@few
@given(rewards, st.booleans(), st.permutations(range(4)))
def test_advantages_are_a_groups_own(rewards, normalize_std, order):
  found = np.asarray(advantages(rewards, normalize_std=normalize_std))
  # At most 2 in size, or sqrt(3) deviations: zero up to float32's rounding.
  np.testing.assert_allclose(found.sum(-1), 0.0, atol=2e-5)
  # Relabelling the samples of a group relabels their advantages.
  again = advantages(rewards[:, order], normalize_std=normalize_std)
  np.testing.assert_allclose(again, found[:, order], atol=1e-4)
  # No group sees another.
  changed = rewards.copy()
  changed[1:] = 1 - changed[1:]
  changed = advantages(changed, normalize_std=normalize_std)
  np.testing.assert_array_equal(changed[0], found[0])


@few
@given(st.floats(-1, 1, width=32), st.booleans())
def test_equal_rewards_have_no_advantage(value, normalize_std):
  """Exactly: the mean of three 0.1 is not 0.1 in float32."""
  rewards = np.full((1, 3), value, np.float32)
  assert (advantages(rewards, normalize_std=normalize_std) == 0.0).all()


def test_a_group_of_one_is_refused():
  with pytest.raises(ValueError, match=r"got 1: .*patterns\.NAME\.group"):
    grpo.advantages(jnp.zeros((4, 1)))


# Worked by hand. Old log-probs are ln 1/2 everywhere; r the ratio, b the ratio
# old / behaviour, w = min(b, 2); clip to [0.8, 1.28]; the minimum is the worse.
#
#   A   r     clipped  min(r A, clipped A)    b    w    what
#   1   1.5   1.28      1.28                  1    1    clipped above
#   1   0.5   0.8       0.5                   1    1    not: min is pessimistic
#   1   1     1         1                     3    2    importance cap
#  -2   0.5   0.8      -1.6                   1/2  1/2  clipped below
#  -2   1.5   1.28     -3                     1    1    not: min is pessimistic
#  -2   9     -         -                     9    -    masked
ADVANTAGE = jnp.asarray(np.array([1.0, -2.0], np.float32))
RATIO = np.array([[1.5, 0.5, 1.0], [0.5, 1.5, 9.0]])
BEHIND = np.array([[1.0, 1.0, 3.0], [0.5, 1.0, 9.0]])
MASK = jnp.asarray(np.array([[True, True, True], [True, True, False]]))
OLD = jnp.asarray(np.full((2, 3), np.log(0.5), np.float32))
NEW = jnp.asarray((np.log(0.5) + np.log(RATIO)).astype(np.float32))
BEHAVIOUR = jnp.asarray((np.log(0.5) - np.log(BEHIND)).astype(np.float32))


@jax.jit
def loss_and_gradient(log_probs, old, behaviour, advantage, mask):
  (loss, watched), gradient = jax.value_and_grad(
    grpo.policy_loss, has_aux=True
  )(log_probs, old, behaviour, advantage, mask)
  return loss, watched, gradient


def test_policy_loss_by_hand():
  loss, watched, gradient = loss_and_gradient(
    NEW, OLD, BEHAVIOUR, ADVANTAGE, MASK
  )
  # -(1.28 + 0.5 + 1 * 2 - 1.6 / 2 - 3) = 0.02
  np.testing.assert_allclose(loss, 0.02, atol=1e-6)
  assert watched["clipped"] == 2
  # b - 1 - ln b, at b = 3 and at b = 1/2.
  kl = (3 - 1 - np.log(3)) + (0.5 - 1 - np.log(0.5))
  np.testing.assert_allclose(watched["mismatch_kl"], kl, rtol=1e-5)
  # -A r w where not clipped, 0 where clipped or masked.
  expected = [[0.0, -0.5, -2.0], [0.0, 3.0, 0.0]]
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_limits_of_the_clip_and_the_cap():
  loss, _ = grpo.policy_loss(
    NEW, OLD, BEHAVIOUR, ADVANTAGE, MASK,
    clip_low=0.5, clip_high=0.5, importance_cap=4.0,
  )  # fmt: skip
  # Nothing clips any more: 1.5 + 0.5 + 1 * 3 - 1 * 1/2 - 3 = 1.5.
  np.testing.assert_allclose(loss, -1.5, atol=1e-6)


def random_tokens(seed, shape=(3, 4, 5)):
  rng = np.random.default_rng(seed)
  log_probs = np.log(rng.uniform(0.01, 1.0, shape)).astype(np.float32)
  advantage = rng.normal(size=shape[:-1]).astype(np.float32)
  return rng, log_probs, advantage, rng.random(shape) < 0.7


@few
@given(seeds)
def test_policy_loss_against_a_plain_loop(seed):
  rng, new, advantage, mask = random_tokens(seed)
  old = new + rng.normal(size=new.shape).astype(np.float32) * 0.4
  behaviour = old + rng.normal(size=new.shape).astype(np.float32) * 0.4
  total, clipped, kl = 0.0, 0, 0.0
  for i in np.ndindex(*new.shape):
    if mask[i]:
      r, a = np.exp(new[i] - old[i]), advantage[i[:-1]]
      b = np.exp(old[i] - behaviour[i])
      bounded = min(max(r, 0.8), 1.28)
      total -= min(r * a, bounded * a) * min(b, 2.0)
      clipped += bounded * a < r * a
      kl += b - 1 - np.log(b)
  loss, watched, _ = loss_and_gradient(new, old, behaviour, advantage, mask)
  np.testing.assert_allclose(loss, total, rtol=1e-4, atol=1e-4)
  assert watched["clipped"] == clipped
  np.testing.assert_allclose(watched["mismatch_kl"], kl, rtol=1e-3, atol=1e-4)


@few
@given(seeds)
def test_one_update_is_reinforce(seed):
  """Ratio 1: nothing is clipped and d loss = -A d log p, masked tokens 0."""
  _, logp, advantage, mask = random_tokens(seed)
  loss, watched, gradient = loss_and_gradient(logp, logp, logp, advantage, mask)
  weights = np.where(mask, advantage[..., None], 0.0)
  np.testing.assert_allclose(gradient, -weights, rtol=1e-6)
  np.testing.assert_allclose(loss, -weights.sum(), rtol=1e-4, atol=1e-4)
  assert watched["clipped"] == 0 and watched["mismatch_kl"] == 0.0
  unclipped, _ = grpo.policy_loss(
    logp, logp, logp, advantage, mask, clip_low=1.0, clip_high=1e9
  )
  np.testing.assert_allclose(loss, unclipped, rtol=1e-6)


def test_masked_tokens_do_not_count_whatever_they_hold():
  junk = jnp.array([[np.nan, -1e30, np.inf]])
  zero = jnp.zeros((1, 3))
  mask = jnp.zeros((1, 3), bool)
  for arrays in [(junk, zero, zero), (zero, junk, zero), (zero, zero, junk)]:
    loss, watched, gradient = loss_and_gradient(*arrays, jnp.ones(1), mask)
    assert loss == 0.0 and (gradient == 0.0).all()
    assert watched["clipped"] == 0 and watched["mismatch_kl"] == 0.0


def test_only_the_learner_is_differentiated():
  loss = lambda *x: grpo.policy_loss(NEW, *x, MASK)[0]
  old, _, advantage = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(
    OLD, BEHAVIOUR, ADVANTAGE
  )
  assert (old == 0.0).all() and (advantage == 0.0).all()


# A policy of two tokens over {0, 1, 2} where 0 ends: (0), (1, x) and (2, x).
OUTPUTS = np.array([(0, 0), *itertools.product((1, 2), (0, 1, 2))])
WRITTEN = jnp.asarray(np.array([[True, first != 0] for first, _ in OUTPUTS]))


def token_log_probs(logits):
  """logits [4, 3]: of the first token, then of the second given the first."""
  logp = jax.nn.log_softmax(logits)
  first, second = OUTPUTS.T
  return jnp.stack([logp[0, first], logp[1 + first, second]], -1)


def exact_kl(logits, reference):
  """sum over outputs of pi(o) ln(pi(o) / reference(o))."""
  logp = jnp.sum(jnp.where(WRITTEN, token_log_probs(logits), 0.0), -1)
  ref = jnp.sum(jnp.where(WRITTEN, token_log_probs(reference), 0.0), -1)
  return jnp.sum(jnp.exp(logp) * (logp - ref))


def test_kl_in_the_reward_has_the_gradient_of_the_kl():
  """Expectations over all seven outputs; k3 as a loss does not have it."""
  rng = np.random.default_rng(0)
  policy, reference = jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32)
  ref = token_log_probs(reference)

  def in_reward(logits):
    tokens = token_log_probs(logits)
    penalty = grpo.kl_penalty(tokens, ref, WRITTEN)
    logp = jnp.sum(jnp.where(WRITTEN, tokens, 0.0), -1)
    stop = jax.lax.stop_gradient
    return jnp.sum(stop(jnp.exp(logp) * penalty) * logp)

  def k3_as_loss(logits):
    tokens = token_log_probs(logits)
    logp = jnp.sum(jnp.where(WRITTEN, tokens, 0.0), -1)
    gap = jnp.where(WRITTEN, ref - tokens, 0.0)
    k3 = jnp.sum(jnp.exp(gap) - 1.0 - gap, -1)
    return jnp.sum(jax.lax.stop_gradient(jnp.exp(logp)) * k3)

  exact = jax.grad(exact_kl)(policy, reference)
  np.testing.assert_allclose(jax.grad(in_reward)(policy), exact, atol=1e-5)
  wrong = jax.grad(k3_as_loss)(policy)
  assert jnp.max(jnp.abs(wrong - exact)) > 0.05 < jnp.max(jnp.abs(exact))
  # The estimate itself is unbiased as well.
  logp = jnp.sum(jnp.where(WRITTEN, token_log_probs(policy), 0.0), -1)
  penalty = grpo.kl_penalty(token_log_probs(policy), ref, WRITTEN)
  mean = jnp.sum(jnp.exp(logp) * penalty)
  np.testing.assert_allclose(mean, exact_kl(policy, reference), rtol=1e-5)
