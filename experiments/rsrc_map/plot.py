"""Draws the survival map of all experiments from their stored summaries.

  ./.venv/bin/python experiments/rsrc_map/plot.py

Reads experiments/*/results/VARIANT-SEED.json, leaves out those without an
`rsrc` block, and writes survival_map.{png,svg,csv,json} and table.md beside
this file, the same bytes every time. An experiment joins the map by storing its
summaries: its arms appear as EXPERIMENT/VARIANT arm.
"""

import json
import math
from pathlib import Path

from rsrc_jax.metrics import survival_map

HERE = Path(__file__).resolve().parent
PLAIN = ("cdv_tiny", "default")  # whose arms go by their own names
SHARED = ("compressor", "untrained")  # alike in all variants of one corpus


def load(root: Path) -> tuple[list[dict], list[str]]:
  """Summaries whose arms have names of their own, and what was left out."""
  found, absent, corpora = [], [], set()
  for path in sorted(root.glob("*/results/*.json")):
    summary = json.loads(path.read_text())
    experiment = path.parent.parent.name
    variant = path.stem.rsplit("-", 1)[0]
    if "rsrc" not in summary:
      absent.append(f"{experiment}/{path.name}")
      continue
    digest = summary["corpus"]["digest"]
    arms = {
      name if (experiment, variant) == PLAIN else f"{experiment}/{variant} "
      f"{name}": entry
      for name, entry in summary["rsrc"]["arms"].items()
      if entry["kind"] not in SHARED or digest not in corpora
    }  # fmt: skip
    corpora.add(digest)
    for name, entry in arms.items():
      entry["label"] = name
    summary["rsrc"]["arms"] = arms
    found.append(summary)
  return found, absent


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
  text = table(points)
  (HERE / "table.md").write_text(text)
  print(text)
  n = summaries[0]["rsrc"]["samples_served"]
  print(f"{len(summaries)} summaries; n = {n:,.0f} samples served (declared).")
  if absent:
    print(f"Without an rsrc block, left out: {', '.join(absent)}.")


if __name__ == "__main__":
  main()
