"""Stablemax: probabilities that grow with the logits, not with their exponent.

s(x) = x + 1 for x >= 0, 1 / (1 - x) below (arXiv 2501.04697; TRM uses it in
float64). Here it is in float32, since TPUs have no wider type: logs use log1p,
so that no digits are lost near 0, and the peak is divided out of the sum.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def log_probs(logits: Float[Array, "*lead V"]) -> Float[Array, "*lead V"]:
  """ln(s / sum s) over the last axis, in float32. [..., V] -> [..., V]"""
  log_s = _log_s(logits.astype(jnp.float32))
  return log_s - jax.nn.logsumexp(log_s, -1, keepdims=True)


def _log_s(x):
  # Both branches are kept finite, because a nan of the branch that is not taken
  # would reach the gradient.
  above, below = jnp.maximum(x, 0.0), jnp.minimum(x, 0.0)
  return jnp.log1p(above) - jnp.log1p(-below)
