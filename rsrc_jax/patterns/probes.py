"""Q: a role that writes questions about s. It is an opponent of C in qa.py.

Q reads a source, never its code, and writes probes: questions about s. V checks
each of them. It has to be answerable from s, by the program that knows the
facts or by a frozen reader, and it must not be answerable from the question
alone. Q is paid for a probe that passes both checks and that A answers wrongly
from the code. C is paid for right answers to the same probes ("Theory of RSI on
LLMs through ordinary RL (Kolmogorov Compressor)": C -> (Q -> A) -> V, where Q
and A are rollouts).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import rules
from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.lm.roles import Role, joined
from rsrc_jax.rl import questions
from rsrc_jax.rl.questions import Facts, QAPairs, Questions
from rsrc_jax.types import (
  Batch,
  Context,
  Metrics,
  Params,
  Policy,
  Rollout,
  Tokens,
)

# Of config.patterns.qa.probes.
RULES = {
  "count": rules.whole(2, why="a probe is judged against others of its source"),
  "length": rules.whole(1),
  "reads": rules.one_of("source", "nothing"),
  "opponent": rules.number(
    0, below=1, why="C would be paid nothing where no probe is valid"
  ),
}
NUMBERS = ("opponent",)  # see rl/numbers.py


class Probes(NamedTuple):
  """What the functions of this file share; the settings as in `of`."""

  policy: Policy
  Q: Role
  A: Role
  facts: Facts | None  # None: a probe is any text
  count: int
  reads: str
  opponent: float


class Asked(NamedTuple):
  """N probes about each of B sources, and what V finds about them."""

  rollout: Rollout  # Q's, outputs [B, N, L]
  question: Tokens  # [B, N, L]
  right: Tokens  # [B, N, W], the end included where it fits
  answerable: jax.Array  # [B, N] in [0, 1]: from s
  blind: jax.Array  # [B, N] in [0, 1]: p(right answer | the question alone)
  sampled: tuple[tuple[Role, Rollout], ...]  # in order, for rollout.passes


def of(
  context: Context,
  asker: Questions,
  *,
  count: int,
  length: int,
  reads: str,
  opponent: float,
) -> Probes:
  """Builds the role Q, which has no ids of its own.

  Args:
    context: as in qa.make.
    asker: the program's questions, whose facts and role A are used.
    count: probes about a source, N. They are Q's group.
    length: most ids of a probe, L. For facts 1, or 2 to allow two facts.
    reads: "source", or "nothing" for a Q that can't tell the sources apart.
    opponent: share of C's word that comes from probes, where all are valid.

  Raises:
    ValueError: a setting is out of its range.
  """
  facts, end = asker.facts, context.roles["V"].end
  support = context.roles["D"].support
  if facts is not None:
    if length > questions.WORDS:
      raise ValueError(
        f"config.patterns.qa.probes.length={length} must be at most "
        f"{questions.WORDS}: a question about facts names one or two."
      )
    asked = [facts.info.questions[i] for i, _ in facts.single]
    support = np.isin(np.arange(support.size), [*asked, end])
  Q = joined(context.roles["V"], context.roles["text"], "Q", section="Q")
  Q = Q._replace(length=length, support=support)
  return Probes(context.policy, Q, asker.role, facts, count, reads, opponent)


def ask(
  p: Probes,
  params: Params,
  frozen: dict[str, Params],
  batch: Batch,
  key: jax.Array,
) -> Asked:
  """Q's probes about the sources, and V's checks. The key is consumed.

  The frozen reader is the policy that the arm began with, in the role A. An arm
  that begins with another arm of qa has a reader that was taught to answer; a
  base was not. So `blind` is the larger probability of two readers: the frozen
  one and the A that is being trained, which learns to guess by
  config.patterns.qa.dropout.
  """
  s, rows = batch.source, len(batch.row)
  start = frozen.get("start", frozen["base"])
  read = s if p.reads == "source" else tokens.empty(rows)
  q = rollout.sample(
    p.policy, params, p.Q, p.Q.prompt(read), keys.row_keys(key, batch.row),
    samples=p.count,
  )  # fmt: skip
  wrote = tokens.without_end(q.output, p.Q.end)
  sampled = ((p.Q, q),)
  if p.facts is None:
    gold, right, answerable = by_reader(p, start, s, wrote)
    sampled, question = (*sampled, gold), wrote
  else:
    (question, right), answerable = by_program(p.facts, s, wrote)
  alone = p.A.prompt(tokens.flatten(question))
  target = tokens.expand(tokens.flatten(right))
  with jax.named_scope("V"):
    known = [
      jnp.exp(rollout.likelihood(p.policy, weights, p.A, alone, target))
      for weights in (start, params)
    ]
  blind = jnp.maximum(*known).reshape(rows, p.count)
  return Asked(q, question, right, answerable, blind, sampled)


def by_program(
  facts: Facts, s: Tokens, wrote: Tokens
) -> tuple[QAPairs, jax.Array]:
  """The probes as questions about facts; answerable where s holds them all.

  s [B, S], wrote [B, N, L] -> QAPairs [B, N, 2] and 0 or 1, [B, N]. A question
  that training leaves to the evaluation is not answerable here: nothing may
  learn from it. Neither is one that asks for the same fact twice.
  """
  info = facts.info
  fact = np.full(np.shape(info.words)[-1], -1)
  fact[np.asarray(info.questions)] = np.arange(len(info.names))
  kind = jnp.where(wrote.mask, jnp.asarray(fact)[wrote.ids], -1)
  short = questions.WORDS - kind.shape[-1]
  kind = jnp.pad(kind, ((0, 0), (0, 0), (0, short)), constant_values=-1)
  valid = np.zeros((len(info.names) + 1,) * 2, bool)  # the last: no fact
  for one, two in (*facts.single, *(facts.double if facts.pairs else ())):
    valid[one, two] = valid[two, one] = True
  question, right = questions.spelled(facts, s, kind)
  held = jnp.all((kind < 0) | (right.ids != info.unknown), -1)
  answerable = jnp.asarray(valid)[kind[..., 0], kind[..., 1]] & held
  return (question, right), answerable * 1.0


def by_reader(
  p: Probes, start: Params, s: Tokens, wrote: Tokens
) -> tuple[tuple[Role, Rollout], Tokens, jax.Array]:
  """The frozen reader's own answers from s, and how sure it is of them.

  s [B, S], wrote [B, N, L] -> its role and rollout, the answers [B, N, W] and
  p(answer | s, probe) [B, N], which is 0 for an empty probe or answer.
  """
  reader = p.A._replace(section="V").greedy()
  text = tokens.concat(tokens.repeat(s, p.count), tokens.flatten(wrote))
  row_keys = keys.row_keys(jax.random.key(0), jnp.arange(len(text.ids)))
  gold = rollout.sample(
    p.policy, start, reader, reader.prompt(text), row_keys, samples=1
  )  # greedy, so that the keys have no effect
  right = tokens.reshape(gold.output, *wrote.ids.shape[:2])
  sure = jnp.exp(jnp.sum(gold.log_probs, -1)).reshape(wrote.ids.shape[:2])
  said = (right.ids[..., 0] != p.A.end) & jnp.any(wrote.mask, -1)
  return (reader, gold), right, sure * said


def beside(asked: QAPairs, more: Asked | None) -> QAPairs:
  """The program's questions [B, E, ...], and behind them Q's: [B, E + N, ...].

  more: None where there are no probes.
  """
  if more is None:
    return asked
  both = zip(asked, (more.question, more.right), strict=True)
  return tuple(_together(*pair) for pair in both)


def worth(asked: Asked) -> jax.Array:
  """How far s answers a probe and the question alone does not. -> [B, N]"""
  return asked.answerable * (1.0 - asked.blind)


def over_questions(p: Probes, asked: Asked, x: jax.Array) -> jax.Array:
  """C's mean over all questions, those of the probes last.

  The program's have the weight 1 - opponent, and a probe opponent times its
  worth. x [B, G, E + N] -> [B, G].
  """
  ours, more = x[..., : -p.count], x[..., -p.count :]
  each, share = worth(asked), p.opponent
  more = jnp.mean(each[:, None] * more, -1)
  weight = 1.0 - share + share * jnp.mean(each, -1, keepdims=True)
  return ((1.0 - share) * jnp.mean(ours, -1) + share * more) / weight


def settle(
  p: Probes,
  asked: Asked,
  correct: jax.Array,
  returns: dict[str, jax.Array],
) -> tuple[dict[str, jax.Array], Metrics]:
  """What Q and A are paid for the probes; C: `over_questions`.

  Args:
    p: see Probes.
    asked: the probes.
    correct: [B, G, E + N] in [0, 1], whether A is right from a code; those of
      Q's probes come last.
    returns: rewards so far. A's [B * n * (E + N), J], if it is there, about n
      codes of each source, counts a probe by how far it is answerable.

  Returns:
    The rewards with Q's [B, N]: the worth of a probe times the share of wrong
    answers from the codes of its source. Metrics, means over the probes.
  """
  given, theirs = correct[..., : -p.count], correct[..., -p.count :]
  right = jnp.mean(theirs, 1)  # [B, N]
  paid = worth(asked) * (1.0 - right)
  returns = returns | {"Q": paid}
  if "A" in returns:
    ones = jnp.ones(given[:, 0].shape)
    counted = jnp.concatenate([ones, asked.answerable], -1)[:, None]
    codes = len(returns["A"]) // counted.size  # from which A learns, a source
    counted = jnp.repeat(counted, codes, 1).reshape(-1, 1)
    returns["A"] = returns["A"] * counted
  among = lambda x, of: jnp.sum(x * of) / jnp.maximum(jnp.sum(of), 1e-6)
  metrics = {
    "Q_paid": jnp.mean(paid),
    "Q_answerable": jnp.mean(asked.answerable),
    "Q_blind": among(asked.blind, asked.answerable),
    "Q_right": among(right, worth(asked)),
  }
  return returns, metrics


def _together(one: Tokens, two: Tokens) -> Tokens:
  """[B, E, T], [B, N, U] -> [B, E + N, max(T, U)]: pads on the right."""
  longest = max(one.ids.shape[-1], two.ids.shape[-1])
  padded = [
    jax.tree.map(
      lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, longest - x.shape[-1]))), text
    )
    for text in (one, two)
  ]
  return tokens.concat(*padded, axis=1)
