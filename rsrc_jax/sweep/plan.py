"""The runs of a sweep and their ids, before anything is started.

A config file may have get_sweep(), which yields overrides by dotted name, a
dict for each run: {"name": "unforced", "curriculum.hidden": 0.0}. The config of
FILE:ARGUMENT is get_config(ARGUMENT), its sweep get_sweep(ARGUMENT). A run's
folder is VARIANT-SEED-ID; the ID is provenance.identity of its config.
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.runtime import configs, old_configs, provenance

TOGETHER = ("auto", "loop", "vmap", "shard_map")  # rsrc_jax/population.py
LONGEST = 150  # characters of a name: a folder that can be made, and deleted


class Run(NamedTuple):
  """A run of a sweep.

  name: VARIANT-SEED. id: of its config. group: the same without its seeds.
  changes: settings that get_sweep() or --seeds set, as JSON has them.
  argv: the flags of rsrc_jax.main, without --workdir.
  """

  name: str
  variant: str
  seed: int
  id: str
  group: str
  changes: dict[str, Any]
  argv: tuple[str, ...]
  workdir: Path


class Plan(NamedTuple):
  """A sweep: where its config is, what holds for all runs, and the runs.

  settings: values of the config by dotted name, before a run's own changes.
  """

  config: str
  settings: dict[str, Any]
  runs: list[Run]


class Process(NamedTuple):
  """What is started: one run, or several that share a process."""

  name: str
  command: tuple[str, ...]
  runs: tuple[Run, ...]


def plan(
  path: str | Path,
  folder: Path,
  *,
  seeds: Sequence[int] = (),
  variants: Iterable[Mapping[str, Any]] | None = None,
  settings: Sequence[str] = (),
) -> Plan:
  """The runs of a config file.

  Args:
    path: of the config, or the name of a shipped one.
    folder: of the runs' folders.
    seeds: for every variant that sets none; by default the config's own.
    variants: overrides by dotted name; by default those of get_sweep().
    settings: `--config.NAME=VALUE` for all runs.

  Raises:
    ValueError: no runs, an unknown setting or value, or two runs of one name or
      of one id.
  """
  path = configs.find(path)
  flags = (f"--config={path}", *settings)
  base = _base(flags)
  grid = _with_seeds(_sweep(path) if variants is None else variants, seeds)
  if not grid:
    raise ValueError(f"{path}: get_sweep() gives no runs.")
  names = _names([x for x, _ in grid], stem(path))
  runs, by_id, by_name = [], {}, {}
  for name, (overrides, seed) in zip(names, grid, strict=True):
    run = _run(base, folder, name, {**overrides, **seed})
    if (other := by_name.get(run.name)) is not None:
      raise ValueError(
        f"two runs are called {run.name}, of {_shown(other.changes)} and of "
        f"{_shown(run.changes)}: give them names, or one of them."
      )
    if (other := by_id.get(run.id)) is not None:
      raise ValueError(
        f"{other.name} and {run.name} are the same run (id {run.id}): leave "
        "one of them out."
      )
    by_id[run.id] = by_name[run.name] = run
    runs.append(run)
  _check_ids(base, runs)
  return Plan(path, base.values, runs)


class _Base(NamedTuple):
  """The config of all runs before their own changes."""

  flags: tuple[str, ...]
  values: dict[str, Any]
  lines: dict[str, str]  # provenance.line of each value, in order
  known: dict[tuple[str, str], Any]  # (field, value) -> as the config has it


def _base(flags: tuple[str, ...]) -> _Base:
  values = provenance.settings(configs.from_flags(flags))
  lines = {k: provenance.line(k, v) for k, v in sorted(values.items())}
  return _Base(flags, values, lines, {})


def _sweep(path: str) -> Iterable[Mapping[str, Any]]:
  file, colon, argument = path.partition(":")
  if Path(path).is_file():
    file, colon = path, ""
  make = getattr(configs.module(file), "get_sweep", None)
  if make is None:
    return [{}]
  return make(argument) if colon else make()


def _with_seeds(variants, seeds) -> list[tuple[dict, dict]]:
  """Every variant with every seed, unless it sets its own."""
  grid = []
  for variant in variants:
    flat = old_configs.flat(dict(variant))
    own = [{}] if "seed" in flat else [{"seed": x} for x in seeds]
    grid += [(flat, seed) for seed in own or [{}]]
  return grid


def stem(path: str) -> str:
  """What a sweep is called: its config's name; that of its folder for sweep.py.

  experiments/cdv_tiny/sweep.py is cdv_tiny, and FILE:ARGUMENT has -ARGUMENT.
  """
  file, colon, argument = path.partition(":")
  file = Path(file)
  stem = file.resolve().parent.name if file.stem == "sweep" else file.stem
  return f"{stem}-{argument}" if colon else stem


def _names(grid: list[dict[str, Any]], stem: str) -> list[str]:
  """A name for each variant: its own, or one made of what it sets.

  Raises:
    ValueError: a name can't be a folder's.
  """
  fields = {name for x in grid for name in x} - {"name", "seed"}
  last = [x.rpartition(".")[2] for x in fields]
  short = {x: y if last.count(y) == 1 else x
           for x, y in zip(fields, last, strict=True)}  # fmt: skip
  found = []
  for overrides in grid:
    name = overrides.get("name")
    if name is None:
      # A seed of the data or of the draws belongs to the seed.
      parts = [f"{short[k]}={v}" for k, v in overrides.items()
               if k in short and not _is_seed(k)]  # fmt: skip
      name = _made_name("_".join(parts)) or stem
    elif not re.fullmatch(r"[^\W_-][^/\0]*", str(name)):
      raise ValueError(
        f"name={name!r}: a run's folder is called so: begin with a letter or "
        "a digit, and use no slash."
      )
    if len(str(name).encode()) > LONGEST:
      raise ValueError(f"name={name!r} is longer than {LONGEST} bytes.")
    found.append(str(name))
  return found


def _made_name(text: str) -> str:
  """A name for a folder; what it has to leave out of the text is hashed."""
  name = re.sub(r"[^\w.+=-]+", "~", text, flags=re.ASCII)
  if name == text and len(name) <= LONGEST:
    return name
  return f"{name[: LONGEST - 7]}~{provenance.digest([text])[:6]}"


def _is_seed(field: str) -> bool:
  return field.rpartition(".")[2] == "seed"


def _run(base: _Base, folder: Path, variant: str, overrides: dict) -> Run:
  """A run: its values are checked, and its id made of changed lines alone."""
  own = {k: v for k, v in overrides.items() if k != "name"}
  changes = {k: _value(base, k, v) for k, v in own.items()}
  changed = {k: provenance.line(k, v) for k, v in changes.items()}
  lines = {**base.lines, **changed}
  seed = int({**base.values, **changes}["seed"])
  id_ = provenance.digest(filter(None, lines.values()))
  group = provenance.digest(
    x for k, x in lines.items() if x and not _is_seed(k)
  )
  argv = (*base.flags, *(f"--config.{k}={v}" for k, v in own.items()))
  name = f"{variant}-{seed}"
  workdir = folder / f"{name}-{id_}"
  return Run(name, variant, seed, id_, group, changes, argv, workdir)


def _value(base: _Base, name: str, value: Any) -> Any:
  """A value as the config will have it, and JSON.

  Raises:
    ValueError: there is no such field, or it can't have that value.
  """
  if name not in base.values:
    near = configs.nearest(name, [*base.values], "config.")
    raise ValueError(
      f"get_sweep() sets {name}={value!r}: there is no such setting.{near}"
    )
  before, kind = base.values[name], type(base.values[name])
  if type(value) is kind and kind in (int, bool, str):
    return value
  if kind is float and type(value) in (int, float):
    value = float(value)
    if math.isnan(value):
      raise ValueError(f"get_sweep() sets {name}={value!r}: give a number.")
    return value
  if value is None or (isinstance(before, str) and not isinstance(value, str)):
    raise ValueError(
      f"get_sweep() sets {name}={value!r}, and the config has {before!r}: give "
      "a value of that type."
    )
  key = name, repr(value)
  if key not in base.known:
    config = configs.from_flags((*base.flags, f"--config.{name}={value}"))
    base.known[key] = provenance.settings(config)[name]
  return base.known[key]


def _check_ids(base: _Base, runs: list[Run]) -> None:
  """Compares one run of each set of changed fields with its own config.

  Raises:
    ValueError: the config has fields that follow others, so that an id of
      changed values alone isn't the run's.
  """
  for run in {tuple(x.changes): x for x in runs}.values():
    if not run.changes:
      continue
    values = provenance.settings(configs.from_flags(run.argv))
    expected = {**base.values, **run.changes}
    for name in {**values, **expected}:
      if values.get(name) != expected.get(name):
        raise ValueError(
          f"config.{name} follows another setting that the sweep changes: "
          "make it a setting of its own in get_config(), and set both in "
          "get_sweep()."
        )


def _shown(changes: Mapping[str, Any]) -> str:
  return json.dumps(changes, ensure_ascii=False) if changes else "the config"


def folder(runs: Path, variant: str, config: Any) -> Path:
  """The run directory of a config of a sweep."""
  return runs / f"{variant}-{config.seed}-{provenance.identity(config)}"


def processes(runs: Sequence[Run], together: str = "") -> list[Process]:
  """What to start for the runs.

  together: one of TOGETHER: the seeds of a variant share a process
    (rsrc_jax.population); empty: every run has its own.
  """
  if not together:
    start = (sys.executable, "-m", "rsrc_jax.main")
    return [
      Process(x.name, (*start, *x.argv, f"--workdir={x.workdir}"), (x,))
      for x in runs
    ]
  groups = {}
  for run in runs:
    same = tuple(x for x in run.argv if not x.startswith("--config.seed="))
    groups.setdefault((run.variant, same), []).append(run)
  return [_joined(*key, own, together) for key, own in groups.items()]


def _joined(variant: str, argv, runs: list[Run], how: str) -> Process:
  seeds = ",".join(str(run.seed) for run in runs)
  command = (
    sys.executable, "-m", "rsrc_jax.population", f"--together={how}",
    f"--seeds={seeds}", f"--runs={runs[0].workdir.parent}",
    f"--variant={variant}", *argv,
  )  # fmt: skip
  return Process(f"{variant}-{seeds}", command, tuple(runs))
