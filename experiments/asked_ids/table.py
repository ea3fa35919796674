"""Prints the experiment's table from stored summaries, and writes table.md.

  ./.venv/bin/python experiments/asked_ids/table.py

Reads results/asked_ids-SEED.json alone: no run is needed.
"""

import math
from pathlib import Path

import numpy as np

from experiments.over_seeds import CLAIMS, contrast, markdown, summaries
from rsrc_jax.metrics import contrasts, statistics, use

HERE = Path(__file__).resolve().parent
ARMS = {
  "asked": "asked, bonus within the bound",
  "asked_unpaid": "asked, no bonus",
  "asked_more": "asked, four times the bound",
  "forced": "forced by mask",
  "multiply": "asked, reward multiplied by the gate",
  "undemonstrated": "asked, no demonstrations in RL",
}
# Scores of evals.use, their titles and digits.
USE = {
  "use_rate": ("codes that use any", 2),
  "decoy_rate": ("by chance", 2),
  "swap_bits": ("bits lost a swapped id", 2),
  "delete_bits": ("a deleted id", 2),
  "junk_share": ("of users: junk", 2),
  "bits_listed": ("bits with a list", 1),
  "bits_bare": ("bits without", 1),
  "tokens_listed": ("tokens", 1),
}
SCOPES = ("free", "all", "trained", "withheld")
FRESH = {"bits": 1, "edit": 3, "exact": 3, "agreement": 3, "agreed": 3}
CONTRASTED = {x: USE[x] for x in ("use_rate", "swap_bits", "bits_listed")}
AGAINST = ("asked_unpaid", "undemonstrated", "forced", "asked_more", "multiply")


def over_seeds(values: list[float | None], digits: int) -> str:
  """Mean ± half of the interval; - where a seed has no such number."""
  if not values or any(x is None or math.isnan(x) for x in values):
    return "-"
  if len(values) < 2:
    return f"{values[0]:.{digits}f}"
  mean, half = statistics.seed_interval(values)
  return f"{mean:.{digits}f} ± {half:.{digits}f}"


def evals(runs: list[dict], arm: str, block: str, name: str) -> list:
  """A score of an arm, by seed; None where a run lacks it."""
  return [x["evals"].get(arm, {}).get(block, {}).get(name) for x in runs]


def spreads(runs: list[dict], arm: str) -> list[float | None]:
  """std(bonus) / std(reward) within groups, over the injected steps."""
  return [x.get("bonus_spread", {}).get(arm) for x in runs]


def paid(runs: list[dict], arm: str) -> str:
  """ "", "not tested" or "not recorded": of the mean over seeds."""
  found = spreads(runs, arm)
  known = bool(found) and None not in found
  return contrasts.mechanism(sum(found) / len(found) if known else None)


def table(runs: list[dict]) -> str:
  """Markdown of all; "not run" without results."""
  if not runs:
    return "not run: no results/asked_ids-SEED.json.\n"
  seeds = ", ".join(str(x["seed"]) for x in runs)
  about = (
    f"Seeds {seeds}, {runs[0]['steps']} steps an arm, test split; greedy "
    "codes, ids named in the prompt and nothing hidden. Mean ± 95 % interval "
    "over seeds. Use is junk where a swapped id costs D less than "
    f"{use.JUNK:g} bit. "
    "Bonus: its standard deviation within groups over the reward's, over the "
    f"steps with injected ids; below {contrasts.PAID:.2f} it is not tested."
  )
  parts = [about, _use(runs), _contrasts(runs), _fresh(runs)]
  return "\n\n".join(parts) + "\n"


def _use(runs: list[dict]) -> str:
  rows = []
  for arm, label in ARMS.items():
    found = {x: evals(runs, arm, "use", x) for x in USE}
    cells = [over_seeds(found[x], digits) for x, (_, digits) in USE.items()]
    known = lambda name, found=found: (
      sum(found[name]) / len(runs) if None not in found[name] else None
    )
    said = use.label(known("swap_bits"), known("use_rate"))
    spread = over_seeds(spreads(runs, arm), 3)
    rows.append([label, *cells, said, spread, paid(runs, arm) or "tested"])
  heads = ["arm", *(title for title, _ in USE.values()), "use is", "bonus", ""]
  return markdown(heads, rows)


def _contrasts(runs: list[dict]) -> str:
  """What asking with a bonus adds to each other arm, seed by seed."""
  rows = []
  untested = paid(runs, "asked")
  for name, (label, digits) in CONTRASTED.items():
    for other in AGAINST:
      says = f"{label}: asked - {other}"
      ours, theirs = (evals(runs, arm, "use", name) for arm in ("asked", other))
      if None in ours or None in theirs:
        rows.append(f"| {says} | - | | not run |")
        continue
      row = contrast(says, np.array(ours), np.array(theirs), digits)
      said = row.rsplit("|", 2)[0] + f"| **{untested}** |"
      rows.append(said if untested else row)
  return "\n".join([*CLAIMS, *rows])


def _fresh(runs: list[dict]) -> str:
  rows = [
    [label, scope, *(
      over_seeds(evals(runs, arm, "fresh", f"{scope}_{x}"), digits)
      for x, digits in FRESH.items()
    )]
    for arm, label in ARMS.items()
    for scope in SCOPES
  ]  # fmt: skip
  return markdown(["arm", "codes of", *FRESH], rows)


def main():
  text = table(summaries(HERE / "results", "asked_ids"))
  (HERE / "table.md").write_text(text)
  print(text, end="")


if __name__ == "__main__":
  main()
