"""Configs are Python files with a get_config(); one may start from another."""

import importlib
import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import ml_collections
from absl import flags
from ml_collections import config_flags


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
  """The config of the flags `--config=FILE --config.NAME=VALUE ...`.

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
