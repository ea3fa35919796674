"""Parts of a decoder: norms, rotary positions, grouped attention, gated MLP."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

NEG_INF = -1e30
ACTIVATIONS = {"silu": nn.silu, "gelu": nn.gelu}  # gelu: by tanh
Scaling = tuple[str | float, ...] | None
Rotation = tuple[jax.Array, jax.Array]  # sine, cosine


class RMSNorm(nn.Module):
  """x / rms(x) * scale, in float32 (arXiv 1910.07467)."""

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    h = x.astype(jnp.float32)
    h = h * jax.lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + self.epsilon)
    return (h * scale).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, w: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """x [..., M] @ w [M, N] -> [..., N] of a dtype.

  The gradient of w sums over rows, for which XLA on CPU transposes one of its
  two factors. Here it is the narrower factor. Plain autodiff always transposes
  that of the output, which is as wide as the vocabulary or the hidden layer.
  """
  return jnp.matmul(x, w, preferred_element_type=dtype)


def _matmul_forward(x, w, dtype):
  return matmul(x, w, dtype), (x, w)


def _matmul_backward(dtype, kept, dy):
  del dtype
  x, w = kept
  product = functools.partial(jnp.tensordot, preferred_element_type=dy.dtype)
  dx = product(dy, w, (-1, 1))
  rows = tuple(range(x.ndim - 1))
  narrow = w.shape[0] <= w.shape[1]
  dw = (
    product(x, dy, (rows, rows)) if narrow else product(dy, x, (rows, rows)).T
  )
  return dx.astype(x.dtype), dw.astype(w.dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)


class Linear(nn.Module):
  """x W (+ b), plus x A B where the tree has a low-rank adapter.

  An adapter is two more leaves next to the kernel (models/lora.py).
  """

  features: int
  bias: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    y = matmul(x.astype(self.dtype), kernel.astype(self.dtype), self.dtype)
    if self.has_variable("params", "lora_a"):
      a, b = (self.get_variable("params", f"lora_{n}") for n in "ab")
      y += jnp.dot(jnp.dot(x, a.astype(self.dtype)), b.astype(self.dtype))
    if self.bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,))
      y += bias.astype(self.dtype)
    return y


def frequencies(size: int, base: float, scaling: Scaling = None) -> jax.Array:
  """Radians per position of each pair of a head of `size`. -> [size / 2]

  scaling: ("linear", factor) divides them all; ("llama3", factor, low, high,
  length) divides those with fewer than `low` turns within `length` positions,
  keeps those with more than `high` turns, and interpolates in between, linearly
  in the number of turns (Llama 3.1's config).
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


def rotation(
  positions: jax.Array, frequency: jax.Array, count: int
) -> Rotation:
  """Sine and cosine for `rope`: looked up in a table of `count` positions.

  XLA computes a sine again for each use of it, in every head of every layer:
  that took a quarter of a small decoding step. A look-up costs next to nothing.

  positions [..., T] int32 < count, frequency [D / 2] -> two [..., T, 1, D / 2]
  A position that is not in the table gives NaN.
  """
  angle = jnp.arange(count, dtype=jnp.float32)[:, None] * frequency
  look_up = lambda table: table.at[positions].get(
    mode="fill", fill_value=jnp.nan
  )[..., None, :]
  return look_up(jnp.sin(angle)), look_up(jnp.cos(angle))


def rope(x: jax.Array, rotation: Rotation) -> jax.Array:
  """Rotates the halves of each head by its position (arXiv 2104.09864).

  x [..., T, H, D], rotation of the function above
  """
  sin, cos = rotation
  x1, x2 = jnp.split(x, 2, -1)  # slices would be padded in the gradient
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
  is k [B, H, g, D, U], v [B, H, g, U, D] and a mask [B, g, t, U], where g is G
  or 1 (a prefix shared by the group) and t is T or 1: in the layout of the
  products below, so that a cached segment is not transposed at every token.
  Scores are scaled and, with a `cap`, limited to it: cap * tanh(score / cap).
  -> [B, G, T, H, R, D]
  """
  b, g, t, h, r, d = q.shape
  q = q.transpose(0, 3, 1, 2, 4, 5)  # [B, H, G, T, R, D]
  scores = []
  for k, _, mask in segments:
    # Queries with the same keys share one product.
    s = q.reshape(b, h, k.shape[2], -1, d) @ k
    s = s.reshape(b, h, g, t, r, -1).astype(jnp.float32) * scale
    seen = mask[:, None, :, :, None]
    scores.append(jnp.where(seen, soft_cap(s, cap), NEG_INF))
  # The softmax over all segments, which are never put together.
  largest = functools.reduce(
    jnp.maximum, [jnp.max(s, -1, keepdims=True) for s in scores]
  )
  weights = [jnp.exp(s - jax.lax.stop_gradient(largest)) for s in scores]
  total = sum(jnp.sum(w, -1, keepdims=True) for w in weights)
  out = 0.0
  for w, (_, v, _) in zip(weights, segments, strict=True):
    w = (w / total).astype(q.dtype)
    seen = w.reshape(b, h, v.shape[2], -1, v.shape[3]) @ v
    out += seen.reshape(b, h, g, t, r, d)
  return out.transpose(0, 2, 3, 1, 4, 5)


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
  """cap * tanh(x / cap); x where there is no cap."""
  return cap * jnp.tanh(x / cap) if cap else x


def _written(own, k: jax.Array, v: jax.Array, index) -> tuple:
  """Buffers with new keys and values at `index`, in the buffers' own shape."""
  if own[0].ndim < k.ndim:
    k, v = k[:, :, 0], v[:, :, 0]
  put = jax.lax.dynamic_update_slice_in_dim
  return put(own[0], k, index, k.ndim - 1), put(own[1], v, index, v.ndim - 2)


class Block(nn.Module):
  """One decoder layer over a prefix segment and its own segment.

  Pre-norm; with `post_norms` the outputs of attention and MLP are normalised
  too.
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
  qk_norm: bool  # heads of q and k are normalised before rotation
  post_norms: bool

  @nn.compact
  def __call__(self, x, rotation, prefix, own, own_mask, index):
    """Returns the new x [B, G, T, D] and the own segment's (k, v).

    rotation: of the positions of x. prefix: None or (k, v, mask [B, 1, 1, P] or
    [B, G, T, P]). own: None, to attend only among the tokens of x, or (k, v)
    buffers in the layout of `attend`, which are written at `index`; those of
    a group of one may lack the axis of the group.
    own_mask: [B, G, T, U].
    """
    h = self._norm("attention_norm")(x)
    q, k, v = self._heads(h)
    q, k = (rope(y, rotation) for y in (q, k))
    k, v = k.transpose(0, 3, 1, 4, 2), v.transpose(0, 3, 1, 2, 4)
    kept = (k, v)
    if own is not None:
      kept = _written(own, k, v, index)
      k, v = (x if x.ndim == k.ndim else x[:, :, None] for x in kept)
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
    return x, kept

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
