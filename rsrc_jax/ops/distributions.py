"""The next-token distribution: one definition for sampling and scoring."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

NEG_INF = -1e30


def log_probs(
  logits: Float[Array, "*#lead V"],
  allowed: Bool[Array, "*#lead V"],
  *,
  temperature: float | Float[Array, "*#lead 1"] = 1.0,
  top_p: float = 1.0,
  keep: Int[Array, "*#lead"] | None = None,
) -> Float[Array, "*#lead V"]:
  """Log-probabilities after masking, temperature and truncation, in that order.

  logits, allowed (bool) [..., V] -> [..., V]; removed ids hold NEG_INF.
  temperature: a number, or an array [..., 1] of positive numbers. The number 0
  means greedy decoding; its distribution is that of temperature 1.
  `keep` [...] int32 is never truncated by top_p: the learner passes the sampled
  id, so that a rounding difference at the nucleus' edge can't make it -inf.
  """
  if not isinstance(temperature, jax.Array):
    temperature = temperature or 1.0
  scaled = logits.astype(jnp.float32) / temperature
  logp = jax.nn.log_softmax(jnp.where(allowed, scaled, NEG_INF))
  if top_p < 1.0:
    nucleus = _nucleus(logp, top_p)
    if keep is not None:
      nucleus |= jax.nn.one_hot(keep, logits.shape[-1], dtype=bool)
    allowed = allowed & nucleus
    logp = jax.nn.log_softmax(jnp.where(allowed, scaled, NEG_INF))
  return jnp.where(allowed, logp, NEG_INF)


def _nucleus(logp: jax.Array, top_p: float) -> jax.Array:
  """The smallest set of most likely ids whose mass reaches top_p. [..., V]"""
  order = jnp.argsort(-logp, -1)
  mass = jnp.cumsum(jnp.exp(jnp.take_along_axis(logp, order, -1)), -1)
  inside = jnp.concatenate(
    [jnp.ones_like(mass[..., :1], bool), mass[..., :-1] < top_p], -1
  )
  rank = jnp.argsort(order, -1)
  return jnp.take_along_axis(inside, rank, -1)


def draw(
  uniform: Float[Array, "*lead"], logp: Float[Array, "*lead V"]
) -> Int[Array, "*lead"]:
  """Samples by inverting the cumulative distribution: one uniform a row.

  uniform [...] in [0, 1), logp [..., V] -> [...] int32. An id of zero mass is
  never returned. float32 uniforms resolve probabilities down to 2**-23; rarer
  ids are drawn a little too often or too seldom.
  """
  p = jnp.exp(logp)
  # XLA's cumsum is not monotone in its last digits. So only ids with mass
  # count, and the target stays below the largest sum whatever the rounding.
  cdf = jnp.where(p > 0, jnp.cumsum(p, -1), 0.0)
  total = jnp.max(cdf, -1, keepdims=True)
  target = jnp.minimum(uniform[..., None] * total, jnp.nextafter(total, 0.0))
  return jnp.argmax(cdf > target, -1).astype(jnp.int32)


def entropy(logp: Float[Array, "*lead V"]) -> Float[Array, "*lead"]:
  """Entropy in nats of log-probabilities [..., V] -> [...].

  Masked entries contribute exactly 0, to the gradient too.
  """
  real = logp > NEG_INF / 2
  safe = jnp.where(real, logp, 0.0)
  return -jnp.sum(jnp.where(real, jnp.exp(safe) * safe, 0.0), -1)


def pick(
  logp: Float[Array, "*lead V"], ids: Int[Array, "*lead"]
) -> Float[Array, "*lead"]:
  """logp [..., V], ids [...] -> logp of the ids [...].

  A masked sum has the same value as a gather, but its gradient is a select. The
  gradient of a gather is a scatter, which XLA runs one by one on CPU.
  """
  here = jnp.arange(logp.shape[-1]) == ids[..., None]
  return jnp.sum(jnp.where(here, logp, 0.0), -1)
