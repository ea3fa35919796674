"""Figures, tables and the page of a run of recursive models.

python -m rsrc_jax.recursive.report RUN_DIR
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from rsrc_jax.output import files
from rsrc_jax.output.plain import complain, plain
from rsrc_jax.report import html, style
from rsrc_jax.report.html import section, text

# Okabe and Ito's palette, by arm; others are grey.
COLORS = {
  "trm": "#0072b2", "trm_medium": "#56a8d6", "dis_random": "#d55e00",
  "dis_solver": "#a8487f", "final_target": "#00855f", "ff_deep": "#3e4c59",
  "ff_small": "#9aa5b1",
}  # fmt: skip
DEAD = "#f1e4e0"
# passes: calls of the net for an answer, and on average for an item in
# training; dead: share of the supersteps after s*.
COLUMNS = (
  ("exact", "exact"), ("cell", "cells"), ("params", "params"),
  ("passes_inference", "passes"),
  ("passes_per_item", "in training"),
  ("s_star", "s*"), ("supersteps", "of"), ("dead_fraction", "dead"),
)  # fmt: skip
CAPTIONS = {
  "supersteps": "Share of test puzzles with every cell right, after each "
  "superstep. Shaded: the supersteps from which the share stays within one "
  "point of its end, dead by outcome.",
  "passes": "Share of validation puzzles with every cell right, against what "
  "training has cost until then.",
  "steps": "What a superstep does, means over cells of test puzzles: how much "
  "the answer's log-probability changes (advantage, without its sign), how far "
  "the readout moves (KL), how many cells change.",
  "skip": "Share of test puzzles lost where one superstep is left out, with "
  "95 % intervals over puzzles.",
  "stopping": "Stopping early by a rule, item by item: share right against "
  "supersteps used.",
  "board": "A test puzzle as it is solved, superstep by superstep. Blue: what "
  "was given; green: right; red: wrong.",
}


def main(arguments: list[str]) -> int:
  """The command line."""
  if len(arguments) != 1 or not pathlib.Path(arguments[0]).is_dir():
    print("usage: python -m rsrc_jax.recursive.report RUN_DIR", file=sys.stderr)
    return 2
  folder = pathlib.Path(arguments[0])
  path, remedy = folder / "summary.json", "Give the run's command again."
  try:
    print(plain(show(files.read_json(path, remedy), folder)[0]))
  except (ValueError, OSError) as error:
    said = files.said(error) if isinstance(error, OSError) else error
    complain(f"the report can't be made: {said}")
    return 1
  return 0


def show(
  summary: dict, workdir: str | pathlib.Path
) -> tuple[pathlib.Path, list[Table]]:
  """Writes the page and its figures; -> its path, tables to print."""
  workdir = pathlib.Path(workdir)
  boards = files.read_jsonl(workdir / "samples.jsonl")
  folder = workdir / "figures"
  folder.mkdir(exist_ok=True)
  drawings = {
    name: style.save(name, make, folder)
    for name, make in draw(summary["arms"], boards).items()
  }
  path = workdir / "report.html"
  files.write_text(path, page(workdir.resolve().name, summary, drawings))
  return path, [table(summary)]


def table(summary: dict) -> Table:
  """The arms, one row each."""
  title = f"{summary['source']}, {summary['test']} test puzzles"
  found = Table(
    title=Text(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    show_edge=False, title_justify="left",
  )  # fmt: skip
  found.add_column("arm")
  for _, title in COLUMNS:
    found.add_column(title, justify="right")
  for name, arm in summary["arms"].items():
    found.add_row(name, *(_cell(arm, key) for key, _ in COLUMNS))
  return found


def draw(arms: dict, boards: list) -> dict[str, Callable[[], Figure]]:
  """The figures by name."""
  figures = {
    "supersteps": lambda: supersteps(arms),
    "passes": lambda: spending(arms),
    "steps": lambda: advantages(arms),
    "skip": lambda: skipping(arms),
    "stopping": lambda: stopping(arms),
  }
  for board in boards:
    if board["row"] == 0:
      figures[f"board_{board['arm']}"] = lambda board=board: strip(board)
  return figures


def supersteps(arms: dict) -> Figure:
  """Accuracy by superstep, a panel an arm, the dead part shaded."""
  arms = {n: a for n, a in arms.items() if a["supersteps"] > 1}
  figure, panels = _row(max(len(arms), 1), 2.6)
  for axes, (name, arm) in zip(panels, arms.items(), strict=False):
    x = np.arange(len(arm["exact"]))
    axes.axvspan(arm["s_star"], x[-1], color=DEAD, lw=0)
    axes.plot(x, arm["exact"], color=_color(name), marker=".")
    axes.plot(x, arm["cell"], color=_color(name), lw=1.0, ls=":")
    axes.set(title=name, xlabel="superstep", ylim=(0, 1.02))
  panels[0].set_ylabel("exact (dotted: cells)")
  return figure


def spending(arms: dict) -> Figure:
  """Accuracy against updates, executed passes, FLOPs and seconds."""
  kinds = {"step": "updates", "passes": "passes a slot, executed",
           "flops": "FLOPs of products", "seconds": "seconds"}  # fmt: skip
  figure, panels = _row(4, 2.8)
  for axes, (key, title) in zip(panels, kinds.items(), strict=True):
    for name, arm in arms.items():
      x = [max(point[key], 1e-9) for point in arm["curve"]]
      y = [point["exact"] for point in arm["curve"]]
      axes.plot(x, y, color=_color(name), marker=".", label=name)
    axes.set(xlabel=title, ylim=(0, 1.02))
    if key != "step":
      axes.set_xscale("log")
  panels[0].set_ylabel("exact")
  panels[0].legend(frameon=False, fontsize=7.5)
  return figure


def advantages(arms: dict) -> Figure:
  """Advantage, KL and flips by superstep."""
  figure, panels = _row(3, 3.4)
  for axes, key in zip(panels, ("advantage", "kl", "flip"), strict=True):
    for name, arm in arms.items():
      y = np.abs(np.asarray(arm[key]))
      x = np.arange(1, len(y) + 1)
      axes.plot(
        x, np.maximum(y, 1e-6), color=_color(name), marker=".", label=name
      )
    axes.set(xlabel="superstep", yscale="log", title=key)
  panels[0].set_ylabel("nats a cell; share of cells")
  panels[2].legend(frameon=False, fontsize=7.5)
  return figure


def skipping(arms: dict) -> Figure:
  """What leaving out one superstep loses."""
  arms = {n: a for n, a in arms.items() if a["supersteps"] > 1}
  figure, panels = _row(max(len(arms), 1), 2.6)
  for axes, (name, arm) in zip(panels, arms.items(), strict=False):
    mean = np.asarray([s["mean"] for s in arm["skip"]])
    ends = np.asarray([[s["low"], s["high"]] for s in arm["skip"]]).T
    x = np.arange(1, len(mean) + 1)
    axes.bar(x, mean, color=_color(name))
    axes.vlines(x, *ends, color=style.INK, lw=1.0)
    axes.set(title=name, xlabel="left out")
  panels[0].set_ylabel("share lost")
  return figure


def stopping(arms: dict) -> Figure:
  """Exact against supersteps used, by rule."""
  arms = {n: a for n, a in arms.items() if a["supersteps"] > 1}
  figure, panels = _row(max(len(arms), 1), 2.6)
  marks = {"kl": "o-", "varentropy": "s-", "own_margin": "^-", "head": "D",
           "all": "*"}  # fmt: skip
  for axes, (name, arm) in zip(panels, arms.items(), strict=False):
    for rule, mark in marks.items():
      points = arm["stop"][rule]
      axes.plot(
        [p["steps"] for p in points], [p["exact"] for p in points], mark,
        ms=4, lw=1.0, label=rule,
      )  # fmt: skip
    axes.set(title=name, xlabel="supersteps used")
  panels[0].set_ylabel("exact")
  panels[-1].legend(frameon=False, fontsize=7.5)
  return figure


def strip(board: dict) -> Figure:
  """A puzzle, and the readout of it after each superstep."""
  readouts, side = board["said"], board["side"]
  last = len(readouts) - 1
  pick = sorted({*np.linspace(0, last, min(len(readouts), 8)).astype(int)})
  grids = [board["question"], *(readouts[n] for n in pick), board["answer"]]
  titles = ["question", *(f"after {n + 1}" for n in pick), "answer"]
  figure = Figure(figsize=(1.35 * len(grids), 1.6))
  figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.84)
  for axes, grid, title in zip(
    figure.subplots(1, len(grids)), grids, titles, strict=True
  ):
    _board(axes, np.asarray(grid), board, side)
    axes.set_title(title, fontsize=8, loc="center", pad=4)
  return figure


def page(name: str, summary: dict, drawings: dict[str, str]) -> str:
  """The document."""
  rows = "".join(
    f"<tr><th>{text(name)}</th>"
    + "".join(f"<td>{text(_cell(arm, key))}</td>" for key, _ in COLUMNS)
    + "</tr>"
    for name, arm in summary["arms"].items()
  )
  head = "".join(f"<th>{text(title)}</th>" for _, title in COLUMNS)
  pictures = "".join(
    f"<figure>{svg}<figcaption>{text(_caption(n))}</figcaption></figure>"
    for n, svg in drawings.items()
    if svg
  )
  facts = (
    f"{summary['source']} · {summary['train']} training puzzles · "
    f"{summary['test']} test puzzles · seed {summary['seed']} · "
    f"{summary['seconds'] / 60:.1f} minutes"
  )
  table = f"<table><tr><th>arm</th>{head}</tr>{rows}</table>"
  return html.document(
    name,
    html.header("report of a run", name, facts)
    + section("Results", table)
    + section("Figures", pictures),
  )


def _row(count: int, width: float) -> tuple[Figure, list[Axes]]:
  """A figure of panels side by side."""
  figure = Figure(figsize=(max(width * count, 4.0), 2.9))
  figure.subplots_adjust(
    left=0.07 if count > 3 else 0.1, right=0.985, bottom=0.19, top=0.88,
    wspace=0.32,
  )  # fmt: skip
  return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _board(axes: Axes, grid: np.ndarray, board: dict, side: int) -> None:
  """One grid: digits where there are few symbols, colours where many cells."""
  given = np.asarray(board["question"]) == np.asarray(board["answer"])
  right = grid == np.asarray(board["answer"])
  blank = (grid == 0) & ~given
  colors = np.where(
    (given & right)[:, None], [[0.84, 0.9, 0.96]],
    np.where(right[:, None], [[0.8, 0.93, 0.84]], [[0.97, 0.8, 0.76]]),
  )  # fmt: skip
  colors[blank] = 1.0
  axes.imshow(colors.reshape(side, side, 3), interpolation="nearest")
  if side <= 9 and board["name"].startswith("sudoku"):
    for cell, digit in enumerate(grid):
      if digit:
        axes.text(
          cell % side, cell // side, str(digit), ha="center", va="center",
          fontsize=6.5 if side > 6 else 8,
        )  # fmt: skip
  axes.set(xticks=[], yticks=[])
  axes.grid(visible=False)


def _color(name: str) -> str:
  return COLORS.get(name, style.FAINT)


def _cell(arm: dict[str, Any], key: str) -> str:
  value = arm[key]
  value = value[-1] if isinstance(value, list) else value
  return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _caption(name: str) -> str:
  kind, _, arm = name.partition("_")
  return CAPTIONS[kind] + (f" Arm: {arm}." if arm else "")


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
