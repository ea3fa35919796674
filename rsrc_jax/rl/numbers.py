"""Numbers of the config that a step takes as arguments, by their names there.

Arms whose steps differ in them alone share one program. What decides which
operations a program has stays a constant: sizes, names, and whether a number is
zero where a zero leaves a part out (ZEROS). A pattern's module lists its own
numbers as NUMBERS.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

Numbers = Mapping[str, jax.Array] | None  # by path below `config`, [] float32
T = TypeVar("T", bound=NamedTuple)

LOSS = ("clip_low", "clip_high", "importance_cap")
WEIGHTS = ("weights", "lesson_weights", "entropy_bonus")
# Of these a zero is a program of its own, in which their part is left out.
ZEROS = ("kl", "verifier.", "shaping.", *(f"loss.{name}." for name in WEIGHTS))
# What a step does not depend on: it is in the controls, or read elsewhere.
OUTSIDE = (
  "arms.", "augment.bare", "augment.cut", "augment.ease", "augment.force",
  "augment.pool", "augment.seed", "augment.withheld", "checkpoint.",
  "curriculum.", "eval.", "evals.", "ledger.", "log_every", "only", "pretrain.",
  "reader.", "report.",
)  # fmt: skip
# Of these it depends on whether they are there: what is drawn by them is in the
# controls.
PRESENT = ("budgets", "augment.unannounced")


def of_config(
  flat: Mapping[str, Any], patterns: Mapping[str, Iterable[str]]
) -> dict[str, np.float32]:
  """The numbers of an arm.

  Args:
    flat: its config, by dotted names.
    patterns: NUMBERS of the patterns that it plays, by their blocks.
  """
  names = ["kl", *(f"loss.{name}" for name in LOSS)]
  names += [
    f"patterns.{x}.{name}" for x, own in patterns.items() for name in own
  ]
  names += [x for x in flat if x.startswith((*ZEROS[1:], "loss.hold."))]
  number = lambda x: isinstance(x, int | float) and not isinstance(x, bool)
  return {x: np.float32(flat[x]) for x in names if number(flat.get(x))}


def static(
  flat: Mapping[str, Any], patterns: Mapping[str, Iterable[str]]
) -> tuple:
  """What of an arm's config its step has as constants, hashable.

  Arguments as in `of_config`.
  """
  given = of_config(flat, patterns)
  blocks = tuple(f"patterns.{x}." for x in patterns)
  kept = {}
  for name, value in flat.items():
    if name.startswith("patterns.") and not name.startswith(blocks):
      continue
    if name.startswith(OUTSIDE) or name.endswith(".gate.beyond_bound"):
      continue
    if name in given:
      value = bool(value) if name.startswith(ZEROS) else "given"
    elif name in PRESENT:
      value = bool(value)
    kept[name] = repr(value)
  return tuple(sorted(kept.items()))


def replaced(settings: T, numbers: Numbers, block: str) -> T:
  """A tuple of settings with the numbers of a block of the config in it."""
  found = {
    name: numbers[f"{block}.{name}"]
    for name in settings._fields
    if f"{block}.{name}" in (numbers or {})
  }
  return settings._replace(**found)


def under(
  numbers: Numbers, block: str, constants: Mapping[str, float]
) -> dict[str, Any]:
  """A block of weights: those that are given, and constants elsewhere."""
  return {
    name: (numbers or {}).get(f"{block}.{name}", value)
    for name, value in constants.items()
  }
