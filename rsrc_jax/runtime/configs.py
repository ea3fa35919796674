"""Configs are Python files with a get_config(), which may start from another.

Settings of a config name functions: a file of this package, or one of a user.
"""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections

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
