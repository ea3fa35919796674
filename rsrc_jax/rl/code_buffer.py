"""Sources and codes of earlier steps, kept on the device in fixed shapes.

The buffer is a carry of a pattern; these are pure functions on it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import tokens
from rsrc_jax.rl import fragments
from rsrc_jax.types import Tokens


class More(NamedTuple):
  """Further codes of each source of a buffer, the newer ones first."""

  code: Tokens  # [N, n - 1, k]
  version: jax.Array  # [N, n - 1] int32: as Buffer.version


class Buffer(NamedTuple):
  """Codes of earlier steps. A row without a source was never filled."""

  source: Tokens  # [N, S]
  code: Tokens  # [N, k]
  best: Tokens  # [N, k], the best code so far of the source
  version: jax.Array  # [N] int32: the step that wrote it; -1: the first policy
  passes: jax.Array  # [N] int32: how often it was rewritten
  step: jax.Array  # [] int32: steps played
  more: More | None = None  # None where one code of a source is kept


def empty(rows: int, source: int, code: int, count: int = 1) -> Buffer:
  """A buffer [rows] for sources and codes of these lengths, never filled.

  count: codes of a source that are kept, n.
  """
  number = lambda: jnp.zeros(rows, jnp.int32)
  more = None
  if count > 1:
    shape = (rows, count - 1)
    more = More(
      tokens.reshape(tokens.empty(rows * (count - 1), code), *shape),
      jnp.zeros(shape, jnp.int32),
    )
  return Buffer(
    tokens.empty(rows, source), tokens.empty(rows, code),
    tokens.empty(rows, code), number(), number(), jnp.int32(0), more,
  )  # fmt: skip


def draw(buffer: Buffer, count: int, key: jax.Array) -> jax.Array:
  """Draws different rows among the filled ones. -> [count] int32"""
  there = jnp.any(buffer.source.mask, -1)
  noise = jax.random.gumbel(key, there.shape)
  return jax.lax.top_k(jnp.where(there, noise, -jnp.inf), count)[1]


def store(
  buffer: Buffer,
  s: Tokens,
  code: Tokens,
  age: jax.Array,
  key: jax.Array,
  more: More | None = None,
) -> Buffer:
  """Stores new codes in empty rows first, then in random ones.

  So the buffer holds codes of all ages, with fewer old ones than new ones.
  s [B, S], code [B, k], age [B]: the code's version. more: further codes of
  each source, where the buffer keeps any.
  """
  # top_k draws no row twice, even in the step that fills the last empty rows.
  filled = jnp.any(buffer.source.mask, -1)
  noise = jax.random.uniform(key, filled.shape)
  _, place = jax.lax.top_k(jnp.where(filled, noise, 2.0), len(s.ids))
  return Buffer(
    tokens.put(buffer.source, place, s), tokens.put(buffer.code, place, code),
    tokens.put(buffer.best, place, code), buffer.version.at[place].set(age),
    buffer.passes.at[place].set(0), buffer.step + 1,
    jax.tree.map(lambda x, y: x.at[place].set(y), buffer.more, more),
  )  # fmt: skip


def codes_of(buffer: Buffer, rows: jax.Array) -> tuple[Tokens, jax.Array]:
  """All codes of some rows, the newest first. -> [M, n, k], versions [M, n]"""
  code, version, more = jax.tree.map(
    lambda x: x[rows], (buffer.code, buffer.version, buffer.more)
  )
  code, version = tokens.expand(code), version[:, None]
  if more is None:
    return code, version
  return (
    tokens.concat(code, more.code, axis=1),
    jnp.concatenate([version, more.version], 1),
  )


def replace(
  buffer: Buffer, rows: jax.Array, code: Tokens, won: jax.Array, best: Tokens
) -> Buffer:
  """Stores a rewrite where it `won`; counts the rewrite.

  It comes first and the last code of its source falls out: of one code, it
  takes the place of its parent. code, best [M, k], won [M] bool.
  """
  now = buffer.step - 1  # `store` has already counted this step
  codes, versions = codes_of(buffer, rows)
  codes = fragments.newest_first(codes, code, won)
  shifted = jnp.concatenate(
    [jnp.full_like(versions[:, :1], now), versions[:, :-1]], 1
  )
  versions = jnp.where(won[:, None], shifted, versions)
  more = None
  if buffer.more is not None:
    rest = jax.tree.map(lambda x: x[:, 1:], More(codes, versions))
    more = jax.tree.map(lambda x, y: x.at[rows].set(y), buffer.more, rest)
  return buffer._replace(
    code=tokens.put(buffer.code, rows, tokens.at(codes, 0)),
    best=tokens.put(buffer.best, rows, best),
    version=buffer.version.at[rows].set(versions[:, 0]),
    passes=buffer.passes.at[rows].add(won),
    more=more,
  )
