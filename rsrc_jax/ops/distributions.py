"""The next-token distribution: one definition for sampling and scoring."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

NEG_INF = -1e30
BLOCK = 64  # ids in a block of `draw`; twice as many of a large vocabulary
SHORT = 256  # entries; longer sums are no products


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
  left = removed(
    logits, allowed, temperature=temperature, top_p=top_p, keep=keep
  )
  logp = jax.nn.log_softmax(left)
  return jnp.where(left > NEG_INF / 2, logp, NEG_INF)


def removed(
  logits: Float[Array, "*#lead V"],
  allowed: Bool[Array, "*#lead V"],
  *,
  temperature: float | Float[Array, "*#lead 1"] = 1.0,
  top_p: float = 1.0,
  keep: Int[Array, "*#lead"] | None = None,
) -> Float[Array, "*#lead V"]:
  """The logits of `log_probs` before they are normalised, for `draw`."""
  if not isinstance(temperature, jax.Array):
    temperature = temperature or 1.0
  scaled = logits.astype(jnp.float32) / temperature
  if top_p < 1.0:
    logp = jax.nn.log_softmax(jnp.where(allowed, scaled, NEG_INF))
    nucleus = _nucleus(logp, top_p)
    if keep is not None:
      nucleus |= jax.nn.one_hot(keep, logits.shape[-1], dtype=bool)
    allowed = allowed & nucleus
  return jnp.where(allowed, scaled, NEG_INF)


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
  uniform: Float[Array, "*#lead"], logits: Float[Array, "*#lead V"]
) -> tuple[Int[Array, "*#lead"], Float[Array, "*#lead"]]:
  """Samples by inverting the cumulative distribution: one uniform a row.

  uniform [...] in [0, 1), logits [..., V] of `removed` or normalised ones, in
  leading shapes that broadcast -> ids [...] int32 and their log-probabilities.
  An id of zero mass is never returned. float32 uniforms resolve probabilities
  down to 2**-23; rarer ids are drawn a little too often or too seldom.

  The ids are searched in two levels: a block by the blocks' sums, then an id of
  that block. So the vocabulary is read twice, for the maximum and the sums, and
  the distribution is never stored.
  """
  size = logits.shape[-1]
  width = block_width(size)
  pad = [(0, 0)] * (logits.ndim - 1) + [(0, -size % width)]
  largest = jnp.max(logits, -1, keepdims=True)
  blocks = jnp.pad(logits, pad, constant_values=NEG_INF)
  blocks = blocks.reshape(*logits.shape[:-1], -1, width)
  sums = jnp.sum(_mass(blocks, largest[..., None]), -1)
  up_to, cdf, total = _cumulative(sums)
  target = jnp.minimum(uniform[..., None] * total, jnp.nextafter(total, 0.0))
  block = jnp.argmax(cdf > target, -1)[..., None]
  before = jnp.take_along_axis(up_to - sums, block, -1)
  inside = jnp.take_along_axis(blocks, block[..., None], -2)[..., 0, :]
  _, cdf, most = _cumulative(_mass(inside, largest))
  target = jnp.clip(target - before, 0.0, jnp.nextafter(most, 0.0))
  place = jnp.argmax(cdf > target, -1)[..., None]
  picked = jnp.take_along_axis(inside, place, -1)
  logp = picked - largest - jnp.log(jnp.sum(sums, -1, keepdims=True))
  ids = (block * width + place).astype(jnp.int32)
  return ids[..., 0], logp[..., 0]


def _mass(logits: jax.Array, largest: jax.Array) -> jax.Array:
  """exp, divided by that of the largest; 0 for ids that are removed."""
  return jnp.where(logits > NEG_INF / 2, jnp.exp(logits - largest), 0.0)


def _cumulative(mass: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Cumulative sums; the same where there is mass, else 0; the largest.

  XLA's cumsum is not monotone in its last digits. So only entries with mass
  count, and a target below the largest sum finds one whatever the rounding.
  Short sums are products, which are several times faster.
  """
  size = mass.shape[-1]
  if size > SHORT:
    sums = jnp.cumsum(mass, -1)
  else:
    before = jnp.tri(size, dtype=mass.dtype).T
    sums = jnp.matmul(mass, before, precision=jax.lax.Precision.HIGHEST)
  cdf = jnp.where(mass > 0, sums, 0.0)
  return sums, cdf, jnp.max(cdf, -1, keepdims=True)


def block_width(size: int) -> int:
  """Ids in a block of `draw`, for a vocabulary of this size."""
  return BLOCK if size < 16 * BLOCK else 2 * BLOCK


def draw_flops(size: int) -> float:
  """FLOPs of the products in `draw`, for each id that is drawn."""
  width = block_width(size)
  sums = (width, -(-size // width))
  return 2.0 * sum(n * n for n in sums if n <= SHORT)


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
