"""Configs: Python files with a get_config(), and what runs have stored."""

import fnmatch
import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags


def module(path: str | Path) -> ModuleType:
  """Runs the file of a config, wherever it stands."""
  spec = importlib.util.spec_from_file_location(Path(path).stem, path)
  found = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(found)
  return found


def load(path: str | Path) -> ml_collections.ConfigDict:
  """What the file's get_config() returns; its blocks may get other fields."""
  return ml_collections.ConfigDict(module(path).get_config().to_dict())


def beside(file: str, name: str) -> ml_collections.ConfigDict:
  """The config NAME.py in the folder of `file`, which starts from it."""
  return load(Path(file).with_name(f"{name}.py"))


def from_flags(argv: Sequence[str]) -> ml_collections.ConfigDict:
  """The config that ./tools/run reads from `--config=FILE --config.x=y ...`.

  Raises:
    ValueError: there is no such file or setting, or it can't have that value.
  """
  line, values = ["run", *argv], flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
  try:
    left = values(line)[1:]
    config = values.config
  except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
    said = " ".join(str(error.args[0] if error.args else error).split())
    raise ValueError(f"{shlex.join(argv)}: {said}") from None
  if left:
    raise ValueError(f"unknown argument {left[0]!r}: settings start with --")
  return config


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
  found = {**ADDED, **_without_removed(stored, "")}
  return found | {"loop": OLD_LOOPS.get(found["loop"], found["loop"])}


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
