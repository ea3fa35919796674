"""Draws the experiment's figure and prints its table from stored summaries.

  ./.venv/bin/python experiments/cdv_tiny/plot.py

Reads results/*.json, writes figure.svg, figure.png and table.md beside it. Only
the summaries are read: no run is needed.
"""

import json
import math
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
ARMS = ("lead", "surprising", "sft", "english_rl", "code")
LABELS = {
  "lead": "first 3 words",
  "surprising": "3 most surprising words",
  "sft": "C supervised only",
  "english_rl": "C by RL, words of s only",
  "code": "C by RL, forced vocabulary",
}
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided, n - 1 degrees


def load() -> dict[str, list[dict]]:
  """Summaries by variant, in the order of their seeds."""
  found = {}
  for path in sorted((HERE / "results").glob("*.json")):
    variant = path.stem.rsplit("-", 1)[0]
    found.setdefault(variant, []).append(json.loads(path.read_text()))
  return found


def of(summary: dict, arm: str, metric: str) -> float | None:
  """A held-out metric of one arm; None where the run has no such arm."""
  heldout = summary["heldout"]
  arms = {"code": heldout.get("code"), **heldout["english"]}
  return arms[arm][metric] if arms.get(arm) else None


def interval(values: list[float]) -> str:
  """Mean and half-width of the 95 % interval over seeds (Student's t)."""
  mean = statistics.mean(values)
  if len(values) < 2:
    return f"{mean:.2f}"
  half = T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
  return f"{mean:.2f} ± {half:.2f}"


def table(found: dict[str, list[dict]]) -> str:
  """Markdown: every arm over seeds, margins by seed, ablations."""
  runs = found["default"]
  seeds = ", ".join(str(r["seed"]) for r in runs)
  lines = [
    f"Seeds {seeds}; {runs[0]['steps']} steps an arm, "
    f"{runs[0]['params']:,} parameters, budget "
    f"{runs[0]['budget_tokens']} tokens; test split. Mean ± 95 % interval "
    "over seeds.",
    "",
    "| arm | bits conveyed | tokens right | novel tokens | by seed (bits) |",
    "|---|---|---|---|---|",
  ]
  for arm in ARMS:
    bits = [of(r, arm, "bits_conveyed") for r in runs]
    right = [of(r, arm, "token_accuracy") for r in runs]
    novel = statistics.mean(of(r, arm, "novel_fraction") for r in runs)
    each = ", ".join(f"{b:.2f}" for b in bits)
    lines.append(
      f"| {LABELS[arm]} | {interval(bits)} | {interval(right)} | "
      f"{novel:.0%} | {each} |"
    )
  lines += ["", "| seed | best English arm | code - best English, bits | "
            "tokens right, difference | channel used | seconds |",
            "|---|---|---|---|---|---|"]  # fmt: skip
  for r in runs:
    best = max(ARMS[:-1], key=lambda a, r=r: of(r, a, "bits_conveyed"))
    right = max(of(r, a, "token_accuracy") for a in ARMS[:-1])
    lines.append(
      f"| {r['seed']} | {LABELS[best]} | "
      f"{of(r, 'code', 'bits_conveyed') - of(r, best, 'bits_conveyed'):+.2f} | "
      f"{of(r, 'code', 'token_accuracy') - right:+.3f} | "
      f"{r['channel_utilisation']:.0%} | {r['seconds']:.0f} |"
    )
  others = [name for name in found if name != "default"]
  if others:
    lines += ["", "| ablation | bits conveyed | tokens right | novel tokens | "
              "by seed (bits) |", "|---|---|---|---|---|"]  # fmt: skip
  for name in others:
    bits = [of(r, "code", "bits_conveyed") for r in found[name]]
    right = [of(r, "code", "token_accuracy") for r in found[name]]
    novel = statistics.mean(
      of(r, "code", "novel_fraction") for r in found[name]
    )
    each = ", ".join(f"{b:.2f}" for b in bits)
    row = f"| {name} | {interval(bits)} | {interval(right)} | "
    lines.append(f"{row}{novel:.0%} | {each} |")
  return "\n".join(lines) + "\n"


def figure(found: dict[str, list[dict]]):
  """Bits conveyed by arm, every seed a dot, with the two bounds."""
  runs = found["default"]
  fig, axis = plt.subplots(figsize=(7.2, 3.0), constrained_layout=True)
  bounds = runs[0]["bounds"]
  for y, arm in enumerate(ARMS):
    bits = [of(r, arm, "bits_conveyed") for r in runs]
    colour = "#d55e00" if arm == "code" else "#0072b2"
    axis.barh(y, statistics.mean(bits), color=colour, alpha=0.35, height=0.62)
    axis.plot(bits, [y] * len(bits), "o", color=colour, markersize=5)
  top = len(ARMS) - 0.45
  for key, text in (
    ("english_extract_bits", "most that 3 words\nin order can carry"),
    ("channel_bits", "all that 3 tokens\ncan carry"),
  ):
    axis.axvline(bounds[key], color="0.35", linestyle=":", linewidth=1)
    axis.text(
      bounds[key] + 0.1, top, text, fontsize=7.5, color="0.3", va="bottom"
    )
  axis.set_yticks(range(len(ARMS)), [LABELS[a] for a in ARMS])
  axis.set_ylim(-0.6, len(ARMS) + 0.35)
  axis.set_xlim(0, 24)
  axis.set_xlabel("bits of a 24-bit sentence conveyed in 3 tokens (test split)")
  for side in ("top", "right"):
    axis.spines[side].set_visible(False)
  return fig


def main():
  found = load()
  matplotlib.rcParams["svg.hashsalt"] = "rsrc-jax"
  fig = figure(found)
  fig.savefig(HERE / "figure.svg", metadata={"Date": None})
  fig.savefig(HERE / "figure.png", dpi=150, metadata={"Software": None})
  text = table(found)
  (HERE / "table.md").write_text(text)
  print(text)


if __name__ == "__main__":
  main()
