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
  "report": {"headline": "code", "controls": "", "arms": {}, "sections": []},
}


# What older runs call the loops of config.loop.
OLD_LOOPS = {"train": "rsrc_jax.train", "refine": "rsrc_jax.recursive.loop"}


def upgraded(stored: dict[str, Any]) -> dict[str, Any]:
  """The config of a run of any revision, as this one reads it.

  Raises:
    ValueError: a removed setting had a value that can't be had any more.
  """
  found = _renamed({**ADDED, **_without_removed(stored, "")})
  return found | {"loop": OLD_LOOPS.get(found["loop"], found["loop"])}


def _renamed(tree: dict[str, Any]) -> dict[str, Any]:
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
