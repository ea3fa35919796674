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
  loops: int = 1,
  reinject: bool = False,
  size: int = 0,
  rope_base: float = 10_000.0,
  rope_scaling: layers.Scaling = None,
  windows: tuple[int, ...] = (),
  window_base: float = 0.0,
  absolute: int = 0,
  tied: bool = True,
  epsilon: float = 1e-6,
  activation: str = "silu",
  qkv_bias: bool = False,
  o_bias: bool = False,
  mlp_bias: bool = False,
  qk_norm: bool = False,
  post_norms: bool = False,
  embed_scale: float = 1.0,
  query_scale: float = 0.0,
  attention_cap: float = 0.0,
  logit_cap: float = 0.0,
  scan: bool = False,
  remat: bool = False,
  dtype: str = "float32",
) -> Policy:
  """Builds the policy.

  The defaults are a Llama; models/pretrained.py has what other families set.

  Args:
    vocab_size: V, specials included.
    width: D of the residual stream; a multiple of heads.
    depth: layers L, each with parameters of its own.
    heads: query heads; a multiple of kv_heads.
    kv_heads: key-value heads H.
    hidden: width of the gated MLP.
    loops: R; the whole stack of layers is run so many times, on what the run
      before has left (Tiny Recursive Model, arXiv 2510.04871, without its two
      states, its steps without gradient and its supervision of each step).
      Each run has keys and values of its own: FLOPs and caches are those of
      depth * loops layers, parameters those of depth.
    reinject: the embedding is added again before each further run, as TRM adds
      x to what goes into each step.
    size: of a head, even; 0: width / heads.
    rope_base: wavelength base of the rotary positions.
    rope_scaling: see layers.frequencies.
    windows: of each layer, how many positions a token sees, itself the last;
      0: all. Empty: all layers see all.
    window_base: rope_base of layers with a window, which are not scaled; 0: as
      all others.
    absolute: also add a learned embedding of the position, for so many
      positions; later ones share the last. A shallow model that has to tell
      the first token of a code from the second finds that hard by rotation.
    tied: the output matrix is the embedding.
    epsilon: of all norms.
    activation: of the MLP's gate: "silu" or "gelu" (by tanh).
    qkv_bias: q, k and v have biases.
    o_bias: what leaves attention has one.
    mlp_bias: the products of the MLP have.
    qk_norm: heads of q and k are normalised.
    post_norms: what a layer's two halves add is normalised.
    embed_scale: times the embedding.
    query_scale: times attention scores; 0: size ** -0.5.
    attention_cap: attention scores are squashed to it; 0: they are not.
    logit_cap: logits are; 0: they are not.
    scan: run the layers of an uncached pass by lax.scan: compiles in constant
      time, runs slower on CPU. A cached pass always unrolls.
    remat: keep only each layer's input for the gradient, and run it twice.
    dtype: of activations and caches; logits are float32 whatever it is.

  Raises:
    ValueError: the sizes do not divide.
  """
  if (not size and width % heads) or heads % kv_heads:
    raise ValueError(
      f"model: width={width} must be a multiple of heads={heads}, and heads a "
      f"multiple of kv_heads={kv_heads}."
    )
  size = size or width // heads
  if size % 2:
    raise ValueError(f"model: heads of {size} are odd; they rotate in pairs.")
  if loops < 1:
    raise ValueError(f"model: loops={loops} must be at least 1.")
  windows = windows or (0,) * depth
  if len(windows) != depth:
    raise ValueError(f"model: {len(windows)} windows for depth={depth} layers.")
  if activation not in layers.ACTIVATIONS:
    raise ValueError(
      f"model: activation={activation!r} is none of {[*layers.ACTIVATIONS]}."
    )
  dtype = jnp.dtype(dtype)
  block = layers.Block(
    heads, kv_heads, size, hidden, dtype, epsilon, query_scale or size**-0.5,
    attention_cap, activation, qkv_bias, o_bias, mlp_bias, qk_norm, post_norms,
  )  # fmt: skip
  norm = layers.RMSNorm(epsilon)
  kinds = sorted(set(windows))  # layers of one kind see and rotate alike

  def init(key: jax.Array) -> Params:
    k_embed, k_blocks, k_out = jax.random.split(key, 3)
    x = jnp.zeros((1, 1, 1, width), dtype)
    positions = jnp.zeros((1, 1, 1), jnp.int32)
    mask = jnp.ones((1, 1, 1, 1), bool)
    turn = layers.frequencies(size, rope_base)
    one = lambda k: block.init(
      k, x, positions, turn, None, None, mask, 0
    )["params"]  # fmt: skip
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
    states, segment = _states(params, tokens, positions, prefix, cache, index)
    return _norm(params, states[-1]), segment

  def trace(
    params: Params,
    tokens: Tokens,
    positions: jax.Array,
    *,
    prefix: Cache | None = None,
    layers: bool = False,
  ) -> tuple[jax.Array, Cache]:
    """`apply` that shows its work: -> hidden [R, B, G, T, D] and the segment.

    After each run through the stack, normed as the last is, so that `unembed`
    reads it; the last is what `apply` returns. With `layers` after each layer
    of each run, [R * L, B, G, T, D]. Only the last readout has been trained.
    """
    states, segment = _states(
      params, tokens, positions, prefix, None, 0, each=layers
    )
    return jnp.stack([_norm(params, x) for x in states]), segment

  def _states(params, tokens, positions, prefix, cache, index, each=False):
    """-> the residual stream after each run, or `each` layer; the segment."""
    x = first = _embed(params, tokens, positions)
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
    seen = _seen(positions, prefix, keys, keys[:, :, None] & causal)
    turns = {w: _frequencies(w) for w in kinds}

    def run(p, x, layer, pre, own):
      """One layer; `pre` is its prefix's (k, v), `own` its buffers'."""
      before, mine, turn = layer
      pre = None if pre is None else (*pre, before)
      return block.apply(
        {"params": p}, x, positions, turn, pre, own, mine, index
      )

    run = jax.checkpoint(run) if remat and cache is None else run
    scanned = cache is None and scan
    states, ks, vs = [], [], []
    blocks = params["blocks"]
    if not scanned:
      blocks = blocks if isinstance(blocks, tuple) else _apart(blocks)
    for loop in range(loops):
      if loop and reinject:
        x = x + first
      if scanned:
        x, (k, v), inner = _scanned(
          run, blocks, x, _part(prefix, loop), seen, turns, each
        )
        states += list(inner) if each else [x]
        ks.append(k)
        vs.append(v)
        continue
      for layer, (p, window) in enumerate(zip(blocks, windows, strict=True)):
        at = loop * depth + layer
        pre = None if prefix is None else (prefix.k[at], prefix.v[at])
        own = None if cache is None else (cache.k[at], cache.v[at])
        x, (k, v) = run(p, x, (*seen[window], turns[window]), pre, own)
        ks.append(k)
        vs.append(v)
        states += [x] if each else []
      states += [] if each else [x]
    join = tuple
    if scanned:  # [L, ...] of each run -> [R * L, ...]
      join = lambda xs: xs[0] if loops == 1 else jnp.concatenate(xs)
    return states, Cache(join(ks), join(vs), keys)

  def unrolled(params: Params) -> Params:
    """For many cached passes: the layers apart, in the dtype of activations.

    A loop that slices the stacked ones copies all of them for every token.
    """
    name = lambda path: path[-1].key
    params = jax.tree_util.tree_map_with_path(
      # Norms compute in float32.
      lambda p, x: x if name(p) == "scale" else x.astype(dtype),
      params,
    )
    return {**params, "blocks": _apart(params["blocks"])}

  def _apart(blocks):
    return tuple(
      jax.tree.map(lambda w, n=n: w[n], blocks) for n in range(depth)
    )

  def _embed(params, tokens, positions):
    x = params["embed"][tokens.ids].astype(dtype)
    if embed_scale != 1.0:
      x = x * jnp.asarray(embed_scale, dtype)
    if absolute:
      place = jnp.minimum(positions, absolute - 1)
      x = x + params["positions"][place].astype(dtype)
    return x

  def _seen(positions, prefix, keys, own):
    """What each kind of layer sees: {window: (prefix's mask, own mask)}.

    Positions count real tokens, from the first of the prefix on.
    """
    before = None if prefix is None else prefix.mask[:, :, None]
    seen, start = {0: (before, own)}, 0
    if prefix is not None:
      start = jnp.sum(prefix.mask, -1, dtype=jnp.int32)[..., None]
    near = lambda mask, start, window: (
      positions[..., None] - (start + jnp.cumsum(mask, -1) - 1)[:, :, None]
      < window
    )
    for window in filter(None, kinds):
      pre = None
      if prefix is not None:
        pre = before & near(prefix.mask, 0, window)
      seen[window] = (pre, own & near(keys, start, window))
    return seen

  def _frequencies(window):
    if window and window_base:
      return layers.frequencies(size, window_base)
    return layers.frequencies(size, rope_base, rope_scaling)

  def _part(prefix, loop):
    """(k, v) of the layers of one run, [L, ...] each; None without a prefix."""
    if prefix is None:
      return None
    part = slice(loop * depth, (loop + 1) * depth)
    # An unrolled pass leaves a tuple of layers.
    stack = lambda x: jnp.stack(x) if isinstance(x, tuple) else x
    return stack(prefix.k[part]), stack(prefix.v[part])

  def _scanned(run, blocks, x, kv, seen, turns, each):
    """The layers by lax.scan, each picking its kind's masks and rotation.

    -> the last layer's output, (k, v) of all, and `each` layer's output.
    """
    by_kind = [(*seen[w], turns[w]) for w in kinds]
    kind = jnp.asarray([kinds.index(w) for w in windows])

    def body(x, layer):
      p, pre, which = layer
      pick = lambda *xs: jnp.stack(jnp.broadcast_arrays(*xs))[which]
      mine = jax.tree.map(pick, *by_kind) if len(kinds) > 1 else by_kind[0]
      x, kv = run(p, x, mine, pre, None)
      return x, (kv, x if each else ())

    x, (kv, inner) = jax.lax.scan(body, x, (blocks, kv, kind))
    return x, kv, inner

  def _norm(params, x):
    return norm.apply({"params": params["norm"]}, x)

  def unembed(params: Params, hidden: jax.Array) -> jax.Array:
    """hidden [..., D] -> logits [..., V] float32."""
    logits = layers.matmul(hidden, table(params).T, jnp.float32)
    return layers.soft_cap(logits, logit_cap)

  def table(params: Params) -> jax.Array:
    return (params["embed"] if tied else params["unembed"]).astype(dtype)

  def init_cache(batch: int, group: int, length: int) -> Cache:
    k = jnp.zeros((batch, kv_heads, group, size, length), dtype)
    mask = jnp.zeros((batch, group, length), bool)
    layers = depth * loops
    return Cache((k,) * layers, (k.mT,) * layers, mask)

  plain = None if logit_cap else table
  return Policy(init, apply, unembed, init_cache, plain, unrolled, trace=trace)
