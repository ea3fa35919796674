"""Checks of a config, before data are read or programs compiled.

The rules of a block are beside the make() that takes it (rsrc_jax/rules.py).
Here they are put together by what the config names, with the rules of what the
loop itself reads, and all are checked: of the run, and of every arm that has
overrides.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from jax.sharding import Mesh

from rsrc_jax import rules
from rsrc_jax.accounting import account
from rsrc_jax.build import overrides
from rsrc_jax.models import architecture, lora
from rsrc_jax.rl import (
  constraints,
  curriculum,
  learner,
  reader,
  supervised,
  verifier,
)
from rsrc_jax.rules import anything, flag, items, number, one_of, text, whole
from rsrc_jax.runtime import checkpoint, configs, named, sharding

FREE = {rules.OTHERS: anything}  # a block whose fields are the user's own
NO_BUDGETS = "there is none that a prompt could say, or a draw could take"


def _fits(settings, run):
  """The rule of settings of the run that depend on each other."""
  del run
  parts, budget = settings["micro_batches"], settings["budget"]
  if settings["batch_size"] % parts:
    return "micro_batches", (
      f"a divisor of config.batch_size={settings['batch_size']}"
    )
  if max(settings["budgets"], default=1) > budget:
    return "budgets", f"a tuple of 1 to config.budget={budget}"
  for name in ("unannounced", "ease"):
    if settings["augment"].get(name) and not settings["budgets"]:
      return f"augment.{name}", f"0 without config.budgets: {NO_BUDGETS}"
  if max(settings["eval"]["budgets"], default=1) > budget:
    return "eval.budgets", (
      f"a tuple of 1 to config.budget={budget}, for which codes are trained"
    )
  if settings["steps"] * settings["updates"] > rules.LARGEST:
    return "updates", (
      f"such that config.steps={settings['steps']} times it is below {2**31}"
    )
  return _heard(settings)


def _heard(settings):
  """The rule that a reader which V weighs is trained."""
  weight = settings["verifier"].get("reader", 0)
  if weight <= 0:
    return None
  asked = f"config.verifier.reader={weight} asks it about every d"
  if "reader" not in settings:
    return "reader", f"a block as in configs/tiny.py: {asked}"
  if not settings["reader"]["steps"]:
    return "reader.steps", f"at least 1: {asked}"
  return None


def _warmup(settings, run):
  """The rules of the base: there is something to start from, and to learn."""
  if not settings["steps"] and run["model_name"] != "pretrained":
    return "steps", "at least 1: the model begins with random parameters"
  looks = settings["steps"] // run["every"] * run["every"]
  if settings.get("patience") and looks <= settings["warmup_from"]:
    return "patience", (
      f"0 where no look at the validation split, one in config.eval.every="
      f"{run['every']} steps, comes after {rules.HERE}.warmup_from="
      f"{settings['warmup_from']} and by {rules.HERE}.steps={settings['steps']}"
    )
  if settings.get("unannounced") and not run["budgets"]:
    return "unannounced", f"0 without config.budgets: {NO_BUDGETS}"
  if settings.get("unannounced") and run["fixed_length"]:
    return "unannounced", (
      "0 with config.augment.fixed_length=True: such a code ends by itself, "
      "and the end token is banned"
    )
  return None


LOOP = {
  "seed": whole(0, 2**32 - 1),
  **dict.fromkeys(
    ("steps", "budget", "batch_size", "log_every", "updates", "micro_batches"),
    whole(1),
  ),
  "budgets": items(whole(1)),
  **dict.fromkeys(("only", "loop", "init"), text),
  "mesh": sharding.MESH,
  "model_name": one_of("transformer", "pretrained"),
  "head": one_of("", "pallas"),
  "temperature": number(
    1e-3, why="the codes of a group would be equal, and C could not learn"
  ),
  "top_p": number(
    above=0, most=1, why="the codes of a group would be equal at 0"
  ),
  "normalize_std": flag,
  "kl": number(0),
  "optimizer": learner.OPTIMIZER,
  "loss": learner.LOSS,
  "lora": lora.RULES,
  "augment": constraints.RULES,
  "verifier": verifier.RULES,
  "shaping": verifier.SHAPING_RULES,
  "reader": reader.RULES,
  "pretrain": {
    **supervised.RULES,
    "steps": whole(),
    "batch_size": whole(1),
    "patience": whole(),
    "optimizer": learner.OPTIMIZER,
    rules.BLOCK: (_warmup,),
  },
  "eval": {
    **dict.fromkeys(("every", "rows", "test_rows", "batch_size"), whole(1)),
    "budgets": items(whole(1)),
    "samples": whole(),
  },
  "checkpoint": checkpoint.RULES,
  "ledger": account.RULES,
  rules.BLOCK: (_fits, verifier.pays),
}
ARM = {
  **dict.fromkeys(("pattern", "write", "start", "stage"), text),
  "overrides": lambda pairs: "",  # they are applied, and checked where they are
  "until": one_of("steps", "plateau"),
  rules.OTHERS: anything,
}


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses settings that cannot work; reads and compiles nothing.

  Raises:
    ValueError: a setting of the run or of an arm is out of its range; one line
      that names it, its value and a remedy.
  """
  settings = config.to_dict()
  check_one(settings)
  there = overrides.names_of(settings)
  for arm in overrides.running(settings["only"], settings["arms"]):
    own = overrides.applied(settings, arm)
    changed = [name for name, _ in overrides.pairs(settings["arms"], arm)]
    try:
      if changed:
        added = [name for name in changed if name not in there]
        check_one(own, added, settings)
    except ValueError as error:
      raise ValueError(f"config.arms.{arm}.overrides: {error}") from None
    check_until(own, arm)


