"""A tiny recursive model: one small net, called again and again on two states.

z_H is the present answer and z_L what is thought about it (arXiv 2510.04871):

  superstep   T cycles, of which the last ones carry the gradient
  cycle       n times z_L = f(z_L, z_H + x), then z_H = f(z_H, z_L)
  f(h, i)     the blocks of the net, from h + i

One supervised step is one superstep; the state goes on to the next without its
gradient. TRM, TRM-medium, Deep Improvement Supervision (arXiv 2511.16886) and
feed-forward nets of the same depth or of the same parameters are settings.

Arrays inside are [L, N, D], positions first: mixing over positions is then one
product with [L, N * D], as mixing over channels is one with [L * N, D], and
neither has to be turned over.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsrc_jax.models import layers
from rsrc_jax.types import Params

CORES = ("mixer", "attention")
HALT_BIAS = -5.0  # of the halting head at first: nothing halts


class State(NamedTuple):
  """What goes from superstep to superstep. Kept with items first."""

  z_h: jax.Array  # [N, L, D]
  z_l: jax.Array  # [N, L, D]


class Readout(NamedTuple):
  """What z_H says."""

  logits: jax.Array  # [N, L, V] float32
  halt: jax.Array  # [N] float32: a logit; nothing where there is no such head


class Recursive(NamedTuple):
  """The model as pure functions, N items of L cells."""

  init: Callable[..., Params]  # key -> params
  begin: Callable[[int], State]  # N -> the fixed state that all items start at
  superstep: Callable[..., tuple[State, Readout]]
  read: Callable[..., Readout]  # params, state -> what it says already
  probe: Callable[..., jax.Array]  # as superstep -> logits [calls, N, L, V]
  calls: int  # of the net in a superstep, T (n + 1)
  calls_with_gradient: int
  call_flops: Callable[[int], float]  # N -> products of one call, forward


def make(
  *,
  vocab_size: int,
  cells: int,
  width: int,
  depth: int,
  hidden: int,
  core: str = "mixer",
  cell_hidden: int = 0,
  heads: int = 1,
  cycles: int = 3,
  cycles_with_gradient: int = 1,
  inner: int = 6,
  steps: int = 0,
  identities: int = 0,
  untied: bool = False,
  halting: bool = False,
  unroll: bool = True,
  dtype: str = "float32",
) -> Recursive:
  """Builds the model.

  Args:
    vocab_size: V, what a cell can hold.
    cells: L of a question and of its answer.
    width: D.
    depth: blocks of the net.
    hidden: of the gated MLP over channels.
    core: what mixes positions: "mixer", a gated MLP over them, or "attention".
    cell_hidden: width of the mixer's; 0: as `hidden`.
    heads: of the attention; a head is even.
    cycles: T of a superstep.
    cycles_with_gradient: the last so many; TRM and DIS have one.
    inner: n, updates of z_L in a cycle.
    steps: supersteps that are told apart by an embedding added to x, as DIS
      does; 0: none, as TRM.
    identities: tasks that are told apart by an embedding of their own, which
      begins at 0; 0: none.
    untied: every call of a superstep has a net of its own. With one superstep
      and all cycles with gradient it is a feed-forward net of T (n + 1) depth
      blocks.
    halting: a head says when the answer is right.
    unroll: the calls with gradient stand one after another in the program:
      faster on CPU than a loop, longer to compile.
    dtype: of what the blocks compute in; logits are float32.

  Raises:
    ValueError: an unknown core, heads that do not divide, or more cycles with
      gradient than there are.
  """
  if core not in CORES:
    raise ValueError(f"model: core={core!r} is none of {', '.join(CORES)}.")
  if core == "attention" and (width % heads or width // heads % 2):
    raise ValueError(
      f"model: width={width} must be heads={heads} times an even number."
    )
  if not 1 <= cycles_with_gradient <= cycles or inner < 1:
    raise ValueError(
      f"model: cycles_with_gradient={cycles_with_gradient} must be from 1 to "
      f"cycles={cycles}, and inner={inner} at least 1."
    )
  if untied and cycles_with_gradient != cycles:
    raise ValueError(
      f"model: an untied net learns by all of its cycles={cycles}: set "
      f"cycles_with_gradient to that, not to {cycles_with_gradient}."
    )
  dtype = jnp.dtype(dtype)
  block = Block(core, hidden, cell_hidden or hidden, heads, dtype)
  calls = cycles * (inner + 1)
  free = cycles - cycles_with_gradient

  def init(key: jax.Array) -> Params:
    k_net, k_cell, k_step, k_head = jax.random.split(key, 4)
    x = jnp.zeros((cells, 1, width), dtype)
    shape = (calls, depth) if untied else (depth,)
    keys = jax.random.split(k_net, math.prod(shape))
    blocks = jax.vmap(lambda k: block.init(k, x)["params"])(keys)
    blocks = jax.tree.map(lambda w: w.reshape(*shape, *w.shape[1:]), blocks)
    normal = nn.initializers.truncated_normal(width**-0.5)
    params = {
      "net": blocks,
      "embed": normal(k_cell, (vocab_size, width)),
      "head": {"kernel": normal(k_head, (width, vocab_size))},
    }
    if steps:
      params["step"] = normal(k_step, (steps, width))
    if identities:
      params["identity"] = jnp.zeros((identities, width))
    if halting:
      bias = jnp.full((1,), HALT_BIAS, jnp.float32)
      params["halt"] = {"kernel": jnp.zeros((width, 1)), "bias": bias}
    return params

  def begin(count: int) -> State:
    keys = jax.random.split(jax.random.key(0))
    one = lambda k: jnp.broadcast_to(
      nn.initializers.truncated_normal(1.0)(k, (width,)).astype(dtype),
      (count, cells, width),
    )
    return State(*map(one, keys))

  def inputs(params, question, step, identity):
    """[N, L] ids -> x [L, N, D]; embeddings are of unit scale."""
    x = params["embed"][question.T]
    if steps:
      x = x + params["step"][jnp.minimum(step, steps - 1)]
    x = math.sqrt(width) * x
    if identities:
      x = x + params["identity"][identity]
    return x.astype(dtype)

  def net(blocks, h, injected):
    """f(h, i): `blocks` has the depth of the net as its first axis."""
    h = h + injected
    for d in range(depth):
      h = block.apply({"params": jax.tree.map(lambda w: w[d], blocks)}, h)  # noqa: B023
    return h

  def cycle(blocks, x, z, seen=None):
    """One cycle from z = (z_H, z_L). `seen` is told of every call."""
    z_h, z_l = z
    of = (lambda c: jax.tree.map(lambda w: w[c], blocks)) if untied else (
      lambda c: blocks
    )  # fmt: skip
    for c in range(inner):
      z_l = net(of(c), z_l, z_h + x)
      if seen is not None:  # what z_H would be if the cycle ended here
        seen.append(net(of(inner), z_h, z_l))
    z_h = net(of(inner), z_h, z_l)
    if seen is not None:
      seen.append(z_h)
    return z_h, z_l

  def per_cycle(params):
    """The blocks of every cycle: one and the same, or [T, n + 1, depth, ...]"""
    if not untied:
      return lambda t: params["net"]
    apart = jax.tree.map(
      lambda w: w.reshape(cycles, inner + 1, *w.shape[1:]), params["net"]
    )
    return lambda t: jax.tree.map(lambda w: w[t], apart)

  def inwards(state):
    return tuple(z.swapaxes(0, 1) for z in state)

  def outwards(z):
    return State(*(y.swapaxes(0, 1) for y in z))

  def superstep(
    params: Params,
    question: jax.Array,
    state: State,
    step: jax.Array,
    identity: jax.Array | None = None,
  ) -> tuple[State, Readout]:
    """question [N, L], step [N] from 0, identity [N] -> state, what it says.

    Nothing of the state that comes in or goes out carries a gradient.
    """
    x = inputs(params, question, step, identity)
    z = jax.lax.stop_gradient(inwards(state))
    if free:
      still, x_still = jax.lax.stop_gradient((params["net"], x))
      z, _ = jax.lax.scan(
        lambda z, _: (cycle(still, x_still, z), None), z, length=free
      )
      z = jax.lax.stop_gradient(z)
    of = per_cycle(params)
    if unroll or untied:
      for t in range(free, cycles):
        z = cycle(of(t), x, z)
    else:
      z, _ = jax.lax.scan(
        lambda z, _: (cycle(params["net"], x, z), None), z,
        length=cycles_with_gradient,
      )  # fmt: skip
    said = _read(params, z[0])
    return jax.lax.stop_gradient(outwards(z)), said

  def read(params: Params, state: State) -> Readout:
    return _read(params, inwards(state)[0])

  def _read(params, z_h):
    product = lambda h, w: layers.matmul(h, w.astype(dtype), jnp.float32)
    logits = product(z_h, params["head"]["kernel"]).swapaxes(0, 1)
    if not halting:
      return Readout(logits, jnp.zeros(len(logits)))
    halt = product(z_h[0], params["halt"]["kernel"])[:, 0]
    return Readout(logits, halt + params["halt"]["bias"])

  def probe(params, question, state, step, identity=None) -> jax.Array:
    """What z_H says after every call. -> logits [T (n + 1), N, L, V]

    A call that changes z_L alone says nothing by itself; what is read is the
    z_H that would follow if the cycle ended there.
    """
    x, z, seen = inputs(params, question, step, identity), inwards(state), []
    of = per_cycle(params)
    for t in range(cycles):
      z = cycle(of(t), x, z, seen)
    return jnp.stack([_read(params, z_h).logits for z_h in seen])

  def call_flops(count: int) -> float:
    """Products of one call on `count` items, a multiply-add being two."""
    over_cells = 3 * cells * (cell_hidden or hidden) * width
    if core == "attention":
      over_cells = 4 * cells * width**2 + 2 * cells**2 * width
    over_channels = 3 * width * hidden * cells
    return 2.0 * count * depth * (over_cells + over_channels)

  return Recursive(
    init, begin, superstep, read, probe, calls,
    cycles_with_gradient * (inner + 1), call_flops,
  )  # fmt: skip


class Block(nn.Module):
  """Positions are mixed, then channels; a norm without a gain after each.

  [L, N, D] -> [L, N, D]. No biases.
  """

  core: str
  hidden: int
  cell_hidden: int
  heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, h: jax.Array) -> jax.Array:
    mix = self._attend if self.core == "attention" else self._mix
    h = rms(h + mix(h))
    gate, up = self._dense(self.hidden, "gate"), self._dense(self.hidden, "up")
    out = self._dense(h.shape[-1], "down")(nn.silu(gate(h)) * up(h))
    return rms(h + out)

  def _mix(self, h):
    """A gated MLP over positions, the same for all channels."""
    length = h.shape[0]
    flat = h.reshape(length, -1)
    into = lambda name: self._cells(name, (self.cell_hidden, length)) @ flat
    out = nn.silu(into("cell_gate")) * into("cell_up")
    return (self._cells("cell_down", (length, self.cell_hidden)) @ out).reshape(
      h.shape
    )

  def _attend(self, h):
    """All positions see all, rotated by their place."""
    length, count, width = h.shape
    size = width // self.heads
    q, k, v = (
      self._dense(width, name)(h)
      .reshape(length, count, self.heads, size)
      .swapaxes(0, 1)
      for name in "qkv"
    )
    turn = layers.frequencies(size, 10_000.0)
    places = jnp.broadcast_to(jnp.arange(length), (count, length))
    q, k = (layers.rope(y, places, turn) for y in (q, k))
    scores = jnp.einsum("nlhd,nmhd->nhlm", q, k).astype(jnp.float32)
    weights = jax.nn.softmax(scores * size**-0.5).astype(h.dtype)
    out = jnp.einsum("nhlm,nmhd->lnhd", weights, v)
    return self._dense(width, "o")(out.reshape(h.shape))

  def _cells(self, name, shape):
    normal = nn.initializers.truncated_normal(shape[1] ** -0.5)
    return self.param(name, normal, shape).astype(self.dtype)

  def _dense(self, features, name):
    return layers.Linear(features, False, self.dtype, name=name)


def rms(h: jax.Array, epsilon: float = 1e-5) -> jax.Array:
  """h / rms(h), in float32."""
  y = h.astype(jnp.float32)
  y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + epsilon)
  return y.astype(h.dtype)
