"""What A is asked about a source, and what is right to say.

Either the facts of a grammar, which any of its sentences can be asked for, or
the question that each source comes with (data/reasoning.py).
"""

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
  single = [(i, -1) for i in asked]
  both = [*itertools.combinations(asked, 2)]
  fresh = both[::HELD_OUT]  # never asked for
  taught = [pair for pair in both if pair not in fresh]
  if not 0.0 <= pairs <= 1.0 or (pairs and not taught):
    raise ValueError(
      f"config.patterns.qa.pairs={pairs}: a share from 0 to 1, and 0 where "
      "fewer than three facts are asked for."
    )
  kinds = jnp.asarray([*single, *taught], jnp.int32)  # of training
  role, ids = answerer(roles, info), jnp.asarray(info.questions)

  def spelled(s: Tokens, kind: jax.Array) -> Asked:
    """s [N, S], facts [N, ..., 2], -1 for none -> Asked [N, ..., 2]."""
    real = kind >= 0
    some = jnp.maximum(kind, 0)
    word = jnp.take_along_axis(
      right_words(info, s), some.reshape(len(s.ids), -1), 1
    ).reshape(kind.shape)
    right = Tokens(jnp.where(real, word, role.end), jnp.ones_like(real))
    return Tokens(jnp.where(real, ids[some], 0), real), right

  def draw(key, batch: Batch) -> Asked:
    def one(key):
      k_which, k_one, k_two = jax.random.split(key, 3)
      alone = jax.random.randint(k_one, (each,), 0, len(single))
      two = jax.random.randint(k_two, (each,), len(single), max(
        len(kinds), len(single) + 1))  # fmt: skip
      here = jax.random.uniform(k_which, (each,)) < pairs
      return kinds[jnp.where(here, two, alone)]

    return spelled(batch.source, jax.vmap(one)(row_keys(key, batch.row)))

  def group(facts):
    def ask(batch: Batch) -> Asked:
      s = batch.source
      kind = jnp.broadcast_to(
        jnp.asarray(facts, jnp.int32), (len(s.ids), len(facts), WORDS)
      )
      return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), spelled(s, kind))

    return ask

  def show(batch: Batch) -> Asked:
    every = jnp.asarray([*single, *both])
    mine = every[jnp.arange(len(batch.source.ids)) % len(every)]
    return spelled(batch.source, mine)

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
  return Questions(
    role,
    draw,
    {what: group(facts) for what, facts in groups.items() if facts},
    names,
    show,
  )


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
