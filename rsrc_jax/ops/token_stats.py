"""Statistics of a next-token distribution, in one pass over the ids.

Entropy H, varentropy V (the variance of the surprisal), collision entropy H2
and the mass on a list of injected ids. The gate of "Theory of RSI on LLMs
through ordinary RL (Kolmogorov Compressor)" needs them ("varentropy of the
logits").

The vocabulary is processed whole, in blocks, or in shards of a mesh axis; the
parts are summed and merged by ops/vocab_sums.py.

Gradients are closed forms. With p the distribution, u = ln p + H and Q = sum
p^2: dH/dz = -p u, dV/dz = p (u^2 + 2 u - V), dH2/dz = 2 p (1 - p / Q), dm/dz =
p (1[injected] - m), dlse/dz = p, dlog_prob/dz = 1[sampled] - p. All are exactly
0 where an entry is masked. Second derivatives are not defined.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from rsrc_jax.ops import vocab_sums
from rsrc_jax.types import TokenStats

BLOCK = 2048


def from_logits(
  logits: Float[Array, "*lead V"],
  sampled: Int[Array, "*lead"],
  injected: Int[Array, "*lead N"],
  mask: Bool[Array, "*#lead V"] | None = None,
) -> TokenStats:
  """Statistics of softmax(logits) over the allowed ids.

  logits [..., V] of any float dtype, sampled [...] int32, injected [..., N]
  int32 (N may be 0; an id counts once; ids outside of the vocabulary are pads),
  mask bool, broadcastable to [..., V] -> float32 [...].

  A logit of -inf has the effect of a False mask. A sampled id that is masked,
  or a pad, has a log-probability of NEG_INF without a gradient. A row that is
  all masked has an lse of NEG_INF and zeros.

  Raises:
    ValueError: shapes do not fit.
  """
  _check(logits, sampled, injected, "logits")
  ids = _ids(sampled, injected, logits.shape[:-1])
  logits = logits.astype(jnp.float32)
  return vocab_sums.finish(_logit_sums(*_vary_alike(logits, mask, ids)))


def from_hidden_plain(
  hidden: Float[Array, "*lead D"],
  unembedding: Float[Array, "V D"],
  sampled: Int[Array, "*lead"],
  injected: Int[Array, "*lead N"],
  mask: Bool[Array, "*#lead V"] | None = None,
) -> TokenStats:
  """from_logits of hidden [..., D] @ unembedding [V, D]: the reference.

  Raises:
    ValueError: shapes do not fit.
  """
  _check(hidden, sampled, injected, "hidden")
  logits = _unembed(hidden, unembedding)
  return from_logits(logits, sampled, injected, mask)


def from_hidden(
  hidden: Float[Array, "*lead D"],
  unembedding: Float[Array, "V D"],
  sampled: Int[Array, "*lead"],
  injected: Int[Array, "*lead N"],
  mask: Bool[Array, "*#lead V"] | None = None,
  *,
  block: int = BLOCK,
) -> TokenStats:
  """from_hidden_plain without storing logits, forward or backward.

  hidden [..., D], unembedding [V, D], mask [V] or [..., V]; the rest as in
  from_logits. Logits exist for `block` ids at a time (V need not be a multiple)
  and are computed again for the gradient, which flows to hidden and unembedding
  and is accumulated in float32.

  Raises:
    ValueError: if block is not positive, or shapes do not fit.
  """
  _check_head(hidden, unembedding, sampled, injected, mask, block)
  ids = _ids(sampled, injected, hidden.shape[:-1])
  arrays = _vary_alike(hidden, unembedding, mask, ids)
  return vocab_sums.finish(_hidden_sums(block, *arrays))


def from_hidden_sharded(
  hidden: Float[Array, "*lead D"],
  unembedding_shard: Float[Array, "V/n D"],
  sampled: Int[Array, "*lead"],
  injected: Int[Array, "*lead N"],
  mask_shard: Bool[Array, "*#lead V_n"] | None = None,
  *,
  axis_name: str,
  block: int = BLOCK,
) -> TokenStats:
  """from_hidden inside jax.shard_map, the vocabulary cut along axis_name.

  unembedding_shard [V / n, D] and mask_shard [V / n] or [..., V / n] are the
  axis_index-th of n equal parts; hidden, sampled and injected (global ids) are
  the same on all of the axis, and so are the results.

  Raises:
    ValueError: if block is not positive, or shapes do not fit.
  """
  _check_head(hidden, unembedding_shard, sampled, injected, mask_shard, block)
  ids = _ids(sampled, injected, hidden.shape[:-1])
  ids = ids - lax.axis_index(axis_name) * unembedding_shard.shape[0]
  arrays = _vary_alike(hidden, unembedding_shard, mask_shard, ids)
  return vocab_sums.finish(
    vocab_sums.merge_shards(_hidden_sums(block, *arrays), axis_name)
  )


def over(
  mesh: jax.sharding.Mesh, *, rows: tuple[str, ...], ids: str
) -> Callable[..., TokenStats]:
  """from_hidden(hidden, unembedding, sampled, injected, mask) on a mesh.

  For a table whose ids are split over the mesh axis `ids`, which XLA would
  otherwise gather block by block. Rows are split over the axes `rows`, where
  those divide them. The mask is [B, ..., V] or [1, ..., V], with as many axes
  as hidden [B, ..., D].
  """
  ways = math.prod(mesh.shape[axis] for axis in rows)

  def head(hidden, unembedding, sampled, injected, mask):
    batch = rows if len(hidden) % ways == 0 else None
    between = (None,) * (mask.ndim - 2)
    masked = P(batch if len(mask) > 1 else None, *between, ids)
    # jaxlib 0.11.2 crashes where an array without elements enters shard_map.
    some = [injected] if injected.shape[-1] else []

    def part(hidden, unembedding, sampled, mask, injected=None):
      if injected is None:
        injected = jnp.zeros((*sampled.shape, 0), sampled.dtype)
      return from_hidden_sharded(
        hidden, unembedding, sampled, injected, mask, axis_name=ids
      )

    return jax.shard_map(
      part, mesh=mesh, out_specs=P(batch),
      in_specs=(P(batch), P(ids), P(batch), masked, *(P(batch) for _ in some)),
    )(hidden, unembedding, sampled, mask, *some)  # fmt: skip

  return head


@jax.custom_vjp
def _logit_sums(logits, mask, ids):
  return vocab_sums.part_sums(logits, mask, ids)


def _logit_sums_forward(logits, mask, ids):
  sums = vocab_sums.part_sums(logits, mask, ids)
  return sums, (logits, mask, ids, sums)


def _logit_sums_backward(kept, d):
  return vocab_sums.logit_gradient(*kept, d), None, None


_logit_sums.defvjp(_logit_sums_forward, _logit_sums_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _hidden_sums(block, hidden, unembedding, mask, ids):
  def part(start, size):
    logits = _unembed(hidden, _cut(unembedding, start, size, 0))
    return vocab_sums.part_sums(
      logits, _cut(mask, start, size, -1), ids - start
    )

  first, block, starts = _blocks(unembedding.shape[0], block)
  sums, _ = lax.scan(
    lambda sums, start: (vocab_sums.merge(sums, part(start, block)), None),
    part(0, first),
    starts,
  )
  return sums


def _hidden_sums_forward(block, hidden, unembedding, mask, ids):
  sums = _hidden_sums(block, hidden, unembedding, mask, ids)
  return sums, (hidden, unembedding, mask, ids, sums)


def _hidden_sums_backward(block, kept, d):
  hidden, unembedding, mask, ids, sums = kept
  rows = tuple(range(hidden.ndim - 1))

  def part(start, size):
    weights = _cut(unembedding, start, size, 0)
    allowed = _cut(mask, start, size, -1)
    logits = _unembed(hidden, weights)
    dz = vocab_sums.logit_gradient(logits, allowed, ids - start, sums, d)
    dw = jnp.tensordot(
      dz, hidden, (rows, rows), preferred_element_type=jnp.float32
    )
    return _unembed(dz, weights.T), dw.astype(unembedding.dtype)

  def step(carry, start):
    d_hidden, d_unembedding = carry
    dh, dw = part(start, block)
    d_unembedding = lax.dynamic_update_slice_in_dim(d_unembedding, dw, start, 0)
    return (d_hidden + dh, d_unembedding), None

  first, block, starts = _blocks(unembedding.shape[0], block)
  d_hidden, dw = part(0, first)
  d_unembedding = lax.dynamic_update_slice_in_dim(
    jnp.zeros(unembedding.shape, unembedding.dtype), dw, 0, 0
  )
  (d_hidden, d_unembedding), _ = lax.scan(
    step, (d_hidden, d_unembedding), starts
  )
  return d_hidden.astype(hidden.dtype), d_unembedding, None, None


_hidden_sums.defvjp(_hidden_sums_forward, _hidden_sums_backward)


def _unembed(hidden, unembedding):
  """[..., D] and [V, D] -> [..., V] float32."""
  return jnp.einsum(
    "...d,vd->...v", hidden, unembedding, preferred_element_type=jnp.float32
  )


def _blocks(size, block):
  """The sizes of the first block and of the others, and where those start.

  The first takes the remainder, so all others have one size and none overlap.
  """
  block = min(block, size)
  first = (size - 1) % block + 1
  return first, block, jnp.arange(first, size, block)


def _cut(x, start, size, axis):
  if x is None:
    return None
  return lax.dynamic_slice_in_dim(x, start, size, axis)


def _ids(sampled, injected, shape):
  """[..., 1 + N]: the sampled id, then each injected one once, -1 pads."""
  ordered = jnp.sort(injected, -1)
  again = ordered[..., 1:] == ordered[..., :-1]
  once = jnp.where(again, -1, ordered[..., 1:])
  ids = jnp.concatenate([sampled[..., None], ordered[..., :1], once], -1)
  return jnp.broadcast_to(ids, (*shape, ids.shape[-1]))


def _vary_alike(*arrays):
  """Casts all to vary over every manual mesh axis that one of them does.

  Outside of jax.shard_map it does nothing. Inside, the transpose of the cast is
  a sum over devices, which the gradients of shared arrays need.
  """
  varying = [
    frozenset() if x is None else jax.typeof(x).mat.varying for x in arrays
  ]
  axes = frozenset().union(*varying)
  return tuple(
    x if x is None else lax.pcast(x, tuple(sorted(axes - own)), to="varying")
    for x, own in zip(arrays, varying, strict=True)
  )


def _check(rows, sampled, injected, name):
  """Raises ValueError if the ids do not belong to rows [..., V or D]."""
  for field, ids, shape in (
    ("sampled", sampled, sampled.shape),
    ("injected", injected, injected.shape[:-1]),
  ):
    if shape != rows.shape[:-1]:
      raise ValueError(
        f"{field} {ids.shape} does not fit {name} {rows.shape}; "
        "sampled is [...] and injected [..., N]"
      )


def _check_head(hidden, unembedding, sampled, injected, mask, block):
  _check(hidden, sampled, injected, "hidden")
  if block < 1:
    raise ValueError(f"block is {block}; a block holds at least one id")
  if unembedding.ndim != 2 or hidden.shape[-1] != unembedding.shape[1]:
    raise ValueError(
      f"unembedding {unembedding.shape} does not fit hidden {hidden.shape}; "
      "it is [V, D]"
    )
  if mask is not None and mask.shape[-1:] != unembedding.shape[:1]:
    raise ValueError(
      f"mask {mask.shape} does not fit unembedding {unembedding.shape}; "
      "it is [V] or [..., V]"
    )
