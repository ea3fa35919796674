"""Draws the experiment's figure and prints its tables from stored summaries.

./.venv/bin/python experiments/improvement_targets/plot.py

The runs are those of experiments/dead_compute.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import over_seeds as seeds

HERE = Path(__file__).resolve().parent

ARMS = {
  "final_target": "the answer at every step (control)",
  "dis_random": "random order (DIS)",
  "dis_solver": "the order of a solver by singles",
}
COLORS = {"final_target": "C2", "dis_random": "C3", "dis_solver": "C4"}


def main():
  runs = seeds.load(HERE.parent / "dead_compute", "dead_compute")
  get = lambda arm, name: np.array([run["arms"][arm][name] for run in runs])
  at = lambda arm, step: np.array(
    [
      next(p["exact"] for p in run["arms"][arm]["curve"] if p["step"] == step)
      for run in runs
    ]
  )
  text = [seeds.made_with(runs), ""]
  steps = [p["step"] for p in runs[0]["arms"]["dis_random"]["curve"]]
  text += [
    "Share of validation puzzles with every cell right, by updates:", "",
    "| targets | " + " | ".join(f"{s:,}" for s in steps) + " |",
    "|---|" + "---|" * len(steps),
  ]  # fmt: skip
  for arm, label in ARMS.items():
    cells = [seeds.shown(at(arm, s)) for s in steps]
    text.append(f"| {label} | {' | '.join(cells)} |")
  width = runs[0]["arms"]["dis_random"]["supersteps"]
  for name, title in (
    ("exact", "Test puzzles right after superstep s:"),
    ("advantage", "What superstep s adds to the answer, nats a cell:"),
    ("margin", "Its margin, nats a cell:"),
  ):
    text += ["", title, "", "| targets | "
             + " | ".join(map(str, range(1, width + 1))) + " |",
             "|---|" + "---|" * width]  # fmt: skip
    for arm, label in ARMS.items():
      values = get(arm, name)[:, -width:]
      text.append(
        f"| {label} | "
        + " | ".join(f"{x:.3f}" for x in values.mean(0)) + " |"
      )  # fmt: skip
  text += [
    "",
    "Guidance at the last superstep, w of l_u + w (l_c - l_u): puzzles right",
    "",
    "| targets | 0 | 0.5 | 1 | 1.5 | 2 |",
    "|---|---|---|---|---|---|",
  ]
  for arm, label in ARMS.items():
    values = get(arm, "guided_exact")[:, :, -1].mean(0)
    text.append(f"| {label} | {' | '.join(f'{x:.3f}' for x in values)} |")
  text += ["", *seeds.CLAIMS]
  last = lambda arm: get(arm, "exact")[:, -1]
  early = steps[len(steps) // 3]
  for claim, a, b in (
    ("random order over the final target, at the end", last("dis_random"),
     last("final_target")),
    ("a solver's order over the final target, at the end", last("dis_solver"),
     last("final_target")),
    ("a solver's order over random order, at the end", last("dis_solver"),
     last("dis_random")),
    (f"random order over the final target, after {early:,} updates",
     at("dis_random", early), at("final_target", early)),
    (f"a solver's order over the final target, after {early:,} updates",
     at("dis_solver", early), at("final_target", early)),
  ):  # fmt: skip
    text.append(seeds.contrast(claim, a, b, 3))
  seeds.save(HERE, figure(runs, get, steps, at), "\n".join(text))


def figure(runs, get, steps, at):
  """Left: learning. Middle: right by superstep. Right: advantage of it."""
  found, (left, middle, right) = plt.subplots(
    1, 3, figsize=(12, 3.4), layout="constrained"
  )
  series = lambda of: {
    label: (of(arm), COLORS[arm]) for arm, label in ARMS.items()
  }
  seeds.lines(left, steps, series(lambda arm: [at(arm, s) for s in steps]))
  left.set(xlabel="updates", ylabel="exact, validation")
  x = range(len(get("dis_random", "exact")[0]))
  seeds.lines(middle, x, series(lambda arm: get(arm, "exact").T))
  middle.set(xlabel="superstep", ylabel="exact, test")
  seeds.lines(right, [*x][1:], series(lambda arm: get(arm, "advantage").T))
  right.set(xlabel="superstep", ylabel="advantage, nats a cell")
  right.axhline(0.0, color="0.5", lw=0.8)
  return found


if __name__ == "__main__":
  main()
