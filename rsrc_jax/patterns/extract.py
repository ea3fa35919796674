"""E -> D: codes by a rule instead of a policy; only D learns.

The English arms that RL is compared with, and the warm-up of both roles. An
extract keeps k tokens of s in their order.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rsrc_jax import augment, prompts, rollout
from rsrc_jax.patterns import cdv
from rsrc_jax.roles import Role
from rsrc_jax.types import Batch, Episode, Pattern, Policy, Tokens

RULES = ("lead", "surprising", "sft")  # see writer


def make(
  policy: Policy,
  roles: dict[str, Role],
  verify: Callable[..., Any],
  *,
  lessons: int,
  dropout: float,
) -> Pattern:
  """Builds the pattern; what is given to `play` are codes [B, k].

  Nothing is sampled and nothing verified. D sees `lessons` pairs a source, as
  in C -> D -> V: every arm trains D on equally many, here on the same code.
  """
  del policy, verify

  def play(params, frozen, carry, batch: Batch, key, given: Tokens):
    del params, frozen
    code = Tokens(*(jnp.repeat(x, lessons, 0) for x in given))
    lesson = cdv.code_lesson(roles["D"], batch.source, code, key, dropout)
    metrics = {"length": jnp.mean(jnp.sum(given.mask, -1) * 1.0)}
    metrics["C_loops"] = loops(given)
    return Episode({}, {}, {"D": lesson}, metrics), carry

  return Pattern(tuple, play)


def loops(code: Tokens) -> jax.Array:
  """How often `sample` ran its loop to write these codes [B, k], end cut off.

  An upper bound for codes of a rule, which ran none.
  """
  spent = jnp.max(jnp.sum(code.mask, -1)) + 1.0  # the end too, if it fits
  return jnp.minimum(spent, code.ids.shape[-1]) - 1.0


def keep(s: Tokens, score: jax.Array, k: int) -> Tokens:
  """The k best-scored real tokens of s, in order. [B, S], [B, S] -> [B, k].

  Sources shorter than k are kept whole, with pads on the right.
  """
  if k > s.ids.shape[-1]:
    raise ValueError(
      f"budget={k} is longer than the longest source, {s.ids.shape[-1]} "
      "tokens: lower config.budget or raise config.data.max_tokens."
    )
  _, index = jax.lax.top_k(jnp.where(s.mask, score, -jnp.inf), k)
  index = jnp.sort(jnp.where(_at(s.mask, index), index, s.ids.shape[-1]), -1)
  real = index < s.ids.shape[-1]
  index = jnp.where(real, index, 0)
  return Tokens(jnp.where(real, _at(s.ids, index), 0), real)


def lead(s: Tokens) -> jax.Array:
  """Scores the first tokens best."""
  return jnp.broadcast_to(-jnp.arange(s.ids.shape[-1]) * 1.0, s.ids.shape)


def surprisal(policy: Policy, params, text: Role, s: Tokens) -> jax.Array:
  """Nats of each token under a language model without context. [B, S]"""
  empty = Tokens(s.ids[:, :0], s.mask[:, :0])
  target = Tokens(*(x[:, None] for x in s))
  log_probs, _ = rollout.score(policy, params, text, text.prompt(empty), target)
  return -log_probs[:, 0]


def noisy(score: jax.Array, key: jax.Array, rows: jax.Array) -> jax.Array:
  """Gumbel-top-k of log scores: sampling without replacement by weight."""
  draw = lambda k: jax.random.gumbel(k, score.shape[-1:])
  noise = jax.vmap(draw)(augment.row_keys(key, rows))
  return jnp.log(jnp.maximum(score, 1e-6)) + noise


def writer(
  policy: Policy, roles: dict[str, Role], rule: str, k: int
) -> Callable[..., Tokens]:
  """write(frozen, batch, key) -> code [B, k] by one of three rules.

  "lead": the first k tokens. "surprising": the k most surprising ones under the
  frozen base, in order. "sft": what the frozen base, taught on extracts, writes
  as C, greedily.

  Raises:
    ValueError: an unknown rule.
  """
  C, text = roles["C"].greedy(), roles["text"]

  def lead_k(frozen, batch, key):
    del frozen, key
    return keep(batch.source, lead(batch.source), k)

  def surprising_k(frozen, batch, key):
    del key
    with jax.named_scope("C"):
      score = surprisal(policy, frozen["base"], text, batch.source)
    return keep(batch.source, score, k)

  def taught(frozen, batch, key):
    with jax.named_scope("C"):
      c = rollout.sample(
        policy, frozen["base"], C, C.prompt(batch.source),
        augment.row_keys(key, batch.row), samples=1,
      )  # fmt: skip
    return Tokens(*(x[:, 0] for x in prompts.without_end(c.output, C.end)))

  if rule not in RULES:
    raise ValueError(f"extract rule {rule!r} is none of {', '.join(RULES)}.")
  return (lead_k, surprising_k, taught)[RULES.index(rule)]


def _at(x, index):
  return jnp.take_along_axis(x, jnp.minimum(index, x.shape[-1] - 1), -1)
