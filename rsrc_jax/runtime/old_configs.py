"""Configs of older runs, read as this revision reads its own."""

import fnmatch
from typing import Any

# Settings that older runs hold and that nothing reads any more. A pattern of
# the dotted name -> the value that does what is now always done.
REMOVED = {
  "rarity_bonus.*": 0.0,
  "subsets": 1,
  "patterns.*.gate.typical": None,
  "arms.*.rising": False,
  "verifier.ratio": 0.0,
}

# What older runs call settings, here and in the overrides of their arms. The
# likelihood was a scorer of V, and clipped at 0: it is shaping now.
RENAMED = {"verifier.gain": "shaping.gain"}


# Settings that older runs lack, with the value that does what they did; all as
# JSON has them.
ADDED = {
  "loop": "rsrc_jax.train",
  "init": "",
  "head": "",
  "evals": {},
  "reader": {
    "steps": 400,
    "batch_size": 64,
    "share": 0.2,
    "least": 0.3,
    "tolerance": 0.01,
    "optimizer": {
      "learning_rate": 3e-3,
      "warmup": 20,
      "decay": 0.3,
      "clip_norm": 1.0,
      "b2": 0.99,
      "weight_decay": 0.0,
    },
  },
  "report": {"headline": "code", "controls": "", "arms": {}, "sections": []},
}
# The same for settings of a block, by dotted name: where there is the block.
# The levels of older runs ended by another rule: they are read as if the timer
# alone had ended them.
ADDED_WITHIN = {
  "augment.bare": 0.0,
  "augment.withheld": 0,
  "augment.ease": 0.0,
  "augment.unannounced": 0.0,
  "augment.cut": 0.0,
  "curriculum.window": 0,
  "curriculum.look": 10,
  "curriculum.errors": 2.0,
  "loss.entropy_reference": 1.0,
  "loss.hold": None,
  "patterns.cc.carry": 0.0,
  "patterns.cc.choose": "hardest",
  "patterns.cc.unshared": 0.0,
  "patterns.cdv.frozen_d": False,
  "patterns.qa.probes": None,
  "pretrain.unannounced": 0.0,
  "pretrain.patience": 0,
}
# The same for data of the kind "text" alone; other kinds have no such setting.
ADDED_TO_TEXT = {"data.symbols": 0}
# Settings of the former plateau rule, passed over whatever they were: a run
# that has them can be read, and not gone on with.
DROPPED = tuple(
  f"curriculum.{x}"
  for x in ("decay", "patience", "margin", "settle", "min_steps")
)


# What older runs call the loops of config.loop.
OLD_LOOPS = {"train": "rsrc_jax.train", "refine": "rsrc_jax.recursive.loop"}


def upgraded(stored: dict[str, Any]) -> dict[str, Any]:
  """The config of a run of any revision, as this one reads it.

  Raises:
    ValueError: a removed setting had a value that can't be had any more.
  """
  weight = (stored.get("verifier") or {}).get("reader", 0)
  if weight and "reader" not in stored:
    raise ValueError(
      f"the run has verifier.reader={weight!r}, and its reader was its base, "
      "which is so no more. Use the revision that its environment.json names."
    )
  found = _renamed({**ADDED, **_without_removed(stored, "")})
  within = ADDED_WITHIN
  if (found.get("data") or {}).get("source") == "text":
    within = ADDED_WITHIN | ADDED_TO_TEXT
  for name, value in within.items():
    found = _with_added(found, name.split("."), value)
  if "arms" in found:
    found["arms"] = {x: _arm(arm) for x, arm in found["arms"].items()}
  return found | {"loop": OLD_LOOPS.get(found["loop"], found["loop"])}


def _with_added(
  tree: dict[str, Any], path: list[str], value: Any
) -> dict[str, Any]:
  """The tree with a value at a path, unless one or no block is there."""
  name, *below = path
  if not below:
    return {name: value} | tree
  if not isinstance(tree.get(name), dict):
    return tree
  return tree | {name: _with_added(tree[name], below, value)}


def _renamed(tree: dict[str, Any]) -> dict[str, Any]:
  """The tree with the settings of RENAMED under their names of today."""
  for old, new in RENAMED.items():
    (block, name), (into, called) = old.split("."), new.split(".")
    if name in tree.get(block, {}):
      kept = {k: v for k, v in tree[block].items() if k != name}
      moved = {**tree.get(into, {}), called: tree[block][name]}
      tree = tree | {block: kept, into: moved}
    for arm, own in tree.get("arms", {}).items():
      pairs = own.get("overrides") or ()
      if any(x[0] == old for x in pairs):
        pairs = [[new, x[1]] if x[0] == old else x for x in pairs]
        tree = tree | {"arms": tree["arms"] | {arm: own | {"overrides": pairs}}}
  return tree


def _without_removed(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
  kept = {}
  for key, value in tree.items():
    name = prefix + key
    if isinstance(value, dict):
      below = _without_removed(value, f"{name}.")
      if below or not value:  # a block is gone with its last setting
        kept[key] = below
      continue
    if name in DROPPED:
      continue
    patterns = [x for x in REMOVED if fnmatch.fnmatchcase(name, x)]
    if not patterns:
      kept[key] = value
    elif value != REMOVED[patterns[0]]:
      raise ValueError(
        f"the run has {name}={value!r}, a setting that was removed; only "
        f"{REMOVED[patterns[0]]!r} can still be read. Use the revision that "
        "its environment.json names."
      )
  return kept


def _arm(arm: Any) -> Any:
  """An arm without overrides of settings that were dropped."""
  pairs = isinstance(arm, dict) and arm.get("overrides")
  if not pairs or not any(x[0] in DROPPED for x in pairs):
    return arm
  kept = [x for x in pairs if x[0] not in DROPPED]
  return arm | {"overrides": type(pairs)(kept)}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  """Values by dotted name; a block without settings leaves nothing."""
  leaves = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      leaves |= flat(value, f"{prefix}{key}.")
    else:
      leaves[prefix + key] = value
  return leaves
