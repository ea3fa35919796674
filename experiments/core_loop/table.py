"""Prints the experiment's table from stored summaries, and writes table.md.

  ./.venv/bin/python experiments/core_loop/table.py

Reads results/*.json. A difference is paired by seed with the default's arm,
with its 95 % interval (Student's t).
"""

from pathlib import Path

import numpy as np

from experiments import over_seeds

HERE = Path(__file__).resolve().parent
REFERENCE = "d_by_both_1"
COLUMNS = {
  "bits_conveyed": ("bits conveyed", 2),
  "token_accuracy": ("tokens right", 3),
  "exact_match": ("exact", 3),
  "nll_bits": ("NLL, bits", 2),
  "d_entropy_bits": ("D's entropy, bits a token", 2),
  "novel_fraction": ("novel", 2),
}


def main():
  runs = over_seeds.load(HERE, "core_loop")
  arms = [x for x in runs[0]["heldout"]["arms"]]
  of = lambda arm, name: np.array(
    [run["heldout"]["arms"][arm][name] for run in runs]
  )
  seeds = ", ".join(str(run["seed"]) for run in runs)
  lines = [
    f"Seeds {seeds}; {runs[0]['steps']} steps an arm; test split, greedy.", "",
    "| arm | " + " | ".join(label for label, _ in COLUMNS.values())
    + " | bits by seed | bits, less the default's |",
    "|---" * (len(COLUMNS) + 3) + "|",
  ]  # fmt: skip
  for arm in arms:
    means = [f"{of(arm, x).mean():.{n}f}" for x, (_, n) in COLUMNS.items()]
    bits = of(arm, "bits_conveyed")
    less = ""
    if arm != REFERENCE and len(runs) > 1:
      less = over_seeds.shown(bits - of(REFERENCE, "bits_conveyed"))
    each = ", ".join(f"{x:.2f}" for x in bits)
    lines.append(f"| {arm} | {' | '.join(means)} | {each} | {less} |")
  lines += [
    "",
    "What each arm's reward consisted of, and how it was relaxed:",
    "",
  ]
  lines += ["| arm | " + " | ".join(PARTS) + " | dead groups | relaxed at |"]
  lines += ["|---" * (len(PARTS) + 3) + "|"]
  for arm in arms:
    shares = [run["reward_shares"].get(arm, {}) for run in runs]
    mean = [np.mean([x.get(part, 0.0) for x in shares]) for part in PARTS]
    dead = np.mean([run["dead_groups"].get(arm, 0.0) for run in runs])
    ends = [run["plateaus"].get(arm) or [] for run in runs]
    when = "; ".join(
      ", ".join(f"{x['step']} ({x['by']})" for x in one) or "by steps"
      for one in ends
    )
    cells = [f"{x:.2f}" for x in (*mean, dead)]
    lines.append(f"| {arm} | {' | '.join(cells)} | {when} |")
  text = "\n".join(lines) + "\n"
  (HERE / "table.md").write_text(text)
  print(text)


PARTS = ("verifier", "reader", "shaping", "price")

if __name__ == "__main__":
  main()
