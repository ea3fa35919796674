"""The files of a run directory, read; what a report is made from."""

import json
import pathlib
from typing import NamedTuple

from rsrc_jax.report import arms as run_arms
from rsrc_jax.report.arms import Arms


class Run(NamedTuple):
  """A run, as every section of a report gets it.

  A file that is missing or broken is empty here, and named in `missing`.
  """

  name: str  # of its directory
  folder: pathlib.Path
  config: dict  # config.json
  environment: dict  # environment.json: packages, machine, git revision
  summary: dict  # summary.json: held-out results, ledger, RSRC
  metrics: list[dict]  # lines of metrics.jsonl
  samples: list[dict]  # lines of samples.jsonl: s, c and d of the test split
  missing: list[str]  # a sentence on each file that can't be used
  arms: Arms  # which arm the report is about, and the looks of all
  drawings: dict[str, str]  # figure -> its SVG, "" where there was no data


def of(
  name: str = "run",
  folder: str | pathlib.Path = ".",
  *,
  config: dict | None = None,
  environment: dict | None = None,
  summary: dict | None = None,
  metrics: list[dict] | None = None,
  samples: list[dict] | None = None,
  missing: list[str] | None = None,
) -> Run:
  """A run of these contents, without figures yet."""
  config, summary, metrics = config or {}, summary or {}, metrics or []
  return Run(
    name, pathlib.Path(folder), config, environment or {}, summary, metrics,
    samples or [], [*(missing or []), *run_arms.problems(config)],
    run_arms.of(summary, config, metrics), {},
  )  # fmt: skip


def load(folder: str | pathlib.Path) -> Run:
  """Reads a run directory, as far as it has been written."""
  folder = pathlib.Path(folder)
  found, missing = {}, []
  for name in ("config", "environment", "summary"):
    found[name], problem = _read_object(folder / f"{name}.json")
    missing += problem
  if missing and not found["summary"]:
    missing[-1] += (
      " The run is still going, or it was interrupted before its held-out "
      "evaluation."
    )
  for name in ("metrics", "samples"):
    found[name], problem = _read_lines(folder / f"{name}.jsonl")
    missing += problem
  return of(folder.resolve().name, folder, **found, missing=missing)


def _read_object(path: pathlib.Path) -> tuple[dict, list[str]]:
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}, [f"{path.name} is missing."]
  except ValueError:
    return {}, [f"{path.name} cannot be read as JSON."]
  if not isinstance(value, dict):
    return {}, [f"{path.name} does not hold an object."]
  return value, []


def _read_lines(path: pathlib.Path) -> tuple[list[dict], list[str]]:
  try:
    # Not splitlines(): a code may hold characters that Unicode calls newlines.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
  except FileNotFoundError:
    return [], [f"{path.name} is missing."]
  values, broken = [], 0
  for line in filter(str.strip, lines):
    try:
      value = json.loads(line)
    except ValueError:
      value = None
    if isinstance(value, dict):
      values.append(value)
    else:
      broken += 1  # an interrupted run may end in half a line
  if not values:
    return [], [f"{path.name} is empty."]
  return values, [f"{path.name}: {broken} unreadable line(s) left out."] * (
    broken > 0
  )
