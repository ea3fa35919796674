"""Draws the experiment's figure and prints its tables from stored results.

./.venv/bin/python experiments/policy_recursion/plot.py
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags

from experiments import over_seeds as seeds

HERE = Path(__file__).resolve().parent

VARIANTS = {
  "4x1": "4 blocks, once",
  "2x2": "2 blocks, twice",
  "1x4": "1 block, 4 times",
  "1x4_reinject": "1 block, 4 times, x added again",
  "1x1": "1 block, once (a quarter of the FLOPs)",
}
LOOPED = ("2x2", "1x4", "1x4_reinject")
# Which readouts may stop: those of loops, or of the layers of a plain stack.
STOPS = {"4x1": "layers", "2x2": "loops", "1x4": "loops"}
STOPS |= {"1x4_reinject": "loops"}
FLOOR = -20  # bits: an untrained readout can be off by hundreds
RULES = {"kl": "KL", "varentropy": "varentropy"}

FOLDER = flags.DEFINE_string(
  "folder", str(HERE), "Holds results/; figure and table go there."
)


def main(argv):
  del argv
  folder = Path(FOLDER.value)
  found = {}
  for name in VARIANTS:
    paths = (folder / "results").glob(f"{name}-*.json")
    runs = [json.loads(path.read_text()) for path in paths]
    if runs:
      found[name] = sorted(runs, key=lambda run: run["seed"])
  if not found:
    raise SystemExit(f"{folder}/results is empty: start measure.py first.")
  # Of the policy with most seeds; the first where several have as many.
  text = [seeds.made_with(max(found.values(), key=len)), "", *outcome(found)]
  text += ["", *seeds.CLAIMS, *claims(found)]
  text += ["", *table_of_loops(found), "", *table_of_stopping(found)]
  text += ["", *table_of_stops(found)]
  seeds.save(folder, figure(found), "\n".join(text))


def of(runs, *path) -> np.ndarray:
  """A value of every run by its path of keys, [seeds, ...]."""

  def get(run):
    for key in path:
      run = run[key]
    return run

  return np.array([get(run) for run in runs], float)


def bits(runs) -> np.ndarray:
  """Bits conveyed on the test split. [seeds]"""
  return of(runs, "heldout", "code", "bits_conveyed")


def conveyed(runs, kind: str) -> np.ndarray:
  """Bits conveyed if D were read after each loop, or layer. [seeds, R]"""
  whole = of(runs, "entropy_bits")[:, None]
  return whole + of(runs, "D", kind, "bits")


def outcome(found) -> list[str]:
  """What each variant has learnt, at what size and cost."""
  lines = [
    "| policy | parameters | TFLOPs in all | bits conveyed | tokens right |"
    " by seed (bits) |",
    "|---|---|---|---|---|---|",
  ]
  for name, runs in found.items():
    work = [run["trajectory"]["code"][-1]["flops"] / 1e12 for run in runs]
    each = ", ".join(f"{b:.2f}" for b in bits(runs))
    right = of(runs, "heldout", "code", "token_accuracy")
    lines.append(
      f"| {VARIANTS[name]} | {runs[0]['params']:,} | {np.mean(work):.3g} |"
      f" {seeds.shown(bits(runs))} | {seeds.shown(right)} | {each} |"
    )
  return lines


def claims(found) -> list[str]:
  """Differences over the seeds that both have."""
  lines = []
  for claim, a, b in (
    ("2 blocks twice against 4 once, bits", "2x2", "4x1"),
    ("1 block 4 times against 4 once, bits", "1x4", "4x1"),
    ("1 block 4 times against once (equal parameters), bits", "1x4", "1x1"),
    ("x added again, bits", "1x4_reinject", "1x4"),
  ):
    if a in found and b in found:
      pair = [{run["seed"]: run for run in found[x]} for x in (a, b)]
      both = sorted(set(pair[0]) & set(pair[1]))
      if both:
        left, right = (bits([x[seed] for seed in both]) for x in pair)
        lines.append(seeds.contrast(claim, left, right))
  return lines


def table_of_loops(found) -> list[str]:
  """Each loop against the one before it."""
  lines = [
    "| policy, role | from loop to loop | bits of the target gained | margin,"
    " nats | KL, nats | answers changed | wrong to right | right to wrong |"
    " live loops |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for name in (x for x in LOOPED if x in found):
    for role in "DC":
      runs = found[name]
      get = lambda *path, role=role, runs=runs: of(runs, role, "loops", *path)
      gained = np.diff(get("bits"), axis=1)
      live = seeds.shown(get("live"), 1)
      for r in range(gained.shape[1]):
        step = [
          seeds.shown(get("steps", field)[:, r], 3)
          for field in ("margin", "kl", "flip", "mended", "broken")
        ]
        lines.append(
          f"| {VARIANTS[name]}, {role} | {r + 1} to {r + 2} |"
          f" {seeds.shown(gained[:, r])} | {' | '.join(step)} |"
          f" {live if r == 0 else ''} |"
        )
  return lines


def table_of_stopping(found) -> list[str]:
  """Thresholds of both rules; those that change nothing are left out."""
  lines = [
    "| policy, role | rule | threshold | mean loops | bits lost | accuracy lost"
    " |",
    "|---|---|---|---|---|---|",
  ]
  for name in (x for x in STOPS if x in found):
    for role in "DC":
      for rule, called in RULES.items():
        each = [run[role][STOPS[name]][rule] for run in found[name]]
        before = None
        for rows in zip(*each, strict=True):
          cells = [
            # Adding zero: rounding would print -0.00.
            seeds.shown(
              np.round([row[key] for row in rows], digits) + 0.0, digits
            )
            for key, digits in (
              ("loops", 2), ("bits_lost", 2), ("accuracy_lost", 3),
            )
          ]  # fmt: skip
          if cells != before:
            lines.append(
              f"| {VARIANTS[name]}, {role} | {called} |"
              f" {rows[0]['threshold']:g} | {' | '.join(cells)} |"
            )
          before = cells
  return lines


def table_of_stops(found) -> list[str]:
  """C and D that really run fewer loops, or more, than in training."""
  lines = [
    "| policy | loops of C | loops of D | bits conveyed | tokens right |",
    "|---|---|---|---|---|",
  ]
  for name, runs in found.items():
    for rows in zip(*(run["stops"] for run in runs), strict=True):
      cells = [
        seeds.shown(np.array([row[key] for row in rows]))
        for key in ("bits_conveyed", "edit_similarity")
      ]
      lines.append(
        f"| {VARIANTS[name]} | {rows[0]['C']} | {rows[0]['D']} |"
        f" {' | '.join(cells)} |"
      )
  return lines


def figure(found):
  """Bits by R; the readout on the way; what stopping early costs."""
  made, (left, middle, right) = plt.subplots(
    1, 3, figsize=(12, 3.6), layout="constrained"
  )
  names = list(found)
  for at, name in enumerate(names):
    values = bits(found[name])
    colour = f"C{[*VARIANTS].index(name)}"
    left.bar(at, values.mean(), 0.7, color=colour, alpha=0.6)
    if len(values) > 1:
      mean, half = seeds.statistics.seed_interval(values)
      left.errorbar(at, mean, half, color="k", capsize=3)
    left.plot([at] * len(values), values, "k.", markersize=4)
    on_the_way(middle, found[name], name, colour)
    if name in STOPS:
      early(right, found[name], name, colour)
  left.set_xticks(range(len(names)), names, fontsize=8)
  left.set_xlabel("blocks x loops")
  left.set_ylabel("bits conveyed, test split")
  middle.set_xlabel("block applications passed")
  middle.set_ylabel("bits conveyed if D is read here")
  middle.set_title(f"at the bottom: {FLOOR} or less", fontsize=8)
  middle.axhline(0, color="k", linewidth=0.5)
  middle.set_xticks(range(1, 5))
  right.set_xticks(range(1, 5))
  right.set_xlabel("mean loops (4x1: layers) of D until the stop")
  right.set_ylabel("bits lost")
  right.set_yscale("symlog", linthresh=0.1)
  for axis in (left, middle, right):
    axis.grid(alpha=0.3, axis="y")
  for axis in (middle, right):
    if axis.get_legend_handles_labels()[0]:
      axis.legend(frameon=False, fontsize=7)
  return made


def on_the_way(axis, runs, name, colour):
  """D's readout after each block, and where loops are dead, shaded."""
  each = np.maximum(conveyed(runs, "layers"), FLOOR)
  passed = np.arange(1, each.shape[1] + 1)
  axis.plot(passed, each.mean(0), "o-", markersize=4, color=colour, label=name)
  for values in each:
    axis.plot(passed, values, ".", color=colour, alpha=0.4)
  settled = of(runs, "D", "layers", "settled").mean()
  if settled < passed[-1]:
    axis.axvspan(settled, passed[-1], color=colour, alpha=0.12, linewidth=0)


def early(axis, runs, name, colour):
  """Both rules against the same number of loops for every token."""
  kind = STOPS[name]
  for rule, style in (("kl", ".-"), ("varentropy", ".--")):
    rows = [[(x["loops"], x["bits_lost"]) for x in run["D"][kind][rule]]
            for run in runs]  # fmt: skip
    mean = np.mean(rows, 0)
    axis.plot(*mean.T, style, color=colour, label=f"{name}, {RULES[rule]}")
  each = conveyed(runs, kind).mean(0)
  axis.plot(
    np.arange(1, len(each) + 1), each[-1] - each, "x", color=colour,
    label=f"{name}, all tokens alike",
  )  # fmt: skip


if __name__ == "__main__":
  app.run(main)
