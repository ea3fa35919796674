"""C -> (Q -> A) -> V: answers from the code, never from the source.

A reads c and a question. V knows the right words, since questions are about the
facts of a grammar; where the source does not say, the right answer is that it
is unknown. C is paid for what A can answer: the code becomes what one reasons
from ("Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)").
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import augment, prompts, rollout
from rsrc_jax.ops import rewards
from rsrc_jax.roles import Role, joined
from rsrc_jax.types import (
  About,
  Ask,
  Batch,
  Episode,
  Lesson,
  Pattern,
  Policy,
  Tokens,
)

WORDS = 2  # most words of an answer: a question asks for one fact or for two
HELD_OUT = 3  # one pair of facts in so many is never asked for in training


def make(
  policy: Policy,
  roles: dict[str, Role],
  verify: Any,
  *,
  about: About,
  group: int,
  each: int,
  unasked: tuple[str, ...],
  pairs: float,
  answers: int,
  lessons: bool,
  from_source: float,
  dropout: float,
  length_price: float,
) -> Pattern:
  """Builds the pattern.

  Args:
    policy: the model's functions, shared by all roles.
    roles: "C", "D" and "text".
    verify: unused: an answer is right or wrong.
    about: the facts, how they are asked for, and the words that answer.
    group: codes of a source, G.
    each: questions about a source, E, the same for all codes of its group.
    unasked: facts that training never asks for.
    pairs: share of questions that ask for two facts at once; one pair in
      HELD_OUT is never asked for.
    answers: answers sampled to each question, J: their share of right ones is
      C's reward, and A learns from them by GRPO. With one, nothing is sampled,
      and C's reward is the probability of the right answer, which is what
      sampling would give on average.
    lessons: A learns the right answers by likelihood, from the code of each
      group that serves best.
    from_source: share of those lessons that read the source instead, so that A
      can answer from any text.
    dropout: share of them that read nothing: the question alone.
    length_price: share of the reward that a code at full budget costs.

  Raises:
    ValueError: a source without questions, or settings out of range.
  """
  del verify
  asked = _asked(about, unasked)
  single = [(i, -1) for i in asked]
  both = [*itertools.combinations(asked, 2)]
  fresh = both[::HELD_OUT]  # never asked for
  shown = [pair for pair in both if pair not in fresh]
  _check(each, pairs, shown, answers, lessons, from_source, dropout)
  kinds = jnp.asarray([*single, *shown], jnp.int32)  # of training
  C, A = roles["C"], answerer(roles, about)
  ids = jnp.asarray(about.questions)

  def ask(text: Tokens, kind: jax.Array) -> Tokens:
    """text [N, T], facts [N, 2] -> prompt [N, P]."""
    real = kind >= 0
    question = Tokens(jnp.where(real, ids[kind], 0), real)
    return A.prompt(prompts.concat(text, question))

  def gold(s: Tokens, kind: jax.Array) -> Tokens:
    """What is right to say: s [N, S], facts [N, 2] -> [N, 2], end where < 0."""
    word = jnp.take_along_axis(right_words(about, s), jnp.maximum(kind, 0), 1)
    word = jnp.where(kind >= 0, word, A.end)
    return Tokens(word, jnp.ones_like(word, bool))

  def draw(key, rows: jax.Array) -> jax.Array:
    """Facts to ask for, [B, E, 2]."""

    def one(key):
      k_which, k_one, k_two = jax.random.split(key, 3)
      alone = jax.random.randint(k_one, (each,), 0, len(single))
      two = jax.random.randint(k_two, (each,), len(single), max(
        len(kinds), len(single) + 1))  # fmt: skip
      here = jax.random.uniform(k_which, (each,)) < pairs
      return kinds[jnp.where(here, two, alone)]

    return jax.vmap(one)(augment.row_keys(key, rows))

  def play(params, frozen, carry, batch: Batch, key, given: Ask):
    s, B = batch.source, len(batch.row)
    # The second child of the step's key is the constraints' (build.given).
    k_c, _, k_q, k_a, k_read = jax.random.split(key, 5)
    with jax.named_scope("C"):
      c = rollout.sample(
        policy, params, C, C.prompt(s, given.constraints),
        augment.row_keys(k_c, batch.row), samples=group,
        constraints=given.constraints,
      )  # fmt: skip
    code = prompts.without_end(c.output, C.end)  # [B, G, k]
    kind = draw(k_q, batch.row)
    right = jax.vmap(gold, (None, 1), 1)(s, kind)  # [B, E, 2]

    # Every code is asked every question: [B, G, E, ...] as rows.
    wide = lambda x, axis, n: jnp.repeat(jnp.expand_dims(x, axis), n, axis)
    rows = lambda x: x.reshape(-1, x.shape[-1])
    read = Tokens(*(rows(wide(x, 2, each)) for x in code))
    prompt = ask(read, rows(wide(kind, 1, group)))
    target = Tokens(*(rows(wide(x, 1, group))[:, None] for x in right))
    with jax.named_scope("V"):
      known = rollout.likelihood(policy, params, A, prompt, target)
      known = known.reshape(B, group, each)
    correct = jnp.exp(known)
    rollouts, returns = {"C": c}, {}
    if answers > 1:
      with jax.named_scope("D"):
        a = rollout.sample(
          policy, params, A, prompt, _keys(k_a, batch.row, group * each),
          samples=answers,
        )  # fmt: skip
      returns["A"] = jnp.all(a.output.ids == target.ids, -1) * 1.0
      rollouts["A"] = a
      correct = jnp.mean(returns["A"], -1).reshape(correct.shape)
    length = jnp.sum(code.mask, -1)
    budget = given.constraints.budget
    returns["C"] = rewards.priced(
      jnp.mean(correct, -1), length,
      budget=C.length if budget is None else budget, price=length_price,
    )  # fmt: skip
    best = jnp.argmax(jnp.mean(known, -1), -1)
    metrics = {
      "C_loops": rollout.loops(c.output),
      "reward": jnp.mean(returns["C"]),
      "length": jnp.mean(length * 1.0),
      "answered": jnp.mean(correct),
      "answered_best": jnp.mean(jnp.max(jnp.mean(correct, -1), -1)),
    }
    if answers > 1:
      metrics["D_loops"] = rollout.loops(a.output)
    taught = {}
    if lessons:
      chosen = Tokens(
        *(jnp.take_along_axis(x, best[:, None, None], 1)[:, 0] for x in code)
      )
      keys = augment.row_keys(k_read, batch.row)
      taught["A"] = lesson(s, chosen, kind, right, keys)
    return Episode(rollouts, returns, taught, metrics), carry

  def lesson(s: Tokens, code: Tokens, kind, right: Tokens, keys) -> Lesson:
    """A reads the code, the source or nothing, and is told the answer."""
    rows = lambda x: jnp.repeat(x, each, 0)
    what = jax.vmap(lambda key: jax.random.uniform(key, (each,)))(keys)
    what = what.reshape(-1)
    source, nothing = what < from_source, what >= 1.0 - dropout
    code, s = (Tokens(*map(rows, x)) for x in (code, s))
    text = prompts.concat(
      prompts.cut(code, jnp.where(source | nothing, 0, code.ids.shape[1])),
      prompts.cut(s, jnp.where(source, s.ids.shape[1], 0)),
    )
    target = Tokens(*(x.reshape(-1, 1, WORDS) for x in right))
    prompt = ask(text, kind.reshape(-1, WORDS))
    return Lesson(prompt, target, jnp.ones(target.ids.shape[:2]))

  # What is asked for at the end, by what it is called there.
  groups = {
    "asked": single,
    "unasked": [(i, -1) for i in range(len(about.names)) if i not in asked],
    "pairs": shown,
    "new_pairs": fresh,
  }

  def examine(params, frozen, carry, batch: Batch, code: Tokens, key):
    """Greedy answers from c, from d, from another's c, from nothing, from s."""
    del frozen, carry, key
    s = batch.source
    with jax.named_scope("D"):
      D = roles["D"]
      decoded = rollout.greedy(policy, params, D, D.prompt(code))
    readings = {
      "code": code,
      "decoded": decoded,
      "other": Tokens(*(jnp.roll(x, 1, 0) for x in code)),
      "nothing": Tokens(*(jnp.zeros_like(x) for x in code)),
      "source": s,
    }
    scores = {}
    for name, text in readings.items():
      for what, facts in groups.items():
        if facts:
          answer, right = answered(params, s, text, facts)  # [n, B, 2]
          correct = jnp.all(answer == right, -1)
          scores[f"{name}_{what}"] = jnp.mean(correct * 1.0, 0)
          if what == "asked":
            said = right[..., 0] != about.unknown
            scores[f"{name}_said"] = _mean(correct, said)
            scores[f"{name}_unknown"] = _mean(correct, ~said)
          if name == "code" and what in ("asked", "unasked"):
            for (i, _), one in zip(facts, correct, strict=True):
              scores[f"code_fact_{about.names[i]}"] = one * 1.0
    every = jnp.asarray([*single, *both])
    mine = every[jnp.arange(len(s.ids)) % len(every)]
    real = mine >= 0
    answer = answer_to(params, code, mine)
    shown = {
      "source": s, "code": code, "decoded": decoded,
      "question": Tokens(jnp.where(real, ids[mine], 0), real),
      "answer": _spoken(answer, A.end),
      "right": _spoken(gold(s, mine).ids, A.end),
    }  # fmt: skip
    return scores, shown

  def answered(params, s: Tokens, text: Tokens, facts):
    """-> what A says and what is right, [n, B, 2] each; one after the other."""

    def one(pair):
      kind = jnp.broadcast_to(pair, (len(s.ids), WORDS))
      return answer_to(params, text, kind), gold(s, kind).ids

    return jax.lax.map(one, jnp.asarray(facts, jnp.int32))

  def answer_to(params, text: Tokens, kind) -> jax.Array:
    with jax.named_scope("D"):
      said = rollout.greedy(policy, params, A, ask(text, kind))
    return jnp.where(said.mask, said.ids, A.end)

  return Pattern(tuple, play, examine, (("A", A),))


