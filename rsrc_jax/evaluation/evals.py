"""Evaluations in the config: `config.evals.NAME = {"type": ..., ...}`.

"type" is a module of this folder, or the path of a .py file. Either has
make(setup, **settings) -> evaluate(stage, params, carry) -> scores. The
settings are the other fields of the block, params the policy's trained
parameters, carry the pattern's carry at the end of training, and scores a dict
of numbers. They are stored in summary["evals"][ARM][NAME].

An evaluate() that has arguments of these names is given them by keyword:
  frozen: the parameters that the arm reads and does not train, by name, "base"
    among them (stage.frozen_of).
  note: shows one line of text in the run's log.
"""

import inspect
from collections.abc import Callable
from typing import Any

from rsrc_jax.build.setup import Setup
from rsrc_jax.runtime import named


def make_all(setup: Setup) -> dict[str, Callable]:
  """The evaluations of a run, by their names.

  Raises:
    ValueError: a block without a type, or with an unknown one.
  """
  made = {}
  for name, block in (setup.config.get("evals") or {}).items():
    settings, field = block.to_dict(), f"config.evals.{name}"
    kind = settings.pop("type", "")
    found = named.find("evaluation", kind, "make", f"{field}.type")
    named.check_arguments(found, {"setup": setup, **settings}, field, kind)
    made[name] = found(setup, **settings)
  return made


def call(
  evaluate: Callable, stage: Any, params: Any, carry: Any, **further: Any
) -> dict[str, float]:
  """The scores of a stage, by what of the further arguments it takes."""
  taken = inspect.signature(evaluate).parameters
  return evaluate(
    stage, params, carry, **{k: v for k, v in further.items() if k in taken}
  )
