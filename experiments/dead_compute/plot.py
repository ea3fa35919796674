"""Draws the experiment's figures and prints its tables from stored summaries.

./.venv/bin/python experiments/dead_compute/plot.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import over_seeds as seeds

HERE = Path(__file__).resolve().parent

ARMS = {
  "trm": "TRM", "trm_medium": "TRM, small loop",
  "dis_random": "small loop, targets in random order (DIS)",
  "dis_solver": "small loop, targets in a solver's order",
  "final_target": "small loop, the answer as every target",
  "ff_deep": "feed-forward, as deep",
  "ff_small": "feed-forward, as many parameters",
}  # fmt: skip
COLORS = dict(
  zip(ARMS, ("C0", "C9", "C3", "C4", "C2", "0.3", "0.6"), strict=True)
)
RECURSIVE = [*ARMS][:5]
KL = 1  # of the thresholds in dead_compute.RULES


def main():
  runs = seeds.load(HERE, "dead_compute")
  get = lambda arm, name: np.array([run["arms"][arm][name] for run in runs])
  last = lambda arm, name="exact": get(arm, name)[:, -1]
  text = [seeds.made_with(runs), ""]
  text += [
    f"{runs[0]['source']}: {runs[0]['train']} puzzles to learn from, under "
    f"random symmetries; {runs[0]['test']} test puzzles of other classes.",
    "",
    "| arm | parameters | exact | cells | passes to answer | passes an item in "
    "training | updates | PFLOP | seconds | s* | dead supersteps | alive by "
    "0.01 nat | stopped by KL: passes | exact |",
    "|---|" + "---|" * 13,
  ]
  for arm, label in ARMS.items():
    calls = get(arm, "calls_per_superstep")[0]
    stop = [run["arms"][arm]["stop"]["kl"][KL] for run in runs]
    used = np.array([calls * s["steps"] for s in stop])
    kept = np.array([s["exact"] for s in stop])
    seconds = np.array(
      [run["arms"][arm]["curve"][-1]["seconds"] for run in runs]
    )
    cells = [
      f"{get(arm, 'params')[0]:,}", seeds.shown(last(arm), 3),
      seeds.shown(last(arm, "cell"), 3), f"{get(arm, 'passes_inference')[0]}",
      seeds.shown(get(arm, "passes_per_item"), 1),
      f"{get(arm, 'steps')[0]:,}",
      f"{get(arm, 'flops_training').mean() / 1e15:.3f}",
      f"{seconds.mean():.0f}", seeds.shown(get(arm, "s_star") * 1.0, 1),
      seeds.shown(get(arm, "dead_fraction")),
      seeds.shown(get(arm, "alive_steps")),
      seeds.shown(used, 1), seeds.shown(kept, 3),
    ]  # fmt: skip
    text.append(f"| {label} | {' | '.join(cells)} |")
  text += ["", *seeds.CLAIMS]
  stopped = lambda arm: np.array(
    [run["arms"][arm]["stop"]["kl"][KL]["exact"] for run in runs]
  )
  head = lambda arm: np.array(
    [run["arms"][arm]["stop"]["head"][0]["exact"] for run in runs]
  )
  for claim, a, b in (
    ("18 passes for 336: the small loop with the final target, over TRM",
     last("final_target"), last("trm")),
    ("18 passes for 336: DIS in random order, over TRM", last("dis_random"),
     last("trm")),
    ("48 for 336: the small loop with halting, over TRM", last("trm_medium"),
     last("trm")),
    ("TRM stopped by KL < 0.03, over TRM run to its end", stopped("trm"),
     last("trm")),
    ("the final target stopped by KL < 0.03, over run to its end",
     stopped("final_target"), last("final_target")),
    ("TRM stopped by its own head, over TRM run to its end", head("trm"),
     last("trm")),
    ("the small loop stopped by its own head, over run to its end",
     head("trm_medium"), last("trm_medium")),
    ("DIS over a feed-forward net as deep, each block its own",
     last("dis_random"), last("ff_deep")),
    ("DIS over a feed-forward net of as many parameters", last("dis_random"),
     last("ff_small")),
  ):  # fmt: skip
    text.append(seeds.contrast(claim, a, b, 3))
  for name, title in (
    ("exact", "Test puzzles right after superstep s:"),
    ("advantage", "What superstep s adds to the answer, nats a cell:"),
    ("kl", "KL of superstep s, nats a cell:"),
    ("above", "Share of cells with a margin above 0:"),
  ):
    text += ["", *by_superstep(title, lambda arm, n=name: get(arm, n))]
  lost = lambda arm: np.array(
    [[s["mean"] for s in run["arms"][arm]["skip"]] for run in runs]
  )
  title = "Share of 100 test puzzles lost where superstep s is left out:"
  text += ["", *by_superstep(title, lost)]
  seeds.save(HERE, figure(runs, get), "\n".join(text))
  found = passes(runs)
  found.savefig(HERE / "passes.svg", metadata={"Date": None})
  found.savefig(HERE / "passes.png", dpi=120, metadata={"Software": None})


def by_superstep(title, of) -> list[str]:
  """A table of means over seeds; of: arm -> [seeds, S] or [seeds, S + 1]."""
  width = 16
  rows = [title, "", "| arm | " + " | ".join(map(str, range(1, width + 1)))
          + " |", "|---|" + "---|" * width]  # fmt: skip
  for arm in RECURSIVE:
    steps = of(arm).mean(0)
    steps = steps[-16:] if len(steps) > 10 else steps[-6:]
    cells = [f"{x:.3f}" for x in steps]
    cells += [""] * (width - len(cells))
    rows.append(f"| {ARMS[arm]} | {' | '.join(cells)} |")
  return rows


def figure(runs, get):
  """Accuracy by superstep, seeds as dots, what is dead by outcome shaded."""
  found, panels = plt.subplots(
    1, len(RECURSIVE), figsize=(13, 3.2), layout="constrained", sharey=True
  )
  for axis, arm in zip(panels, RECURSIVE, strict=True):
    exact = get(arm, "exact").T  # [S + 1, seeds]
    x = range(len(exact))
    axis.axvspan(
      get(arm, "s_star").mean(), len(exact) - 1, color="#f1e4e0", lw=0
    )
    seeds.lines(axis, x, {"exact": (exact, COLORS[arm])})
    axis.plot(
      x, get(arm, "cell").mean(0), ":", color=COLORS[arm], label="cells"
    )
    axis.set_title(ARMS[arm], fontsize=8)
    axis.set_xlabel("superstep")
    axis.get_legend().remove()
  panels[0].set_ylabel("share of test puzzles (dotted: cells)")
  return found


def passes(runs):
  """Accuracy against updates, executed passes, FLOPs and seconds."""
  kinds = {"step": "updates", "passes": "passes a slot, executed",
           "flops": "FLOPs of products", "seconds": "seconds"}  # fmt: skip
  found, panels = plt.subplots(
    1, 4, figsize=(13, 3.2), layout="constrained", sharey=True
  )
  for axis, (key, title) in zip(panels, kinds.items(), strict=True):
    for arm, label in ARMS.items():
      curves = [run["arms"][arm]["curve"] for run in runs]
      mean = lambda k, curves=curves: np.mean(
        [[point[k] for point in curve] for curve in curves], 0
      )
      axis.plot(mean(key), mean("exact"), ".-", color=COLORS[arm], label=label)
    axis.set_xlabel(title)
    axis.grid(alpha=0.3)
    if key != "step":
      axis.set_xscale("log")
  panels[0].set_ylabel("exact, of 200 validation puzzles")
  panels[-1].legend(frameon=False, fontsize=6.5)
  return found


if __name__ == "__main__":
  main()
