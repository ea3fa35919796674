"""C -> (Q -> A) -> V: answers from the code, never from the source.

A reads c and a question. V knows the right words, since questions are about the
facts of a grammar; where the source does not say, the right answer is that it
is unknown. C is paid for what A can answer: the code becomes what one reasons
from ("Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)").
V hears sampled answers (rl/answering.py).

The questions are the program's. With `probes`, Q writes some too: see
patterns/probes.py.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.patterns import probes as q_role
from rsrc_jax.rl import answering, numbers, questions, verifier
from rsrc_jax.types import (
  Batch,
  Context,
  Controls,
  Episode,
  Metrics,
  Params,
  Pattern,
  Policy,
  SupervisedBatch,
  Tokens,
)

# Settings that a step can be given as arguments: see rl/numbers.py.
NUMBERS = (
  "from_source", "dropout", "length_price",
  *(f"probes.{name}" for name in q_role.NUMBERS),
)  # fmt: skip


def _taught(settings, run):
  """The rule that A learns, and from shares of one batch."""
  del run
  both = settings["from_source"], settings["dropout"]
  if sum(both) > 1:
    return "from_source", (
      f"at most 1 together with {rules.HERE}.dropout={both[1]}: both are "
      "shares of one batch"
    )
  if settings.get("taught", 1) > settings["group"]:
    return "taught", f"1 to {rules.HERE}.group={settings['group']}"
  if settings["answers"] == 1 and not settings["lessons"]:
    return (
      "answers",
      f"at least 2, or {rules.HERE}.lessons=True: nothing else teaches A",
    )
  return None


RULES = {
  "group": rules.whole(2, why="a code is judged against the others"),
  **dict.fromkeys(("each", "answers", "taught"), rules.whole(1)),
  "unasked": rules.items(rules.text),
  **dict.fromkeys(
    ("pairs", "from_source", "dropout", "length_price"), rules.share()
  ),
  "lessons": rules.flag,
  "probes": rules.optional(q_role.RULES),
  rules.BLOCK: (_taught,),
}


class Parts(NamedTuple):
  """What the functions of this pattern share; the settings as in `make`."""

  policy: Policy
  C: Role
  D: Role
  A: Role
  asker: questions.Questions
  verify: verifier.Verifier
  unknown: int  # the id that says that a source does not say
  group: int
  each: int
  answers: int
  taught: int
  lessons: bool
  from_source: float
  dropout: float
  length_price: float
  probes: q_role.Probes | None = None


def make(
  context: Context,
  *,
  group: int,
  each: int,
  unasked: tuple[str, ...],
  pairs: float,
  answers: int,
  lessons: bool,
  from_source: float,
  dropout: float,
  length_price: float,
  probes: dict | None = None,
  taught: int = 1,
) -> Pattern:
  """Builds the pattern.

  Args:
    context: roles "C", "D" and "text"; the facts, how they are asked for, and
      the words that answer; V. The weights of config.verifier are one here,
      that of whether an answer is right; config.shaping.gain is that of how
      likely A finds the right one (Verifier.shaping).
    group: codes of a source, G.
    each: questions about a source, E, the same for all codes of its group.
    unasked: facts that training never asks for.
    pairs: share of questions that ask for two facts at once; one pair in
      HELD_OUT is never asked for.
    answers: answers sampled to each question, J: V hears them, and C is paid
      their share of right ones. With one, A learns nothing from them, and none
      is sampled if V hears nothing.
    lessons: A learns the right answers by likelihood, from the code of each
      group that serves best.
    from_source: share of those that read the source instead, so that A can
      answer from any text.
    dropout: share of them that read nothing: the question alone.
    length_price: share of what a code conveys that it costs at full length, of
      the sources whose budget is not announced (see rewards.priced).
    probes: settings of Q, an opponent of C that writes questions: the keyword
      arguments of probes.of. None: there is no Q.
    taught: codes of each source, drawn at random, from whose J answers to each
      question A learns by GRPO. V hears those about all codes; A's gradient
      costs most of a step.

  Raises:
    ValueError: a source without questions, or settings out of range.
  """
  rules.check_some(RULES, locals(), "config.patterns.qa")
  roles, info = context.roles, context.info
  if info.answer_tokens:
    _check_own(each, unasked, pairs)
    asker = questions.of_sources(roles, info)
  else:
    asker = questions.of_facts(
      roles, info, each=each, unasked=unasked, pairs=pairs
    )
  p = Parts(
    context.policy, roles["C"], roles["D"], asker.role, asker, context.verify,
    info.unknown, group, each, answers, taught, lessons, from_source, dropout,
    length_price, q_role.of(context, asker, **probes) if probes else None,
  )  # fmt: skip

  def step(params, frozen, carry, batch: Batch, key, controls: Controls):
    return play(p, params, frozen, batch, key, controls), carry

  def look(params, frozen, carry, batch: Batch, code: Tokens, key):
    del frozen, carry, key
    return examine(p, params, batch, code)

  own = (("A", p.A), *([("Q", p.probes.Q)] if p.probes else []))
  return Pattern(tuple, step, look, own)


def play(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  batch: Batch,
  key: jax.Array,
  controls: Controls,
) -> Episode:
  """types.Pattern.play; key: a step's, whose children are keys.Qa."""
  p = numbers.replaced(p, controls.numbers, "patterns.qa")
  k_c, k_q, k_a, k_read, k_own = (keys.child(key, x) for x in keys.Qa)
  c = rollout.sample(
    p.policy, params, p.C, p.C.prompt(batch.source, controls.constraints),
    keys.row_keys(k_c, batch.row), samples=p.group,
    constraints=controls.constraints,
  )  # fmt: skip
  code = tokens.without_end(c.output, p.C.end)  # [B, G, k]
  question, right = p.asker.draw(k_q, batch)  # [B, E, Q], [B, E, W]
  q = None
  if p.probes:  # Q's questions stand behind the program's
    k_probes = keys.child(key, keys.Step.PROBES)
    q = q_role.ask(p.probes, params, frozen, batch, k_probes)
  every = answering.hear(
    p.policy, params, p.A, code, q_role.beside((question, right), q),
    batch.row, k_a, samples=p.answers * (p.verify.hears or p.answers > 1),
    own=some_codes(p, keys.row_keys(k_own, batch.row)),
  )  # fmt: skip
  found = answering.first(every, p.each)
  rollouts, returns, parts = {"C": c}, {}, {}
  if p.answers > 1:
    rollouts["A"], returns["A"] = every.rollout, every.right
  mean, watched, sampled = answering.over_questions, {}, ()
  if q is not None:
    own = numbers.replaced(p.probes, controls.numbers, "patterns.qa.probes")
    returns, watched = q_role.settle(own, q, every.correct, returns)
    rollouts["Q"], sampled = q.rollout, q.sampled
    mean = functools.partial(q_role.over_questions, own, q)
  parts |= {role: {"verifier": x} for role, x in returns.items()}
  returns["C"], parts["C"] = pay(p, every, code, controls, mean)
  metrics = watched | measure(returns["C"], code, found)
  answered_by = [] if every.sampled is None else [(p.A, every.sampled)]
  metrics |= rollout.passes((p.C, c), *sampled, *answered_by)
  sft_batches = {}
  if p.lessons:
    best = tokens.pick(code, jnp.argmax(jnp.mean(found.log_lik, -1), -1))
    sft_batches["A"] = answer_batch(
      p, batch.source, best, question, right, keys.row_keys(k_read, batch.row)
    )
  return Episode(rollouts, returns, sft_batches, metrics, parts=parts)


