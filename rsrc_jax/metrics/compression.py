"""How well a decode matches its source: one number for each pair."""

import jax
import jax.numpy as jnp

from rsrc_jax.types import Tokens


def token_accuracy(source: Tokens, decoded: Tokens) -> jax.Array:
  """Share of the source's positions where d is right. [..., T] -> [...].

  Positions of s that d does not reach count as wrong.
  """
  ids, mask = _fit(decoded, source.ids.shape[-1])
  right = source.mask & mask & (source.ids == ids)
  return jnp.sum(right, -1) / jnp.maximum(jnp.sum(source.mask, -1), 1)


def exact_match(source: Tokens, decoded: Tokens) -> jax.Array:
  """1 where d is s, token for token. [..., T] -> [...]."""
  length = max(source.ids.shape[-1], decoded.ids.shape[-1])
  a, a_mask = _fit(source, length)
  b, b_mask = _fit(decoded, length)
  same = (a_mask == b_mask) & ((a == b) | ~a_mask)
  return jnp.all(same, -1).astype(jnp.float32)


def slots(
  source: Tokens, decoded: Tokens, positions: tuple[int, ...]
) -> jax.Array:
  """Share of the facts, at fixed positions, that are right in d. -> [...]."""
  ids, mask = _fit(decoded, source.ids.shape[-1])
  right = mask & (source.ids == ids)
  return jnp.mean(right[..., jnp.asarray(positions)], -1)


def edit_similarity(source: Tokens, decoded: Tokens) -> jax.Array:
  """1 - Levenshtein(s, d) / max(len s, len d) over tokens. -> [...].

  source [..., S], decoded [..., T], pads on the right; two empty texts have
  similarity 1.
  """
  a, n = source.ids, jnp.sum(source.mask, -1)
  b, m = decoded.ids, jnp.sum(decoded.mask, -1)
  column = jnp.arange(b.shape[-1] + 1, dtype=jnp.float32)
  rows = [jnp.broadcast_to(column, (*b.shape[:-1], column.size))]

  def next_row(above, token):
    i, token = token
    replace = above[..., :-1] + (token[..., None] != b)
    best = jnp.minimum(replace, above[..., 1:] + 1.0)
    best = jnp.concatenate([jnp.full_like(best[..., :1], i + 1.0), best], -1)
    # Insertions: min over j' <= j of best[j'] + (j - j').
    row = jax.lax.cummin(best - column, axis=best.ndim - 1) + column
    return row, row

  tokens = (jnp.arange(a.shape[-1]), jnp.moveaxis(a, -1, 0))
  _, more = jax.lax.scan(next_row, rows[0], tokens)
  table = jnp.concatenate([rows[0][None], more])  # [S + 1, ..., T + 1]
  row = jnp.take_along_axis(table, n[None, ..., None], 0)[0]
  distance = jnp.take_along_axis(row, m[..., None], -1)[..., 0]
  return 1.0 - distance / jnp.maximum(jnp.maximum(n, m), 1)


def novel_fraction(source: Tokens, code: Tokens) -> jax.Array:
  """Share of c's tokens that s does not contain; 0 for an empty code. [...]"""
  return jnp.sum(novel(source, code), -1) / jnp.maximum(
    jnp.sum(code.mask, -1), 1
  )


def novel(source: Tokens, code: Tokens) -> jax.Array:
  """Which tokens of c don't occur in s: [..., S], [..., T] -> bool [..., T]."""
  same = code.ids[..., :, None] == source.ids[..., None, :]
  return code.mask & ~jnp.any(same & source.mask[..., None, :], -1)


def channel_nats(vocab_size: int, budget: int) -> float:
  """ln of the number of codes of at most `budget` tokens."""
  total = sum(vocab_size**length for length in range(budget + 1))
  # Exact integers, because the number may exceed the range of float64.
  bits = total.bit_length()
  return float(
    jnp.log(jnp.float32(total / 2 ** (bits - 1))) + (bits - 1) * jnp.log(2.0)
  )


def _fit(tokens: Tokens, length: int) -> Tokens:
  """Cuts or pads on the right to `length`."""
  extra = length - tokens.ids.shape[-1]
  if extra <= 0:
    return Tokens(tokens.ids[..., :length], tokens.mask[..., :length])
  pad = [(0, 0)] * (tokens.ids.ndim - 1) + [(0, extra)]
  return Tokens(jnp.pad(tokens.ids, pad), jnp.pad(tokens.mask, pad))
