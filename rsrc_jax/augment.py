"""Forced vocabulary: which ids the codes of a source may be written in.

Seed 002's augmentation tempers the prior of human language by making C say the
same thing in words that it did not choose ("Theory of RSI ...", Augmentation).
Here in its hard form, as a mask on the logits: a random subset of the
vocabulary for each source, shared by its group. The mask is handed around as
ids (types.Constraints), so that scoring replays it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.types import Batch, Constraints


def make(
  mode: str, code: np.ndarray, *, draws: int = 1
) -> Callable[[jax.Array, Batch, jax.Array], Constraints]:
  """Builds the function that constrains a batch.

  Args:
    mode: "free": anything in `code`. "force": each id is hidden with the
      probability `hidden`. "source": only the tokens of the source itself, in
      any order: English by construction.
    code: [V] bool, ids that a code may contain: no specials, no byte pieces.
    draws: subsets drawn for a source, g: 1 to share one among its codes, G for
      one a code. With one a code, a group compares words that no single subset
      holds together.

  Returns:
    (key, batch, hidden []) -> Constraints with lists of V ids [B, g, V]. The
    key is consumed; a row's lists depend on batch.row and the key alone. Where
    a draw hides everything, the code is free: an empty list is a dead end.

  Raises:
    ValueError: an unknown mode.
  """
  modes = {"free": _free, "force": _force, "source": _source}
  if mode not in modes:
    raise ValueError(f"augment mode {mode!r} is none of {sorted(modes)}.")
  ids = jnp.where(jnp.asarray(code), jnp.arange(code.size), -1)

  def constrain(key: jax.Array, batch: Batch, hidden: jax.Array) -> Constraints:
    shape = (batch.row.size, draws, code.size)
    allowed = jnp.broadcast_to(
      modes[mode](key, batch, hidden, ids, shape), shape
    )
    return Constraints(jnp.full((*shape[:2], 1), -1, jnp.int32), allowed)

  return constrain


def row_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
  """One key a row, folded in by its number: no batch shows in it. -> [B]"""
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def _free(key, batch, hidden, ids, shape):
  del key, batch, hidden, ids, shape
  return jnp.int32(-1)


def _force(key, batch, hidden, ids, shape):
  draw = lambda k: jax.random.uniform(k, shape[1:])
  shown = jax.vmap(draw)(row_keys(key, batch.row)) >= hidden
  return jnp.where(shown, ids, -1)


def _source(key, batch, hidden, ids, shape):
  del key, hidden
  s = jnp.where(batch.source.mask, batch.source.ids, -1)
  s = jnp.where(jnp.take(ids, s) >= 0, s, -1)
  # A source without a single code token may say nothing, not everything: a
  # list of the pad, which no role can write, leaves only the end.
  empty = ~jnp.any(s >= 0, -1, keepdims=True)
  s = jnp.where(empty, 0, s)
  pad = ((0, 0), (0, shape[-1] - s.shape[1]))
  return jnp.pad(s, pad, constant_values=-1)[:, None]
