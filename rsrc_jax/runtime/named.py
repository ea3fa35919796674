"""Functions that settings name: of a file of the package, or of a user's."""

import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rsrc_jax.runtime import configs, old_configs
from rsrc_jax.runtime.places import PACKAGE


@functools.cache  # the package does not change while it runs
def named(folder: str, function: str) -> tuple[str, ...]:
  """Names of the files in rsrc_jax/FOLDER that define `function`, in order."""
  defines = re.compile(rf"^def {function}\(", re.M)
  files = sorted((PACKAGE / folder).glob("*.py"))
  return tuple(x.stem for x in files if defines.search(x.read_text("utf-8")))


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
    found = configs.module(name)
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


def loop_path(config) -> str:
  """The import path, or the file, of the loop that `config.loop` names."""
  name = config.get("loop") or "train"
  return old_configs.OLD_LOOPS.get(name, name)


def loop_of(config) -> ModuleType:
  """The module that `config.loop` names: train(config, workdir), and show.

  A dotted import path or a Python file of the user's; "train" and "refine" are
  the names that older runs have stored.

  Raises:
    ValueError: there is no such module, or it has no train().
  """
  name, path = config.get("loop") or "train", loop_path(config)
  try:
    if path.endswith(".py"):
      module = configs.module(path)
    else:
      module = importlib.import_module(path)
  except (ModuleNotFoundError, FileNotFoundError) as error:
    raise ValueError(
      f"config.loop={name!r}: {error}. Give the import path of a module that "
      "has train(config, workdir), as rsrc_jax.train and "
      "rsrc_jax.recursive.loop have, or a path that ends in .py."
    ) from None
  if not callable(getattr(module, "train", None)):
    raise ValueError(
      f"config.loop={name!r} has no train(config, workdir) -> summary."
    )
  return module
