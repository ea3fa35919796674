"""Forced vocabulary: what C is asked to write with, and what it may not write.

The augmentation of "Theory of RSI ..." tempers the prior of human language by
making C say the same thing in words that it did not choose: (1) ids injected at
random, (2) tokens of s banned at random. Both are asked for in the prompt; in
the hard form they are masks on the logits too. All of it is handed around as
ids (types.Constraints), so that scoring replays it. A row's lists depend on its
number, its source and the key alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm.keys import Row, fold, row_keys
from rsrc_jax.rl.curriculum import Schedule
from rsrc_jax.types import Batch, Constraints, Controls

MODES = ("free", "force", "source", "words")


def make(
  mode: str,
  code: np.ndarray,
  *,
  words: np.ndarray | None = None,
  draws: int = 1,
  inject: int = 0,
  ban: int = 0,
  pool: int = 0,
  force: bool = True,
  end: int | None = None,
  budgets: tuple[int, ...] = (),
) -> Callable[[jax.Array, Batch, Schedule], Controls]:
  """Builds the function that constrains a batch.

  Args:
    mode: "free": anything in `code`. "force": each id is hidden with the
      probability `hidden`, the injected ones never. "source": only the tokens
      of the source itself, in any order: English by construction. "words":
      only what sources are written in, whether this one has it or not.
    code: [V] bool, ids that a code may contain: no specials, no byte pieces.
    words: [V] bool, ids that a source may contain; for "words".
    draws: subsets drawn for a source, g: 1 to share one among its codes, G for
      one a code. With one a code, a group compares words that no single subset
      holds together.
    inject: N, ids drawn for each source from `code` without the tokens of s.
    ban: M, tokens of each source that its codes are asked not to use.
    pool: draw the injected ids from the last `pool` of `code`; 0: from all.
      Decoys are always drawn from all.
    force: hide and ban by masks too. Otherwise C is only asked.
    end: banned as well, so that every code fills its budget; None: codes may
      end when they like.
    budgets: one is drawn for each source; empty: the role's length.

  Returns:
    (key, batch, schedule) -> Ask with lists of V ids [B, g, V]. The key is
    consumed. Where a draw hides everything, the code is free: an empty list is
    a dead end.

  Raises:
    ValueError: an unknown mode, or more ids asked for than there are.
  """
  if mode not in MODES:
    raise ValueError(f"augment mode {mode!r} is none of {sorted(MODES)}.")
  drawable = jnp.asarray(_pool(code, pool))
  if not 0 <= inject <= min(drawable.sum(), code.sum() // 2):
    raise ValueError(
      f"config.augment.inject={inject}: the vocabulary has {code.sum()} ids to "
      f"inject and to swap for, and config.augment.pool={pool} keeps "
      f"{drawable.sum()} of them; lower it or raise the pool."
    )
  if ban < 0:
    raise ValueError(f"config.augment.ban={ban} can't be negative.")
  ids = jnp.where(jnp.asarray(code), jnp.arange(code.size), -1)
  plain = jnp.where(
    jnp.asarray(code if words is None else code & words), ids, -1
  )

  def constrain(key: jax.Array, batch: Batch, schedule: Schedule) -> Controls:
    keys = row_keys(key, batch.row)
    used, avoided, decoys = lists(keys, batch, schedule)
    shape = (batch.row.size, draws, code.size)
    allowed = {
      "free": lambda: jnp.int32(-1),
      "force": lambda: subset(keys, schedule.hidden, used, shape),
      "source": lambda: _source(batch, ids, shape),
      "words": lambda: plain,
    }[mode]()
    banned = jnp.full((*shape[:2], 1), -1, jnp.int32)
    if ban and force:
      banned = jnp.broadcast_to(avoided[:, None], (*shape[:2], ban))
    if end is not None:
      banned = jnp.pad(banned, ((0, 0), (0, 0), (0, 1)), constant_values=end)
    constraints = Constraints(
      banned,
      jnp.broadcast_to(allowed, shape),
      used[:, None] if inject else None,
      avoided[:, None] if ban else None,
      jnp.broadcast_to(schedule.temperature, (batch.row.size, 1)),
      draw_budget(keys, schedule.budgets, budgets),
    )
    return Controls(
      constraints, decoys[:, None], schedule.bonus, schedule.phase
    )

  def lists(keys, batch, schedule):
    """-> injected [B, N], avoided [B, M], decoys [B, N]; -1 pads."""
    s = jnp.where(batch.source.mask, batch.source.ids, -1)
    maskable = (s >= 0) & (jnp.take(ids, s) >= 0)
    avoided = _some(fold(keys, Row.AVOIDED), s, maskable, ban)
    avoided = _share(fold(keys, Row.KEPT_AVOIDED), avoided, schedule.ban)
    # Tokens of s, the banned ones among them, are nobody's gift.
    there = jnp.zeros((len(s), code.size + 1), bool)
    there = there.at[jnp.arange(len(s))[:, None], s].set(True)[:, :-1]
    free = jnp.asarray(code) & ~there
    every = jnp.broadcast_to(jnp.arange(code.size), free.shape)
    used = _some(fold(keys, Row.INJECTED), every, free & drawable, inject)
    # Decoys are what else might have been there: never an injected id.
    taken = jnp.zeros((len(s), code.size + 1), bool)
    taken = taken.at[jnp.arange(len(s))[:, None], used].set(True)[:, :-1]
    decoys = _some(fold(keys, Row.DECOYS), every, free & ~taken, inject)
    # The same places of both lists stay: a decoy stands for each id.
    some = lambda x: _share(fold(keys, Row.KEPT_INJECTED), x, schedule.inject)
    return some(used), avoided, some(decoys)

  def subset(keys, hidden, used, shape):
    draw = lambda k: jax.random.uniform(k, shape[1:])
    shown = jax.vmap(draw)(keys) >= (hidden if force else 0.0)
    if inject:
      rows = jnp.arange(len(used))[:, None]
      mine = jnp.zeros((len(used), code.size + 1), bool)
      mine = mine.at[rows, used].set(True)[:, None, :-1]
      shown |= mine
    return jnp.where(shown, ids, -1)

  return constrain


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
  constrain = make(mode, code, words=words, end=end)
  nothing = Schedule(*[jnp.float32(0.0)] * 5, *[jnp.float32(1.0)] * 2, 0)

  def limits(batch: Batch, budget: jax.Array | None) -> Constraints:
    limits = constrain(jax.random.key(0), batch, nothing).constraints
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
