"""Builds a pattern from the config of an arm."""

from pathlib import Path

from rsrc_jax.build.setup import Setup, make_info
from rsrc_jax.ops import rewards
from rsrc_jax.rl import verifier
from rsrc_jax.runtime import named
from rsrc_jax.types import Context, Pattern


def make(setup: Setup, config, name: str, monitor: bool = False) -> Pattern:
  """The pattern `name`, with the settings of its block.

  Args:
    setup: of the run.
    config: of the arm, from arm_config.
    name: a file of rsrc_jax/patterns, whose block is config.patterns.NAME; or
      the path of a .py file, whose block has the name of the file.
    monitor: measure the use of injected ids even where it earns no bonus.

  Raises:
    ValueError: there is no such pattern, or its settings cannot work.
  """
  make_it = named.find("patterns", name, "make", "config.arms: pattern")
  settings = config.patterns[block_of(name)].to_dict()
  if settings.get("gate"):
    rewards.check_bonus(
      bonus=settings["gate"]["bonus"],
      price=settings["length_price"],
      listed=config.augment.inject,
      budget=config.budget,
      beyond=settings["gate"].pop("beyond_bound"),
    )
    settings["monitor"] = monitor
  weights, corpus = config.verifier.to_dict(), setup.corpus
  verifier.check_scores_differ(weights, corpus.train, corpus.slots)
  verify = verifier.make(
    setup.policy,
    setup.roles["V"],
    weights=weights,
    shaping=config.shaping.to_dict(),
    positions=corpus.slots,
  )
  context = Context(
    setup.policy, setup.roles, verify, make_info(corpus),
    rows=config.batch_size, budget=max(config.budgets, default=None),
  )  # fmt: skip
  return make_it(context, **settings)


def block_of(name: str) -> str:
  """The key of a pattern's settings in config.patterns."""
  return Path(name).stem if name.endswith(".py") else name


def numbers_of(name: str) -> tuple[str, ...]:
  """The settings of a pattern that are arguments of its step: its NUMBERS."""
  make_it = named.find("patterns", name, "make", "config.arms: pattern")
  return getattr(make_it, "__globals__", {}).get("NUMBERS", ())
