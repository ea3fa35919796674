"""Parts of a decoder: norms, rotary positions, grouped attention, gated MLP."""

import flax.linen as nn
import jax
import jax.numpy as jnp

NEG_INF = -1e30
ACTIVATIONS = {"silu": nn.silu, "gelu": nn.gelu}  # gelu: by tanh
Scaling = tuple[str | float, ...] | None


class RMSNorm(nn.Module):
  """x / rms(x) * scale, in float32 (arXiv 1910.07467)."""

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    h = x.astype(jnp.float32)
    h = h * jax.lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + self.epsilon)
    return (h * scale).astype(x.dtype)


class Linear(nn.Module):
  """x W (+ b), and what a low-rank adapter adds where the tree has one.

  An adapter is two more leaves beside the kernel (models/lora.py): x A B.
  """

  features: int
  bias: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    y = jnp.dot(x.astype(self.dtype), kernel.astype(self.dtype))
    if self.has_variable("params", "lora_a"):
      a, b = (self.get_variable("params", f"lora_{n}") for n in "ab")
      y += jnp.dot(jnp.dot(x, a.astype(self.dtype)), b.astype(self.dtype))
    if self.bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,))
      y += bias.astype(self.dtype)
    return y


def frequencies(size: int, base: float, scaling: Scaling = None) -> jax.Array:
  """Radians a position, of each pair of a head of `size`. -> [size / 2]

  scaling: ("linear", factor) divides them all; ("llama3", factor, low, high,
  length) divides those that turn less than `low` times within `length`
  positions, leaves those that turn more than `high` times, and goes from one to
  the other in between, linearly in the number of turns (Llama 3.1's config).
  """
  half = size // 2
  plain = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if scaling is None:
    return plain
  kind, factor, *rest = scaling
  if kind == "linear":
    return plain / factor
  low, high, length = rest
  turns = length * plain / (2 * jnp.pi)
  keep = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
  return plain * (keep + (1.0 - keep) / factor)


def rope(x: jax.Array, positions: jax.Array, frequency: jax.Array) -> jax.Array:
  """Rotates the halves of each head by its position (arXiv 2104.09864).

  x [..., T, H, D], positions [..., T] int32, frequency [D / 2]
  """
  half = x.shape[-1] // 2
  angle = positions[..., None, None].astype(jnp.float32) * frequency
  sin, cos = jnp.sin(angle), jnp.cos(angle)
  x1, x2 = x[..., :half], x[..., half:]
  return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).astype(
    x.dtype
  )


def attend(
  q: jax.Array,
  segments: list[tuple[jax.Array, jax.Array, jax.Array]],
  *,
  scale: float,
  cap: float = 0.0,
) -> jax.Array:
  """Softmax attention of grouped queries over several key segments.

  q [B, G, T, H, R, D]: R queries share one of H key-value heads. Each segment
  is k [B, g, U, H, D], v likewise and a mask [B, g, t, U], where g is G or 1
  (a prefix shared by the group) and t is T or 1. Scores are scaled and, with a
  `cap`, squashed to it: cap * tanh(score / cap). -> [B, G, T, H, R, D]
  """
  scores, values = [], []
  for k, v, mask in segments:
    if k.shape[1] == 1:
      s = jnp.einsum("bgthrd,buhd->bgthru", q, k[:, 0])
    else:
      s = jnp.einsum("bgthrd,bguhd->bgthru", q, k)
    s = s.astype(jnp.float32) * scale
    s = soft_cap(s, cap)
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


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
  """cap * tanh(x / cap); x where there is no cap."""
  return cap * jnp.tanh(x / cap) if cap else x


class Block(nn.Module):
  """One decoder layer over a prefix segment and its own segment.

  Pre-norm; with `post_norms` what attention and the MLP add is normalised too.
  """

  heads: int
  kv_heads: int
  size: int  # of a head
  hidden: int
  dtype: jnp.dtype
  epsilon: float
  scale: float  # of attention scores
  cap: float  # of attention scores; 0: none
  activation: str  # of the MLP's gate
  qkv_bias: bool
  o_bias: bool
  mlp_bias: bool
  qk_norm: bool  # heads of q and k are normalised before they are rotated
  post_norms: bool

  @nn.compact
  def __call__(self, x, positions, frequency, prefix, own, own_mask, index):
    """Returns the new x [B, G, T, D] and the own segment's (k, v).

    frequency: of the rotation. prefix: None or (k, v, mask [B, 1, 1, P] or [B,
    G, T, P]); own: None, to attend among the given tokens only, or the (k, v)
    buffers [B, G, U, H, D] into which the new ones are written at `index`;
    own_mask [B, G, T, U].
    """
    h = self._norm("attention_norm")(x)
    q, k, v = self._heads(h)
    q, k = (rope(y, positions, frequency) for y in (q, k))
    if own is not None:
      k = jax.lax.dynamic_update_slice_in_dim(own[0], k, index, 2)
      v = jax.lax.dynamic_update_slice_in_dim(own[1], v, index, 2)
    q = q.reshape(*q.shape[:3], self.kv_heads, -1, self.size)
    segments = [] if prefix is None else [prefix]
    out = attend(
      q, [*segments, (k, v, own_mask)], scale=self.scale, cap=self.cap
    )
    out = out.reshape(*x.shape[:-1], -1)
    out = self._dense(x.shape[-1], "o", self.o_bias)(out)
    x = x + (self._norm("attention_post")(out) if self.post_norms else out)
    out = self._mlp(self._norm("mlp_norm")(x))
    x = x + (self._norm("mlp_post")(out) if self.post_norms else out)
    return x, (k, v)

  def _heads(self, h):
    split = lambda y: y.reshape(*y.shape[:-1], -1, self.size)
    dense = lambda heads, name: split(
      self._dense(heads * self.size, name, self.qkv_bias)(h)
    )
    q = dense(self.heads, "q")
    k, v = dense(self.kv_heads, "k"), dense(self.kv_heads, "v")
    if self.qk_norm:
      q, k = self._norm("q_norm")(q), self._norm("k_norm")(k)
    return q, k, v

  def _mlp(self, h):
    act = ACTIVATIONS[self.activation]
    dense = lambda features, name: self._dense(features, name, self.mlp_bias)
    h_up = act(dense(self.hidden, "gate")(h)) * dense(self.hidden, "up")(h)
    return dense(h.shape[-1], "down")(h_up)

  def _norm(self, name):
    return RMSNorm(self.epsilon, name=name)

  def _dense(self, features, name, bias):
    return Linear(features, bias, self.dtype, name=name)
