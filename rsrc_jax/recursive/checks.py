"""Checks of a recursive config, before puzzles are made or programs compiled.

As rsrc_jax/build/checks.py: the rules of a block are beside the make() that
takes it.
"""

import functools
import inspect
import json
import math
from typing import Any

import jax
import ml_collections

from rsrc_jax import rules
from rsrc_jax.accounting import account
from rsrc_jax.build import checks, overrides
from rsrc_jax.models import recursive, recursive_architecture
from rsrc_jax.recursive import targets
from rsrc_jax.rl import learner
from rsrc_jax.rules import anything, number, one_of, share, text, whole
from rsrc_jax.runtime import checkpoint, memory, named, sharding

COPIES = 6  # a model in training: it, gradient, two moments, averages, next
FLOAT = 4


def _supervised(settings, run):
  """The rule of how an arm is supervised."""
  del run
  model, targets_ = settings["model"], settings["targets"]
  if targets_ != "final" and model.get("halting"):
    return "targets", (
      "'final', or model.halting=False: the halting head learns whether the "
      "answer is right, and other targets ask for it in the last superstep only"
    )
  supersteps, steps = settings["supersteps"], model.get("steps", 0)
  if steps and steps < supersteps:
    return "model.steps", (
      f"0, or at least {rules.HERE}.supersteps={supersteps}: each has its own "
      "embedding"
    )
  return None


MODEL = {
  k: v for k, v in recursive_architecture.RULES.items() if k != rules.BLOCK
}
ARM = {
  "steps": whole(1),
  "supersteps": whole(1, 4_096),
  "targets": one_of(*targets.NAMES),
  "learning_rate": number(0),  # 0: that of config.optimizer
  "model": MODEL,
  rules.BLOCK: (_supervised,),
}
LOOP = {
  "seed": whole(0, 2**32 - 1),
  **dict.fromkeys(("batch_size", "log_every"), whole(1)),
  **dict.fromkeys(("loop", "only"), text),
  "ema": number(0, below=1, why="at 1 what is evaluated never learns"),
  "explore": share(),
  "model": recursive_architecture.RULES,
  "optimizer": learner.OPTIMIZER,
  "arms": {rules.OTHERS: ARM},
  "eval": {
    **dict.fromkeys(("every", "rows", "batch_size", "causal_rows"), whole(1)),
    "samples": whole(),
  },
  "checkpoint": checkpoint.RULES,
  "ledger": account.RULES,
  rules.OTHERS: anything,
}


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses settings that cannot work; reads and compiles nothing.

  Raises:
    ValueError: a setting is out of its range, an arm's sizes do not fit each
      other, or the run is too large for this machine; one line.
  """
  settings = config.to_dict()
  name, block = settings["data"].get("name", ""), settings["data"]
  make = named.find("data", name, "puzzles", "config.data.name")
  # The block holds the settings of all kinds of puzzles.
  of_data = checks.rules_of_make(
    make, block, "config.data", name, given=("seed",), free=tuple(block)
  )
  rules.check(LOOP | {"data": of_data}, settings, "config")
  parameters = inspect.signature(make).parameters
  taken = {k: v for k, v in block.items() if k in parameters}
  room = memory.free(sharding.make_mesh(data=1))
  for arm in names(config):
    own = settings["model"] | settings["arms"][arm]["model"]
    rules.check(recursive_architecture.RULES, own, f"config.arms.{arm}.model")
    _check_size(settings | {"data": taken}, arm, own, room)


def names(config: ml_collections.ConfigDict) -> list[str]:
  """The arms that are trained: those of config.only, or all of them.

  Raises:
    ValueError: config.only names an arm that there is not.
  """
  return overrides.running(config.only, config.arms)


def _check_size(settings: dict[str, Any], arm: str, model: dict, room) -> None:
  """Refuses an arm that is too large for this machine."""
  cells = settings["data"].get("side", 1) ** 2
  sizes = {k: model[k] for k in ("width", "depth", "hidden", "inner", "cycles")}
  asked = ", ".join(f"config.model.{k}={v}" for k, v in sizes.items())
  count = _count(json.dumps({"cells": cells, "vocab_size": 1, **model}))
  slots = max(settings["batch_size"], settings["eval"]["batch_size"])
  data = settings["data"]
  rows = data.get("train", 1) + 2 * data.get("heldout", 1)
  memory.check({
    f"{asked} in {arm!r}: {COPIES} times its parameters": (
      COPIES * count * FLOAT
    ),
    f"config.batch_size={settings['batch_size']}, config.eval.batch_size="
    f"{settings['eval']['batch_size']}, config.model.width={model['width']}": (
      4 * slots * cells * model["width"] * FLOAT
    ),
    f"config.data.train={data.get('train')}, config.data.heldout="
    f"{data.get('heldout')}, config.data.side={data.get('side')}": (
      3 * rows * cells * FLOAT
    ),
  }, room)  # fmt: skip


@functools.lru_cache(maxsize=64)
def _count(model: str) -> int:
  """The parameters of a model, whose init is traced and not run."""
  init = recursive.make(**json.loads(model)).init
  return sum(math.prod(x.shape) for x in jax.tree.leaves(jax.eval_shape(
    init, jax.random.key(0)
  )))  # fmt: skip