def check_until(own: dict[str, Any], arm: str) -> None:
  """Refuses an arm that should end at a plateau which it can't have.

  A run that is too short for one, such as a trial, ends after its steps.

  own: the arm's settings, its overrides applied.

  Raises:
    ValueError: one line that names the setting, its value and a remedy.
  """
  if own["arms"][arm].get("until", "steps") != "plateau":
    return
  block, its = own["curriculum"], own["arms"][arm]
  window = curriculum.window_of(block)
  for wrong, said in (
    (own["optimizer"]["decay"], (
      f"config.optimizer.decay={own['optimizer']['decay']} lowers the rate at "
      "the end of config.steps, which it may not reach; set it to 0 for it."
    )),
    (its.get("stage"), (
      f"config.arms.{arm}.stage={its.get('stage')!r} ends as its module says; "
      "set until to 'steps'."
    )),
    (its.get("pattern") == "extract", (
      f"config.arms.{arm}.pattern='extract' has no reward; set until to "
      "'steps'."
    )),
    (its.get("phases") and not block["every"], (
      "config.curriculum.every=0 sees the rewards of training, and "
      f"config.arms.{arm}.phases plays several patterns; look at held-out "
      "rewards, with every=10 for example."
    )),
    (not window, (
      "config.curriculum.window=0 is no plateau rule; set it to "
      f"{curriculum.WINDOW}, or until to 'steps'."
    )),
  ):  # fmt: skip
    if wrong:
      raise ValueError(f"config.arms.{arm}.until='plateau': {said}")


def check_one(
  settings: dict[str, Any],
  added: Sequence[str] = (),
  run: dict[str, Any] | None = None,
) -> None:
  """`check` of one config, as dicts.

  added: dotted names of settings that need a rule or an argument of a make().
  run: the run's own config, by whose budgets the base is trained, where
    `settings` are an arm's.
  """
  known = rules_of(settings)
  for name in added:
    if not _takes(known, name.split(".")):
      others = overrides.names_of(settings) - {name}
      near = configs.nearest(name, sorted(others), "config.")
      raise ValueError(f"config.{name} is no setting.{near}")
  names = ("batch_size", "micro_batches", "model_name")
  facts = {name: settings[name] for name in names}
  base = settings if run is None else run
  facts["budgets"] = base["budgets"]
  facts["fixed_length"] = base["augment"].get("fixed_length")
  facts["inject"] = settings["augment"].get("inject", 0)
  facts["budget"], facts["arms"] = settings["budget"], tuple(settings["arms"])
  facts["every"] = settings["eval"]["every"]
  facts["places"] = settings["model"].get("absolute", 0)  # 0: any number
  rules.check(known, settings, "config", facts)


