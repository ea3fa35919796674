"""Table of the exploratory arms at three tokens, from stored results.

  ./.venv/bin/python experiments/core/explore_table.py

Reads results/explore-SEED.json and, for what each arm is held against,
results/core-SEED.json of the same seeds, and the new D's of
results/fresh-SEED.json (fresh.py); writes explore.md.
"""

from pathlib import Path

import numpy as np

from experiments.core import explore, table
from experiments.over_seeds import contrast, markdown, shown, summaries

HERE = Path(__file__).resolve().parent
COLUMNS = {
  "mean_tokens": ("tokens", 2),
  "bits_conveyed": ("bits conveyed", 2),
  "edit_similarity": ("edit similarity", 3),
  "exact": ("exact match", 3),
  "bits_per_channel_bit": ("bits a bit sent, own alphabet", 3),
}
# Arm -> the arm of the grid that it differs from in one thing.
AGAINST = (
  dict.fromkeys(explore.OF_FULL, "full")
  | dict.fromkeys(explore.OF_MASK, "no_injection")
  | dict.fromkeys(explore.WRITTEN, "plain")
  | {"matched_masked": "no_injection", "x2": "plain", "x2_rl": "plain"}
  | {"pairs": "extract", "pairs_rl": "english_rl"}
)


def row(run: dict, arm: str) -> dict:
  """The curve's row of an arm whose codes were told no budget."""
  return next(
    x for x in run["curve"] if x["arm"] == arm and x["budget"] is None
  )


def values(runs: list[dict], arm: str, name: str) -> np.ndarray:
  """A column of `curve`, [seeds]."""
  return np.array([row(run, arm)[name] for run in runs])


def text(runs: list[dict], grid: list[dict], readers: list[dict] = ()) -> str:
  """Markdown of all; grid: the runs of sweep.py, readers: those of fresh.py."""
  if not runs:
    return "not run: no results/explore-SEED.json.\n"
  lines = [
    [arm, *(shown(values(runs, arm, x), n) for x, (_, n) in COLUMNS.items())]
    for arm in explore.arms()
  ]
  by_seed = {run["seed"]: run for run in grid}
  both = [run for run in runs if run["seed"] in by_seed]
  own = [by_seed[run["seed"]] for run in both]
  pairs = [
    contrast(
      f"bits conveyed: {arm} - {other}",
      values(both, arm, "bits_conveyed"),
      values(own, f"{other}_k{explore.K}", "bits_conveyed"),
    )
    for arm, other in AGAINST.items()
    if both
  ]
  heads = ["difference", "mean, interval", "detectable", "more than 0"]
  seeds = ", ".join(str(run["seed"]) for run in runs)
  return "\n\n".join([
    f"Exploratory: seeds {seeds}; test split, greedy codes that were told no "
    "budget. Arms have the entropy bonus of their kin in the grid; nothing is "
    "corrected for the number of contrasts.",
    markdown(["arm", *(label for label, _ in COLUMNS.values())], lines),
    "\n".join([markdown(heads, []), *pairs]),
    doses(runs),
    fresh(list(readers)),
  ]) + "\n"  # fmt: skip


def fresh(found: list[dict]) -> str:
  """What the arms' own D and a new one read from their codes."""
  if not found:
    return "A new D: not run (fresh.py)."
  arms = dict.fromkeys(arm for x in found for arm in x["arms"])
  lines = []
  for arm in arms:
    have = [x["arms"][arm] for x in found if arm in x["arms"]]
    cells = [
      shown(np.array([x[f"{who}_{name}"] for x in have]), digits)
      for name, digits in (("bits", 2), ("edit", 3), ("exact", 3))
      for who in ("own", "base")
    ]
    ended = sum(x["base_ended"] > 0 for x in have)
    lines.append([arm, *cells, f"{ended} of {len(have)}"])
  heads = [f"{x}, {who}" for x in ("bits", "edit", "exact")
           for who in ("own D", "new D")]  # fmt: skip
  return markdown(["codes of", *heads, "new D had stopped"], lines)


def doses(runs: list[dict]) -> str:
  """What each arm met of the mechanisms, means over seeds."""
  names = ("hidden", "ban", "bonus", "use_rate", "decoy_rate", "swap_bits")
  lines = []
  for arm in runs[0]["doses"]:
    found = [table.dose(runs, arm, name) for name in names]
    lines.append([arm, *("-" if x is None else f"{x:.3f}" for x in found)])
  return markdown(["dose", *names], lines)


def main():
  folder = HERE / "results"
  stored = (summaries(folder, x) for x in ("explore", "core", "fresh"))
  found = text(*stored)
  (HERE / "explore.md").write_text(found)
  print(found)


if __name__ == "__main__":
  main()
