"""Token statistics fused with the unembedding, in Pallas, for TPU and GPU.

The contract of `ops.token_stats.from_hidden`. Tiles of logits live in fast
memory only: the forward pass merges them into running statistics, the backward
pass computes them again. Both lowerings share the mathematics of a tile
(`_tile`, `_merge`, `_finish`, `_pull`) and differ in the loop over tiles:

  TPU (Mosaic)  the grid is the loop: programs run one after another, and the
                running values are in scratch memory. A tile holds all of D, up
                to 4096.
  GPU (Triton)  programs run in parallel, so each one loops over the other axis
                and carries its running values; D is read in chunks. The
                backward kernels also split D over programs, each of which
                computes its logits again: 1 + D / WIDTH products, not 2.

Lowered for both (for an H100 also compiled) and run by the interpreter, never
on a GPU or TPU: the tile sizes are guesses that nothing has timed. From 0.11 on
jax warns that its Triton lowering will go. Not for use inside `jax.shard_map`.

Merging: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
for Computing Sample Variances" (1979).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Bool, Float, Int

from rsrc_jax.ops.distributions import NEG_INF
from rsrc_jax.types import TokenStats

F32 = jnp.float32
# Parts of D in a GPU's products and in its gradients; half that for float32.
# So, with the usual rows and block, ptxas spills no register on an H100.
CHUNK, WIDTH = 64, 256


class _Spec(NamedTuple):
  """The static settings of a kernel."""

  rows: int  # rows of hidden in a tile
  block: int  # ids in a tile
  backend: str
  interpret: bool


class _Running(NamedTuple):
  """Sums over the ids so far, each [rows, 1] float32. At first: `_EMPTY`."""

  top: jax.Array  # a: the largest logit
  weight: jax.Array  # W: sum of e^(z - a)
  mean: jax.Array  # mu: mean of z - a under those weights
  square: jax.Array  # M2: sum of e^(z - a) (z - a - mu)^2
  twice: jax.Array  # Q: sum of e^(2 (z - a))
  inside: jax.Array  # sum of e^(z - a) over the injected ids
  picked: jax.Array  # the sampled id's logit


_EMPTY = _Running(NEG_INF, 0.0, 0.0, 0.0, 0.0, 0.0, NEG_INF)


class _Row(NamedTuple):
  """Values of a row for the backward pass, each [rows, 1] float32.

  The gradient of the logits is p (one + u + uu + p + injected) + sampled. Each
  field is the coefficient of the term of its name, with u = ln p + H.
  """

  top: jax.Array  # a
  log_weight: jax.Array  # ln W
  entropy: jax.Array  # H
  one: jax.Array
  u: jax.Array
  uu: jax.Array
  p: jax.Array
  injected: jax.Array
  sampled: jax.Array


def from_hidden(
  hidden: Float[Array, "*lead D"],
  unembedding: Float[Array, "V D"],
  sampled: Int[Array, "*lead"],
  injected: Int[Array, "*lead N"],
  mask: Bool[Array, " V"] | Bool[Array, "*lead V"] | None = None,
  *,
  rows: int | None = None,
  block: int | None = None,
  backend: str = "tpu",
  interpret: bool = False,
) -> TokenStats:
  """Statistics of softmax(hidden @ unembedding.T), with no [..., V] array.

  Differentiable in hidden and unembedding. float32 inputs are multiplied at
  the highest precision, narrower ones with float32 accumulation; statistics
  are float32 whatever the inputs.

  Args:
    hidden: [..., D].
    unembedding: [V, D].
    sampled: [...] int32. Masked or out of range: log_prob is NEG_INF.
    injected: [..., N] int32, a set: a repeated id counts once, -1 pads.
    mask: bool [V] or [..., V], True where allowed; None allows every id. A row
      that is all masked has an lse of NEG_INF and zeros.
    rows: rows of a tile. TPU: a multiple of 32; GPU: a power of 2, 16 or more.
    block: ids of a tile. TPU: a multiple of 128; GPU: a power of 2, 16 or more.
    backend: "tpu" or "gpu": which of the two lowerings.
    interpret: run on any device, slowly.

  Returns:
    TokenStats, each [...] float32, in nats.

  Raises:
    ValueError: a shape, a tile size or the backend is not one of the above.
  """
  spec = _checked(
    hidden, unembedding, sampled, injected, mask,
    rows, block, backend, interpret,
  )  # fmt: skip
  V, D = unembedding.shape
  lead = hidden.shape[:-1]
  dtype = jnp.promote_types(hidden.dtype, unembedding.dtype)
  # The sampled id is column 0, the injected ids are the others.
  ids = jnp.concatenate([sampled[..., None], injected], -1).astype(jnp.int32)
  if mask is not None:
    mask = mask.reshape(-1, V).astype(jnp.int8 if mask.ndim > 1 else jnp.int32)
  out = _stats(
    spec,
    hidden.reshape(-1, D).astype(dtype),
    unembedding.astype(dtype),
    ids.reshape(-1, ids.shape[-1]),
    mask,
  )
  return TokenStats(*(x.reshape(lead) for x in out))


def head(
  backend: str | None = None, *, interpret: bool = False
) -> Callable[..., TokenStats]:
  """from_hidden as types.Policy.head: head(hidden, table, ids, listed, mask).

  The mask is broadcastable to [..., V], as in rollout.score. A mask for all
  rows is kept as [V]; any other one is stored for each row, one byte for each
  id. The table must be whole on a device: for a split table use
  `token_stats.over`.

  Args:
    backend: "tpu" or "gpu"; None: that of the machine.
    interpret: run on any device, slowly; for tests.

  Raises:
    ValueError: the machine has no such device.
  """
  backend = backend or jax.default_backend()
  if interpret:
    backend = "tpu" if backend == "cpu" else backend
  elif backend not in ("tpu", "gpu"):
    raise ValueError(
      f"the Pallas head runs on TPU and GPU, and this is {backend}: take the "
      "blocked one (ops/token_stats.py)."
    )

  def of_rows(hidden, unembedding, sampled, injected, mask=None):
    if mask is not None and mask.size == mask.shape[-1]:
      mask = mask.reshape(-1)
    elif mask is not None:
      mask = jnp.broadcast_to(mask, (*hidden.shape[:-1], mask.shape[-1]))
    return from_hidden(
      hidden, unembedding, sampled, injected, mask,
      backend=backend, interpret=interpret,
    )  # fmt: skip

  return of_rows


def _checked(
  hidden, unembedding, sampled, injected, mask, rows, block, backend, interpret
) -> _Spec:
  if backend not in ("tpu", "gpu"):
    raise ValueError(f"backend is {backend!r}: it is 'tpu' or 'gpu'")
  if unembedding.ndim != 2 or hidden.shape[-1] != unembedding.shape[1]:
    raise ValueError(
      f"unembedding {unembedding.shape} does not fit hidden {hidden.shape}: "
      "it is [V, D]"
    )
  lead, V = hidden.shape[:-1], unembedding.shape[0]
  for name, value, shape in (
    ("sampled", sampled, lead),
    ("injected", injected, (*lead, *injected.shape[-1:])),
    ("mask", mask, (V,) if mask is None or mask.ndim == 1 else (*lead, V)),
  ):
    if value is not None and value.shape != shape:
      raise ValueError(
        f"{name} {value.shape} does not fit hidden {hidden.shape} and "
        f"unembedding {unembedding.shape}: it should be {shape}"
      )
  # TPU: tiles and gradients of float32 within 16 MiB. GPU: see WIDTH.
  fit = max(1, min(4, 2048 // hidden.shape[-1]))
  side = 64 // _halves(jnp.promote_types(hidden.dtype, unembedding.dtype))
  usual = {"tpu": (64 * fit, 128 * fit), "gpu": (side, side)}[backend]
  rows = usual[0] if rows is None else rows
  block = usual[1] if block is None else block
  spec = _Spec(rows, block, backend, interpret)
  for name, size, unit in (("rows", spec.rows, 32), ("block", spec.block, 128)):
    if backend == "tpu" and (size < 1 or size % unit):
      raise ValueError(f"{name} is {size}: on TPU a multiple of {unit}")
    if backend == "gpu" and (size < 16 or size & (size - 1)):
      raise ValueError(f"{name} is {size}: on GPU a power of 2, 16 or more")
  return spec


# The mathematics of a tile: z, ok, ids [rows, block] -> [rows, 1], float32.


def _tile(z, ok, sampled, injected) -> _Running:
  """The statistics of one tile. Ids that are not ok contribute exactly 0."""
  top = jnp.max(jnp.where(ok, z, NEG_INF), axis=1, keepdims=True)
  s = jnp.where(ok, z - top, 0.0)
  e = jnp.where(ok, jnp.exp(s), 0.0)
  total = lambda x: jnp.sum(x, axis=1, keepdims=True)
  weight = total(e)
  # The largest logit has weight 1, so a sum below 1 means a tile without ids.
  mean = total(e * s) / jnp.maximum(weight, 1.0)
  return _Running(
    top=top,
    weight=weight,
    mean=mean,
    square=total(e * (s - mean) ** 2),
    twice=total(e * e),
    inside=total(jnp.where(injected, e, 0.0)),
    picked=jnp.max(jnp.where(sampled & ok, z, NEG_INF), axis=1, keepdims=True),
  )


def _merge(x: _Running, y: _Running) -> _Running:
  """The statistics of two disjoint sets of ids."""
  top = jnp.maximum(x.top, y.top)

  def moved(side):  # weights and mean relative to the common top
    r = jnp.exp(side.top - top)
    weight = side.weight * r
    # An empty part has its mean at `top`, which would swamp the other mean.
    mean = jnp.where(weight > 0, side.mean + (side.top - top), 0.0)
    return r, weight, mean

  (rx, wx, mx), (ry, wy, my) = moved(x), moved(y)
  weight = wx + wy
  share = wy / jnp.maximum(weight, 1.0)
  step = my - mx
  return _Running(
    top=top,
    weight=weight,
    mean=mx + step * share,
    square=x.square * rx + y.square * ry + step * step * wx * share,
    twice=x.twice * rx * rx + y.twice * ry * ry,
    inside=x.inside * rx + y.inside * ry,
    picked=jnp.maximum(x.picked, y.picked),
  )


def _finish(x: _Running) -> list[jax.Array]:
  """The fields of TokenStats, a and ln W; log_prob without the offset."""
  weight = jnp.maximum(x.weight, 1.0)  # 0 where all is masked
  log_weight = jnp.log(weight)
  return [
    x.top + log_weight,
    # Not through lse, which resolves only 1e-3 at logits of 1e4.
    jnp.where(x.picked > NEG_INF / 2, x.picked - x.top - log_weight, NEG_INF),
    log_weight - x.mean,
    x.square / weight,
    2 * log_weight - jnp.log(jnp.maximum(x.twice, 1.0)),
    x.inside / weight,
    x.top,
    log_weight,
  ]


def _pull(z, ok, sampled, injected, row: _Row) -> jax.Array:
  """The gradient of the logits of a tile; exactly 0 where not ok."""
  logp = jnp.where(ok, (z - row.top) - row.log_weight, 0.0)
  p, u = jnp.exp(logp), logp + row.entropy
  inner = row.one + row.u * u + row.uu * u * u + row.p * p
  inner += jnp.where(injected, row.injected, 0.0)
  return jnp.where(ok, p * inner + jnp.where(sampled, row.sampled, 0.0), 0.0)


def _coefficients(out: jax.Array, cotangents: TokenStats) -> jax.Array:
  """out [R, 8] of the forward pass, cotangents [R] -> _Row as [R, 9]."""
  _, log_prob, entropy, varentropy, collision, mass, top, log_weight = out.T
  g = cotangents
  # An id that can't be sampled has no log-probability to move.
  g_picked = jnp.where(log_prob > NEG_INF / 2, g.log_prob, 0.0)
  row = _Row(
    top=top,
    log_weight=log_weight,
    entropy=entropy,
    one=g.lse
    - g_picked
    - g.varentropy * varentropy
    + 2 * g.collision
    - g.mass * mass,
    u=2 * g.varentropy - g.entropy,
    uu=g.varentropy,
    p=-2 * g.collision * jnp.exp(collision),
    injected=g.mass,
    sampled=g_picked,
  )
  return jnp.stack(row, -1)


def _members(ids, column, count: int):
  """ids [rows, block], column(k) [rows, 1] -> is sampled, is injected."""
  injected = ids < 0  # False: the tile's own ids are not negative
  for k in range(1, count):
    injected |= ids == column(k)
  return ids == column(0), injected


def _real(z, row, column, sizes):
  """-> the ids of a tile that begins at (row, column), which logits count."""
  ids = _iota(z.shape, 1, column)
  inside = (ids < sizes[1]) & (_iota(z.shape, 0, row) < sizes[0])
  return ids, inside & ~(z <= NEG_INF / 2)  # a nan counts, so that it shows


def _iota(shape, axis: int, start) -> jax.Array:
  return start + lax.broadcasted_iota(jnp.int32, shape, axis)


def _dot(x, y, contract: tuple[int, int]) -> jax.Array:
  """Contracts axis contract[0] of x with contract[1] of y, into float32."""
  full = x.dtype == F32
  return lax.dot_general(
    x,
    y.astype(x.dtype),
    (((contract[0],), (contract[1],)), ((), ())),
    precision=lax.Precision.HIGHEST if full else lax.Precision.DEFAULT,
    preferred_element_type=F32,
  )


def _columns(values: list[jax.Array]) -> jax.Array:
  """[rows, 1] each -> [rows, their number]."""
  shape = (values[0].shape[0], len(values))
  which = _iota(shape, 1, 0)
  pick = lambda k: jnp.where(which == k, values[k], 0.0)
  return sum(map(pick, range(len(values))))


# TPU: refs are blocks of the grid; values beyond the arrays are undefined.


def _tpu_tile(spec, sizes, refs, i, j):
  """-> z, ok, is sampled, is injected [rows, block] of tile (i, j)."""
  hidden, unembedding, ids, *mask = refs
  z = _dot(hidden[...], unembedding[...], (1, 1))
  columns, ok = _real(z, i * spec.rows, j * spec.block, sizes)
  if mask:
    ok &= mask[0][...].astype(jnp.int32) != 0
  column = lambda k: ids[:, k : k + 1]
  return z, ok, *_members(columns, column, ids.shape[1])


def _tpu_operand(ref, start, size):
  """The block's rows, 0 where they lie beyond the array's size: 0 * NaN."""
  x = ref[...]
  return jnp.where(_iota(x.shape, 0, start) < size, x, 0).astype(x.dtype)


def _tpu_forward(*refs, spec, sizes):
  inputs, out, scratch = refs[:-8], refs[-8], _Running(*refs[-7:])
  i, j = pl.program_id(0), pl.program_id(1)

  @pl.when(j == 0)
  def _():
    for ref, value in zip(scratch, _EMPTY, strict=True):
      ref[...] = jnp.full(ref.shape, value, F32)

  tile = _tile(*_tpu_tile(spec, sizes, inputs, i, j))
  merged = _merge(_Running(*(ref[...] for ref in scratch)), tile)
  for ref, value in zip(scratch, merged, strict=True):
    ref[...] = value

  @pl.when(j == pl.num_programs(1) - 1)
  def _():
    out[...] = _columns(_finish(merged))


def _tpu_backward(*refs, spec, sizes, of_hidden: bool):
  """The grid's second axis is summed over: ids for hidden, else rows."""
  *inputs, row, out, total = refs
  i, j = pl.program_id(0), pl.program_id(1)
  step, last = j, pl.num_programs(1) - 1
  if not of_hidden:
    i, j = j, i

  @pl.when(step == 0)
  def _():
    total[...] = jnp.zeros(total.shape, F32)

  row = _Row(*(row[:, k : k + 1] for k in range(len(_Row._fields))))
  hidden, unembedding = inputs[:2]
  g = _pull(*_tpu_tile(spec, sizes, inputs, i, j), row).astype(hidden.dtype)
  if of_hidden:
    x = _tpu_operand(unembedding, j * spec.block, sizes[1])
    total[...] += _dot(g, x, (1, 0))
  else:
    x = _tpu_operand(hidden, i * spec.rows, sizes[0])
    total[...] += _dot(g, x, (0, 0))

  @pl.when(step == last)
  def _():
    out[...] = total[...].astype(out.dtype)


