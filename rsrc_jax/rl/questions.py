"""What A is asked about a source, and what is right to say.

Either the facts of a grammar, which any of its sentences can be asked for, or
the question that each source comes with (data/reasoning.py).
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role, joined
from rsrc_jax.types import Batch, SourceInfo, Tokens

WORDS = 2  # most words of an answer about facts: one asks for one or for two
HELD_OUT = 3  # one pair of facts in so many is never asked for in training

Asked = tuple[Tokens, Tokens]  # questions [..., Q]; what is right, [..., W]


class Questions(NamedTuple):
  """Pure functions of a batch. What is right ends with the end, if it fits.

  draw(key, batch) -> Asked [B, E, ...]: what training asks.
  groups: what is asked at the end, by the name that its scores have:
    batch -> Asked [n, B, ...].
  names: of the n questions of a group, where each has a score of its own.
  show(batch) -> Asked [B, ...]: one question a source, to look at.
  """

  role: Role  # A
  draw: Callable[[jax.Array, Batch], Asked]
  groups: Mapping[str, Callable[[Batch], Asked]]
  names: Mapping[str, tuple[str, ...]]
  show: Callable[[Batch], Asked]


def of_sources(roles: dict[str, Role], info: SourceInfo) -> Questions:
  """The question that each source comes with; answers are any text."""
  D = roles["D"]
  role = joined(D, roles["text"], "A")._replace(length=info.answer_tokens)

  def own(batch: Batch) -> Asked:
    question, answer = (
      Tokens(*map(jnp.asarray, x)) for x in (batch.question, batch.answer)
    )
    return question, tokens.with_end(answer, D.end)

  def several(batch: Batch, axis: int) -> Asked:
    return jax.tree.map(lambda x: jnp.expand_dims(x, axis), own(batch))

  return Questions(
    role,
    lambda key, batch: several(batch, 1),
    {"asked": lambda batch: several(batch, 0)},
    {},
    own,
  )


class Facts(NamedTuple):
  """Which facts are asked for; a kind is one fact and -1, or two of them."""

  info: SourceInfo
  end: int  # of A
  each: int  # questions about a source
  pairs: float  # share of questions that ask for two facts
  single: list[tuple[int, int]]  # kinds that training asks for
  taught: list[tuple[int, int]]


def of_facts(
  roles: dict[str, Role],
  info: SourceInfo,
  *,
  each: int,
  unasked: tuple[str, ...],
  pairs: float,
) -> Questions:
  """One fact or two at once; "unknown" is right where the source doesn't say.

  Args:
    roles: "D" and "text".
    info: the facts, how they are asked for, and the words that answer.
    each: questions about a source.
    unasked: facts that training never asks for.
    pairs: share of questions that ask for two facts; one pair in HELD_OUT is
      never asked for.

  Raises:
    ValueError: a source without questions, or settings out of range.
  """
  asked = _asked(info, unasked)
  both = [*itertools.combinations(asked, 2)]
  fresh = both[::HELD_OUT]
  taught = [pair for pair in both if pair not in fresh]
  if not 0.0 <= pairs <= 1.0 or (pairs and not taught):
    raise ValueError(
      f"config.patterns.qa.pairs={pairs}: a share from 0 to 1, and 0 where "
      "fewer than three facts are asked for."
    )
  role = answerer(roles, info)
  single = [(i, -1) for i in asked]
  facts = Facts(info, role.end, each, pairs, single, taught)
  groups = {
    "asked": single,
    "unasked": [(i, -1) for i in range(len(info.names)) if i not in asked],
    "pairs": taught,
    "new_pairs": fresh,
  }
  names = {
    what: tuple(info.names[i] for i, _ in groups[what])
    for what in ("asked", "unasked")
  }
  of = lambda function, *more: functools.partial(function, facts, *more)
  return Questions(
    role,
    of(draw),
    {what: of(group, kinds) for what, kinds in groups.items() if kinds},
    names,
    of(show),
  )


def spelled(facts: Facts, s: Tokens, kind: jax.Array) -> Asked:
  """s [N, S], kind [N, ..., 2] int32 -> Asked [N, ..., 2]."""
  ids, real = jnp.asarray(facts.info.questions), kind >= 0
  some = jnp.maximum(kind, 0)
  word = jnp.take_along_axis(
    right_words(facts.info, s), some.reshape(len(s.ids), -1), 1
  ).reshape(kind.shape)
  right = Tokens(jnp.where(real, word, facts.end), jnp.ones_like(real))
  return Tokens(jnp.where(real, ids[some], 0), real), right


def draw(facts: Facts, key: jax.Array, batch: Batch) -> Asked:
  """What training asks, [B, E, ...]."""
  single, each = len(facts.single), facts.each
  kinds = jnp.asarray([*facts.single, *facts.taught], jnp.int32)

  def one(key):
    k_which, k_one, k_two = jax.random.split(key, 3)
    alone = jax.random.randint(k_one, (each,), 0, single)
    two = jax.random.randint(
      k_two, (each,), single, max(len(kinds), single + 1)
    )
    here = jax.random.uniform(k_which, (each,)) < facts.pairs
    return kinds[jnp.where(here, two, alone)]

  keys = row_keys(key, batch.row)
  return spelled(facts, batch.source, jax.vmap(one)(keys))


def group(facts: Facts, kinds: list[tuple[int, int]], batch: Batch) -> Asked:
  """Each of n kinds of every source, [n, B, ...]."""
  s = batch.source
  kind = jnp.broadcast_to(
    jnp.asarray(kinds, jnp.int32), (len(s.ids), len(kinds), WORDS)
  )
  asked = spelled(facts, s, kind)
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), asked)


def show(facts: Facts, batch: Batch) -> Asked:
  """The kinds in turn, one a source, [B, ...]."""
  both = itertools.combinations([i for i, _ in facts.single], 2)
  every = jnp.asarray([*facts.single, *both])
  mine = every[jnp.arange(len(batch.source.ids)) % len(every)]
  return spelled(facts, batch.source, mine)


def right_words(info: SourceInfo, s: Tokens) -> jax.Array:
  """What is right to say of each fact, s [B, S] -> ids [B, Q].

  The first word of s that can answer; info.unknown where there is none.
  """
  ids, mask = (jnp.asarray(x) for x in s)
  can = jnp.asarray(info.words)[:, ids] & mask  # [Q, B, S]
  word = jnp.take_along_axis(ids[None], jnp.argmax(can, -1)[..., None], -1)
  word = jnp.where(jnp.any(can, -1), word[..., 0], info.unknown)
  return word.T.astype(jnp.int32)


def answerer(roles: dict[str, Role], info: SourceInfo) -> Role:
  """A reads what D reads, and says words of answers."""
  said = np.any(np.asarray(info.words), 0)
  said = said | (np.arange(said.size) == info.unknown)
  D = roles["D"]
  role = joined(D, roles["text"], "A")
  support = said | (np.arange(said.size) == D.end)
  return role._replace(length=WORDS, support=support)


def _asked(info: SourceInfo, unasked: tuple[str, ...]) -> list[int]:
  if info.questions is None:
    raise ValueError(
      "config.patterns.qa needs sources that can be asked about: set "
      "config.data.source='facts' and a config.data.vocab_size that holds the "
      "words of the questions (128), or config.data.source='reasoning'."
    )
  if set(unasked) - set(info.names):
    raise ValueError(
      f"config.patterns.qa.unasked={unasked}: the facts are "
      f"{', '.join(info.names)}."
    )
  asked = [i for i, name in enumerate(info.names) if name not in unasked]
  if not asked:
    raise ValueError(
      f"config.patterns.qa.unasked={unasked} leaves nothing to ask for: "
      "leave one of the facts out of it."
    )
  return asked
