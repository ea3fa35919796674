"""C -> (Q -> A) -> V: answers from the code, never from the source.

A reads c and a question. V knows the right words, since questions are about the
facts of a grammar; where the source does not say, the right answer is that it
is unknown. C is paid for what A can answer: the code becomes what one reasons
from ("Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)").
"""

from typing import Any

import jax
import jax.numpy as jnp

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.rl import questions
from rsrc_jax.types import (
  Batch,
  Controls,
  Episode,
  Pattern,
  Policy,
  SourceInfo,
  SupervisedBatch,
  Tokens,
)


def make(
  policy: Policy,
  roles: dict[str, Role],
  verify: Any,
  *,
  info: SourceInfo,
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
  _check(each, answers, lessons, from_source, dropout)
  if info.answer_tokens:
    _check_own(each, unasked, pairs)
    asker = questions.of_sources(roles, info)
  else:
    asker = questions.of_facts(
      roles, info, each=each, unasked=unasked, pairs=pairs
    )
  C, A = roles["C"], asker.role

  def ask(text: Tokens, question: Tokens) -> Tokens:
    """text [N, T], question [N, Q] -> prompt [N, P]."""
    return A.prompt(tokens.concat(text, question))

  def play(params, frozen, carry, batch: Batch, key, given: Controls):
    s, B = batch.source, len(batch.row)
    # The second child of the step's key is the constraints' (build.given).
    k_c, _, k_q, k_a, k_read = jax.random.split(key, 5)
    with jax.named_scope("C"):
      c = rollout.sample(
        policy, params, C, C.prompt(s, given.constraints),
        row_keys(k_c, batch.row), samples=group,
        constraints=given.constraints,
      )  # fmt: skip
    code = tokens.without_end(c.output, C.end)  # [B, G, k]
    question, right = asker.draw(k_q, batch)  # [B, E, Q], [B, E, W]

    # Every code is asked every question: [B, G, E, ...] as rows.
    wide = lambda x, axis, n: jnp.repeat(jnp.expand_dims(x, axis), n, axis)
    rows = lambda x: x.reshape(-1, x.shape[-1])
    read = Tokens(*(rows(wide(x, 2, each)) for x in code))
    prompt = ask(read, Tokens(*(rows(wide(x, 1, group)) for x in question)))
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
      returns["A"] = jnp.all(said(a.output) == said(target), -1) * 1.0
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
      keys = row_keys(k_read, batch.row)
      taught["A"] = lesson(s, chosen, question, right, keys)
    return Episode(rollouts, returns, taught, metrics), carry

  def said(output: Tokens) -> jax.Array:
    """The words, and the end in all the slots behind them."""
    return jnp.where(output.mask, output.ids, A.end)

  def lesson(
    s: Tokens, code: Tokens, question, right: Tokens, keys
  ) -> SupervisedBatch:
    """A reads the code, the source or nothing, and is told the answer."""
    rows = lambda x: jnp.repeat(x, each, 0)
    what = jax.vmap(lambda key: jax.random.uniform(key, (each,)))(keys)
    what = what.reshape(-1)
    source, nothing = what < from_source, what >= 1.0 - dropout
    code, s = (Tokens(*map(rows, x)) for x in (code, s))
    text = tokens.concat(
      tokens.cut(code, jnp.where(source | nothing, 0, code.ids.shape[1])),
      tokens.cut(s, jnp.where(source, s.ids.shape[1], 0)),
    )
    flat = lambda x: x.reshape(-1, x.shape[-1])
    target = Tokens(*(flat(x)[:, None] for x in right))
    prompt = ask(text, Tokens(*map(flat, question)))
    return SupervisedBatch(prompt, target, jnp.ones(target.ids.shape[:2]))

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
      for what, asked in asker.groups.items():
        correct, known = answered(params, text, *asked(batch))  # [n, B]
        scores[f"{name}_{what}"] = jnp.mean(correct * 1.0, 0)
        if what == "asked":
          scores[f"{name}_said"] = _mean(correct, known)
          scores[f"{name}_unknown"] = _mean(correct, ~known)
        if name == "code":
          for fact, one in zip(
            asker.names.get(what, ()), correct, strict=False
          ):
            scores[f"code_fact_{fact}"] = one * 1.0
    question, right = asker.show(batch)
    shown = {
      "source": s, "code": code, "decoded": decoded, "question": question,
      "answer": _spoken(answer_to(params, code, question), A.end),
      "right": _spoken(right.ids, A.end),
    }  # fmt: skip
    return scores, shown

  def answered(params, text: Tokens, question: Tokens, right: Tokens):
    """-> is A right, can it be known from s, [n, B] each; one by one."""
    answer = jax.lax.map(lambda q: answer_to(params, text, q), question)
    known = right.ids[..., 0] != info.unknown
    return jnp.all(answer == said(right), -1), known

  def answer_to(params, text: Tokens, question: Tokens) -> jax.Array:
    with jax.named_scope("D"):
      return said(rollout.greedy(policy, params, A, ask(text, question)))

  return Pattern(tuple, play, examine, (("A", A),))


def _check(each, answers, lessons, from_source, dropout) -> None:
  for name, value, least in (("each", each, 1), ("answers", answers, 1)):
    if value < least:
      raise ValueError(f"config.patterns.qa.{name}={value}: at least {least}.")
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


def _check_own(each, unasked, pairs) -> None:
  """Sources that come with their question have one each, and no facts."""
  for name, value, only in (
    ("each", each, 1), ("unasked", tuple(unasked), ()), ("pairs", pairs, 0.0),
  ):  # fmt: skip
    if value != only:
      raise ValueError(
        f"config.patterns.qa.{name}={value!r}: these sources come with one "
        f"question each; set it to {only!r}."
      )


def _keys(key, rows, count: int):
  """A key for each of `count` prompts of a row. -> [B * count]"""
  per_row = lambda k: jax.vmap(lambda i: jax.random.fold_in(k, i))(
    jnp.arange(count)
  )
  return jax.vmap(per_row)(row_keys(key, rows)).reshape(-1)


def _mean(x: jax.Array, where: jax.Array) -> jax.Array:
  """Over the first axis, [n, B] -> [B]; nan where nothing is counted."""
  count = jnp.sum(where, 0)
  return jnp.where(count > 0, jnp.sum(x & where, 0) / count, jnp.nan)


def _spoken(ids: jax.Array, end: int) -> Tokens:
  mask = (ids != end) & (ids != 0)
  return Tokens(jnp.where(mask, ids, 0), mask)