def rules_of(settings: dict[str, Any]) -> dict[str, Any]:
  """The rules of a config, by what it names.

  Raises:
    ValueError: what it names does not exist, or does not take its settings.
  """
  data, model = settings["data"], settings["model"]
  source = data.get("source", "")
  make = named.find("data", source, "make", "config.data.source")
  pretrained = settings["model_name"] == "pretrained"
  if pretrained and "vocab" not in inspect.signature(make).parameters:
    raise ValueError(
      f"config.data.source={source!r}: a pretrained model reads text; set it "
      "to 'text', or to a file whose make() takes `vocab`."
    )
  block = {k: v for k, v in data.items() if k != "source"}
  of_data = rules_of_make(
    make, block, "config.data", source,
    given=("seed", "cache_dir", "vocab", "kept", "examine"),
    free=("instructions",),
  )  # fmt: skip
  of_model = architecture.RULES
  if pretrained:
    of_model = architecture.RULES | {"path": text, rules.BLOCK: ()}
  elif missing := [
    x for x in architecture.Architecture._fields[1:6] if x not in model
  ]:
    raise ValueError(f"config.model lacks {', '.join(missing)}.")
  return FREE | LOOP | {
    "data": {"source": text, **of_data},
    "model": of_model,
    "curriculum": _curriculum(settings["curriculum"]),
    "patterns": _patterns(settings),
    "arms": {rules.OTHERS: ARM},
    "evals": _evals(settings.get("evals") or {}),
  }  # fmt: skip


def rules_of_make(
  make: Callable,
  settings: Mapping[str, Any],
  block: str,
  name: str,
  *,
  given: tuple[str, ...] = (),
  free: tuple[str, ...] = (),
) -> dict[str, Any]:
  """The rules beside a make(), and `anything` for what else it takes.

  Args:
    make: the function; RULES of its module are the rules.
    settings: its block of the config.
    block: where that stands.
    name: how the config calls the function.
    given: arguments that are no settings.
    free: settings that it does not take, with other readers.

  Raises:
    ValueError: it takes no such setting, or lacks one.
  """
  own = getattr(make, "__globals__", {}).get("RULES", {})
  taken = inspect.signature(make).parameters
  closed = all(x.kind is not x.VAR_KEYWORD for x in taken.values())
  names = [x for x in (taken if closed else settings) if x not in given]
  found = {**dict.fromkeys(names, anything), **dict.fromkeys(free, anything)}
  found |= {k: v for k, v in own.items() if k in found or k == rules.BLOCK}
  if closed and set(settings) <= set(found):
    arguments = {
      k: v for k, v in settings.items() if k in taken or k not in free
    }
    there = dict.fromkeys((x for x in given if x in taken), None)
    named.check_arguments(make, arguments | there, block, name)
  return found


def check_mesh(config: ml_collections.ConfigDict, mesh: Mesh) -> None:
  """Raises ValueError for a batch that does not divide over the mesh."""
  names = ["batch_size", "pretrain.batch_size", "eval.batch_size"]
  if overrides.hearing(config.to_dict(), [*config.arms]):
    names.append("reader.batch_size")
  for name in names:
    sharding.check_batch(mesh, f"config.{name}", at(config, name))


def at(config, name: str):
  """The value of a dotted name, such as "eval.rows"."""
  for part in name.split("."):
    config = config[part]
  return config


def _curriculum(block: Mapping[str, Any]) -> dict[str, Any]:
  kind = block.get("name")
  known = one_of(*curriculum.RULES)
  return {**curriculum.RULES.get(kind, FREE), "name": known, "every": whole()}


def _patterns(settings: Mapping[str, Any]) -> dict[str, Any]:
  """The rules of each block of config.patterns, by the pattern of its name."""
  played = {}
  for arm in settings["arms"].values():
    kinds = [k for part in arm.get("phases") or () for k, _ in part]
    for kind in (arm.get("pattern", ""), *kinds):
      block = Path(kind).stem if kind.endswith(".py") else kind
      played[block] = kind
  found = {}
  for block, own in settings["patterns"].items():
    kind = played.get(block, block)
    if kind == block and block not in named.named("patterns", "make"):
      found[block] = FREE
      continue
    make = named.find("patterns", kind, "make", "config.arms: pattern")
    found[block] = rules_of_make(
      make, own, f"config.patterns.{block}", kind, given=("context",),
      free=("monitor", "field"),
    )  # fmt: skip
  return found


def _evals(blocks: Mapping[str, Any]) -> dict[str, Any]:
  found = {}
  for name, block in blocks.items():
    kind, field = block.get("type", ""), f"config.evals.{name}"
    make = named.find("evaluation", kind, "make", f"{field}.type")
    own = {k: v for k, v in block.items() if k != "type"}
    found[name] = rules_of_make(make, own, field, kind, given=("setup",))
    found[name]["type"] = text
  return found


def _takes(block: Any, parts: list[str]) -> bool:
  """Whether the rules name a setting; blocks of the user's own take any."""
  if isinstance(block, rules.Optional):
    block = block.rule
  if not parts or not isinstance(block, Mapping):
    return not parts
  if parts[0] in block:
    return _takes(block[parts[0]], parts[1:])
  return block.keys() == {rules.OTHERS}
