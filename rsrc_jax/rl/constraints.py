"""Forced vocabulary: what C is asked to write with, and what it may not write.

The augmentation of "Theory of RSI ..." tempers the prior of human language by
making C say the same thing in words that it did not choose: (1) ids injected at
random, (2) tokens of s banned at random. Both are asked for in the prompt; in
the hard form they are masks on the logits too. All of it is handed around as
ids (types.Constraints), so that scoring replays it. A row's lists depend on its
number, its source and the key alone.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm.keys import Row, fold, row_keys
from rsrc_jax.rl import curriculum
from rsrc_jax.rl.curriculum import Schedule
from rsrc_jax.types import Batch, Constraints, Controls

MODES = ("free", "force", "source", "words")


class Forced(NamedTuple):
  """What the codes of a batch are held to."""

  # "free": anything in `code`. "force": each id is hidden with the probability
  # `hidden`, the injected ones never. "source": only the tokens of the source
  # itself, in any order: English by construction. "words": only what sources
  # are written in, whether this one has it or not.
  mode: str
  code: np.ndarray  # [V] bool, ids of codes: no specials, no byte pieces
  words: np.ndarray | None = None  # [V] bool, ids of sources; for "words"
  # Subsets drawn for a source, g: 1 to share one among its codes, G for one a
  # code. With one a code, a group compares words that no single subset holds
  # together.
  draws: int = 1
  inject: int = 0  # N, ids drawn for each source, never tokens of it
  ban: int = 0  # M, tokens of each source that its codes are asked not to use
  # Draw the injected ids from the last `pool` of `code`; 0: from all. Decoys
  # are always drawn from all.
  pool: int = 0
  force: bool = True  # hide and ban by masks too; otherwise C is only asked
  # Banned as well, so that every code fills its budget; None: codes may end
  # when they like.
  end: int | None = None
  # One is drawn for each source; empty: the role's length.
  budgets: tuple[int, ...] = ()


def make(
  mode: str, code: np.ndarray, **settings
) -> Callable[[jax.Array, Batch, Schedule], Controls]:
  """Builds the function that constrains a batch.

  Args:
    mode: see Forced.
    code: see Forced.
    **settings: the other fields of Forced.

  Returns:
    (key, batch, schedule) -> Ask with lists of V ids [B, g, V]. The key is
    consumed. Where a draw hides everything, the code is free: an empty list is
    a dead end.

  Raises:
    ValueError: an unknown mode, or more ids asked for than there are.
  """
  how = Forced(mode, code, **settings)
  if mode not in MODES:
    raise ValueError(f"augment mode {mode!r} is none of {sorted(MODES)}.")
  drawable = _pool(code, how.pool)
  if not 0 <= how.inject <= min(drawable.sum(), code.sum() // 2):
    raise ValueError(
      f"config.augment.inject={how.inject}: the vocabulary has {code.sum()} ids"
      f" to inject and to swap for, and config.augment.pool={how.pool} keeps "
      f"{drawable.sum()} of them; lower it or raise the pool."
    )
  if how.ban < 0:
    raise ValueError(f"config.augment.ban={how.ban} can't be negative.")
  return functools.partial(constrain, how)


def constrain(
  how: Forced, key: jax.Array, batch: Batch, schedule: Schedule
) -> Controls:
  """What the codes of a batch are held to. The key is consumed."""
  keys = row_keys(key, batch.row)
  used, avoided, decoys = lists(how, keys, batch, schedule)
  shape = (batch.row.size, how.draws, how.code.size)
  banned = jnp.full((*shape[:2], 1), -1, jnp.int32)
  if how.ban and how.force:
    banned = jnp.broadcast_to(avoided[:, None], (*shape[:2], how.ban))
  if how.end is not None:
    pad = ((0, 0), (0, 0), (0, 1))
    banned = jnp.pad(banned, pad, constant_values=how.end)
  constraints = Constraints(
    banned,
    jnp.broadcast_to(allowed(how, keys, batch, schedule, used), shape),
    used[:, None] if how.inject else None,
    avoided[:, None] if how.ban else None,
    jnp.broadcast_to(schedule.temperature, (batch.row.size, 1)),
    draw_budget(keys, schedule.budgets, how.budgets),
  )
  return Controls(constraints, decoys[:, None], schedule.bonus, schedule.level)


def lists(
  how: Forced, keys: jax.Array, batch: Batch, schedule: Schedule
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """-> injected [B, N], avoided [B, M], decoys [B, N]; -1 pads."""
  code = jnp.asarray(how.code)
  s = jnp.where(batch.source.mask, batch.source.ids, -1)
  maskable = (s >= 0) & (jnp.take(_code_ids(how), s) >= 0)
  avoided = _some(fold(keys, Row.AVOIDED), s, maskable, how.ban)
  avoided = _share(fold(keys, Row.KEPT_AVOIDED), avoided, schedule.ban)
  # Tokens of s, the banned ones among them, are never injected.
  free = code & ~_among(s, code.size)
  every = jnp.broadcast_to(jnp.arange(code.size), free.shape)
  drawable = jnp.asarray(_pool(how.code, how.pool))
  used = _some(fold(keys, Row.INJECTED), every, free & drawable, how.inject)
  # Decoys are what else might have been there: never an injected id.
  untaken = free & ~_among(used, code.size)
  decoys = _some(fold(keys, Row.DECOYS), every, untaken, how.inject)
  # The same places of both lists stay: a decoy stands for each id.
  some = lambda x: _share(fold(keys, Row.KEPT_INJECTED), x, schedule.inject)
  return some(used), avoided, some(decoys)


def allowed(
  how: Forced,
  keys: jax.Array,
  batch: Batch,
  schedule: Schedule,
  used: jax.Array,
) -> jax.Array:
  """The ids that codes may be written in; -1 pads.

  used [B, N] are the injected ids -> broadcastable to [B, g, V].
  """
  if how.mode == "free":
    return jnp.int32(-1)
  ids = _code_ids(how)
  if how.mode == "words":
    words = how.code if how.words is None else how.code & how.words
    return jnp.where(jnp.asarray(words), ids, -1)
  shape = (batch.row.size, how.draws, how.code.size)
  if how.mode == "source":
    return _source(batch, ids, shape)
  draw = lambda k: jax.random.uniform(k, shape[1:])
  hidden = schedule.hidden if how.force else 0.0
  shown = jax.vmap(draw)(keys) >= hidden
  if how.inject:
    shown |= _among(used, how.code.size)[:, None]
  return jnp.where(shown, ids, -1)


def relaxed(
  mode: str,
  code: np.ndarray,
  *,
  words: np.ndarray | None = None,
  end: int | None = None,
) -> Callable[[Batch, jax.Array | None], Constraints]:
  """What an arm may write when nothing is forced any more.

  -> (batch, budget [B] int32 or None) -> Constraints. Arguments as in `make`.
  """
  mode = "free" if mode == "force" else mode
  force = make(mode, code, words=words, end=end)
  nothing = curriculum.relaxed()

  def limits(batch: Batch, budget: jax.Array | None) -> Constraints:
    limits = force(jax.random.key(0), batch, nothing).constraints
    budget = None if budget is None else budget[:, None].astype(jnp.int32)
    return limits._replace(temperature=None, budget=budget)

  return limits


def draw_budget(
  keys: jax.Array, share: jax.Array, budgets: tuple[int, ...]
) -> jax.Array | None:
  """One of the first `share` of the budgets a row. keys [B] -> [B, 1] int32.

  None where there are none to choose from.
  """
  if not budgets:
    return None
  admitted = jnp.ceil(share * len(budgets)).astype(jnp.int32)
  draw = lambda k: jax.random.randint(k, (1,), 0, jnp.maximum(admitted, 1))
  index = jax.vmap(draw)(fold(keys, Row.BUDGET))
  return jnp.asarray(budgets, jnp.int32)[index]


def _code_ids(how: Forced) -> jax.Array:
  """[V]: the id itself where a code may contain it, else -1."""
  return jnp.where(jnp.asarray(how.code), jnp.arange(how.code.size), -1)


def _among(ids: jax.Array, size: int) -> jax.Array:
  """ids [B, K], -1 pads -> bool [B, size]: which are on the list."""
  there = jnp.zeros((len(ids), size + 1), bool)
  return there.at[jnp.arange(len(ids))[:, None], ids].set(True)[:, :-1]


def _source(batch, ids, shape):
  s = jnp.where(batch.source.mask, batch.source.ids, -1)
  s = jnp.where(jnp.take(ids, s) >= 0, s, -1)
  # A source without a single code token may say nothing, not everything: a
  # list of the pad, which no role can write, leaves only the end.
  empty = ~jnp.any(s >= 0, -1, keepdims=True)
  s = jnp.where(empty, 0, s)
  pad = ((0, 0), (0, shape[-1] - s.shape[1]))
  return jnp.pad(s, pad, constant_values=-1)[:, None]


def _some(keys, ids, free, count):
  """`count` of the free ids of each row, at random. [B, K] -> [B, count]"""
  noise = jax.vmap(lambda k: jax.random.uniform(k, ids.shape[1:]))(keys)
  count_ = min(count, ids.shape[1])
  score, index = jax.lax.top_k(jnp.where(free, noise, -1.0), count_)
  found = jnp.where(score >= 0, jnp.take_along_axis(ids, index, 1), -1)
  pad = ((0, 0), (0, count - count_))
  return jnp.pad(found, pad, constant_values=-1).astype(jnp.int32)


def _share(keys, ids, share):
  """Keeps each of the ids of a row with the probability `share`.

  Not the first so many of them: C would meet a prompt of a new length in every
  source at once, and not know its own positions any more.
  """
  draw = lambda k: jax.random.uniform(k, ids.shape[1:])
  return jnp.where(jax.vmap(draw)(keys) < share, ids, -1)


def _pool(code: np.ndarray, pool: int) -> np.ndarray:
  """The last `pool` ids of `code`; 0: all of them."""
  if pool < 0:
    raise ValueError(f"config.augment.pool={pool} can't be negative.")
  return code if not pool else code & (np.cumsum(code) > code.sum() - pool)
