"""A tiny recursive model: one small net, called repeatedly on two states.

z_H is the present answer and z_L a latent state for it (arXiv 2510.04871):

  superstep   T cycles, of which the last ones carry the gradient
  cycle       n times z_L = f(z_L, z_H + x), then z_H = f(z_H, z_L)
  f(h, i)     the blocks of the net, from h + i

One supervised step is one superstep; the state passes to the next one without
its gradient. TRM, TRM-medium, Deep Improvement Supervision (arXiv 2511.16886)
and feed-forward nets of the same depth or of the same parameters are settings.

Arrays inside are [L, N, D], positions first: mixing over positions is then one
product with [L, N * D], mixing over channels one with [L * N, D], and neither
needs a transpose.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsrc_jax.models import initial, layers
from rsrc_jax.models.recursive_architecture import Architecture, resolved
from rsrc_jax.types import Params

HALT_BIAS = -5.0  # of the halting head at first: nothing halts


class State(NamedTuple):
  """The state between supersteps, with items as the first axis."""

  z_h: jax.Array  # [N, L, D]
  z_l: jax.Array  # [N, L, D]


class Readout(NamedTuple):
  """The outputs read from z_H."""

  logits: jax.Array  # [N, L, V] float32
  halt: jax.Array  # [N] float32: a logit; 0 without a halting head


class Recursive(NamedTuple):
  """The model as pure functions, N items of L cells."""

  init: Callable[..., Params]  # key -> params
  begin: Callable[[int], State]  # N -> the fixed initial state of all items
  superstep: Callable[..., tuple[State, Readout]]
  read: Callable[..., Readout]  # params, state -> its outputs
  probe: Callable[..., jax.Array]  # as superstep -> logits [calls, N, L, V]
  calls: int  # of the net in a superstep, T (n + 1)
  calls_with_gradient: int
  call_flops: Callable[[int], float]  # N -> products of one call, forward


def make(**settings) -> Recursive:
  """Builds the model; `settings` are the fields of Architecture.

  Raises:
    ValueError: an unknown core, heads that do not divide, or more cycles with
      gradient than there are.
  """
  arch = resolved(Architecture(**settings))
  of = lambda function: functools.partial(function, arch)
  return Recursive(
    of(init),
    of(begin),
    of(superstep),
    of(read),
    of(probe),
    _calls(arch),
    arch.cycles_with_gradient * (arch.inner + 1),
    of(call_flops),
  )


# The functions of the model. `arch` is resolved.


def init(arch: Architecture, key: jax.Array) -> Params:
  """Random parameters; those of the net are [depth, ...], or [calls, depth]."""
  width, cells = arch.width, nn.initializers.truncated_normal
  x = jnp.zeros((arch.cells, 1, width), arch.dtype)
  count = (_calls(arch), arch.depth) if arch.untied else (arch.depth,)
  block = jax.eval_shape(_block(arch).init, key, x)["params"]
  draws = dict(initial.BLOCK)
  for name in ("cell_gate", "cell_up", "cell_down"):
    draws[name] = lambda k, shape: cells(shape[1] ** -0.5)(k, shape)
  normal = cells(width**-0.5)
  draw = lambda name, *shape: normal(initial.named(key, name), shape)
  params = {
    "net": initial.stack(key, block, draws, count, "net"),
    "embed": draw("embed", arch.vocab_size, width),
    "head": {"kernel": draw("head/kernel", width, arch.vocab_size)},
  }
  if arch.steps:
    params["step"] = draw("step", arch.steps, width)
  if arch.identities:
    params["identity"] = jnp.zeros((arch.identities, width))
  if arch.halting:
    bias = jnp.full((1,), HALT_BIAS, jnp.float32)
    params["halt"] = {"kernel": jnp.zeros((width, 1)), "bias": bias}
  return params


def begin(arch: Architecture, count: int) -> State:
  """The fixed initial state of `count` items."""
  normal, key = nn.initializers.truncated_normal(1.0), jax.random.key(0)
  # Trained models begin from these values: the numbers stay.
  one = lambda number: jnp.broadcast_to(
    normal(jax.random.fold_in(key, number), (arch.width,)).astype(arch.dtype),
    (count, arch.cells, arch.width),
  )
  return State(z_h=one(0), z_l=one(1))


def superstep(
  arch: Architecture,
  params: Params,
  question: jax.Array,
  state: State,
  step: jax.Array,
  identity: jax.Array | None = None,
) -> tuple[State, Readout]:
  """One superstep: question [N, L], step [N] from 0, identity [N] int32.

  -> the new state and its outputs. No gradient passes through either state.
  """
  x = inputs(arch, params, question, step, identity)
  z = jax.lax.stop_gradient(_inwards(state))
  free = arch.cycles - arch.cycles_with_gradient
  if free:
    still, x_still = jax.lax.stop_gradient((params["net"], x))
    z, _ = jax.lax.scan(
      lambda z, _: (cycle(arch, still, x_still, z), None), z, length=free
    )
    z = jax.lax.stop_gradient(z)
  of = _per_cycle(arch, params)
  if arch.unroll or arch.untied:
    for t in range(free, arch.cycles):
      z = cycle(arch, of(t), x, z)
  else:
    z, _ = jax.lax.scan(
      lambda z, _: (cycle(arch, params["net"], x, z), None), z,
      length=arch.cycles_with_gradient,
    )  # fmt: skip
  outputs = _read(arch, params, z[0])
  return jax.lax.stop_gradient(_outwards(z)), outputs


def read(arch: Architecture, params: Params, state: State) -> Readout:
  """The outputs of a state, without a superstep."""
  return _read(arch, params, _inwards(state)[0])


def probe(
  arch: Architecture, params, question, state, step, identity=None
) -> jax.Array:
  """The outputs of z_H after every call. -> logits [T (n + 1), N, L, V]

  A call that changes only z_L has no outputs of its own. They are read from the
  z_H that would follow if the cycle ended there.
  """
  x = inputs(arch, params, question, step, identity)
  z, seen = _inwards(state), []
  of = _per_cycle(arch, params)
  for t in range(arch.cycles):
    z = cycle(arch, of(t), x, z, seen)
  return jnp.stack([_read(arch, params, z_h).logits for z_h in seen])


def call_flops(arch: Architecture, count: int) -> float:
  """FLOPs of the products of one call on `count` items."""
  cells, width = arch.cells, arch.width
  over_cells = 3 * cells * arch.cell_hidden * width
  if arch.core == "attention":
    over_cells = 4 * cells * width**2 + 2 * cells**2 * width
  over_channels = 3 * width * arch.hidden * cells
  return 2.0 * count * arch.depth * (over_cells + over_channels)


def inputs(
  arch: Architecture,
  params: Params,
  question: jax.Array,
  step: jax.Array,
  identity: jax.Array | None,
) -> jax.Array:
  """[N, L] ids -> x [L, N, D]; embeddings are of unit scale."""
  x = params["embed"][question.T]
  if arch.steps:
    x = x + params["step"][jnp.minimum(step, arch.steps - 1)]
  x = math.sqrt(arch.width) * x
  if arch.identities:
    x = x + params["identity"][identity]
  return x.astype(arch.dtype)


def net(
  arch: Architecture, blocks: Params, h: jax.Array, injected: jax.Array
) -> jax.Array:
  """f(h, i) of [L, N, D]; the first axis of `blocks` is the net's depth."""
  block = _block(arch)
  h = h + injected
  for d in range(arch.depth):
    h = block.apply({"params": jax.tree.map(lambda w: w[d], blocks)}, h)  # noqa: B023
  return h


