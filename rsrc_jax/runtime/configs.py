"""Configs are Python files with a get_config(); one may start from another."""

import importlib.util
from pathlib import Path
from types import ModuleType

import ml_collections


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
