"""Forced vocabulary: ids that C is asked to use, and ids that it may not use.

The augmentation of "Theory of RSI ..." weakens the prior of human language: C
must express the same content in words that it did not choose. (1) Random ids
are injected; (2) random tokens of s are banned. The prompt states both; in the
hard form they are masks on the logits too. They are stored as ids
(types.Constraints), so that scoring replays them. The lists of a row are a
function of its number, its source and the key.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import rules
from rsrc_jax.lm.keys import Row, fold, row_keys
from rsrc_jax.rl import curriculum
from rsrc_jax.rl.curriculum import Schedule
from rsrc_jax.types import Batch, Constraints, Controls

_WITHHELD = 5  # tells this draw from others by the same seed
MODES = ("free", "force", "source", "words")


def _free_lengths(settings, run):
  """The rule of codes whose budget the prompt does not say."""
  del run
  unannounced = settings.get("unannounced", 0)
  if unannounced and settings.get("fixed_length"):
    return "unannounced", (
      f"0 with {rules.HERE}.fixed_length=True: such a code ends by itself, and "
      "the end token is banned"
    )
  if settings.get("cut", 0) and not unannounced:
    return "cut", (
      f"0 with {rules.HERE}.unannounced=0: only codes whose budget is not "
      "announced are cut"
    )
  return None


# Those of config.augment: see Forced; fixed_length bans the end.
RULES = {
  **dict.fromkeys(("inject", "ban", "pool", "withheld"), rules.whole()),
  **dict.fromkeys(("force", "fixed_length"), rules.flag),
  "seed": rules.whole(-1, 2**32 - 1, why="-1 is the run's own"),
  **dict.fromkeys(("bare", "ease", "unannounced", "cut"), rules.share()),
  rules.BLOCK: (_free_lengths,),
}


class Forced(NamedTuple):
  """The settings of the forced vocabulary; see config.augment."""

  # "free": all ids of `code`. "force": each id is hidden with the probability
  # `hidden`, injected ids never. "source": only the source's tokens, in any
  # order, which is English by construction. "words": all ids that occur in
  # sources, whether or not this source has them.
  mode: str
  code: np.ndarray  # [V] bool, ids of codes: without specials and byte pieces
  words: np.ndarray | None = None  # [V] bool, ids of sources; for "words"
  inject: int = 0  # N, ids drawn for each source, never tokens of it
  ban: int = 0  # M, tokens of each source that its codes should avoid
  # Draw the injected ids from the last `pool` of `code`; 0: from all. Decoys
  # are always drawn from all.
  pool: int = 0
  bare: float = 0.0  # share of the sources without a list of injected ids
  # [V] bool, ids of `code` that no code may use, and that are neither injected
  # nor decoys: kept for evaluation. None: there are none.
  withheld: np.ndarray | None = None
  force: bool = True  # hide and ban by masks too, not in the prompt only
  # The end token, if it is banned too, so that every code fills its budget.
  # None: codes may end earlier.
  end: int | None = None
  # One is drawn for each source; empty: the role's length.
  budgets: tuple[int, ...] = ()
  longest: int = 0  # K: most tokens of any code; 0: the largest of `budgets`
  # By how much less is hidden from long codes: hidden falls along a line from
  # all of it at one token to 1 - ease of it at K.
  ease: float = 0.0
  # Share of the sources whose prompt says no budget. Their codes end by
  # themselves, at the largest of `budgets` at the latest, and they alone pay
  # for their length; the others have to keep to their budget, and pay nothing.
  unannounced: float = 0.0
  # Share of those sources whose codes are cut at a budget drawn as for the
  # others, of which the prompt says nothing: so D goes on reading short codes.
  cut: float = 0.0


def make(
  mode: str, code: np.ndarray, **settings
) -> Callable[[jax.Array, Batch, Schedule], Controls]:
  """Builds the function that constrains a batch.

  Args:
    mode: see Forced.
    code: see Forced.
    **settings: the other fields of Forced.

  Returns:
    (key, batch, schedule) -> Controls with lists of V ids [B, g, V]. The key is
    consumed. If a draw hides all ids, the code is free, because an empty list
    would leave nothing to write.

  Raises:
    ValueError: an unknown mode, or more injected ids than there are.
  """
  how = Forced(mode, code, **settings)
  if how.withheld is not None:
    code = code & ~how.withheld
    how = how._replace(code=code)
  if mode not in MODES:
    raise ValueError(f"config.arms: write={mode!r} is none of {sorted(MODES)}.")
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
  """The controls of a batch. The key is consumed."""
  keys = row_keys(key, batch.row)
  used, avoided, decoys = lists(how, keys, batch, schedule)
  budget, announced = limit_lengths(how, keys, schedule.budgets)
  shape = (batch.row.size, 1, how.code.size)
  banned = jnp.full((*shape[:2], 1), -1, jnp.int32)
  if how.ban:  # as wide in both forms, so that they share a program
    banned = jnp.where(how.force, avoided[:, None], -1)
  if how.end is not None:
    pad = ((0, 0), (0, 0), (0, 1))
    banned = jnp.pad(banned, pad, constant_values=how.end)
  constraints = Constraints(
    banned,
    jnp.broadcast_to(allowed(how, keys, batch, schedule, used, budget), shape),
    used[:, None] if how.inject else None,
    avoided[:, None] if how.ban else None,
    jnp.broadcast_to(schedule.temperature, (batch.row.size, 1)),
    budget,
    announced,
  )
  return Controls(
    constraints, decoys[:, None], schedule.bonus, schedule.level,
    priced=None if announced is None else ~announced,
  )  # fmt: skip


def lists(
  how: Forced, keys: jax.Array, batch: Batch, schedule: Schedule
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The injected ids, the avoided ids and the decoys of each row.

  keys [B] -> injected [B, N], avoided [B, M], decoys [B, N] int32; -1 pads.
  """
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
  # Decoys are another draw from the same ids, without the injected ones.
  untaken = free & ~_among(used, code.size)
  decoys = _some(fold(keys, Row.DECOYS), every, untaken, how.inject)
  if how.bare:
    draw = jax.vmap(jax.random.uniform)(fold(keys, Row.BARE))
    listed = (draw >= how.bare)[:, None]
    used, decoys = (jnp.where(listed, x, -1) for x in (used, decoys))
  # Both lists keep the same places, so that each id has its decoy.
  some = lambda x: _share(fold(keys, Row.KEPT_INJECTED), x, schedule.inject)
  return some(used), avoided, some(decoys)


