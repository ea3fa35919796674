"""Fixed-shape prompts from pieces. Padding is decided here and nowhere else.

Pads may stand anywhere but at the end: the last slot of a prompt is a real
token, since the first output is read off it. Positions skip pads, so padding
changes nothing that the model computes.
"""

import jax
import jax.numpy as jnp

from rsrc_jax.types import Tokens


def concat(*pieces: Tokens) -> Tokens:
  """Joins pieces [N, T_i] along the last axis; each keeps its mask."""
  return Tokens(
    jnp.concatenate([p.ids for p in pieces], -1),
    jnp.concatenate([p.mask for p in pieces], -1),
  )


def constant(tokens: int | tuple[int, ...], rows: int) -> Tokens:
  """The same real tokens in every row, [rows, 1] or [rows, len(tokens)]."""
  ids = jnp.atleast_1d(jnp.asarray(tokens, jnp.int32))
  ids = jnp.broadcast_to(ids, (rows, ids.size))
  return Tokens(ids, jnp.ones(ids.shape, bool))


def positions(mask: jax.Array, start: jax.Array | int = 0) -> jax.Array:
  """Index of each real token among the real ones. mask [..., T] -> int32."""
  return start + jnp.maximum(jnp.cumsum(mask, -1, dtype=jnp.int32) - 1, 0)


def flatten(tokens: Tokens) -> Tokens:
  """[B, G, T] -> [B*G, T]: every code becomes a row of its own."""
  return Tokens(*(x.reshape(-1, x.shape[-1]) for x in tokens))


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
  """Drops the end token: what was said, without having stopped. [..., T]"""
  mask = tokens.mask & (tokens.ids != end)
  return Tokens(jnp.where(mask, tokens.ids, 0), mask)


def cut(tokens: Tokens, length: jax.Array) -> Tokens:
  """Keeps the first `length` slots. tokens [..., T], length [...]."""
  keep = jnp.arange(tokens.ids.shape[-1]) < length[..., None]
  mask = tokens.mask & keep
  return Tokens(jnp.where(mask, tokens.ids, 0), mask)
