"""Operations on Tokens: batches of padded texts.

Prompts of a fixed shape are built here, and padding is decided only here. Pads
may stand anywhere except at the end of a prompt: its last slot is a real token,
because the first output is predicted from it. Positions skip pads, so padding
changes nothing that the model computes.

Every function treats ids and mask alike. Leading axes are a batch's: N rows, or
B sources with G codes each; the last axis is the text.
"""

import jax
import jax.numpy as jnp

from rsrc_jax.types import Tokens


def empty(rows: int, length: int = 0) -> Tokens:
  """Empty texts, all pads. -> [rows, length]"""
  shape = (rows, length)
  return Tokens(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))


def concat(*pieces: Tokens, axis: int = -1) -> Tokens:
  """Joins pieces, [N, T_i] -> [N, sum T_i]; axis 1 joins groups of codes."""
  return Tokens(
    jnp.concatenate([p.ids for p in pieces], axis),
    jnp.concatenate([p.mask for p in pieces], axis),
  )


def expand(tokens: Tokens, axis: int = 1) -> Tokens:
  """A new axis of size 1: [N, T] -> [N, 1, T]."""
  return jax.tree.map(lambda x: jnp.expand_dims(x, axis), tokens)


def at(tokens: Tokens, index: int, axis: int = 1) -> Tokens:
  """The text at one index of every group: [B, G, T] -> [B, T]."""
  place = (slice(None),) * axis + (index,)
  return jax.tree.map(lambda x: x[place], tokens)


def pick(tokens: Tokens, index: jax.Array) -> Tokens:
  """One of each group: [B, G, T], index [B] -> [B, T]."""
  return at(take(tokens, index[:, None]), 0)


def take(tokens: Tokens, index: jax.Array) -> Tokens:
  """Some of each group: [B, G, T], index [B, n] -> [B, n, T]."""
  return jax.tree.map(
    lambda x: jnp.take_along_axis(x, index[..., None], 1), tokens
  )


def where(condition: jax.Array, then: Tokens, other: Tokens) -> Tokens:
  """Selects whole texts: condition [...] or [], tokens [..., T] -> [..., T]."""
  condition = jnp.expand_dims(condition, -1)
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, other)


def put(tokens: Tokens, rows: jax.Array, new: Tokens) -> Tokens:
  """Writes new [n, T] over the rows [n] of tokens [N, T]."""
  return jax.tree.map(lambda x, y: x.at[rows].set(y), tokens, new)


def repeat(tokens: Tokens, count: int) -> Tokens:
  """Repeats each row `count` times: [N, T] -> [N * count, T]."""
  return jax.tree.map(lambda x: jnp.repeat(x, count, 0), tokens)


def roll(tokens: Tokens, shift: int = 1) -> Tokens:
  """Rolls the rows: row i holds the text of row i - shift, cyclically."""
  return jax.tree.map(lambda x: jnp.roll(x, shift, 0), tokens)


def reshape(tokens: Tokens, *shape: int) -> Tokens:
  """Other leading axes: [N, T] -> [*shape, T]."""
  return jax.tree.map(lambda x: x.reshape(*shape, x.shape[-1]), tokens)


def flatten(tokens: Tokens) -> Tokens:
  """[B, G, T] -> [B*G, T]: every code becomes a row of its own."""
  return reshape(tokens, -1)


def keep(tokens: Tokens, mask: jax.Array) -> Tokens:
  """Masks out the tokens where the mask [..., T] or [..., 1] is False."""
  mask = tokens.mask & mask
  return Tokens(jnp.where(mask, tokens.ids, 0), mask)


def constant(tokens: int | tuple[int, ...], rows: int) -> Tokens:
  """The same real tokens in every row, [rows, 1] or [rows, len(tokens)]."""
  ids = jnp.atleast_1d(jnp.asarray(tokens, jnp.int32))
  ids = jnp.broadcast_to(ids, (rows, ids.size))
  return Tokens(ids, jnp.ones(ids.shape, bool))


def positions(mask: jax.Array, start: jax.Array | int = 0) -> jax.Array:
  """Index of each real token among the real ones. mask [..., T] -> int32."""
  return start + jnp.maximum(jnp.cumsum(mask, -1, dtype=jnp.int32) - 1, 0)


def with_end(tokens: Tokens, end: int) -> Tokens:
  """Appends the end token behind the last real one. [..., T] -> [..., T + 1].

  Needs pads to stand on the right only, as sampled outputs and sources do.
  """
  pad = [(0, 0)] * (tokens.ids.ndim - 1) + [(0, 1)]
  ids, mask = jnp.pad(tokens.ids, pad), jnp.pad(tokens.mask, pad)
  before = jnp.pad(tokens.mask, [*pad[:-1], (1, 0)], constant_values=True)
  here = before & ~mask
  return Tokens(jnp.where(here, end, ids), mask | here)


def without_end(tokens: Tokens, end: int) -> Tokens:
  """Masks out the end token. [..., T] -> [..., T]"""
  return keep(tokens, tokens.ids != end)


def cut(tokens: Tokens, length: jax.Array) -> Tokens:
  """Keeps the first `length` slots. tokens [..., T], length [...]."""
  return keep(tokens, jnp.arange(tokens.ids.shape[-1]) < length[..., None])
