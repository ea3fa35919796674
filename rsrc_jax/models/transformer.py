"""A decoder-only transformer: RoPE, RMSNorm, SwiGLU, grouped-query attention.

One `apply` serves training, scoring and cached decoding: its tokens attend to
an optional shared prefix and, causally, to their own segment.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsrc_jax.models import initial, layers
from rsrc_jax.models.architecture import Architecture, resolved
from rsrc_jax.types import Cache, Params, Policy, Tokens


def make(**settings) -> Policy:
  """Builds the policy; `settings` are the fields of Architecture.

  Raises:
    ValueError: the sizes do not divide, or a setting is out of its range.
  """
  arch = resolved(Architecture(**settings))
  of = lambda function: functools.partial(function, arch)
  return Policy(
    of(init),
    of(apply),
    of(unembed),
    of(init_cache),
    None if arch.logit_cap else of(table),
    of(unrolled),
    trace=of(trace),
  )


# The functions of the policy. `arch` is resolved.


def init(arch: Architecture, key: jax.Array) -> Params:
  """Random parameters; those of the layers are stacked, [L, ...]."""
  x = jnp.zeros((1, 1, 1, arch.width), arch.dtype)
  positions = jnp.zeros((1, 1, 1), jnp.int32)
  mask = jnp.ones((1, 1, 1, 1), bool)
  turn = layers.rotation(positions, _frequencies(arch, (0, True)), 1)
  block = jax.eval_shape(_block(arch).init, key, x, turn, None, None, mask, 0)
  block = block["params"]
  normal = nn.initializers.normal(arch.width**-0.5)
  draw = lambda name, rows: normal(initial.named(key, name), (rows, arch.width))
  params = {
    "embed": draw("embed", arch.vocab_size),
    "blocks": initial.stack(key, block, initial.BLOCK, (arch.depth,), "blocks"),
    "norm": {"scale": jnp.ones(arch.width)},
  }
  if arch.absolute:
    params["positions"] = draw("positions", arch.absolute)
  if not arch.tied:
    params["unembed"] = draw("unembed", arch.vocab_size)
  return params


def apply(
  arch: Architecture,
  params: Params,
  tokens: Tokens,
  positions: jax.Array,
  *,
  prefix: Cache | None = None,
  cache: Cache | None = None,
  index: jax.Array | int = 0,
  weights: jax.Array | None = None,
) -> tuple[jax.Array, Cache]:
  """tokens, positions [B, G, T] -> hidden [B, G, T, D] and their segment.

  Without `cache` the tokens attend to the prefix and, causally, to each other.
  With a cache of length U they are written at `index` and attend to all before.
  With `weights` [B, G, T, V] an input is the embedding table's rows in this
  mixture, so that a gradient reaches the choice of an id; the ids are not read
  then. A one-hot mixture is the id itself.
  """
  states, kept = _states(
    arch, params, tokens, positions, prefix, cache, index, weights=weights
  )
  return _norm(arch, params, states[-1]), kept


def trace(
  arch: Architecture,
  params: Params,
  tokens: Tokens,
  positions: jax.Array,
  *,
  prefix: Cache | None = None,
  layers: bool = False,
) -> tuple[jax.Array, Cache]:
  """`apply` with the states of all runs: hidden [R, B, G, T, D], the segment.

  There is one state after each run through the stack, normed for `unembed`; the
  last one is that of `apply`. With `layers` there is one after each layer of
  each run, [R * L, B, G, T, D]. Only the last readout has been trained.
  """
  states, segment = _states(
    arch, params, tokens, positions, prefix, None, 0, each=layers
  )
  return jnp.stack([_norm(arch, params, x) for x in states]), segment


def unembed(arch: Architecture, params: Params, hidden: jax.Array) -> jax.Array:
  """hidden [..., D] -> logits [..., V] float32."""
  logits = layers.matmul(hidden, table(arch, params).T, jnp.float32)
  return layers.soft_cap(logits, arch.logit_cap)


def table(arch: Architecture, params: Params) -> jax.Array:
  """The output matrix [V, D]."""
  return params["embed" if arch.tied else "unembed"].astype(arch.dtype)


def init_cache(
  arch: Architecture, batch: int, group: int, length: int
) -> Cache:
  """An empty segment of `length` slots for all R * L layers."""
  shape = (batch, arch.kv_heads, group, arch.size, length)
  k = jnp.zeros(shape, arch.dtype)
  mask = jnp.zeros((batch, group, length), bool)
  count = arch.depth * arch.loops
  return Cache((k,) * count, (k.mT,) * count, mask)


def unrolled(arch: Architecture, params: Params) -> Params:
  """Parameters for many cached passes: unstacked, in the activations' dtype.

  A loop over stacked layers would copy all of them for every token.
  """
  name = lambda path: path[-1].key
  params = jax.tree_util.tree_map_with_path(
    # Norms compute in float32.
    lambda p, x: x if name(p) == "scale" else x.astype(arch.dtype),
    params,
  )
  return {**params, "blocks": _apart(arch, params["blocks"])}


# A pass through the stack. Layers of a kind, (window, turned), share masks and
# rotation: `views` has (prefix's mask, own mask, rotation) by kind.


def _states(
  arch, params, tokens, positions, prefix, cache, index, each=False,
  weights=None,
) -> tuple[list[jax.Array], Cache]:  # fmt: skip
  """The residual stream after each run, or `each` layer, and the segment."""
  x = first = _embed(arch, params, tokens, positions, weights)
  if cache is None:
    keys = tokens.mask
  else:
    write = jax.lax.dynamic_update_slice_in_dim
    keys = write(cache.mask, tokens.mask, index, 2)
  views = _views(arch, tokens, positions, prefix, keys, index)
  run = _layer(arch, index)
  run = jax.checkpoint(run) if arch.remat and cache is None else run
  scanned = cache is None and arch.scan
  blocks = params["blocks"]
  if not scanned:
    blocks = blocks if isinstance(blocks, tuple) else _apart(arch, blocks)
  states, ks, vs = [], [], []
  for loop in range(arch.loops):
    if loop and arch.reinject:
      x = x + first
    if scanned:
      before = _part(arch, prefix, loop)
      x, (k, v), inner = _scanned(arch, run, blocks, x, before, views, each)
    else:
      x, (k, v), inner = _in_turn(
        arch, run, blocks, x, prefix, cache, loop, views
      )
    states += inner if each else [x]
    ks.append(k)
    vs.append(v)
  return states, Cache(_joined(ks), _joined(vs), keys)


def _block(arch) -> layers.Block:
  return layers.Block(
    arch.heads, arch.kv_heads, arch.size, arch.hidden, arch.dtype,
    arch.epsilon, arch.query_scale, arch.attention_cap, arch.activation,
    arch.qkv_bias, arch.o_bias, arch.mlp_bias, arch.qk_norm, arch.post_norms,
  )  # fmt: skip


def _layer(arch, index) -> Callable:
  """One layer: (its parameters, x, its view, prefix's and own (k, v))."""
  block = _block(arch)

  def run(p, x, view, pre, own):
    before, seen, turn = view
    pre = None if pre is None else (*pre, before)
    return block.apply({"params": p}, x, turn, pre, own, seen, index)

  return run


def _in_turn(arch, run, blocks, x, prefix, cache, loop, views):
  """The layers one after another, with prefix and cache of this run.

  -> the last layer's output, (k, v) of all, and the output of each.
  """
  ks, vs, states = [], [], []
  of = lambda kept, at: None if kept is None else (kept.k[at], kept.v[at])
  for layer, (p, kind) in enumerate(zip(blocks, _kinds(arch), strict=True)):
    at = loop * arch.depth + layer
    x, (k, v) = run(p, x, views[kind], of(prefix, at), of(cache, at))
    ks.append(k)
    vs.append(v)
    states.append(x)
  return x, (tuple(ks), tuple(vs)), states


def _scanned(arch, run, blocks, x, before, views, each):
  """The layers by lax.scan, each picking its kind's masks and rotation.

  -> the last layer's output, (k, v) of all, and `each` layer's output.
  """
  kinds = [*views]
  by_kind = [*views.values()]
  kind = jnp.asarray([kinds.index(x) for x in _kinds(arch)])

  def body(x, layer):
    p, pre, which = layer
    pick = lambda *xs: jnp.stack(jnp.broadcast_arrays(*xs))[which]
    mine = jax.tree.map(pick, *by_kind) if len(kinds) > 1 else by_kind[0]
    x, kv = run(p, x, mine, pre, None)
    return x, (kv, x if each else ())

  x, (kv, inner) = jax.lax.scan(body, x, (blocks, before, kind))
  return x, kv, list(inner)


def _embed(arch, params, tokens, positions, weights) -> jax.Array:
  if weights is None:
    x = params["embed"][tokens.ids].astype(arch.dtype)
  else:  # exact for one-hot weights: each sum has one term that is not 0
    exact = jax.lax.Precision.HIGHEST
    x = jnp.matmul(weights, params["embed"], precision=exact).astype(arch.dtype)
  if arch.embed_scale != 1.0:
    x = x * jnp.asarray(arch.embed_scale, arch.dtype)
  if arch.absolute:
    place = jnp.minimum(positions, arch.absolute - 1)
    x = x + params["positions"][place].astype(arch.dtype)
  return x


def _views(arch, tokens, positions, prefix, keys, index) -> dict[tuple, tuple]:
  """Masks and rotation of layers, by kind.

  keys [B, G, U] are the real keys of the own segment. Positions count real
  tokens, from the first of the prefix on.
  """
  query = index + jnp.arange(tokens.ids.shape[2])[:, None]
  causal = query >= jnp.arange(keys.shape[2])[None]
  own = keys[:, :, None] & causal
  before, start, slots = None, 0, keys.shape[2]
  if prefix is not None:
    slots += prefix.mask.shape[-1]
    before = prefix.mask[:, :, None]
    start = jnp.sum(prefix.mask, -1, dtype=jnp.int32)[..., None]
  near = lambda mask, start, window: (
    positions[..., None] - (start + jnp.cumsum(mask, -1) - 1)[:, :, None]
    < window
  )
  views = {}
  for kind in sorted(set(_kinds(arch))):
    turn = layers.rotation(positions, _frequencies(arch, kind), slots)
    if not (window := kind[0]):
      views[kind] = (before, own, turn)
      continue
    pre = None
    if prefix is not None:
      pre = before & near(prefix.mask, 0, window)
    views[kind] = (pre, own & near(keys, start, window), turn)
  return views


def _kinds(arch) -> tuple[tuple[int, bool], ...]:
  return tuple(zip(arch.windows, arch.turned, strict=True))


def _frequencies(arch, kind) -> jax.Array:
  if not kind[1]:
    return jnp.zeros(arch.size // 2)  # no angle at any position
  if kind[0] and arch.window_base:
    return layers.frequencies(arch.size, arch.window_base)
  return layers.frequencies(arch.size, arch.rope_base, arch.rope_scaling)


def _part(arch, prefix, loop):
  """(k, v) of the layers of one run, [L, ...] each; None without a prefix."""
  if prefix is None:
    return None
  part = slice(loop * arch.depth, (loop + 1) * arch.depth)
  # An unrolled pass leaves a tuple of layers.
  stack = lambda x: jnp.stack(x) if isinstance(x, tuple) else x
  return stack(prefix.k[part]), stack(prefix.v[part])


def _joined(runs):
  """[L, ...] of each run, or a tuple of L layers -> those of all runs."""
  if isinstance(runs[0], tuple):
    return sum(runs, ())
  return runs[0] if len(runs) == 1 else jnp.concatenate(runs)


def _apart(arch, blocks) -> tuple[Params, ...]:
  at = lambda n: jax.tree.map(lambda w: w[n], blocks)
  return tuple(map(at, range(arch.depth)))


def _norm(arch, params, x) -> jax.Array:
  return layers.RMSNorm(arch.epsilon).apply({"params": params["norm"]}, x)
