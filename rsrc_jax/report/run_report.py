"""The report of a run: reads a run directory, writes one page to read in it.

  python -m rsrc_jax.report RUN_DIR

The page and its figures follow from the files of the directory alone; its
config.json says which arm the report is about and how arms are drawn
(report/arms.py). What a run has not written (yet) is named on the page and left
out of it.
"""

import pathlib
import sys

from matplotlib.figure import Figure
from rich.table import Table

from rsrc_jax.output import files
from rsrc_jax.output.plain import complain, plain
from rsrc_jax.report import (
  curve_table,
  figures,
  heldout_table,
  reward_table,
  rsrc_table,
  run_files,
  style,
  survival_map,
)
from rsrc_jax.report.page import page
from rsrc_jax.report.run_files import Run


def main(arguments: list[str]) -> int:
  """The command line."""
  if len(arguments) != 1 or not pathlib.Path(arguments[0]).is_dir():
    print("usage: python -m rsrc_jax.report RUN_DIR", file=sys.stderr)
    return 2
  try:
    print(plain(write(arguments[0])))
  except OSError as error:
    complain(f"the report can't be written: {files.said(error)}")
    return 1
  return 0


def write(folder: str | pathlib.Path) -> pathlib.Path:
  """Writes report.html and figures/ into a run directory; -> the page's path.

  Reads nothing but the run directory, and gives the same bytes every time.
  """
  return _write(run_files.load(folder))


def figure(folder: str | pathlib.Path, name: str) -> Figure:
  """One figure of a run, to be shown in a notebook.

  Args:
    folder: a run directory, finished or not.
    name: curve (older runs: budget), learning, vocabulary, length, compute,
      plateaus or ledger.

  Raises:
    ValueError: the run has no such figure.
  """
  makers = figures.makers(run_files.load(folder))
  if name not in makers:
    raise ValueError(
      f"{folder} has no figure {name!r}, but {', '.join(makers)}."
    )
  return makers[name]()


def show(
  summary: dict, folder: str | pathlib.Path
) -> tuple[pathlib.Path, list[Table]]:
  """Writes the report of a run that has ended; -> its path, tables to print.

  summary: what the loop returned, which is what summary.json holds.
  """
  run = run_files.load(folder)
  tables = [heldout_table.table(summary, run.arms)]
  shown = run._replace(summary=summary)
  found = (curve_table.table(shown), reward_table.table(shown))
  tables += [x for x in found if x is not None]
  if heldout_table.ood_rows(summary, run.arms):
    tables.append(heldout_table.ood_table(summary, run.arms))
  if survival_map.marks(summary, run.arms):
    tables.append(rsrc_table.rsrc_table(summary, run.arms))
  return _write(run), tables


def _write(run: Run) -> pathlib.Path:
  folder = run.folder / "figures"
  folder.mkdir(exist_ok=True)
  drawings = {
    name: style.save(name, make, folder)
    for name, make in figures.makers(run).items()
  }
  if marks := survival_map.marks(run.summary, run.arms):
    drawings["survival_map"] = survival_map.write(marks, folder, arms=run.arms)
  path = run.folder / "report.html"
  text = page(run._replace(drawings=drawings))
  files.write_text(path, text)
  return path