def cycle(
  arch: Architecture,
  blocks: Params,
  x: jax.Array,
  z: tuple[jax.Array, jax.Array],
  seen: list[jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array]:
  """One cycle from z = (z_H, z_L), [L, N, D] each.

  After every call, `seen` gets the z_H that would follow if the cycle ended
  there.
  """
  z_h, z_l = z
  of = (lambda c: jax.tree.map(lambda w: w[c], blocks)) if arch.untied else (
    lambda c: blocks
  )  # fmt: skip
  for c in range(arch.inner):
    z_l = net(arch, of(c), z_l, z_h + x)
    if seen is not None:
      seen.append(net(arch, of(arch.inner), z_h, z_l))
  z_h = net(arch, of(arch.inner), z_h, z_l)
  if seen is not None:
    seen.append(z_h)
  return z_h, z_l


def _calls(arch) -> int:
  return arch.cycles * (arch.inner + 1)


def _block(arch) -> "Block":
  return Block(arch.core, arch.hidden, arch.cell_hidden, arch.heads, arch.dtype)


def _per_cycle(arch, params) -> Callable[[int], Params]:
  """The blocks of every cycle: shared, or [T, n + 1, depth, ...]."""
  if not arch.untied:
    return lambda t: params["net"]
  apart = jax.tree.map(
    lambda w: w.reshape(arch.cycles, arch.inner + 1, *w.shape[1:]),
    params["net"],
  )
  return lambda t: jax.tree.map(lambda w: w[t], apart)


def _read(arch, params, z_h) -> Readout:
  product = lambda h, w: layers.matmul(h, w.astype(arch.dtype), jnp.float32)
  logits = product(z_h, params["head"]["kernel"]).swapaxes(0, 1)
  if not arch.halting:
    return Readout(logits, jnp.zeros(len(logits)))
  halt = product(z_h[0], params["halt"]["kernel"])[:, 0]
  return Readout(logits, halt + params["halt"]["bias"])


def _inwards(state: State) -> tuple[jax.Array, jax.Array]:
  return tuple(z.swapaxes(0, 1) for z in state)


def _outwards(z: tuple[jax.Array, jax.Array]) -> State:
  return State(*(y.swapaxes(0, 1) for y in z))


class Block(nn.Module):
  """Mixes positions, then channels, with a norm without gain after each.

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
    """Attention of all positions to all, with rotary positions."""
    length, count, width = h.shape
    size = width // self.heads
    q, k, v = (
      self._dense(width, name)(h)
      .reshape(length, count, self.heads, size)
      .swapaxes(0, 1)
      for name in "qkv"
    )
    turn = layers.rotation(
      jnp.arange(length), layers.frequencies(size, 10_000.0), length
    )
    q, k = (layers.rope(y, turn) for y in (q, k))
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