def right_words(about: About, s: Tokens) -> jax.Array:
  """What is right to say of each fact, s [B, S] -> ids [B, Q].

  The first word of s that can answer; about.unknown where there is none.
  """
  can = jnp.asarray(about.words)[:, s.ids] & s.mask  # [Q, B, S]
  word = jnp.take_along_axis(s.ids[None], jnp.argmax(can, -1)[..., None], -1)
  word = jnp.where(jnp.any(can, -1), word[..., 0], about.unknown)
  return word.T.astype(jnp.int32)


def answerer(roles: dict[str, Role], about: About) -> Role:
  """A reads what D reads, and says words of answers."""
  said = np.any(np.asarray(about.words), 0)
  said = said | (np.arange(said.size) == about.unknown)
  D = roles["D"]
  role = joined(D, roles["text"])
  support = said | (np.arange(said.size) == D.end)
  return role._replace(length=WORDS, support=support)


def _asked(about: About, unasked: tuple[str, ...]) -> list[int]:
  if about.questions is None:
    raise ValueError(
      "config.patterns.qa needs sources that can be asked about: set "
      "config.data.source='facts' and a config.data.vocab_size that holds the "
      "words of the questions (128)."
    )
  if set(unasked) - set(about.names):
    raise ValueError(
      f"config.patterns.qa.unasked={unasked}: the facts are "
      f"{', '.join(about.names)}."
    )
  asked = [i for i, name in enumerate(about.names) if name not in unasked]
  if not asked:
    raise ValueError(
      f"config.patterns.qa.unasked={unasked} leaves nothing to ask for: "
      "leave one of the facts out of it."
    )
  return asked


