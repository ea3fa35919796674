"""Tables and verdicts of the experiment, from its stored results.

  ./.venv/bin/python experiments/ccv_joint/table.py

Reads results/ccv_joint-SEED.json and writes table.md, the same bytes every
time. What is compared, and when a verdict is what, stands in README.md. What
has not been run is said to be not run.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.ccv_joint import sweep
from experiments.over_seeds import (
  corrected,
  examined,
  markdown,
  preliminary,
  shown,
  summaries,
  word,
)
from rsrc_jax.metrics import statistics

HERE = Path(__file__).resolve().parent
ALPHA = 0.05
NOT_RUN = "not run"
METRICS = {
  "bits": ("bits", 2), "exact": ("exact", 3), "edit": ("edit similarity", 3),
  "tokens": ("tokens", 2),
}  # fmt: skip
CODES = {
  "old": "old code, greedy",
  "parent": "best of what R reads, V's pick",
  "again_1": "rewrite, greedy",
  "alone_again": "the same R, one parent in all places, greedy",
  "same_greedy": "C of the source, as long as that, greedy",
  "same_second": "C of the source, as long as that, a second sample",
  "chain_1": "best of the rewrites and of what was read",
  "alone_best": "the same, one parent in all places",
  "same_best": "C of the source, as long as that, best of as many samples",
  "once": "C of the source, of free length, greedy",
}
# Of the arm "joint": a claim, and the codes whose bits are subtracted.
REGISTERED = {
  "a rewrite beats C at the same length": ("again_1", "same_greedy"),
  "... a second sample of C": ("again_1", "same_second"),
  "the best rewrite beats the best of as many samples of C": (
    "chain_1", "same_best",
  ),
  "a rewrite beats the best of its parents": ("again_1", "parent"),
  "several codes are worth more than one of them": ("again_1", "alone_again"),
}  # fmt: skip
# Means below which the arm "joint" tests nothing: over training, and of the
# rewrites on the test split, since all codes of no token are the same code.
LEAST = {"R_codes": 2.0, "R_word": 0.5, "again_1_tokens": 1.0}
DOSES = {
  "R_codes": "different codes read, training",
  "codes_read": "on the test split",
  "again_1_tokens": "tokens of a greedy rewrite",
  "R_shorter": "rewrites shorter than the parent, training",
  "again_shorter": "greedy, test",
  "chain_shorter": "best, test",
  "R_word": "V's share of the spread of R's reward",
}


class Row(NamedTuple):
  """A contrast of bits."""

  claim: str
  each: np.ndarray | None  # [seeds]; None: not run
  adjusted: float | None = None  # p, Holm


def dose(runs: list[dict], arm: str, name: str) -> np.ndarray | None:
  """What an arm met of a mechanism, [seeds]; None where one has not said."""
  if not name.startswith("R_"):
    return examined(runs, arm, name)
  found = [run.get("doses", {}).get(arm, {}).get(name) for run in runs]
  return None if None in found else np.array(found)


def gap(runs: list[dict], arm: str, a: str, b: str, score: str = "bits"):
  """One code's score less another's, [seeds]; None where one was not run."""
  both = [examined(runs, arm, f"{x}_{score}") for x in (a, b)]
  return None if any(x is None for x in both) else both[0] - both[1]


def rows(runs: list[dict]) -> list[Row]:
  """The registered contrasts, with Holm's p over all, run or not."""
  found = [Row(k, gap(runs, "joint", *x)) for k, x in REGISTERED.items()]
  p = {x.claim: _p(x.each) for x in found if x.each is not None}
  adjusted = corrected(REGISTERED, p, ALPHA)
  return [
    x._replace(adjusted=adjusted[x.claim]) if x.claim in p else x for x in found
  ]


def small(runs: list[dict]) -> list[str]:
  """The doses of the arm "joint" that are too small, or not recorded."""
  found = {name: dose(runs, "joint", name) for name in LEAST}
  return [k for k, x in found.items() if x is None or x.mean() < LEAST[k]]


def verdict(row: Row, too_small: list[str]) -> str:
  """The word that a table bears."""
  if row.each is None:
    return NOT_RUN
  if too_small:
    return f"not tested ({', '.join(too_small)})"
  return word(row.each.mean(), row.adjusted, ALPHA)


