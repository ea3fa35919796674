"""A decoder-only transformer: RoPE, RMSNorm, SwiGLU, grouped-query attention.

One `apply` serves training, scoring and cached decoding: it runs tokens that
see an optional shared prefix and, causally, their own segment.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsrc_jax.models import layers
from rsrc_jax.types import Cache, Params, Policy, Tokens


def make(
  *,
  vocab_size: int,
  width: int,
  depth: int,
  heads: int,
  kv_heads: int,
  hidden: int,
  rope_base: float = 10_000.0,
  absolute: int = 0,
  tied: bool = True,
  scan: bool = False,
  dtype: str = "float32",
) -> Policy:
  """Builds the policy.

  Args:
    vocab_size: V, specials included.
    width: D of the residual stream; a multiple of heads.
    depth: layers L.
    heads: query heads; a multiple of kv_heads.
    kv_heads: key-value heads H.
    hidden: width of the SwiGLU.
    rope_base: wavelength base of the rotary positions.
    absolute: also add a learned embedding of the position, for so many
      positions; later ones share the last. A shallow model that has to tell
      the first token of a code from the second finds that hard by rotation.
    tied: the output matrix is the embedding.
    scan: run the layers of an uncached pass by lax.scan: compiles in constant
      time, runs slower on CPU. A cached pass always unrolls.
    dtype: of activations and caches; logits are float32 whatever it is.

  Raises:
    ValueError: the sizes do not divide.
  """
  if width % heads or heads % kv_heads or (width // heads) % 2:
    raise ValueError(
      f"model: width={width} must be a multiple of 2*heads={2 * heads}, and "
      f"heads a multiple of kv_heads={kv_heads}."
    )
  dtype = jnp.dtype(dtype)
  block = layers.Block(heads, kv_heads, hidden, rope_base, dtype)
  norm = layers.RMSNorm()

  def init(key: jax.Array) -> Params:
    k_embed, k_blocks, k_out = jax.random.split(key, 3)
    x = jnp.zeros((1, 1, 1, width), dtype)
    positions = jnp.zeros((1, 1, 1), jnp.int32)
    mask = jnp.ones((1, 1, 1, 1), bool)
    one = lambda k: block.init(k, x, positions, None, None, mask, 0)["params"]
    normal = nn.initializers.normal(width**-0.5)
    params = {
      "embed": normal(k_embed, (vocab_size, width)),
      "blocks": jax.vmap(one)(jax.random.split(k_blocks, depth)),
      "norm": norm.init(k_embed, x)["params"],
    }
    if absolute:
      params["positions"] = normal(k_out, (absolute, width))
    if not tied:
      params["unembed"] = normal(k_out, (vocab_size, width))
    return params

  def apply(
    params: Params,
    tokens: Tokens,
    positions: jax.Array,
    *,
    prefix: Cache | None = None,
    cache: Cache | None = None,
    index: jax.Array | int = 0,
  ) -> tuple[jax.Array, Cache]:
    """tokens, positions [B, G, T] -> hidden [B, G, T, D] and their segment.

    Without `cache` the tokens see the prefix and, causally, each other. With a
    cache of length U they are written at `index` and see all before them.
    """
    x = params["embed"][tokens.ids].astype(dtype)
    if absolute:
      place = jnp.minimum(positions, absolute - 1)
      x = x + params["positions"][place].astype(dtype)
    length = tokens.ids.shape[2]
    if cache is None:
      keys = tokens.mask
    else:
      keys = jax.lax.dynamic_update_slice_in_dim(
        cache.mask, tokens.mask, index, 2
      )
    causal = (
      index + jnp.arange(length)[:, None] >= jnp.arange(keys.shape[2])[None]
    )
    own_mask = keys[:, :, None] & causal
    segment = lambda layer: (
      None
      if prefix is None
      else (prefix.k[layer], prefix.v[layer], prefix.mask[:, :, None])
    )
    run = lambda p, x, pre, own: block.apply(
      {"params": p}, x, positions, pre, own, own_mask, index
    )
    if cache is None and scan:

      def body(x, layer):
        pre = None if prefix is None else (*layer[1], prefix.mask[:, :, None])
        return run(layer[0], x, pre, None)

      kv = None if prefix is None else (prefix.k, prefix.v)
      x, (k, v) = jax.lax.scan(body, x, (params["blocks"], kv))
      return _norm(params, x), Cache(k, v, keys)
    ks, vs = [], []
    for layer in range(depth):
      p = jax.tree.map(lambda w, layer=layer: w[layer], params["blocks"])
      own = None if cache is None else (cache.k[layer], cache.v[layer])
      x, (k, v) = run(p, x, segment(layer), own)
      ks.append(k)
      vs.append(v)
    return _norm(params, x), Cache(tuple(ks), tuple(vs), keys)

  def _norm(params, x):
    return norm.apply({"params": params["norm"]}, x)

  def unembed(params: Params, hidden: jax.Array) -> jax.Array:
    """hidden [..., D] -> logits [..., V] float32."""
    table = params["embed"] if tied else params["unembed"]
    return jnp.einsum(
      "...d,vd->...v",
      hidden,
      table.astype(dtype),
      preferred_element_type=jnp.float32,
    )

  def init_cache(batch: int, group: int, length: int) -> Cache:
    kv = jnp.zeros((batch, group, length, kv_heads, width // heads), dtype)
    layers_kv = (kv,) * depth
    mask = jnp.zeros((batch, group, length), bool)
    return Cache(layers_kv, layers_kv, mask)

  return Policy(init, apply, unembed, init_cache)
