"""Questions about a source for A, and their right answers.

A question is about facts of a grammar, which apply to each of its sentences, or
it comes with its source (data/reasoning.py).
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import tokens
from rsrc_jax.lm.keys import QuestionDraw, child, row_keys
from rsrc_jax.lm.roles import Role, joined
from rsrc_jax.types import Batch, SourceInfo, Tokens

WORDS = 2  # most words of an answer: a question is about one fact or two
HELD_OUT = 3  # one pair of facts in so many is not in training

QAPairs = tuple[Tokens, Tokens]  # questions [..., Q], right answers [..., W]


class Questions(NamedTuple):
  """Pure functions of a batch. An answer ends with the end token, if it fits.

  draw(key, batch) -> QAPairs [B, E, ...]: the questions of training.
  groups: the questions of the final evaluation, by the name of their scores:
    batch -> QAPairs [n, B, ...].
  names: of the n questions of a group, where each has a score of its own.
  show(batch) -> QAPairs [B, ...]: one question for each source, as an example.
  facts: what the questions are about; None where each source brings its own.
  """

  role: Role  # A
  draw: Callable[[jax.Array, Batch], QAPairs]
  groups: Mapping[str, Callable[[Batch], QAPairs]]
  names: Mapping[str, tuple[str, ...]]
  show: Callable[[Batch], QAPairs]
  facts: "Facts | None" = None


def of_sources(roles: dict[str, Role], info: SourceInfo) -> Questions:
  """The question that each source comes with; answers are any text."""
  D = roles["D"]
  role = joined(D, roles["text"], "A")._replace(length=info.answer_tokens)

  def own(batch: Batch) -> QAPairs:
    question, answer = (
      Tokens(*map(jnp.asarray, x)) for x in (batch.question, batch.answer)
    )
    return question, tokens.with_end(answer, D.end)

  def several(batch: Batch, axis: int) -> QAPairs:
    return jax.tree.map(lambda x: jnp.expand_dims(x, axis), own(batch))

  return Questions(
    role,
    lambda key, batch: several(batch, 1),
    {"asked": lambda batch: several(batch, 0)},
    {},
    own,
  )


class Facts(NamedTuple):
  """The questions about facts. A kind is one fact and -1, or two facts."""

  info: SourceInfo
  end: int  # of A
  each: int  # questions about a source
  pairs: float  # share of questions about two facts
  single: list[tuple[int, int]]  # one fact each, in training
  double: list[tuple[int, int]]  # two facts each, in training


def of_facts(
  roles: dict[str, Role],
  info: SourceInfo,
  *,
  each: int,
  unasked: tuple[str, ...],
  pairs: float,
) -> Questions:
  """Questions about one fact or two at once.

  "unknown" is the right answer where the source does not hold the fact.

  Args:
    roles: "D" and "text".
    info: the facts, the ids of their questions, and the words that answer.
    each: questions about a source.
    unasked: facts that are not in training.
    pairs: share of questions about two facts; one pair in HELD_OUT is not in
      training.

  Raises:
    ValueError: a source without questions, or settings out of range.
  """
  asked = _facts_of_training(info, unasked)
  both = [*itertools.combinations(asked, 2)]
  fresh = both[::HELD_OUT]
  double = [pair for pair in both if pair not in fresh]
  if not 0.0 <= pairs <= 1.0 or (pairs and not double):
    raise ValueError(
      f"config.patterns.qa.pairs={pairs}: a share from 0 to 1, and 0 where "
      "fewer than three facts are asked for."
    )
  role = answerer(roles, info)
  single = [(i, -1) for i in asked]
  facts = Facts(info, role.end, each, pairs, single, double)
  groups = {
    "asked": single,
    "unasked": [(i, -1) for i in range(len(info.names)) if i not in asked],
    "pairs": double,
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
    facts,
  )


def spelled(facts: Facts, s: Tokens, kind: jax.Array) -> QAPairs:
  """The questions of these kinds and their answers, in ids.

  s [N, S], kind [N, ..., 2] int32 -> QAPairs [N, ..., 2].
  """
  ids, real = jnp.asarray(facts.info.questions), kind >= 0
  some = jnp.maximum(kind, 0)
  word = jnp.take_along_axis(
    right_words(facts.info, s), some.reshape(len(s.ids), -1), 1
  ).reshape(kind.shape)
  right = Tokens(jnp.where(real, word, facts.end), jnp.ones_like(real))
  return Tokens(jnp.where(real, ids[some], 0), real), right


def draw(facts: Facts, key: jax.Array, batch: Batch) -> QAPairs:
  """Random questions of training, [B, E, ...]. The key is consumed."""
  single, each = len(facts.single), facts.each
  kinds = jnp.asarray([*facts.single, *facts.double], jnp.int32)

  def one(key):
    k_which, k_one, k_two = (child(key, x) for x in QuestionDraw)
    one_fact = jax.random.randint(k_one, (each,), 0, single)
    two_facts = jax.random.randint(
      k_two, (each,), single, max(len(kinds), single + 1)
    )
    here = jax.random.uniform(k_which, (each,)) < facts.pairs
    return kinds[jnp.where(here, two_facts, one_fact)]

  keys = row_keys(key, batch.row)
  return spelled(facts, batch.source, jax.vmap(one)(keys))


def group(facts: Facts, kinds: list[tuple[int, int]], batch: Batch) -> QAPairs:
  """A question of each of n kinds about every source, [n, B, ...]."""
  s = batch.source
  kind = jnp.broadcast_to(
    jnp.asarray(kinds, jnp.int32), (len(s.ids), len(kinds), WORDS)
  )
  asked = spelled(facts, s, kind)
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), asked)


def show(facts: Facts, batch: Batch) -> QAPairs:
  """One question for each source, of the kinds in turn, [B, ...]."""
  both = itertools.combinations([i for i, _ in facts.single], 2)
  every = jnp.asarray([*facts.single, *both])
  mine = every[jnp.arange(len(batch.source.ids)) % len(every)]
  return spelled(facts, batch.source, mine)


def right_words(info: SourceInfo, s: Tokens) -> jax.Array:
  """The right answer about each fact, s [B, S] -> ids [B, Q] int32.

  It is the first word of s that can answer, or info.unknown if there is none.
  """
  ids, mask = (jnp.asarray(x) for x in s)
  can = jnp.asarray(info.words)[:, ids] & mask  # [Q, B, S]
  word = jnp.take_along_axis(ids[None], jnp.argmax(can, -1)[..., None], -1)
  word = jnp.where(jnp.any(can, -1), word[..., 0], info.unknown)
  return word.T.astype(jnp.int32)


def answerer(roles: dict[str, Role], info: SourceInfo) -> Role:
  """The role A: it reads what D reads and writes words of answers only."""
  words = np.any(np.asarray(info.words), 0)
  words = words | (np.arange(words.size) == info.unknown)
  D = roles["D"]
  role = joined(D, roles["text"], "A")
  support = words | (np.arange(words.size) == D.end)
  return role._replace(length=WORDS, support=support)


def _facts_of_training(info: SourceInfo, unasked: tuple[str, ...]) -> list[int]:
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
