"""Configs are Python files with a get_config(); one may start from another.

A config is named by its path, or by the bare name of a shipped one ("tiny").
"""

import difflib
import importlib
import importlib.util
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from rsrc_jax.runtime import old_configs, places


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


def load_config(
  name: str | Path = "tiny", /, **settings: Any
) -> ml_collections.ConfigDict:
  """A config with changed settings.

    load_config("tiny", steps=100, **{"model.width": 32})
    load_config("mine.py", model={"width": 32, "depth": 1})

  Args:
    name: of a shipped config, or the path of a file with get_config().
    **settings: values by dotted name; a dict holds settings of a block. Each
      must exist and keep its type. A new one, such as another arm, is set on
      the config that is returned: config.arms.mine = {...}.

  Raises:
    ValueError: there is no such config or setting, or a value has another type.
  """
  config = load(find(name))
  for field, value in settings.items():
    _set(config, field, value)
  return config


def find(name: str | Path) -> str:
  """The path of a config: a file, or a shipped one by name or as configs/NAME.

  A path that exists is returned as it is. FILE:ARGUMENT, which absl hands on to
  get_config(), keeps its argument.

  Raises:
    ValueError: there is no such config.
  """
  name = str(name)
  if Path(name).is_file():
    return name
  path, colon, argument = name.partition(":")
  if colon:
    return f"{find(path)}:{argument}"
  folder, given = places.configs(), Path(name)
  if given.parent in (Path(), Path("configs")):
    shipped = folder / f"{given.name.removesuffix('.py')}.py"
    if shipped.is_file():
      return str(shipped)
  names = sorted(path.stem for path in folder.glob("*.py"))
  near = difflib.get_close_matches(given.stem, names, n=3, cutoff=0.4)
  raise ValueError(
    f"config {name!r}: no such file, and none of the {len(names)} shipped "
    f"configs{', of which the nearest are ' * bool(near)}{', '.join(near)}: "
    f"{places.command()} --list shows them all."
  )


def resolved(argv: Sequence[str], default: str = "") -> list[str]:
  """The arguments of a command line, with --config=NAME as --config=PATH.

  default: the config where none is named; "": none is added.

  Raises:
    ValueError: there is no such config.
  """
  found, value_follows = [], False
  for word in argv:
    flag, equals, value = word.partition("=")
    if value_follows:
      word, value_follows = find(word), False
    elif flag in ("--config", "-config"):
      value_follows = not equals
      word = f"{flag}={find(value)}" if equals else word
    found.append(word)
  named = any(x.partition("=")[0] in ("--config", "-config") for x in argv)
  return (
    found if named or not default else [f"--config={find(default)}", *found]
  )


def from_flags(argv: Sequence[str]) -> ml_collections.ConfigDict:
  """The config of the flags `--config=FILE --config.NAME=VALUE ...`.

  Raises:
    ValueError: there is no such file or setting, or it can't have that value.
  """
  line, values = ["run", *resolved(argv)], flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
  left = parsed(line, values)[1:]
  config = values.config
  if left:
    raise ValueError(f"unknown argument {left[0]!r}: settings start with --")
  return config


def parsed(
  argv: Sequence[str], values: flags.FlagValues = flags.FLAGS
) -> list[str]:
  """Parses a command line whose --config is a path, as absl does.

  Args:
    argv: the program and its arguments.
    values: where the flags are defined.

  Returns:
    The program and what is no flag.

  Raises:
    ValueError: there is no such flag or setting, or it can't have that value;
      one line, with the nearest one.
  """
  try:
    return values(list(argv))
  except (
    flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError,
  ) as error:  # fmt: skip
    for name, value in _settings(argv[1:]):
      _check_setting(argv, name, value)
    said = " ".join(str(error.args[0] if error.args else error).split())
    given = shlex.join(argv[1:])
    raise ValueError(f"{given}: {said}") from error


def _settings(argv: Sequence[str]):
  """The (name, text) of each --config.NAME=TEXT, or with a blank between."""
  for word, following in zip(argv, [*argv[1:], ""], strict=True):
    flag, equals, value = word.partition("=")
    if flag.startswith(("--config.", "-config.")):
      yield flag.partition("config.")[2], value if equals else following


def _check_setting(argv: Sequence[str], name: str, value: str) -> None:
  """Raises ValueError if no setting is called so or has such a value.

  argv: the command line, which names the config.
  """
  path = next(
    (x.partition("=")[2] for x in argv if x.startswith("--config=")), ""
  )
  if not path or not Path(path).is_file():
    return
  settings = old_configs.flat(load(path).to_dict())
  if name not in settings:
    blocks = {x.rpartition(".")[0] for x in settings}
    if name in blocks:
      raise ValueError(
        f"config.{name}={value} is a block of settings: set one of them, such "
        f"as {next(x for x in settings if x.startswith(name))}."
      )
    raise ValueError(
      f"config.{name}={value}: there is no such setting."
      f"{nearest(name, [*settings], 'config.')}"
    )
  before = settings[name]
  if isinstance(before, bool) or not isinstance(before, int | float):
    return
  try:
    type(before)(value)
  except ValueError:
    raise ValueError(
      f"config.{name}={value} must be {_type_name(before)}, such as {before!r}."
    ) from None


def _set(config: ml_collections.ConfigDict, name: str, value: Any) -> None:
  """Sets one setting, or those of a block; they must exist, and keep types."""
  *blocks, last = name.split(".")
  block = config
  for part in blocks:
    block = block.get(part) if hasattr(block, "get") else None
  if not hasattr(block, "get") or last not in block:
    known = [*old_configs.flat(config.to_dict())]
    raise ValueError(
      f"config.{name}={value!r}: there is no such setting."
      f"{nearest(name, known, 'config.')}"
    )
  before = block[last]
  if isinstance(before, ml_collections.ConfigDict) and len(before):
    if not isinstance(value, Mapping):
      raise ValueError(
        f"config.{name}={value!r} is a block of settings: give a dict, or "
        f"{name}.NAME=VALUE."
      )
    for field, part in value.items():
      _set(config, f"{name}.{field}", part)
    return
  try:
    block[last] = tuple(value) if isinstance(value, list) else value
  except TypeError:
    raise ValueError(
      f"config.{name}={value!r} must be {_type_name(before)}, such as "
      f"{before!r}."
    ) from None


def _type_name(value: Any) -> str:
  name = type(value).__name__
  return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def nearest(name: str, names: Sequence[str], prefix: str = "") -> str:
  """A sentence with the most similar name, or nothing."""
  found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
  if not found:  # of the last part alone: "width" for "model.width"
    last = {x.rpartition(".")[2]: x for x in reversed(names)}
    near = difflib.get_close_matches(name.rpartition(".")[2], last, n=1)
    found = [last[x] for x in near]
  return f" Did you mean {prefix}{found[0]}?" if found else ""
