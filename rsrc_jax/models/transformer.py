"""A decoder-only transformer: RoPE, RMSNorm, SwiGLU, grouped-query attention.

One `apply` serves training, scoring and cached decoding: its tokens attend to
an optional shared prefix and, causally, to their own segment.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.models import initial, layers
from rsrc_jax.rules import BLOCK, flag, number, one_of, optional, whole
from rsrc_jax.types import Cache, Params, Policy, Tokens


class Architecture(NamedTuple):
  """The settings of a decoder; shapes and letters as in types.py.

  The defaults are those of a Llama; models/pretrained.py sets other families.
  """

  vocab_size: int  # V, specials included
  width: int  # D of the residual stream; a multiple of heads
  depth: int  # layers L, each with parameters of its own
  heads: int  # query heads; a multiple of kv_heads
  kv_heads: int  # key-value heads H
  hidden: int  # width of the gated MLP
  # R: how often the stack of layers is run, each time on the previous output
  # (Tiny Recursive Model, arXiv 2510.04871, without its two states, its steps
  # without gradient and its supervision of each step). Each run has its own
  # keys and values: FLOPs and caches are those of depth * loops layers,
  # parameters those of depth layers.
  loops: int = 1
  # Add the embedding again before each further run, as TRM adds x at each step.
  reinject: bool = False
  size: int = 0  # of a head, even; 0: width / heads
  rope_base: float = 10_000.0  # wavelength base of the rotary positions
  rope_scaling: layers.Scaling = None  # see layers.frequencies
  # For each layer, how many positions a token attends to, itself the last; 0:
  # all. Empty: all positions in all layers.
  windows: tuple[int, ...] = ()
  # rope_base of layers with a window, without scaling; 0: as in other layers.
  window_base: float = 0.0
  # Also add a learned embedding of the position, for this many positions; later
  # ones share the last. With rotary positions alone, a shallow model hardly
  # learns to distinguish the first token of a code from the second.
  absolute: int = 0
  tied: bool = True  # the output matrix is the embedding
  epsilon: float = 1e-6  # of all norms
  activation: str = "silu"  # of the MLP's gate; or "gelu" (by tanh)
  qkv_bias: bool = False  # q, k and v have biases
  o_bias: bool = False  # the output product of attention has one
  mlp_bias: bool = False  # the products of the MLP have
  qk_norm: bool = False  # heads of q and k are normalised
  post_norms: bool = False  # outputs of attention and MLP are normalised
  embed_scale: float = 1.0  # times the embedding
  query_scale: float = 0.0  # times attention scores; 0: size ** -0.5
  attention_cap: float = 0.0  # soft limit of attention scores; 0: none
  logit_cap: float = 0.0  # soft limit of logits; 0: none
  # Run the layers of an uncached pass by lax.scan, which compiles in constant
  # time and runs slower on CPU. A cached pass always unrolls.
  scan: bool = False
  remat: bool = False  # keep only layers' inputs for the gradient; recompute
  # Of activations and caches; logits are float32 whatever it is.
  dtype: Any = "float32"


def _sizes(settings, run):
  """The rule of sizes that depend on each other."""
  del run
  heads, kv_heads = settings.get("heads", 1), settings.get("kv_heads", 1)
  width, size = settings.get("width", heads), settings.get("size", 0)
  if heads % kv_heads:
    return "heads", f"a multiple of {rules.HERE}.kv_heads={kv_heads}"
  if not size and width % heads:
    return "width", f"a multiple of {rules.HERE}.heads={heads}"
  if (size or width // heads) % 2 and "width" in settings:
    if size:
      return "size", "even: rotary positions turn pairs of channels"
    return "width", f"{rules.HERE}.heads={heads} times an even number"
  windows = settings.get("windows", ())
  if windows and len(windows) != settings.get("depth", len(windows)):
    return (
      "windows",
      f"one for each of {rules.HERE}.depth={settings['depth']} layers",
    )
  return None


DTYPES = one_of("float32", "bfloat16", "float16")
RULES = {
  # Limits keep a slip from a trace that takes minutes.
  **dict.fromkeys(
    ("vocab_size", "width", "heads", "kv_heads", "hidden"), whole(1, 2**24)
  ),
  **dict.fromkeys(("depth", "loops"), whole(1, 4_096)),
  **dict.fromkeys(("size", "absolute"), whole(0, 2**24)),
  "windows": rules.items(whole()),
  "rope_base": number(above=0),
  "rope_scaling": optional(rules.anything),
  "epsilon": number(above=0, most=1),
  "embed_scale": number(above=0),
  **dict.fromkeys(
    ("window_base", "query_scale", "attention_cap", "logit_cap"), number(0)
  ),
  **dict.fromkeys(
    ("reinject", "tied", "qkv_bias", "o_bias", "mlp_bias", "qk_norm",
     "post_norms", "scan", "remat"), flag,
  ),
  "activation": one_of(*layers.ACTIVATIONS),
  "dtype": DTYPES,
  BLOCK: (_sizes,),
}  # fmt: skip


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


def resolved(arch: Architecture) -> Architecture:
  """Checks the settings and replaces the zeros that stand for a default.

  Raises:
    ValueError: see `make`.
  """
  given = arch._asdict()
  if not isinstance(arch.dtype, str):
    given["dtype"] = jnp.dtype(arch.dtype).name
  rules.check(RULES, given, "config.model")
  size = arch.size or arch.width // arch.heads
  windows = arch.windows or (0,) * arch.depth
  return arch._replace(
    size=size,
    windows=windows,
    query_scale=arch.query_scale or size**-0.5,
    dtype=jnp.dtype(arch.dtype),
  )


# The functions of the policy. `arch` is resolved.


def init(arch: Architecture, key: jax.Array) -> Params:
  """Random parameters; those of the layers are stacked, [L, ...]."""
  x = jnp.zeros((1, 1, 1, arch.width), arch.dtype)
  positions = jnp.zeros((1, 1, 1), jnp.int32)
  mask = jnp.ones((1, 1, 1, 1), bool)
  turn = layers.rotation(positions, _frequencies(arch, 0), 1)
  block = jax.eval_shape(
    _block(arch).init, key, x, turn, None, None, mask, 0
  )["params"]  # fmt: skip
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
) -> tuple[jax.Array, Cache]:
  """tokens, positions [B, G, T] -> hidden [B, G, T, D] and their segment.

  Without `cache` the tokens attend to the prefix and, causally, to each other.
  With a cache of length U they are written at `index` and attend to all before.
  """
  states, segment = _states(
    arch, params, tokens, positions, prefix, cache, index
  )
  return _norm(arch, params, states[-1]), segment


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


# A pass through the stack. Layers with the same window share masks and
# rotation: `views` has (prefix's mask, own mask, rotation) by window.


def _states(
  arch, params, tokens, positions, prefix, cache, index, each=False
) -> tuple[list[jax.Array], Cache]:
  """The residual stream after each run, or `each` layer, and the segment."""
  x = first = _embed(arch, params, tokens, positions)
  if cache is None:
    keys = tokens.mask
  else:
    keys = jax.lax.dynamic_update_slice_in_dim(
      cache.mask, tokens.mask, index, 2
    )
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
  for layer, (p, window) in enumerate(zip(blocks, arch.windows, strict=True)):
    at = loop * arch.depth + layer
    x, (k, v) = run(p, x, views[window], of(prefix, at), of(cache, at))
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
  kind = jnp.asarray([kinds.index(w) for w in arch.windows])

  def body(x, layer):
    p, pre, which = layer
    pick = lambda *xs: jnp.stack(jnp.broadcast_arrays(*xs))[which]
    mine = jax.tree.map(pick, *by_kind) if len(kinds) > 1 else by_kind[0]
    x, kv = run(p, x, mine, pre, None)
    return x, (kv, x if each else ())

  x, (kv, inner) = jax.lax.scan(body, x, (blocks, before, kind))
  return x, kv, list(inner)


def _embed(arch, params, tokens, positions) -> jax.Array:
  x = params["embed"][tokens.ids].astype(arch.dtype)
  if arch.embed_scale != 1.0:
    x = x * jnp.asarray(arch.embed_scale, arch.dtype)
  if arch.absolute:
    place = jnp.minimum(positions, arch.absolute - 1)
    x = x + params["positions"][place].astype(arch.dtype)
  return x


def _views(arch, tokens, positions, prefix, keys, index) -> dict[int, tuple]:
  """Masks and rotation of layers, by window.

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
  for window in sorted(set(arch.windows)):
    turn = layers.rotation(positions, _frequencies(arch, window), slots)
    if not window:
      views[window] = (before, own, turn)
      continue
    pre = None
    if prefix is not None:
      pre = before & near(prefix.mask, 0, window)
    views[window] = (pre, own & near(keys, start, window), turn)
  return views


def _frequencies(arch, window) -> jax.Array:
  if window and arch.window_base:
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
  return tuple(
    jax.tree.map(lambda w, n=n: w[n], blocks) for n in range(arch.depth)
  )


def _norm(arch, params, x) -> jax.Array:
  norm = layers.RMSNorm(arch.epsilon)
  return norm.apply({"params": params["norm"]}, x)
