"""What a step does to a distribution: identities, and values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsrc_jax.ops import steps

IDS = (2, 11, 1_000, 50_000)


def drawn(vocab, seed=0, rows=6):
  """Logits before and after a step, and targets."""
  k_u, k_c, k_y = jax.random.split(jax.random.key(seed), 3)
  before = 3.0 * jax.random.normal(k_u, (rows, vocab))
  after = before + jax.random.normal(k_c, (rows, vocab))
  return before, after, jax.random.randint(k_y, (rows,), 0, vocab)


def cost(w, before, after, target):
  """-ln pi_w(y), summed over rows."""
  logp = jax.nn.log_softmax(steps.guided(before, after, w))
  return -jnp.sum(jnp.take_along_axis(logp, target[:, None], 1))


@pytest.mark.parametrize("vocab", IDS)
def test_the_slope_at_one_is_minus_the_margin(vocab):
  before, after, target = drawn(vocab)
  found = steps.between(before, after, target)
  slope = jax.grad(cost)(1.0, before, after, target)
  np.testing.assert_allclose(slope, -jnp.sum(found.margin), rtol=2e-4)


@pytest.mark.parametrize("w", (0.0, 0.5, 1.0, 2.0))
def test_the_slope_agrees_with_finite_differences(w):
  with jax.enable_x64(True):
    before, after, target = (np.asarray(x) for x in drawn(11))
    before, after = before.astype(np.float64), after.astype(np.float64)

    def by_hand(w):  # in float64, without the module
      z = before + w * (after - before)
      z = z - z.max(-1, keepdims=True)
      logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
      return logp, -logp[np.arange(len(z)), target].sum()

    h = 1e-5
    slope = (by_hand(w + h)[1] - by_hand(w - h)[1]) / (2 * h)
    second = (by_hand(w + h)[1] - 2 * by_hand(w)[1] + by_hand(w - h)[1]) / h**2
    p, change = np.exp(by_hand(w)[0]), by_hand(1)[0] - by_hand(0)[0]
    mean = (p * change).sum(-1)
    at_target = change[np.arange(len(p)), target]
    np.testing.assert_allclose(slope, (mean - at_target).sum(), rtol=1e-6)
    variance = (p * (change - mean[:, None]) ** 2).sum()
    np.testing.assert_allclose(second, variance, rtol=1e-3)
    np.testing.assert_allclose(
      jax.grad(cost)(w, *map(jnp.asarray, (before, after, target))),
      slope, rtol=1e-4,
    )  # fmt: skip


def test_the_mean_advantage_is_a_divergence_at_either_end():
  before, after, target = drawn(1_000)
  found = steps.between(before, after, target)
  p, q = (np.asarray(jax.nn.softmax(x), np.float64) for x in (before, after))
  change = np.log(q) - np.log(p)
  np.testing.assert_allclose(-(p * change).sum(-1), found.kl, rtol=1e-4)
  np.testing.assert_allclose((q * change).sum(-1), found.kl_back, rtol=1e-4)
  assert (found.kl > 0).all() and (found.kl_back > 0).all()


def test_a_step_of_two_answers_by_hand():
  # 1/2 to 1/4: the target loses ln 2, the other one gains ln 1.5.
  before = jnp.log(jnp.asarray([[0.5, 0.5], [0.9, 0.1]]))
  after = jnp.log(jnp.asarray([[0.25, 0.75], [0.2, 0.8]]))
  found = steps.between(before, after, jnp.asarray([0, 1]))
  back = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
  kl = -0.5 * np.log(0.5) - 0.5 * np.log(1.5)
  np.testing.assert_allclose(found.advantage[0], np.log(0.5), rtol=1e-6)
  np.testing.assert_allclose(found.margin[0], np.log(0.5) - back, rtol=1e-5)
  np.testing.assert_allclose(found.kl[0], kl, rtol=1e-5)
  np.testing.assert_allclose(found.flip, [1, 1])
  np.testing.assert_allclose(found.mended, [0, 1])
  np.testing.assert_allclose(found.broken, [1, 0])
  entropy = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
  varentropy = 0.2 * np.log(0.2) ** 2 + 0.8 * np.log(0.8) ** 2 - entropy**2
  np.testing.assert_allclose(found.entropy[1], entropy, rtol=1e-6)
  np.testing.assert_allclose(found.varentropy[1], varentropy, rtol=1e-5)


def test_a_step_that_moves_all_logits_alike_is_dead():
  before, _, target = drawn(11)
  found = steps.between(before, before + 7.0, target)
  for name in ("advantage", "margin", "kl", "kl_back", "flip"):
    np.testing.assert_allclose(getattr(found, name), 0.0, atol=2e-6)


def test_masked_ids_say_nothing():
  before, after, target = drawn(11)
  target = target % 5
  masked = [x.at[:, 5:].set(-1e30) for x in (before, after)]
  found = steps.between(*masked, target)
  short = steps.between(before[:, :5], after[:, :5], target)
  for one, other in zip(found, short, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_bfloat16_logits_are_widened():
  before, after, target = drawn(11)
  found = steps.between(
    before.astype(jnp.bfloat16), after.astype(jnp.bfloat16), target
  )
  assert all(x.dtype == jnp.float32 for x in found)