def _tpu_call(kernel, spec, inputs, row, shape, dtype, scratch, swap=False):
  """kernel over tiles (i, j), or (j, i) with swap; its first axis is kept."""
  hidden, unembedding, ids, *mask = inputs
  (R, D), V = hidden.shape, unembedding.shape[0]
  at = lambda f: (lambda j, i: f(i, j)) if swap else f
  by_row = lambda x: pl.BlockSpec(
    (spec.rows, x.shape[1]), at(lambda i, j: (i, 0))
  )
  by_id = pl.BlockSpec((spec.block, D), at(lambda i, j: (j, 0)))
  specs = [by_row(hidden), by_id, by_row(ids)]
  if mask and mask[0].shape[0] == 1:
    specs.append(pl.BlockSpec((1, spec.block), at(lambda i, j: (0, j))))
  elif mask:
    specs.append(pl.BlockSpec((spec.rows, spec.block), at(lambda i, j: (i, j))))
  grid = (pl.cdiv(R, spec.rows), pl.cdiv(V, spec.block))
  out = jax.ShapeDtypeStruct(shape, dtype)
  return pl.pallas_call(
    functools.partial(kernel, spec=spec, sizes=(R, V)),
    grid=grid[::-1] if swap else grid,
    in_specs=specs + [by_row(x) for x in row],
    out_specs=by_id if swap else by_row(out),
    out_shape=out,
    scratch_shapes=[pltpu.VMEM(x, F32) for x in scratch],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "arbitrary")
    ),
    interpret=spec.interpret,
  )(*inputs, *row)