def allowed(
  how: Forced,
  keys: jax.Array,
  batch: Batch,
  schedule: Schedule,
  used: jax.Array,
  budget: jax.Array | None = None,
) -> jax.Array:
  """The ids that codes may use, int32; -1 pads.

  used [B, N]: the injected ids. budget: [B, 1] int32, by which less is hidden
  from longer codes. -> broadcastable to [B, g, V]
  """
  ids = _code_ids(how)
  if how.mode == "free":
    return jnp.int32(-1) if how.withheld is None else ids
  if how.mode == "words":
    words = how.code if how.words is None else how.code & how.words
    return jnp.where(jnp.asarray(words), ids, -1)
  shape = (batch.row.size, 1, how.code.size)
  if how.mode == "source":
    return _source(batch, ids, shape)
  draw = lambda k: jax.random.uniform(k, shape[1:])
  hidden = schedule.hidden if how.force else 0.0
  if how.ease and budget is not None:
    hidden = (hidden * _hidden_of(how, budget))[..., None]
  shown = jax.vmap(draw)(keys) >= hidden
  if how.inject:
    shown |= _among(used, how.code.size)[:, None]
  if how.withheld is not None:  # an empty list would allow what is withheld
    some = jnp.any(shown & jnp.asarray(how.code), -1, keepdims=True)
    shown |= ~some
  return jnp.where(shown, ids, -1)


def relaxed(
  mode: str,
  code: np.ndarray,
  *,
  words: np.ndarray | None = None,
  end: int | None = None,
) -> Callable[[Batch, jax.Array | None], Constraints]:
  """Builds the constraints of an arm at evaluation, where nothing is forced.

  -> (batch, budget [B] int32 or None, announced=True) -> Constraints; a budget
  that is not announced only limits. Other arguments as in `make`.
  """
  mode = "free" if mode == "force" else mode
  force = make(mode, code, words=words, end=end)
  nothing = curriculum.relaxed()

  def limits(
    batch: Batch, budget: jax.Array | None, announced: bool = True
  ) -> Constraints:
    limits = force(jax.random.key(0), batch, nothing).constraints
    budget = None if budget is None else budget[:, None].astype(jnp.int32)
    unsaid = None
    if budget is not None and not announced:
      unsaid = jnp.zeros(budget.shape, bool)
    return limits._replace(temperature=None, budget=budget, announced=unsaid)

  return limits


