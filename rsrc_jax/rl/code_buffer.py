"""Sources and codes of earlier steps, kept on the device in fixed shapes.

The buffer is a carry of a pattern; these are pure functions on it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import tokens
from rsrc_jax.types import Tokens


class Buffer(NamedTuple):
  """Codes of earlier steps. A row without a source was never filled."""

  source: Tokens  # [N, S]
  code: Tokens  # [N, k]
  best: Tokens  # [N, k], the best code so far of the source
  version: jax.Array  # [N] int32: the step that wrote it; -1: the first policy
  passes: jax.Array  # [N] int32: how often it was rewritten
  step: jax.Array  # [] int32: steps played


def empty(rows: int, source: int, code: int) -> Buffer:
  """A buffer [rows] for sources and codes of these lengths, never filled."""
  number = lambda: jnp.zeros(rows, jnp.int32)
  return Buffer(
    tokens.empty(rows, source), tokens.empty(rows, code),
    tokens.empty(rows, code), number(), number(), jnp.int32(0),
  )  # fmt: skip


def draw(buffer: Buffer, count: int, key: jax.Array) -> jax.Array:
  """Draws different rows among the filled ones. -> [count] int32"""
  there = jnp.any(buffer.source.mask, -1)
  noise = jax.random.gumbel(key, there.shape)
  return jax.lax.top_k(jnp.where(there, noise, -jnp.inf), count)[1]


def store(
  buffer: Buffer, s: Tokens, code: Tokens, age: jax.Array, key: jax.Array
) -> Buffer:
  """Stores new codes in empty rows first, then in random ones.

  So the buffer holds codes of all ages, with fewer old ones than new ones.
  """
  # top_k draws no row twice, even in the step that fills the last empty rows.
  filled = jnp.any(buffer.source.mask, -1)
  noise = jax.random.uniform(key, filled.shape)
  _, place = jax.lax.top_k(jnp.where(filled, noise, 2.0), len(s.ids))
  return Buffer(
    tokens.put(buffer.source, place, s), tokens.put(buffer.code, place, code),
    tokens.put(buffer.best, place, code), buffer.version.at[place].set(age),
    buffer.passes.at[place].set(0), buffer.step + 1,
  )  # fmt: skip


def replace(
  buffer: Buffer, rows: jax.Array, code: Tokens, won: jax.Array, best: Tokens
) -> Buffer:
  """Replaces a parent by its rewrite where it `won`; counts the rewrite."""
  before = jax.tree.map(lambda x: x[rows], buffer.code)
  now = buffer.step - 1  # `store` has already counted this step
  version = jnp.where(won, now, buffer.version[rows])
  return buffer._replace(
    code=tokens.put(buffer.code, rows, tokens.where(won, code, before)),
    best=tokens.put(buffer.best, rows, best),
    version=buffer.version.at[rows].set(version),
    passes=buffer.passes.at[rows].add(won),
  )