def _check(each, pairs, shown, answers, lessons, from_source, dropout) -> None:
  for name, value, least in (("each", each, 1), ("answers", answers, 1)):
    if value < least:
      raise ValueError(f"config.patterns.qa.{name}={value}: at least {least}.")
  if not 0.0 <= pairs <= 1.0 or (pairs and not shown):
    raise ValueError(
      f"config.patterns.qa.pairs={pairs}: a share from 0 to 1, and 0 where "
      "fewer than three facts are asked for."
    )
  if not 0.0 <= from_source + dropout <= 1.0 or min(from_source, dropout) < 0:
    raise ValueError(
      f"config.patterns.qa: from_source={from_source} and dropout={dropout} "
      "are shares of the same lessons and can't exceed 1 together."
    )
  if answers == 1 and not lessons:
    raise ValueError(
      "config.patterns.qa: with answers=1 and lessons=False nothing teaches A: "
      "set answers to 2 or more, or lessons=True."
    )


def _keys(key, rows, count: int):
  """A key for each of `count` prompts of a row. -> [B * count]"""
  per_row = lambda k: jax.vmap(lambda i: jax.random.fold_in(k, i))(
    jnp.arange(count)
  )
  return jax.vmap(per_row)(augment.row_keys(key, rows)).reshape(-1)


def _mean(x: jax.Array, where: jax.Array) -> jax.Array:
  """Over the first axis, [n, B] -> [B]; nan where nothing is counted."""
  count = jnp.sum(where, 0)
  return jnp.where(count > 0, jnp.sum(x & where, 0) / count, jnp.nan)


def _spoken(ids: jax.Array, end: int) -> Tokens:
  mask = (ids != end) & (ids != 0)
  return Tokens(jnp.where(mask, ids, 0), mask)