# GPU: refs are whole arrays, of which every load is masked.


def _halves(dtype) -> int:
  return 2 if dtype == F32 else 1


def _part(most: int, width: int, dtype) -> int:
  """The size of a chunk of D: a power of 2, as Triton requires of shapes."""
  return min(most // _halves(dtype), max(16, pl.next_power_of_2(width)))


def _gpu_load(ref, at, shape):
  """ref [R, C] from (row, column) on, of a shape; 0 beyond the array."""
  view = ref.at[pl.ds(at[0], shape[0]), pl.ds(at[1], shape[1])]
  inside = (_iota(shape, 0, at[0]) < ref.shape[0]) & (
    _iota(shape, 1, at[1]) < ref.shape[1]
  )
  return plgpu.load(view, mask=inside, other=jnp.zeros((), ref.dtype))


def _gpu_tile(spec, refs, i, j):
  """-> z, ok, is sampled, is injected [rows, block] of tile (i, j)."""
  hidden, unembedding, ids, *mask = refs
  shape, D = (spec.rows, spec.block), hidden.shape[1]
  row, first = i * spec.rows, j * spec.block
  chunk = _part(CHUNK, D, hidden.dtype)

  def add(k, z):
    x = _gpu_load(hidden, (row, k * chunk), (spec.rows, chunk))
    y = _gpu_load(unembedding, (first, k * chunk), (spec.block, chunk))
    return z + _dot(x, y, (1, 1))

  z = lax.fori_loop(0, pl.cdiv(D, chunk), add, jnp.zeros(shape, F32))
  sizes = hidden.shape[0], unembedding.shape[0]
  columns, ok = _real(z, row, first, sizes)
  if mask and mask[0].shape[0] == 1:
    ok &= _gpu_load(mask[0], (0, first), (1, spec.block)) != 0
  elif mask:
    ok &= _gpu_load(mask[0], (row, first), shape) != 0
  column = lambda k: _gpu_load(ids, (row, k), (spec.rows, 1))
  return z, ok, *_members(columns, column, ids.shape[1])


def _gpu_store(ref, at, value):
  inside = (_iota(value.shape, 0, at[0]) < ref.shape[0]) & (
    _iota(value.shape, 1, at[1]) < ref.shape[1]
  )
  view = ref.at[pl.ds(at[0], value.shape[0]), pl.ds(at[1], value.shape[1])]
  plgpu.store(view, value.astype(ref.dtype), mask=inside)


def _gpu_forward(*refs, spec):
  *inputs, out = refs
  i, V = pl.program_id(0), inputs[1].shape[0]
  empty = _Running(*(jnp.full((spec.rows, 1), x, F32) for x in _EMPTY))
  merge = lambda j, seen: _merge(seen, _tile(*_gpu_tile(spec, inputs, i, j)))
  seen = lax.fori_loop(0, pl.cdiv(V, spec.block), merge, empty)
  # The rows of a last tile that hold nothing are not stored.
  _gpu_store(out, (i * spec.rows, 0), _columns(_finish(seen)))


def _gpu_backward(*refs, spec, of_hidden: bool, width: int):
  """Program (tile, part of D); sums over ids for hidden, else over rows."""
  *inputs, row_ref, out = refs
  hidden, unembedding = inputs[:2]
  here, first = pl.program_id(0), pl.program_id(1) * width

  def add(there, total):
    i, j = (here, there) if of_hidden else (there, here)
    at = lambda k: _gpu_load(row_ref, (i * spec.rows, k), (spec.rows, 1))
    row = _Row(*map(at, range(len(_Row._fields))))
    g = _pull(*_gpu_tile(spec, inputs, i, j), row).astype(hidden.dtype)
    if of_hidden:
      x = _gpu_load(unembedding, (j * spec.block, first), (spec.block, width))
      return total + _dot(g, x, (1, 0))
    x = _gpu_load(hidden, (i * spec.rows, first), (spec.rows, width))
    return total + _dot(g, x, (0, 0))

  tiles = pl.cdiv(hidden.shape[0], spec.rows)
  size = spec.block
  if of_hidden:
    tiles, size = pl.cdiv(unembedding.shape[0], spec.block), spec.rows
  total = lax.fori_loop(0, tiles, add, jnp.zeros((size, width), F32))
  _gpu_store(out, (here * size, first), total)


def _gpu_call(kernel, spec, inputs, grid, shape, dtype):
  return pl.pallas_call(
    functools.partial(kernel, spec=spec),
    grid=grid,
    out_shape=jax.ShapeDtypeStruct(shape, dtype),
    compiler_params=plgpu.CompilerParams(num_warps=8, num_stages=2),
    interpret=spec.interpret,
  )(*inputs)


def _run(spec: _Spec, inputs, row=None, of_hidden: bool = False) -> jax.Array:
  """The forward pass [R, 8], or with row [R, 9] the gradient of an operand."""
  hidden, unembedding = inputs[:2]
  (R, D), V = hidden.shape, unembedding.shape[0]
  like = hidden if of_hidden else unembedding
  tiles = pl.cdiv(R, spec.rows), pl.cdiv(V, spec.block)
  part = spec.rows if of_hidden else spec.block
  if spec.backend == "tpu":
    if row is None:
      scratch = [(spec.rows, 1)] * len(_EMPTY)
      return _tpu_call(_tpu_forward, spec, inputs, [], (R, 8), F32, scratch)
    kernel = functools.partial(_tpu_backward, of_hidden=of_hidden)
    return _tpu_call(
      kernel, spec, inputs, [row], like.shape, like.dtype, [(part, D)],
      swap=not of_hidden,
    )  # fmt: skip
  if row is None:
    return _gpu_call(_gpu_forward, spec, inputs, tiles[:1], (R, 8), F32)
  width = _part(WIDTH, D, hidden.dtype)
  kernel = functools.partial(_gpu_backward, of_hidden=of_hidden, width=width)
  grid = (tiles[0 if of_hidden else 1], pl.cdiv(D, width))
  return _gpu_call(kernel, spec, [*inputs, row], grid, like.shape, like.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _stats(spec: _Spec, hidden, unembedding, ids, mask) -> TokenStats:
  return _forward(spec, hidden, unembedding, ids, mask)[0]


def _forward(spec, hidden, unembedding, ids, mask):
  inputs = [hidden, unembedding, ids] + ([] if mask is None else [mask])
  out = _run(spec, inputs)
  return TokenStats(*out.T[: len(TokenStats._fields)]), (inputs, out)


def _backward(spec, residuals, cotangents):
  inputs, out = residuals
  row = _coefficients(out, cotangents)
  return (
    _run(spec, inputs, row, of_hidden=True),
    _run(spec, inputs, row, of_hidden=False),
    None,
    None,
  )


_stats.defvjp(_forward, _backward)
