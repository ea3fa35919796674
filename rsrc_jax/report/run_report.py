"""The report of a run: reads a run directory, writes one page to read in it.

  python -m rsrc_jax.report RUN_DIR

The page and its figures follow from the files of the directory alone. What a
run has not written (yet) is named on the page and left out of it.
"""

import json
import pathlib
import sys

from rsrc_jax.report import figures, rsrc_table, style, survival_map
from rsrc_jax.report.page import page


def main(arguments: list[str]) -> int:
  """The command line."""
  if len(arguments) != 1 or not pathlib.Path(arguments[0]).is_dir():
    print("usage: python -m rsrc_jax.report RUN_DIR", file=sys.stderr)
    return 2
  print(write(arguments[0]))
  return 0


def write(run_dir: str | pathlib.Path) -> pathlib.Path:
  """Writes run_dir/report.html and run_dir/figures/; returns the page's path.

  Reads nothing but the run directory, and gives the same bytes every time.
  """
  run_dir = pathlib.Path(run_dir)
  run, missing = load(run_dir)
  folder = run_dir / "figures"
  folder.mkdir(exist_ok=True)
  drawings = {
    name: style.save(name, make, folder)
    for name, make in figures.draw(run["summary"], run["metrics"]).items()
  }
  if marks := rsrc_table.marks(run["summary"]):
    drawings["survival_map"] = survival_map.write(marks, folder)
  path = run_dir / "report.html"
  name = run_dir.resolve().name
  path.write_text(page(name, run, missing, drawings), encoding="utf-8")
  return path


def load(run_dir: pathlib.Path) -> tuple[dict, list[str]]:
  """The files of a run, and a sentence on each that is missing or broken."""
  run, missing = {}, []
  for name in ("config", "environment", "summary"):
    run[name], problem = _read_object(run_dir / f"{name}.json")
    missing += problem
  if missing and not run["summary"]:
    missing[-1] += (
      " The run is still going, or it was interrupted before its held-out "
      "evaluation."
    )
  for name in ("metrics", "samples"):
    run[name], problem = _read_lines(run_dir / f"{name}.jsonl")
    missing += problem
  return run, missing


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
