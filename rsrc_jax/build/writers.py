"""Writers of an arm's codes: C under constraints, or a rule.

Each writer is a row of WRITERS. `config.arms.NAME.write` names a row, or a .py
file that holds one as WRITER.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import types
from rsrc_jax.build.setup import Setup
from rsrc_jax.lm import extracts, rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import capability
from rsrc_jax.rl import constraints
from rsrc_jax.runtime import configs
from rsrc_jax.types import Batch, Constraints, Policy, Tokens


class Writer(NamedTuple):
  """A kind of writer, and its properties for the comparison of arms."""

  # (setup, the arm's config, the row's name) -> prepare, write:
  #   prepare(frozen, batch, key, schedule) -> controls of Pattern.play;
  #   write(params, frozen, batch, key, budget=None) -> code [B, k]
  make: Callable[..., tuple[Callable, Callable]]
  english: bool  # its codes are English: an arm of the comparison
  words: bool  # writes words only; False: any id that a code may hold
  rule: bool = False  # only D learns; the pattern is "extract"
  reads_base: bool = False  # its service needs the base's parameters too
  # (setup) -> how many ids its codes may use, where `words` does not say it:
  # each token is charged log2 of that.
  symbols: Callable[[Setup], int] | None = None


def of(name: str) -> Writer:
  """The row of `config.arms.NAME.write`.

  Raises:
    ValueError: there is none, or the file holds no WRITER.
  """
  if name in WRITERS:
    return WRITERS[name]
  if name.endswith(".py") and Path(name).is_file():
    found = getattr(configs.module(name), "WRITER", None)
    if isinstance(found, Writer):
      return found
    raise ValueError(
      f"config.arms: write={name!r} holds no WRITER, a row like those of "
      "rsrc_jax/build/writers.py."
    )
  raise ValueError(
    f"config.arms: write={name!r} is none of {', '.join(WRITERS)}, and no file "
    "that ends in .py."
  )


def check_pattern(arm: str, pattern: str, write: str) -> None:
  """Checks that a rule has the pattern "extract", and a policy another one.

  Raises:
    ValueError: they do not fit; the message names the arm.
  """
  if of(write).rule == (pattern == "extract"):
    return
  fit = "a rule" if pattern == "extract" else "what a policy may write"
  names = [x for x, row in WRITERS.items() if row.rule == (fit == "a rule")]
  raise ValueError(
    f"config.arms.{arm}.write={write!r}: the pattern {pattern!r} takes {fit}: "
    f"{', '.join(names)}."
  )


def by_rule(setup: Setup, config, rule: str) -> tuple[Callable, Callable]:
  """Codes by a rule of lm/extracts.py. See Writer.make."""
  vocab, idf = setup.corpus.vocab, None
  if rule == "tfidf":  # over the whole split
    idf = extracts.inverse_frequency(setup.corpus.train, vocab.size)
  make = lambda rule: extracts.writer(
    setup.policy, setup.roles, rule, config.budget, idf=idf, code=vocab.code
  )
  # D is trained on the best of a few extracts; the greedy search is too slow.
  for_training = make("sampled_oracle" if rule == "oracle" else rule)
  return as_rule(config, make(rule), for_training)


def as_rule(
  config,
  write_code: Callable[..., Tokens],
  for_training: Callable | None = None,
) -> tuple[Callable, Callable]:
  """The two functions of Writer.make, for a rule.

  Args:
    config: of the arm.
    write_code: (params, frozen, batch, key, budget) -> code [B, config.budget].
      budget [B] int32 is the most tokens of each row's code; None: all of them.
    for_training: the same, for the codes that D is trained on, with the
      parameters of the base. None: write_code.
  """
  for_training = for_training or write_code

  def prepare(frozen, batch, key, schedule):
    keys, budgets = row_keys(key, batch.row), tuple(config.budgets)
    drawn = constraints.draw_budget(keys, schedule.budgets, budgets)
    budget = None if drawn is None else drawn[:, 0]
    return for_training(frozen["base"], frozen, batch, key, budget)

  def write(params, frozen, batch, key, budget=None):
    budget = budget_of(config, batch, budget)
    return write_code(params, frozen, batch, key, budget)

  return prepare, write


def by_policy(setup: Setup, config, mode: str) -> tuple[Callable, Callable]:
  """Codes by C, with a mode of rl/constraints.py. See Writer.make."""
  constrain = make_controls(setup, config, mode)
  return as_policy(setup, config, constrain, make_limits(setup, config, mode))


def as_policy(
  setup: Setup, config, constrain: Callable, limits: Callable
) -> tuple[Callable, Callable]:
  """The two functions of Writer.make, for C under constraints.

  Args:
    setup: of the run.
    config: of the arm.
    constrain: (key, batch, schedule) -> Controls of training: make_controls.
    limits: (batch, budget, announced) -> Constraints of evaluation:
      make_limits.
  """
  greedy = code_writer(setup.policy, setup.roles["C"], limits)

  def write(params, frozen, batch, key, budget=None):
    told = budget is not None or announced_at_evaluation(config)
    budget = budget_of(config, batch, budget)
    return greedy(params, frozen, batch, key, budget, told)

  return lambda _, batch, key, schedule: constrain(key, batch, schedule), write


def _rule(english: bool = True, words: bool = True, **more) -> Writer:
  return Writer(by_rule, english, words, rule=True, **more)


WRITERS = {
  "lead": _rule(),
  "surprising": _rule(reads_base=True),
  # A policy trained on extracts may still write any id.
  "sft": _rule(words=False, reads_base=True),
  "tfidf": _rule(),
  "oracle": _rule(),
  "random": _rule(),
  "hash": _rule(english=False, words=False),
  "source": Writer(by_policy, english=True, words=True),
  "words": Writer(by_policy, english=True, words=True),
  "force": Writer(by_policy, english=False, words=False),
  "free": Writer(by_policy, english=False, words=False),
}


def make_controls(
  setup: Setup, config, mode: str, **changes
) -> Callable[..., types.Controls]:
  """The controls of training: rl/constraints.make with the config's settings.

  changes: fields of constraints.Forced with other values than the config's.

  Raises:
    ValueError: the vocabulary has no tokens for a constraint in the prompt.
  """
  settings, vocab = config.augment, setup.corpus.vocab
  for name, value, tag in (
    ("augment.inject", settings.inject, "use"),
    ("augment.ban", settings.ban, "avoid"),
    ("budgets", config.budgets, "slot"),
  ):
    if value and tag not in vocab.control_tags:
      remedy = (
        "a pretrained vocabulary has none for budgets: leave it empty"
        if setup.checkpoint
        else "set config.data.asks=True"
      )
      raise ValueError(
        f"config.{name}={value} needs tokens in the prompt that the vocabulary "
        f"lacks: {remedy}."
      )
  given = {
    "words": _words(vocab, mode),
    **{x: settings[x] for x in ("inject", "ban", "pool", "force")},
    **{x: settings.get(x, 0.0) for x in ("bare", "ease", "unannounced", "cut")},
    "withheld": withheld(setup, config),
    "end": _end(vocab, config),
    "budgets": tuple(config.budgets),
    "longest": config.budget,
  }
  return constraints.make(mode, vocab.code, **given | changes)


def make_limits(
  setup: Setup, config, mode: str, words: np.ndarray | None = None
) -> Callable[..., Constraints]:
  """The constraints of evaluation: rl/constraints.relaxed with the config's.

  words: [V] bool, the ids of the mode "words"; None: those of sources.
  """
  vocab = setup.corpus.vocab
  words = _words(vocab, mode) if words is None else words
  return constraints.relaxed(
    mode, vocab.code, words=words, end=_end(vocab, config)
  )


def withheld(setup: Setup, config) -> np.ndarray | None:
  """config.augment.withheld: ids that training never writes. -> [V] bool

  None where there are none. They are drawn by config.augment.seed, or by the
  run's.
  """
  augment = config.augment
  seed = augment.seed if augment.seed >= 0 else config.seed
  count = augment.get("withheld", 0)
  return constraints.withhold(setup.corpus.vocab.code, count, seed)


def announced_at_evaluation(config) -> bool:
  """Whether an arm's prompt says a budget where none is asked for.

  An arm that trains without an announced budget too writes codes of the length
  that it finds best, up to its largest budget.
  """
  return not config.augment.get("unannounced", 0.0)


def budget_of(config, batch: Batch, budget) -> jax.Array | None:
  """The budget of each row, [B] int32, by default the arm's largest.

  None where the arm has only one budget.
  """
  if not config.budgets:
    return None
  budget = max(config.budgets) if budget is None else budget
  return jnp.broadcast_to(jnp.int32(budget), batch.row.shape)


def _words(vocab, mode: str):
  return vocab.text if mode == "words" else None


def _end(vocab, config) -> int | None:
  return vocab.end if config.augment.fixed_length else None


def make_saved(setup: Setup, write: str) -> Callable[..., capability.Saved]:
  """saved(source, code, d, token_bits=None) -> the verified bits of codes.

  The price of a code depends on its arm's alphabet. V is uniform over the words
  of sources, unless token_bits [n, S + 1] has the bits of another V.
  """
  words, symbols = int(setup.corpus.vocab.text.sum()), alphabet(setup, write)

  def saved(source, code, decoded, token_bits=None):
    if token_bits is None:
      token_bits = capability.uniform_bits(source, words)
    return capability.verified_bits(
      source, code, decoded, token_bits,
      symbols=symbols, budget=setup.config.budget,
    )  # fmt: skip

  return saved


def alphabet(setup: Setup, write: str) -> int:
  """How many ids a code of `config.arms.NAME.write` may use.

  As many as the writer counts; else the words of sources where it writes words
  alone, or all ids of codes.
  """
  vocab, row = setup.corpus.vocab, of(write)
  if row.symbols:
    return int(row.symbols(setup))
  return int((vocab.text if row.words else vocab.code).sum())


def code_writer(
  policy: Policy,
  role: Role,
  limits: Callable[..., Constraints],
) -> Callable[..., Tokens]:
  """write(params, frozen, batch, key, budget, announced=True) -> greedy codes.

  The codes are [B, k]. limits: the constraints of the arm at evaluation, from
  constraints.relaxed. budget: [B] int32, or None for the role's length;
  announced: whether the prompt says it.
  """
  C = role.greedy()

  def write(params, frozen, batch, key, budget=None, announced=True):
    del frozen
    limited = limits(batch, budget, announced)
    with jax.named_scope("C"):
      c = rollout.sample(
        policy, params, C, C.prompt(batch.source, limited),
        row_keys(key, batch.row), samples=1, constraints=limited,
      )  # fmt: skip
    return tokens.at(tokens.without_end(c.output, C.end), 0)

  return write
