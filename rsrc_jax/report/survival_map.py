"""The survival map: what a joule of training has bought against one of use.

log RSRC_t(n) (ours) over log RSRC_i (ours), with 5-95 % bars, the Pareto front
and lines of equal RSRC_life: 1 / life = 1 / RSRC_t(n) + 1 / RSRC_i, exact where
the untrained system saves nothing (k_0 = 0). The document "Recursive
Self-Referential Compression (RSRC)" speaks of a survival map and gives no
formula: axes, lines and definitions are ours.

  python -m rsrc_jax.accounting map RUN_OR_SUMMARY_OR_GLOB... --output FOLDER

Nothing is dropped for not fitting a logarithm: what saves no bits lies in the
gutters marked 0, what needed no training in the one marked ∞.
"""

import argparse
import glob
import json
import math
import pathlib
import sys
from typing import Any

from rsrc_jax.output import files
from rsrc_jax.output.plain import complain, csv_text
from rsrc_jax.output.plain import plain as harmless
from rsrc_jax.report import style, survival_layout, survival_plot
from rsrc_jax.report import survival_points as marked
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.numbers import amount, short
from rsrc_jax.report.style import ARMS, Looks
from rsrc_jax.report.survival_points import COLUMNS, Point


def points(
  summaries: list[dict], samples: float | None = None, looks: Looks = ARMS
) -> list[Point]:
  """Marks of the map, from the `rsrc` blocks of one or several seeds.

  Args:
    summaries: of runs of one experiment. One gives a mark an arm ("run"),
      several give a mark an arm and seed ("seed") and their mean ("mean").
    samples: n, the service volume that RSRC_t and RSRC_life are shown for; by
      default what the runs declare.
    looks: of arms, for their labels.

  Returns:
    Flat dicts. Energies in J, RSRC in bit/J, the rest in bits or samples;
    infinities are floats, what is unknown is None.

  Raises:
    ValueError: no block, or blocks that do not belong on one map.
  """
  blocks = [s.get("rsrc") for s in summaries]
  named = lambda x: isinstance(x, dict) and isinstance(x.get("arms"), dict)
  if not blocks or not all(named(x) and x["arms"] for x in blocks):
    raise ValueError('there is no "rsrc" block: give summaries that have one.')
  for key in ("definitions", "verifier"):
    if len(found := {str(block.get(key)) for block in blocks}) > 1:
      raise ValueError(
        f"{key} differs ({', '.join(sorted(found))}): one map shows one."
      )
  declared = {amount(block.get("samples_served")) for block in blocks}
  if samples is None and (len(declared) > 1 or None in declared):
    raise ValueError(
      f"samples_served is {', '.join(map(short, declared))}: RSRC_t(n) "
      "compares at one n only; give --samples."
    )
  found = [
    marked.at(
      marked.from_entry(summary, name, looks), samples or next(iter(declared))
    )
    for summary in summaries
    for name, entry in summary["rsrc"]["arms"].items()
    if isinstance(entry, dict)
  ]
  if len(summaries) > 1:
    found = [point | {"mark": "seed"} for point in found]
    names = dict.fromkeys(point["name"] for point in found)
    found += [
      marked.mean_of([p for p in found if p["name"] == n]) for n in names
    ]
  return marked.with_fronts(found)


def marks(summary: dict, arms: Arms) -> list[Point]:
  """The marks of one run's map; none where there is nothing to draw."""
  try:
    return points([summary], looks=arms.looks)
  except ValueError:
    return []


def write(
  points: list[Point],
  folder: str | pathlib.Path,
  name: str = "survival_map",
  arms: Arms | None = None,
) -> str:
  """Writes folder/name.png, .svg, .csv and .json; the same bytes every time.

  arms: of the run, for colours and markers; without them style.ARMS.

  Returns:
    The SVG, to put into a page.

  Raises:
    ValueError: no points.
  """
  if not points:
    raise ValueError("points is empty: there is nothing to draw.")
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  levels = survival_layout.levels(survival_layout.frame(points))
  files.write_text(folder / f"{name}.csv", _csv(points, levels))
  table = {"iso_life_bit_per_joule": levels, "points": plain(points)}
  files.write_json(folder / f"{name}.json", table)
  known = () if arms is None else (arms.looks, arms.headline)
  return style.save(name, lambda: survival_plot.figure(points, *known), folder)


def plain(value: Any) -> Any:
  """For JSON, which knows no infinity."""
  if isinstance(value, dict):
    return {key: plain(v) for key, v in value.items()}
  if isinstance(value, list):
    return [plain(v) for v in value]
  if isinstance(value, float) and math.isinf(value):
    return str(value)
  return value


def main(arguments: list[str]) -> int:
  """The command line; names every file that could not be drawn, and why."""
  parser = argparse.ArgumentParser(
    prog="python -m rsrc_jax.accounting map",
    description="Draws the survival map of one or several seeds.",
  )
  parser.add_argument("runs", nargs="+", metavar="RUN",
    help="run directory, summary.json, or a pattern of them")  # fmt: skip
  parser.add_argument("--output", required=True, type=pathlib.Path)
  parser.add_argument("--samples", type=float,
    help="n, the samples served; default: as the runs declare")  # fmt: skip
  given = parser.parse_args(arguments)
  if given.samples is not None and not 0 < given.samples < math.inf:
    complain(
      f"--samples is {given.samples}: give a positive number of samples served."
    )
    return 2
  summaries = []
  for run in given.runs:
    for path in sorted(glob.glob(run)) or [run]:
      summary, problem = _read(pathlib.Path(path))
      summaries += [summary] * (not problem)
      if problem:
        print(harmless(f"{path}: {problem}"), file=sys.stderr)
  try:
    found = points(summaries, given.samples)
    write(found, given.output)
  except ValueError as error:
    complain(error)
    return 1
  except OSError as error:
    complain(f"--output={given.output}: {files.said(error)}.")
    return 1
  for ending in ("png", "svg", "csv", "json"):
    print(harmless(given.output / f"survival_map.{ending}"))
  return 0


def _read(path: pathlib.Path) -> tuple[dict, str]:
  """A summary, or what is wrong with it in one line."""
  path = path / "summary.json" if path.is_dir() else path
  try:
    summary = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}, "no such file: give a run that has finished."
  except (ValueError, OSError):
    return {}, "cannot be read as JSON: give a summary.json."
  block = summary.get("rsrc") if isinstance(summary, dict) else None
  if not block:
    return {}, 'has no "rsrc" block: run it again, older runs kept no ledger.'
  arms = block.get("arms") if isinstance(block, dict) else None
  if not (isinstance(arms, dict) and arms):
    return {}, 'its "rsrc" block has no arms: it was edited, or cut short.'
  return summary, ""


def _csv(points: list[Point], levels: list[float]) -> str:
  """All marks, then a row for each line of equal life."""
  extra = dict.fromkeys(k for p in points for k in p if k not in COLUMNS)
  lives = [{"mark": "iso-life", "rsrc_life": level} for level in levels]
  return csv_text([*COLUMNS, *extra], [*points, *lives])
