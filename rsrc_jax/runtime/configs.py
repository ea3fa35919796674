"""Configs: Python files with a get_config(), what runs have stored, and the
functions that settings name: of a file of the package, or of a user's.
"""

import fnmatch
import importlib
import importlib.util
import inspect
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

PACKAGE = Path(__file__).resolve().parents[1]


def module(path: str | Path) -> ModuleType:
  """Runs a Python file, wherever it is, and returns its module."""
  spec = importlib.util.spec_from_file_location(Path(path).stem, path)
  found = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(found)
  return found


def load(path: str | Path) -> ml_collections.ConfigDict:
  """What the file's get_config() returns. Fields can be added to its blocks."""
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


def named(folder: str, function: str) -> list[str]:
  """Names of the files in rsrc_jax/FOLDER that define `function`, in order."""
  defines = re.compile(rf"^def {function}\(", re.M)
  files = sorted((PACKAGE / folder).glob("*.py"))
  return [x.stem for x in files if defines.search(x.read_text("utf-8"))]


def find(folder: str, name: str, function: str, field: str) -> Callable:
  """The function that a setting names.

  Args:
    folder: of rsrc_jax, in which the file NAME.py is looked for.
    name: the setting: such a file, or the path of a .py file of a user.
    function: what the file has to define.
    field: the setting's own name, for messages.

  Raises:
    ValueError: there is no such file, or it does not define the function.
  """
  if not name.endswith(".py"):
    if name not in (names := named(folder, function)):
      raise ValueError(
        f"{field}={name!r} is none of {', '.join(names)}, nor the path of a "
        ".py file."
      )
    found = importlib.import_module(f"{PACKAGE.name}.{folder}.{name}")
  elif Path(name).is_file():
    found = module(name)
  else:
    raise ValueError(f"{field}={name!r} is not a file.")
  if not callable(made := getattr(found, function, None)):
    raise ValueError(f"{field}={name!r} has no function {function}().")
  return made


def check_arguments(
  function: Callable, settings: Mapping[str, Any], block: str, name: str
) -> None:
  """Checks that a function takes the settings of a block, by keyword.

  Args:
    function: to be called with `settings`.
    settings: the keyword arguments.
    block: where they are set, such as config.data, for the message.
    name: how the function is called there.

  Raises:
    ValueError: it lacks a setting, or has one that it does not take.
  """
  try:
    inspect.signature(function).bind(**settings)
  except TypeError as error:
    raise ValueError(
      f"{block} does not fit {name!r}: {error}. It takes "
      f"{', '.join(inspect.signature(function).parameters)}."
    ) from error
