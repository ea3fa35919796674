"""The distribution that is sampled and scored, and draws from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.ops import distributions

LARGEST = np.float32(1 - 2**-24)  # the largest float32 below 1
# 1 : 2 : 3, and a fourth that is masked although it would be the likeliest.
LOGITS = jnp.asarray(np.log(np.array([1.0, 2.0, 3.0, 4.0], np.float32)))
ALLOWED = jnp.asarray(np.array([True, True, True, False]))

log_probs = jax.jit(
  distributions.log_probs, static_argnames=("temperature", "top_p")
)
draw = jax.jit(lambda *x: distributions.draw(*x)[0])
entropy = jax.jit(distributions.entropy)
seeds = st.integers(0, 2**32 - 1)
few = settings(deadline=None, max_examples=40)


@jax.jit
@jax.value_and_grad
def entropy_and_gradient(logits, allowed):
  """Summed over rows, to the logits before the mask."""
  logp = distributions.log_probs(logits, allowed)
  return jnp.sum(distributions.entropy(logp))


def random_logits(seed, rows=64, size=600):
  """Rows from nearly uniform to one-hot, most of them masked somewhere."""
  rng = np.random.default_rng(seed)
  scale = rng.choice([0.1, 1.0, 5.0, 20.0], (rows, 1))
  logits = (rng.normal(size=(rows, size)) * scale).astype(np.float32)
  allowed = rng.random((rows, size)) < rng.choice([0.01, 0.3, 1.0], (rows, 1))
  allowed[np.arange(rows), rng.integers(size, size=rows)] = True
  return logits, allowed


def probabilities(*arguments, **settings):
  return np.exp(log_probs(LOGITS, ALLOWED, *arguments, **settings))


def test_mask_and_temperature():
  np.testing.assert_allclose(probabilities(), [1 / 6, 2 / 6, 3 / 6, 0], 1e-5)
  # Temperature 1/2 squares the odds: 1 : 4 : 9.
  expected = [1 / 14, 4 / 14, 9 / 14, 0]
  np.testing.assert_allclose(probabilities(temperature=0.5), expected, 1e-5)
  # Greedy decoding reports the distribution at 1.
  np.testing.assert_array_equal(probabilities(temperature=0), probabilities())
  assert log_probs(LOGITS, ALLOWED)[3] == distributions.NEG_INF


@pytest.mark.parametrize(
  "top_p, temperature, expected",
  [
    # 3/6 does not reach 0.6, 3/6 + 2/6 does: 2 : 3 remain.
    (0.6, 1.0, [0, 2 / 5, 3 / 5, 0]),
    (0.4, 1.0, [0, 0, 1, 0]),
    (0.9, 1.0, [1 / 6, 2 / 6, 3 / 6, 0]),
    # At temperature 1/2 the likeliest has 9/14 = 0.64 and is enough alone:
    # the nucleus is that of the tempered distribution.
    (0.6, 0.5, [0, 0, 1, 0]),
    # However small, the nucleus holds the likeliest.
    (1e-6, 1.0, [0, 0, 1, 0]),
  ],
)
def test_top_p(top_p, temperature, expected):
  found = probabilities(top_p=top_p, temperature=temperature)
  np.testing.assert_allclose(found, expected, 1e-5)


def test_keep_is_never_truncated():
  # Of the nucleus {2} and the kept 0, odds 3 : 1.
  found = probabilities(top_p=0.4, keep=jnp.int32(0))
  np.testing.assert_allclose(found, [1 / 4, 0, 3 / 4, 0], 1e-5)
  # What is inside anyway changes nothing, and the mask is stronger than keep.
  np.testing.assert_array_equal(
    probabilities(top_p=0.6, keep=jnp.int32(1)), probabilities(top_p=0.6)
  )
  assert probabilities(top_p=0.6, keep=jnp.int32(3))[3] == 0.0


def test_low_precision_logits_are_normalised_in_float32():
  logits = jnp.array([3.0, 1.0, -2.0, 0.5], jnp.bfloat16)
  logp = log_probs(logits, ALLOWED)
  assert logp.dtype == jnp.float32
  np.testing.assert_allclose(jnp.sum(jnp.exp(logp)), 1.0, rtol=1e-6)


@few
@given(seeds)
def test_top_p_is_the_smallest_set_that_reaches_the_mass(seed):
  logits, allowed = random_logits(seed, rows=4, size=12)
  top_p = 0.7
  whole = np.exp(np.asarray(log_probs(logits, allowed), np.float64))
  cut = np.exp(log_probs(logits, allowed, top_p=top_p))
  for p, q in zip(whole, cut, strict=True):
    inside = q > 0
    mass = p[inside].sum()
    assert mass >= top_p - 1e-6  # it reaches top_p,
    assert mass - p[inside].min() < top_p + 1e-6  # not without its least,
    assert p[inside].min() >= p[~inside].max(initial=0.0)  # and is the top.
    np.testing.assert_allclose(q[inside], p[inside] / mass, rtol=1e-4)


def test_draw_frequencies():
  p = np.array([0.05, 0.4, 0.0, 0.25, 0.2, 0.1], np.float32)
  logp = jnp.where(p > 0, jnp.log(p), distributions.NEG_INF)
  count = 20_000
  uniform = jax.random.uniform(jax.random.key(0), (count,))
  ids = draw(uniform, jnp.broadcast_to(logp, (count, 6)))
  found = np.bincount(ids, minlength=6)
  assert ids.dtype == jnp.int32 and found[2] == 0
  real = p > 0
  chi2 = np.sum((found - count * p)[real] ** 2 / (count * p[real]))
  # 4 degrees of freedom: mean 4; above 18.5 with a probability of 0.001.
  assert chi2 < 18.5


def test_draw_inverts_the_cumulative_distribution():
  # Cumulative 1/6, 3/6, 1: an even grid of uniforms divides 100 : 200 : 300.
  grid = (jnp.arange(600) + 0.5) / 600
  logp = jnp.broadcast_to(log_probs(LOGITS, ALLOWED), (600, 4))
  ids = draw(grid, logp)
  assert np.bincount(ids).tolist() == [100, 200, 300]
  assert (np.diff(ids) >= 0).all()


@few
@given(seeds)
def test_draw_never_returns_an_id_without_mass(seed):
  logits, allowed = random_logits(seed)
  logp = np.asarray(log_probs(logits, allowed))
  rows = np.arange(len(logp))
  inner = jax.random.uniform(jax.random.key(seed), (len(logp),))
  for uniform in (0.0, inner, 1 - 2**-23, LARGEST):
    u = np.broadcast_to(np.asarray(uniform, np.float32), len(logp))
    ids = np.asarray(draw(u, logp))
    assert allowed[rows, ids].all(), f"uniform {u[0]!r} drew a masked id"
    assert (np.exp(logp[rows, ids]) > 0).all()


def test_draw_at_the_ends():
  """0 gives the first real id, the largest uniform the last one."""
  logp = jnp.log(jnp.array([[0.0, 0.5, 0.0, 0.5, 0.0]]))
  assert draw(jnp.zeros(1), logp).tolist() == [1]
  assert draw(jnp.full(1, LARGEST), logp).tolist() == [3]
  # Half of [0, 1) each: 1/2 itself is of the second half.
  assert draw(jnp.full(1, 0.5), logp).tolist() == [3]


def test_entropy_by_hand():
  # Uniform over 3: ln 3. One certain id: 0. Odds 1 : 1 : 2: 1.5 ln 2.
  logits = jnp.log(jnp.array([[1.0, 1, 1, 5], [0, 0, 1, 5], [1, 1, 2, 5]]))
  found = entropy(log_probs(logits, ALLOWED))
  expected = [np.log(3), 0.0, 1.5 * np.log(2)]
  np.testing.assert_allclose(found, expected, atol=1e-6)


@few
@given(seeds)
def test_entropy_and_its_gradient(seed):
  logits, allowed = random_logits(seed, rows=4, size=12)
  # numpy, float64: H = -sum p ln p and dH/dz = -p (ln p + H).
  z = np.where(allowed, logits.astype(np.float64), -np.inf)
  p = np.exp(z - z.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  logp = np.where(allowed, np.log(np.maximum(p, 1e-300)), 0.0)
  h = -np.sum(p * logp, -1, keepdims=True)
  total, gradient = entropy_and_gradient(logits, allowed)
  np.testing.assert_allclose(total, h.sum(), rtol=1e-4, atol=1e-5)
  gradient = np.asarray(gradient)
  assert np.isfinite(gradient).all()
  assert (gradient[~allowed] == 0.0).all()
  np.testing.assert_allclose(gradient, -p * (logp + h), atol=1e-5)


def test_entropy_gradient_to_masked_log_probs_is_zero():
  logp = log_probs(LOGITS, ALLOWED)
  gradient = jax.grad(distributions.entropy)(logp)
  # d/dlogp of -sum p logp: -p (logp + 1).
  p = np.array([1, 2, 3]) / 6
  np.testing.assert_allclose(gradient[:3], -p * (np.log(p) + 1), rtol=1e-5)
  assert gradient[3] == 0.0


def test_entropy_of_impossible_ids():
  """Minus infinity is as good a mask as NEG_INF: 0 ln 0 is 0 here."""
  logp = jnp.array([jnp.log(0.5), jnp.log(0.5), -jnp.inf])
  np.testing.assert_allclose(entropy(logp), np.log(2), rtol=1e-6)
  gradient = jax.grad(distributions.entropy)(logp)
  # -p (ln p + 1)
  expected = [0.5 * np.log(2) - 0.5] * 2 + [0.0]
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_pick():
  logp = jnp.arange(12.0).reshape(2, 2, 3)
  ids = jnp.array([[0, 2], [1, 1]])
  # Rows 0-2, 3-5, 6-8, 9-11 at 0, 2, 1, 1.
  found = distributions.pick(logp, ids)
  np.testing.assert_array_equal(found, [[0, 5], [7, 10]])