def some_codes(p: Parts, row_keys: jax.Array) -> jax.Array:
  """Draws `taught` of each source's codes. -> [B, n] int32"""
  draw = lambda key: jax.random.permutation(key, p.group)[: p.taught]
  return jax.vmap(draw)(row_keys)


def pay(
  p: Parts,
  found: answering.Answers,
  code: Tokens,
  controls: Controls,
  mean: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """C's reward of codes [B, G, k], and the parts that it is the sum of.

  mean: over the questions, as in answering.worth.
  """
  parts = answering.worth(p.verify, found, controls.numbers, mean)
  value, price = sum(parts.values()), p.length_price
  if controls.priced is not None:
    price = price * controls.priced
  length = jnp.sum(code.mask, -1)
  reward = rewards.priced(value, length, budget=p.C.length, price=price)
  return reward, parts | {"price": reward - value}


def measure(
  reward: jax.Array, code: Tokens, found: answering.Answers
) -> Metrics:
  """Means over the codes of a batch; `_best` over the best of each group."""
  return {
    "reward": jnp.mean(reward),
    "length": jnp.mean(jnp.sum(code.mask, -1) * 1.0),
    "answered": jnp.mean(found.correct),
    "answered_best": jnp.mean(jnp.max(jnp.mean(found.correct, -1), -1)),
    "answered_empty": jnp.mean(found.empty),
  }


def answer_batch(
  p: Parts,
  s: Tokens,
  code: Tokens,
  question: Tokens,
  right: Tokens,
  row_keys: jax.Array,
) -> SupervisedBatch:
  """A reads the code, the source or nothing, and learns the right answer."""
  what = jax.vmap(lambda key: jax.random.uniform(key, (p.each,)))(row_keys)
  what = what.reshape(-1)
  source, nothing = what < p.from_source, what >= 1.0 - p.dropout
  code, s = tokens.repeat(code, p.each), tokens.repeat(s, p.each)
  text = tokens.concat(
    tokens.cut(code, jnp.where(source | nothing, 0, code.ids.shape[1])),
    tokens.cut(s, jnp.where(source, s.ids.shape[1], 0)),
  )
  target = tokens.expand(tokens.flatten(right))
  prompt = answering.ask(p.A, text, tokens.flatten(question))
  return SupervisedBatch(prompt, target, jnp.ones(target.ids.shape[:2]))


def examine(
  p: Parts, params: Params, batch: Batch, code: Tokens
) -> tuple[Metrics, dict[str, Tokens]]:
  """Greedy answers from c, from d, from another's c, from nothing, from s."""
  s = batch.source
  decoded = rollout.greedy(p.policy, params, p.D, p.D.prompt(code))
  readings = {
    "code": code,
    "decoded": decoded,
    "other": tokens.roll(code),
    "nothing": tokens.empty(*code.ids.shape),
    "source": s,
  }
  scores = {}
  for name, text in readings.items():
    for what, asked in p.asker.groups.items():
      correct, known = answered(p, params, text, *asked(batch))  # [n, B]
      scores[f"{name}_{what}"] = jnp.mean(correct * 1.0, 0)
      if what == "asked":
        scores[f"{name}_said"] = _mean(correct, known)
        scores[f"{name}_unknown"] = _mean(correct, ~known)
      if name == "code":
        facts = zip(p.asker.names.get(what, ()), correct, strict=False)
        scores |= {f"code_fact_{fact}": one * 1.0 for fact, one in facts}
  question, right = p.asker.show(batch)
  end = p.A.end
  shown = {
    "source": s, "code": code, "decoded": decoded, "question": question,
    "answer": _spoken(answer_to(p, params, code, question), end),
    "right": _spoken(right.ids, end),
  }  # fmt: skip
  return scores, shown


def answered(
  p: Parts, params: Params, text: Tokens, question: Tokens, right: Tokens
) -> tuple[jax.Array, jax.Array]:
  """-> is A right, can it be known from s, [n, B] each; one by one."""
  answer = jax.lax.map(lambda q: answer_to(p, params, text, q), question)
  known = right.ids[..., 0] != p.unknown
  return jnp.all(answer == answering.words(right, p.A.end), -1), known


def answer_to(
  p: Parts, params: Params, text: Tokens, question: Tokens
) -> jax.Array:
  """A's greedy answer, as answering.words. text [N, T], question [N, Q]"""
  prompt = answering.ask(p.A, text, question)
  return answering.words(rollout.greedy(p.policy, params, p.A, prompt), p.A.end)


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


def _mean(x: jax.Array, where: jax.Array) -> jax.Array:
  """Over the first axis, [n, B] -> [B]; nan where nothing is counted."""
  count = jnp.sum(where, 0)
  return jnp.where(count > 0, jnp.sum(x & where, 0) / count, jnp.nan)


def _spoken(ids: jax.Array, end: int) -> Tokens:
  mask = (ids != end) & (ids != 0)
  return Tokens(jnp.where(mask, ids, 0), mask)
