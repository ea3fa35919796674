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
}


# Settings that older runs lack, with the value that does what they did; all as
# JSON has them.
ADDED = {
  "loop": "rsrc_jax.train",
  "init": "",
  "head": "",
  "evals": {},
  "report": {"headline": "code", "controls": "", "arms": {}, "sections": []},
}
# The same for settings of a block, by dotted name: where there is the block.
ADDED_WITHIN = {
  "patterns.cc.choose": "hardest",
  "patterns.qa.probes": None,
}


# What older runs call the loops of config.loop.
OLD_LOOPS = {"train": "rsrc_jax.train", "refine": "rsrc_jax.recursive.loop"}


def upgraded(stored: dict[str, Any]) -> dict[str, Any]:
  """The config of a run of any revision, as this one reads it.

  Raises:
    ValueError: a removed setting had a value that can't be had any more.
  """
  found = {**ADDED, **_without_removed(stored, "")}
  for name, value in ADDED_WITHIN.items():
    found = _with_added(found, name.split("."), value)
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


def _without_removed(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
  kept = {}
  for key, value in tree.items():
    name = prefix + key
    if isinstance(value, dict):
      below = _without_removed(value, f"{name}.")
      if below or not value:  # a block is gone with its last setting
        kept[key] = below
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


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  """Values by dotted name; a block without settings leaves nothing."""
  leaves = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      leaves |= flat(value, f"{prefix}{key}.")
    else:
      leaves[prefix + key] = value
  return leaves
