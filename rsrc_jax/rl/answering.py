"""What V hears of A: answers to questions about codes, and their worth.

V's word on an answer is whether it is the right one, word for word. All answers
of a step are one batch, with one prefill a code and question; those from a code
without tokens are among them, above whose worth others are measured
(rewards.above_empty).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.rl.numbers import Numbers
from rsrc_jax.rl.questions import QAPairs
from rsrc_jax.rl.verifier import Verifier
from rsrc_jax.types import Params, Policy, Rollout, Tokens

Parts = dict[str, jax.Array]  # of a reward, by name


class Answers(NamedTuple):
  """A's answers to E questions about each of G codes of B sources."""

  sampled: Rollout | None  # all of them; None where V hears nothing
  # Those about n codes of each source, from which A learns: outputs [B * n * E,
  # J, W], and V's word on them, 0 or 1, [B * n * E, J].
  rollout: Rollout | None
  right: jax.Array | None
  correct: jax.Array  # [B, G, E] share of right ones, or p(right)
  empty: jax.Array  # [B, 1, E] the same without a code
  log_lik: jax.Array  # [B, G, E] nats, of the right answer
  empty_log_lik: jax.Array  # [B, 1, E] without a code


def ask(A: Role, text: Tokens, question: Tokens) -> Tokens:
  """text [N, T], question [N, Q] -> prompt [N, P]."""
  return A.prompt(tokens.concat(text, question))


def ask_all(A: Role, code: Tokens, asked: QAPairs) -> tuple[Tokens, Tokens]:
  """Asks every code every question about its source.

  code [B, G, k], questions [B, E, Q] and their right answers [B, E, W]
  -> prompts [B * G * E, P], targets [B * G * E, 1, W]
  """
  question, right = asked
  wide = lambda tree, axis, n: tokens.flatten(
    jax.tree.map(lambda x: jnp.repeat(jnp.expand_dims(x, axis), n, axis), tree)
  )
  group, each = code.ids.shape[1], question.ids.shape[1]
  prompt = ask(A, wide(code, 2, each), wide(question, 1, group))
  return prompt, tokens.expand(wide(right, 1, group))


def words(output: Tokens, end: int) -> jax.Array:
  """The ids of an output, and the end in all the slots behind them."""
  return jnp.where(output.mask, output.ids, end)


def is_right(output: Tokens, target: Tokens, end: int) -> jax.Array:
  """Whether outputs [..., W] are the target, word for word. bool [...]"""
  return jnp.all(words(output, end) == words(target, end), -1)


def hear(
  policy: Policy,
  params: Params,
  A: Role,
  code: Tokens,
  asked: QAPairs,
  rows: jax.Array,
  key: jax.Array,
  *,
  samples: int,
  own: jax.Array,
) -> Answers:
  """A answers about every code and about none.

  Args:
    policy: the model's functions.
    params: its parameters.
    A: the role.
    code: [B, G, k], without ends.
    asked: questions [B, E, Q] and their right answers [B, E, W].
    rows: [B], the numbers of the sources.
    key: of the samples.
    samples: answers to each question, J. 0: none is sampled, and a right answer
      counts by its probability.
    own: [B, n] int32, the codes of each source from whose answers A learns.
  """
  B, G, E = *code.ids.shape[:2], asked[0].ids.shape[1]
  nothing = tokens.expand(tokens.empty(B, code.ids.shape[-1]))
  every = tokens.concat(code, nothing, axis=1)
  prompt, target = ask_all(A, every, asked)
  with jax.named_scope("V"):
    log_lik = rollout.likelihood(policy, params, A, prompt, target)
    log_lik = log_lik.reshape(B, G + 1, E)
  correct, a, taught, right = jnp.exp(log_lik), None, None, None
  if samples:
    each = keys.prompt_keys(key, rows, (G + 1) * E)
    a = rollout.sample(policy, params, A, prompt, each, samples=samples)
    right = is_right(a.output, target, A.end) * 1.0
    correct = jnp.mean(right, -1).reshape(B, G + 1, E)
    of_own = jax.vmap(lambda x, index: x[index])
    taught, right = jax.tree.map(
      lambda x: of_own(x.reshape(B, G + 1, E, *x.shape[1:]), own).reshape(
        -1, *x.shape[1:]
      ),
      (a, right),
    )
  return Answers(
    a, taught, right, correct[:, :-1], correct[:, -1:],
    log_lik[:, :-1], log_lik[:, -1:],
  )  # fmt: skip


def first(found: Answers, count: int) -> Answers:
  """The answers to the first `count` questions about each code."""
  return found._replace(
    correct=found.correct[..., :count],
    empty=found.empty[..., :count],
    log_lik=found.log_lik[..., :count],
    empty_log_lik=found.empty_log_lik[..., :count],
  )


def over_questions(x: jax.Array) -> jax.Array:
  """[..., E] -> [...]: all questions count alike."""
  return jnp.mean(x, -1)


def worth(
  verify: Verifier,
  found: Answers,
  numbers: Numbers = None,
  mean: Callable[[jax.Array], jax.Array] = over_questions,
) -> Parts:
  """What codes are worth before the price, in weighted parts [B, G].

  V's word above that without a code, which is a mean over the batch, and
  shaping, which is what A gains about the right answers from the code. Both
  have the weights of Verifier: those of all scorers of config.verifier are one
  here. mean: over the questions, [B, G or 1, E] -> [B, G or 1].
  """
  parts = {}
  if verify.hears:
    empty = jnp.mean(mean(found.empty))
    above = rewards.above_empty(mean(found.correct), empty)
    parts["verifier"] = verify.share(numbers) * above
  if verify.shapes:
    gained = verify.shaping(found.log_lik, found.empty_log_lik, numbers)
    parts["shaping"] = mean(gained)
  return parts
