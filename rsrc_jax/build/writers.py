"""Who writes the codes of an arm: C under constraints, or a rule."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from rsrc_jax import types
from rsrc_jax.build import writers
from rsrc_jax.build.setup import Setup
from rsrc_jax.lm import extracts, rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import capability
from rsrc_jax.rl import constraints
from rsrc_jax.types import (
  Batch,
  Constraints,
  Policy,
  Tokens,
)


def english(config: ml_collections.ConfigDict, arm: str) -> bool:
  """Whether an arm's codes are English: made of words alone, by no code."""
  known = (*extracts.RULES, "source", "words")
  return config.arms[arm].write in known and config.arms[arm].write != "hash"


def by_rule(setup: Setup, config, rule: str) -> tuple[Callable, Callable]:
  """Codes by a rule: -> what is given to a step, and write()."""
  vocab, budgets = setup.corpus.vocab, tuple(config.budgets)
  idf = None
  if rule == "tfidf":  # one look at the whole split
    idf = extracts.inverse_frequency(setup.corpus.train, vocab.size)
  make = lambda rule: extracts.writer(
    setup.policy, setup.roles, rule, config.budget, idf=idf, code=vocab.code
  )
  # D learns from the best of some extracts what the greedy search will give.
  taught = make("sampled_oracle" if rule == "oracle" else rule)
  written = make(rule)

  def prepare(frozen, batch, key, schedule):
    keys = row_keys(key, batch.row)
    drawn = constraints.draw_budget(keys, schedule.budgets, budgets)
    budget = None if drawn is None else drawn[:, 0]
    return taught(frozen["base"], frozen, batch, key, budget)

  def write(params, frozen, batch, key, budget=None):
    return written(params, frozen, batch, key, budget_of(config, batch, budget))

  return prepare, write


def by_policy(setup: Setup, config, mode: str) -> tuple[Callable, Callable]:
  """Codes by C: -> what is given to a step, and write()."""
  constrain = make_controls(setup, config, mode)
  vocab = setup.corpus.vocab
  limits = constraints.relaxed(
    mode, vocab.code, words=_words(vocab, mode), end=_end(vocab, config)
  )
  greedy = writers.code_writer(setup.policy, setup.roles["C"], limits)

  def write(params, frozen, batch, key, budget=None):
    return greedy(params, frozen, batch, key, budget_of(config, batch, budget))

  return lambda _, batch, key, schedule: constrain(key, batch, schedule), write


def make_controls(
  setup: Setup, config, mode: str
) -> Callable[..., types.Controls]:
  asked, vocab = config.augment, setup.corpus.vocab
  for name, value, ask in (
    ("augment.inject", asked.inject, "use"),
    ("augment.ban", asked.ban, "avoid"),
    ("budgets", config.budgets, "slot"),
  ):
    if value and ask not in vocab.asks:
      remedy = (
        "a pretrained vocabulary has none for budgets: leave it empty"
        if setup.checkpoint
        else "set config.data.asks=True"
      )
      raise ValueError(
        f"config.{name}={value} is asked for in the prompt, in tokens that the "
        f"vocabulary lacks: {remedy}."
      )
  return constraints.make(
    mode,
    vocab.code,
    words=_words(vocab, mode),
    draws=config.subsets,
    inject=asked.inject,
    ban=asked.ban,
    pool=asked.pool,
    force=asked.force,
    end=_end(vocab, config),
    budgets=tuple(config.budgets),
  )


def budget_of(config, batch, budget):
  """[B] int32: as asked, or the largest; None where there is but one."""
  if not config.budgets:
    return None
  budget = config.budget if budget is None else budget
  return jnp.broadcast_to(jnp.int32(budget), batch.row.shape)


def _words(vocab, mode: str):
  return vocab.text if mode == "words" else None


def _end(vocab, config) -> int | None:
  return vocab.end if config.augment.fixed_length else None


def make_saved(setup: Setup, write: str) -> Callable[..., capability.Saved]:
  """Verified bits of an arm's codes, each arm by its own alphabet.

  V knows the alphabet of the sources and nothing else.
  """
  vocab = setup.corpus.vocab
  words = int(vocab.text.sum())
  # What was taught on extracts may still write any symbol.
  written_in_words = write in (*extracts.RULES, "source", "words")
  written_in_words &= write not in ("sft", "hash")
  symbols = words if written_in_words else int(vocab.code.sum())

  def saved(source, code, decoded, token_bits=None):
    if token_bits is None:
      token_bits = capability.uniform_bits(source, words)
    return capability.verified_bits(
      source, code, decoded, token_bits,
      symbols=symbols, budget=setup.config.budget,
    )  # fmt: skip

  return saved


def code_writer(
  policy: Policy,
  role: Role,
  limits: Callable[[Batch, jax.Array | None], Constraints],
) -> Callable[..., Tokens]:
  """write(params, frozen, batch, key, budget) -> greedy codes [B, k].

  limits: what the arm may write when nothing is forced any more, from
  augment.relaxed. budget: [B] int32, or None for the role's length.
  """
  C = role.greedy()

  def write(params, frozen, batch, key, budget=None):
    del frozen
    limited = limits(batch, budget)
    with jax.named_scope("C"):
      c = rollout.sample(
        policy, params, C, C.prompt(batch.source, limited),
        row_keys(key, batch.row), samples=1, constraints=limited,
      )  # fmt: skip
    return tokens.at(tokens.without_end(c.output, C.end), 0)

  return write