def table(runs: list[dict]) -> str:
  """Markdown of all."""
  if len(runs) < 2:
    return f"{NOT_RUN}: results/ccv_joint-SEED.json of two seeds are needed.\n"
  seeds = [run["seed"] for run in runs]
  about = (
    f"Seeds {seeds}; {runs[0]['steps']} steps an arm; R reads {sweep.JOINT} "
    'codes in the arm "joint"; test split. Mean ± 95 % interval over seeds '
    "(Student's t)."
  )
  parts = [about, *preliminary(sweep.SEEDS, seeds), _verdicts(runs)]
  for arm in ("joint", "one"):
    parts += [f"Codes of the arm `{arm}`:", _codes(runs, arm)]
  parts += ["Not registered, not corrected for their number:", _others(runs)]
  parts += ["Doses:", _doses(runs), "C, told a budget, bits:", _curve(runs)]
  return "\n\n".join(parts) + "\n"


def _p(each: np.ndarray) -> float:
  return statistics.t_interval(each).p


def _interval(each: np.ndarray | None) -> list[str]:
  """Mean, interval, p and what could have been seen."""
  if each is None:
    return [NOT_RUN, "", "", ""]
  found = statistics.t_interval(each)
  return [
    f"{each.mean():+.2f}", f"{found.low:+.2f} to {found.high:+.2f}",
    f"{found.p:.3f}", f"{statistics.detectable(each):.2f}",
  ]  # fmt: skip


def _verdicts(runs: list[dict]) -> str:
  too_small, lines = small(runs), []
  for row in rows(runs):
    holm = "" if row.adjusted is None else f"{row.adjusted:.3f}"
    codes = " - ".join(REGISTERED[row.claim])
    lines.append([
      row.claim, codes, *_interval(row.each), holm,
      f"**{verdict(row, too_small)}**",
    ])  # fmt: skip
  heads = ["claim", "codes", "bits", "95 %", "p", "detectable", "p, Holm",
           "verdict"]  # fmt: skip
  return markdown(heads, lines)


def _codes(runs: list[dict], arm: str) -> str:
  lines = []
  for name, label in CODES.items():
    if arm == "one" and name.startswith("alone"):
      continue  # R has one parent there
    found = {x: examined(runs, arm, f"{name}_{x}") for x in METRICS}
    lines.append([
      f"`{name}`", label,
      *(_cell(x, METRICS[score][1]) for score, x in found.items()),
    ])  # fmt: skip
  heads = ["code", "", *(label for label, _ in METRICS.values())]
  return markdown(heads, lines)


def _others(runs: list[dict]) -> str:
  """The same of one parent, and what a second score says of both."""
  lines = []
  for claim, pair in REGISTERED.items():
    for arm in ("joint", "one"):
      if arm == "one" and "alone_again" in pair:
        continue
      gaps = {x: gap(runs, arm, *pair, x) for x in METRICS}
      cells = [_cell(x, METRICS[k][1]) for k, x in gaps.items()]
      lines.append([arm, claim, *cells])
  a, b = (examined(runs, x, "chain_1_bits") for x in ("joint", "one"))
  known = a is not None and b is not None
  lines.append([
    "joint - one", "best rewrite", _cell(a - b if known else None, 2),
    *[""] * (len(METRICS) - 1),
  ])  # fmt: skip
  heads = ["arm", "difference", *(label for label, _ in METRICS.values())]
  return markdown(heads, lines)


def _doses(runs: list[dict]) -> str:
  lines = [
    [label, *(_cell(dose(runs, arm, name), 2) for arm in ("joint", "one"))]
    for name, label in DOSES.items()
  ]
  return markdown(["dose", "joint", "one"], lines)


def _curve(runs: list[dict]) -> str:
  """Whether C has lost by sharing its weights with R."""
  lines, budgets = [], dict(sweep.LENGTHS)["budgets"]
  for arm in ("go_on", "one", "joint"):
    cells = []
    for k in (None, *budgets):
      found = [
        x["bits_conveyed"] for run in runs for x in run.get("curve", [])
        if x["arm"] == arm and x["budget"] == k
      ]  # fmt: skip
      whole = len(found) == len(runs)
      cells.append(_cell(np.array(found) if whole else None, 2))
    lines.append([arm, *cells])
  return markdown(["arm", "none", *map(str, budgets)], lines)


def _cell(values: np.ndarray | None, digits: int) -> str:
  return NOT_RUN if values is None else shown(values, digits)


def main():
  text = table(summaries(HERE / "results", "ccv_joint"))
  (HERE / "table.md").write_text(text)
  print(text)


if __name__ == "__main__":
  main()
