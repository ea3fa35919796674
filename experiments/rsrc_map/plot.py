"""Draws the survival map of the C -> D -> V experiments from their summaries.

  ./.venv/bin/python experiments/rsrc_map/plot.py

Reads experiments/cdv_*/results/VARIANT-SEED.json, leaves out those without an
`rsrc` block, and writes beside this file, the same bytes every time:

  survival_map.{png,svg,csv,json}  RSRC_t(n) (ours) against RSRC_i (ours)
  compute.{png,svg,csv}            bits saved against FLOPs over training
  table.md                         the means over seeds

An experiment joins by storing its summaries: its arms appear as
EXPERIMENT/VARIANT arm.
"""

import json
import math
from pathlib import Path

from matplotlib.figure import Figure

from rsrc_jax.output import files
from rsrc_jax.output.plain import csv_text
from rsrc_jax.report import style, survival_map

HERE = Path(__file__).resolve().parent
PLAIN = ("cdv_tiny", "default")  # whose arms go by their own names
SHARED = ("compressor", "untrained")  # alike in all variants of one corpus


def load(root: Path) -> tuple[list[dict], list[str]]:
  """Summaries whose arms have names of their own, and what was left out."""
  found, absent, corpora = [], [], set()
  for path in sorted(root.glob("cdv_*/results/*.json")):
    summary = json.loads(path.read_text())
    experiment = path.parent.parent.name
    variant = path.stem.rsplit("-", 1)[0]
    if "rsrc" not in summary:
      absent.append(f"{experiment}/{path.name}")
      continue
    digest = summary["corpus"]["digest"]
    plain = (experiment, variant) == PLAIN
    prefix = "" if plain else f"{experiment}/{variant} "
    arms = {
      prefix + name: entry
      for name, entry in summary["rsrc"]["arms"].items()
      if entry["kind"] not in SHARED or digest not in corpora
    }
    corpora.add(digest)
    for name, entry in arms.items():
      entry["label"] = name
    # The trajectories go by the same names.
    summary["trajectory"] = {
      new: summary["trajectory"][old]
      for new, old in ((n, n.rsplit(" ", 1)[-1]) for n in arms)
      if old in summary["trajectory"]
    }
    summary["rsrc"]["arms"] = arms
    found.append(summary)
  return found, absent


def curves(summaries: list[dict]) -> list[dict]:
  """Rows of compute.csv: every evaluation of every arm and seed."""
  return [
    {"arm": arm, "seed": summary["seed"], **point}
    for summary in summaries
    for arm, points in summary["trajectory"].items()
    for point in points
  ]


def compute(rows: list[dict]) -> Figure:
  """Bits saved on validation sources against FLOPs; seeds pale, means bold."""
  figure = Figure(figsize=(8.2, 4.6), constrained_layout=True)
  axes = figure.subplots()
  for name in dict.fromkeys(row["arm"] for row in rows):
    known, last = name in style.ARMS, name.rsplit(" ", 1)[-1]
    look = style.arm(name if known else last)
    line = {"color": look.color, "ls": "-" if known else "--"}
    mine = [row for row in rows if row["arm"] == name]
    for seed in dict.fromkeys(row["seed"] for row in mine):
      one = [row for row in mine if row["seed"] == seed]
      axes.plot(*_xy(one), alpha=0.25, lw=0.9, **line)
    steps = dict.fromkeys(row["step"] for row in mine)
    same = [[row for row in mine if row["step"] == step] for step in steps]
    mean = lambda key, rows: math.fsum(row[key] for row in rows) / len(rows)
    average = [
      {k: mean(k, x) for k in ("flops", "verified_bits")} for x in same
    ]
    axes.plot(
      *_xy(average), marker=look.marker, markersize=4,
      label=look.label if known else name, **line,
    )  # fmt: skip
  axes.set_xscale("log")
  axes.set(
    xlabel="training FLOPs so far, base included",
    ylabel="bits saved a sample, validation (uniform V)",
  )
  axes.legend(frameon=False, fontsize=8)
  return figure


def _xy(rows: list[dict]) -> tuple[list[float], list[float]]:
  return [r["flops"] for r in rows], [r["verified_bits"] for r in rows]


def table(points: list[dict]) -> str:
  """Markdown: every arm's mean over its seeds."""
  lines = [
    "| arm | seeds | bits saved a sample (5-95 %) | under the frozen model | "
    "J a sample | training, J | RSRC_i (ours) | RSRC_t(n) (ours) | "
    "RSRC_life(n) (ours) | samples until the state is paid | m* |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
  ]
  for p in points:
    if p["mark"] != "mean":
      continue
    frozen = _shown(p["bits_saved_frozen"])
    lines.append(
      f"| {p['label']} | {p['seeds']} | {_shown(p['bits_saved'])} "
      f"({_shown(p['bits_saved_p5'])} to {_shown(p['bits_saved_p95'])}) | "
      f"{frozen} | {_shown(p['joules'])} | {_shown(p['training_joules'])} | "
      f"{_shown(p['rsrc_i'])} | {_shown(p['rsrc_t'])} | "
      f"{_shown(p['rsrc_life'])} | {_shown(p['break_even_samples'])} | "
      f"{_shown(p['m_star_joules'])} |"
    )
  return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
  if value is None:
    return "-"
  return "∞" if math.isinf(value) else f"{value:.3g}"


def main():
  summaries, absent = load(HERE.parent)
  points = survival_map.points(summaries)
  survival_map.write(points, HERE)
  rows = curves(summaries)
  text = csv_text(list(rows[0]), rows)
  files.write_text(HERE / "compute.csv", text)
  style.save("compute", lambda: compute(rows), HERE)
  text = table(points)
  (HERE / "table.md").write_text(text)
  print(text)
  n = summaries[0]["rsrc"]["samples_served"]
  print(f"{len(summaries)} summaries; n = {n:,.0f} samples served (declared).")
  if absent:
    print(f"Without an rsrc block, left out: {', '.join(absent)}.")


if __name__ == "__main__":
  main()