def limit_lengths(
  how: Forced, keys: jax.Array, share: jax.Array
) -> tuple[jax.Array | None, jax.Array | None]:
  """The budget of each row, and whether its prompt says it.

  keys [B], share: see draw_budget. -> [B, 1] int32, [B, 1] bool; None where
  there are no budgets, and where all are announced
  """
  drawn = draw_budget(keys, share, how.budgets)
  if drawn is None or not how.unannounced:
    return drawn, None
  chance = lambda number, p: jax.vmap(
    lambda k: jax.random.uniform(k, (1,)) < p
  )(fold(keys, number))
  announced = ~chance(Row.UNANNOUNCED, how.unannounced)
  kept = announced | chance(Row.CUT, how.cut)
  return jnp.where(kept, drawn, max(how.budgets)), announced


def withhold(code: np.ndarray, count: int, seed: int) -> np.ndarray | None:
  """Draws `count` ids of `code` [V] that training never writes. -> [V] bool

  None where count is 0.

  Raises:
    ValueError: fewer than two ids would be left.
  """
  if not count:
    return None
  ids = np.flatnonzero(code)
  if not 0 <= count <= len(ids) - 2:
    raise ValueError(
      f"config.augment.withheld={count}: the vocabulary has {len(ids)} ids of "
      f"codes; withhold 0 to {max(len(ids) - 2, 0)} of them."
    )
  drawn = np.random.default_rng((seed, _WITHHELD)).permutation(ids)[:count]
  return np.isin(np.arange(code.size), drawn)


def draw_budget(
  keys: jax.Array, share: jax.Array, budgets: tuple[int, ...]
) -> jax.Array | None:
  """Draws a budget for each row. keys [B] -> [B, 1] int32.

  It is one of the first `share` of `budgets`; None if there are no budgets.
  """
  if not budgets:
    return None
  admitted = jnp.ceil(share * len(budgets)).astype(jnp.int32)
  draw = lambda k: jax.random.randint(k, (1,), 0, jnp.maximum(admitted, 1))
  index = jax.vmap(draw)(fold(keys, Row.BUDGET))
  return jnp.asarray(budgets, jnp.int32)[index]


def _hidden_of(how: Forced, budget: jax.Array) -> jax.Array:
  """The share of `hidden` that is hidden from codes of a budget [B, 1]."""
  longest = how.longest or max(how.budgets)
  return 1.0 - how.ease * (budget - 1) / max(longest - 1, 1)


def _code_ids(how: Forced) -> jax.Array:
  """[V]: the id itself where a code may contain it, else -1."""
  return jnp.where(jnp.asarray(how.code), jnp.arange(how.code.size), -1)


def _among(ids: jax.Array, size: int) -> jax.Array:
  """Which ids are on the list: ids [B, K], -1 pads -> bool [B, size]."""
  there = jnp.zeros((len(ids), size + 1), bool)
  return there.at[jnp.arange(len(ids))[:, None], ids].set(True)[:, :-1]


def _source(batch, ids, shape):
  s = jnp.where(batch.source.mask, batch.source.ids, -1)
  s = jnp.where(jnp.take(ids, s) >= 0, s, -1)
  # A source without any code token leaves only the end token, not all ids: its
  # list is the pad, which no role can write.
  empty = ~jnp.any(s >= 0, -1, keepdims=True)
  s = jnp.where(empty, 0, s)
  pad = ((0, 0), (0, shape[-1] - s.shape[1]))
  return jnp.pad(s, pad, constant_values=-1)[:, None]


def _some(keys, ids, free, count):
  """Draws `count` of the free ids of each row. [B, K] -> [B, count] int32"""
  noise = jax.vmap(lambda k: jax.random.uniform(k, ids.shape[1:]))(keys)
  count_ = min(count, ids.shape[1])
  score, index = jax.lax.top_k(jnp.where(free, noise, -1.0), count_)
  found = jnp.where(score >= 0, jnp.take_along_axis(ids, index, 1), -1)
  pad = ((0, 0), (0, count - count_))
  return jnp.pad(found, pad, constant_values=-1).astype(jnp.int32)


def _share(keys, ids, share):
  """Keeps each of the ids of a row with the probability `share`.

  Keeping the first ids instead would change the length of all prompts at once,
  and with it the positions of C's outputs, which C has not been trained on.
  """
  draw = lambda k: jax.random.uniform(k, ids.shape[1:])
  return jnp.where(jax.vmap(draw)(keys) < share, ids, -1)


def _pool(code: np.ndarray, pool: int) -> np.ndarray:
  """The last `pool` ids of `code`; 0: all of them."""
  if pool < 0:
    raise ValueError(f"config.augment.pool={pool} can't be negative.")
  return code if not pool else code & (np.cumsum(code) > code.sum() - pool)
