"""Settings that could be wrong: every numeric field of every config, by values.

A case is one field of a shipped config with one value. It is tried as a user
would, by rsrc_jax.load_config, and then checked as a run does before its data
are read.
"""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.build import setup
from rsrc_jax.recursive import checks
from rsrc_jax.runtime import configs

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = tuple(sorted(x.stem for x in (ROOT / "configs").glob("*.py")))
VALUES = (
  math.nan, math.inf, -math.inf, 0, 0.0, 1, 2, 0.5, -1, -0.5, 1e300, -1e300,
  10**12, -(10**12), 2**31, "abc", None, True, (1, 2),
)  # fmt: skip
SECONDS = 2.0  # in which it has to be said
KINDS = REFUSED, ACCEPTED, OTHER = "refused", "accepted", "other"


class Case(NamedTuple):
  """A field of a config, with a value."""

  config: str
  field: str  # dotted; ARM:NAME is an override of an arm
  value: Any


class Outcome(NamedTuple):
  """What became of a case."""

  kind: str
  said: str
  seconds: float


def fields(name: str) -> list[str]:
  """The numeric fields of a config, those of its arms' overrides included."""
  config = configs.load(ROOT / "configs" / f"{name}.py").to_dict()
  found = list(_numeric(config, ""))
  for arm, block in config["arms"].items():
    for field, value in block.get("overrides", ()):
      if _is_number(value):
        found.append(f"{arm}:{field}")
  return found


def changed(case: Case, **more: Any):
  """The config of a case. more: other settings, by dotted name.

  Raises:
    ValueError: the field can't have such a value.
  """
  arm, override, field = case.field.rpartition(":")
  if not override:
    return configs.load_config(case.config, **{**more, field: case.value})
  config = configs.load_config(case.config, **more)
  pairs = dict(config.arms[arm].overrides) | {field: case.value}
  config.arms[arm].overrides = tuple(pairs.items())
  config.only = arm
  return config


def tried(case: Case, checkpoint: Path) -> Outcome:
  """Tries a case; nothing is trained and no data are read.

  checkpoint: a folder for configs of a pretrained model.
  """
  begun = time.process_time()
  try:
    config = changed(case)
    if config.get("model_name") == "pretrained":
      config.model.path = str(checkpoint)
    if config.loop == "rsrc_jax.recursive.loop":
      checks.check(config)
    else:
      setup.prepare(config)
    kind, said = ACCEPTED, ""
  except ValueError as error:
    kind, said = REFUSED, str(error)
    named = f"config.{case.field.rpartition(':')[2]}"
    if "\n" in said or named not in said:
      kind = OTHER
  except Exception as error:
    kind, said = OTHER, f"{type(error).__name__}: {error}"
  seconds = time.process_time() - begun
  if seconds > SECONDS:
    kind, said = OTHER, f"{kind} after {seconds:.1f} s: {said}"
  return Outcome(kind, said, seconds)


def _numeric(block: dict[str, Any], prefix: str):
  for key, value in block.items():
    if isinstance(value, dict):
      yield from _numeric(value, f"{prefix}{key}.")
    elif _is_number(value):
      yield prefix + key


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
