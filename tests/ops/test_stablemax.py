"""Stablemax in float32 against float64, and against its definition."""

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.ops import stablemax


def by_definition(x):
  x = np.asarray(x, np.float64)
  s = np.where(x >= 0, x + 1, 1 / (1 - np.minimum(x, 0)))
  return np.log(s) - np.log(s.sum(-1, keepdims=True))


def test_float32_agrees_with_float64():
  x = np.random.default_rng(0).normal(size=(50, 11)) * 10.0 ** np.arange(
    -25, 25
  )[:, None].clip(-6, 6)
  found = stablemax.log_probs(jnp.asarray(x, jnp.float32))
  expected = by_definition(np.asarray(x, np.float32))
  np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_by_hand():
  found = stablemax.log_probs(jnp.asarray([1.0, -1.0, 0.0]))  # 2, 1/2, 1
  np.testing.assert_allclose(jnp.exp(found), [4 / 7, 1 / 7, 2 / 7], rtol=1e-6)


def test_gradients_are_finite_and_right():
  x = jnp.asarray([[3.0, -2.0, 0.0, 1e4, -1e4]])
  pick = lambda x: stablemax.log_probs(x)[0, 1]
  found = jax.grad(pick)(x)
  assert np.isfinite(found).all()
  h = 1e-6
  wide = np.asarray(x, np.float64)
  for i in (0, 1):
    up, down = wide.copy(), wide.copy()
    up[0, i] += h
    down[0, i] -= h
    slope = (by_definition(up) - by_definition(down))[0, 1] / (2 * h)
    np.testing.assert_allclose(found[0, i], slope, rtol=1e-3)
