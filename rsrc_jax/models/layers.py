"""Blocks of a decoder: RMSNorm, rotary positions, grouped attention, SwiGLU."""

import flax.linen as nn
import jax
import jax.numpy as jnp

NEG_INF = -1e30


class RMSNorm(nn.Module):
  """x / rms(x) * scale, in float32 (arXiv 1910.07467)."""

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    h = x.astype(jnp.float32)
    h = h * jax.lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + self.epsilon)
    return (h * scale).astype(x.dtype)


def rope(x: jax.Array, positions: jax.Array, base: float) -> jax.Array:
  """Rotates the halves of each head by its position (arXiv 2104.09864).

  x [..., T, H, D], positions [..., T] int32 -> [..., T, H, D]
  """
  half = x.shape[-1] // 2
  frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions[..., None, None].astype(jnp.float32) * frequency
  sin, cos = jnp.sin(angle), jnp.cos(angle)
  x1, x2 = x[..., :half], x[..., half:]
  return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).astype(
    x.dtype
  )


def attend(
  q: jax.Array,
  segments: list[tuple[jax.Array, jax.Array, jax.Array]],
) -> jax.Array:
  """Softmax attention of grouped queries over several key segments.

  q [B, G, T, H, R, D]: R queries share one of H key-value heads. Each segment
  is k [B, g, U, H, D], v likewise and a mask [B, g, t, U], where g is G or 1
  (a prefix shared by the group) and t is T or 1. -> [B, G, T, H, R, D]
  """
  scores, values = [], []
  for k, v, mask in segments:
    if k.shape[1] == 1:
      s = jnp.einsum("bgthrd,buhd->bgthru", q, k[:, 0])
    else:
      s = jnp.einsum("bgthrd,bguhd->bgthru", q, k)
    s = s.astype(jnp.float32) * q.shape[-1] ** -0.5
    scores.append(jnp.where(mask[:, :, :, None, None], s, NEG_INF))
    values.append(v)
  weights = jax.nn.softmax(jnp.concatenate(scores, -1), -1).astype(q.dtype)
  out, start = 0.0, 0
  for v in values:
    w = weights[..., start : start + v.shape[2]]
    start += v.shape[2]
    if v.shape[1] == 1:
      out += jnp.einsum("bgthru,buhd->bgthrd", w, v[:, 0])
    else:
      out += jnp.einsum("bgthru,bguhd->bgthrd", w, v)
  return out


class Block(nn.Module):
  """One pre-norm decoder layer over a prefix segment and its own segment."""

  heads: int
  kv_heads: int
  hidden: int
  rope_base: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, positions, prefix, own, own_mask, index):
    """Returns the new x [B, G, T, D] and the own segment's (k, v).

    prefix: None or (k, v, mask [B, 1, 1, P]); own: None, to attend among the
    given tokens only, or the (k, v) buffers [B, G, U, H, D] into which the new
    ones are written at `index`; own_mask [B, G, T, U].
    """
    width = x.shape[-1]
    size = width // self.heads
    dense = lambda features, name: nn.Dense(
      features, use_bias=False, dtype=self.dtype, name=name
    )
    h = RMSNorm(name="attention_norm")(x)
    split = lambda y: y.reshape(*y.shape[:-1], -1, size)
    q = rope(split(dense(width, "q")(h)), positions, self.rope_base)
    k = rope(
      split(dense(self.kv_heads * size, "k")(h)), positions, self.rope_base
    )
    v = split(dense(self.kv_heads * size, "v")(h))
    if own is not None:
      k = jax.lax.dynamic_update_slice_in_dim(own[0], k, index, 2)
      v = jax.lax.dynamic_update_slice_in_dim(own[1], v, index, 2)
    q = q.reshape(*q.shape[:3], self.kv_heads, -1, size)
    segments = [] if prefix is None else [prefix]
    out = attend(q, [*segments, (k, v, own_mask)])
    x = x + dense(width, "o")(out.reshape(x.shape))
    h = RMSNorm(name="mlp_norm")(x)
    h = nn.silu(dense(self.hidden, "gate")(h)) * dense(self.hidden, "up")(h)
    return x + dense(width, "down")(h), (k, v)
