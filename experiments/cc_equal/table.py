"""Tables and verdicts of cc at equal tokens, from its stored results.

  ./.venv/bin/python experiments/cc_equal/table.py

Reads registration.json, which alone says what is tested, and
results/cc_equal-SEED.json and cc_small-SEED.json; writes table.md, the same
bytes every time. What has not been run is said to be not run. A contrast whose
mechanism did too little reads "not tested".
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.over_seeds import (
  corrected,
  markdown,
  preliminary,
  shown,
  summaries,
  word,
)
from rsrc_jax.metrics import statistics

HERE = Path(__file__).resolve().parent
CODES = ("code", "code_on", "long", "long_on")  # arms without a memory
MEMORY = {"cc_m2": 2, "cc_m4": 4, "cc_m8": 8}
SMALL = "small"  # the arm cc_m4 of the smaller model, in another file
ARMS = (*CODES, *MEMORY, "cc_misled", "cc_carried", "cc_lessons", "cc_alone",
        "cc_mixed", SMALL)  # fmt: skip
KINDS = {
  "cc": "its memory", "shuffled": "another stream's", "empty": "none",
  "frozen": "the first round's", "long": "none, a code of M + k, same weights",
  "chosen": "its memory or none, by a bit",
}  # fmt: skip
COLUMNS = {
  "bits": ("bits conveyed", 2),
  "exact": ("exact", 3),
  "edit": ("edit similarity", 3),
  "tokens": ("tokens read", 2),
  "amortised": ("tokens, memory amortised", 2),
}
# Of a step in training, and of a round of the test split.
TRAINED = {
  "cc_carried": "streams carried", "cc_rolled_back": "rolled back",
  "cc_worse_than_none": "memories worse than none",
  "CC_word": "V's share of CC's spread",
  "CC_dead_groups": "CC's dead groups",
}  # fmt: skip
Pair = tuple[dict, dict | None]  # a seed's runs: of the model, of the small one


class Row(NamedTuple):
  """A hypothesis, over the seeds that have what it needs."""

  name: str
  mean: float
  interval: statistics.Interval  # its p one-sided where it is "not worse"
  detectable: float
  dose: dict[str, float | None]
  seeds: int
  adjusted: float | None = None  # p, Holm


def load(folder: Path, seeds: list[int]) -> list[Pair]:
  """The stored summaries of these seeds; None: the small model has not run."""
  read = lambda name: {x["seed"]: x for x in summaries(folder, name)}
  large, small = read("cc_equal"), read("cc_small")
  return [(large[x], small.get(x)) for x in sorted(large) if x in seeds]


def score(
  pair: Pair, arm: str, kind: str, name: str, prefix: str = ""
) -> float | None:
  """A score of an arm of one seed; None where it has none.

  kind: of rl/unfolding.py; "code" for an arm without a memory. name: of
    COLUMNS, or "read" and "changed". prefix: "" or "alone_".
  """
  run, arm = (pair[1], "cc_m4") if arm == SMALL else (pair[0], arm)
  if run is None:
    return None
  if arm in CODES:
    found = run.get("evals", {}).get(arm, {}).get("streams") or {}
    begin, name = prefix, "tokens" if name == "amortised" else name
    if kind != "code" or name in ("read", "changed"):
      return None
  else:
    found, begin = run.get("examined", {}).get(arm) or {}, f"{prefix}{kind}_"
  if name != "bits":
    return found.get(f"{begin}{name}")
  nll = found.get(f"{begin}nll_bits")
  return None if nll is None else run["entropy_bits"] - nll


def over_seeds(pairs: list[Pair], *which: str) -> np.ndarray | None:
  """[seeds] of a score; None unless all seeds have it."""
  found = [score(pair, *which) for pair in pairs]
  return None if None in found or not found else np.array(found)


def doubling(pair: Pair) -> float | None:
  """Bits a doubling of M adds, less those a doubling of the parameters adds.

  From two to eight tokens at the parameters of the model, and from those of
  the small model at four tokens.
  """
  bits = [score(pair, x, "cc", "bits") for x in (*MEMORY, SMALL)]
  if None in bits:
    return None
  two, four, eight, small = bits
  ratio = math.log2(pair[0]["params"] / pair[1]["params"])
  return (eight - two) / 2 - (four - small) / ratio


def difference(pair: Pair, what: dict) -> float | None:
  """A hypothesis' difference in one seed."""
  if what.get("test") == "doublings":
    return doubling(pair)
  prefix = what.get("streams", "")
  a, b = (score(pair, *what[x], "bits", prefix) for x in "ab")
  return None if None in (a, b) else a - b


def dose(pairs: list[Pair], arm: str, name: str) -> float | None:
  """How far an arm's mechanism was at work, a mean over seeds.

  read: rounds of the test split that have a memory. carried: streams that went
  on. paid: V's share of the spread of CC's reward.
  """
  if name == "read":
    found = [score(pair, arm, "cc", "read") for pair in pairs]
  else:
    key = {"carried": "cc_carried", "paid": "CC_word"}[name]
    found = [trained(pair, arm, key) for pair in pairs]
  return None if None in found or not found else float(np.mean(found))


def trained(pair: Pair, arm: str, key: str) -> float | None:
  """A dose of training of one seed."""
  run, arm = (pair[1], "cc_m4") if arm == SMALL else (pair[0], arm)
  return None if run is None else run.get("doses", {}).get(arm, {}).get(key)


def rows(pairs: list[Pair], registered: dict) -> list[Row]:
  """The hypotheses that two seeds at least can tell of, with Holm's p.

  The family is all of them, run or not: what is missing counts as p = 1.
  """
  found = []
  for name, what in registered["hypotheses"].items():
    each = [difference(pair, what) for pair in pairs]
    each = np.array([x for x in each if x is not None])
    if len(each) < 2:
      continue
    interval = statistics.t_interval(each)
    if what.get("test") == "not worse":
      p = statistics.one_sided_p(each + what["margin"])
      interval = interval._replace(p=p)
    arm = what.get("a", ["cc_m4"])[0]
    found.append(
      Row(
        name, float(each.mean()), interval, statistics.detectable(each),
        {x: dose(pairs, arm, x) for x in what.get("dose", [])}, len(each),
      )
    )  # fmt: skip
  p = {x.name: x.interval.p for x in found}
  adjusted = corrected(registered["hypotheses"], p, registered["alpha"])
  return [x._replace(adjusted=adjusted[x.name]) for x in found]


def verdict(row: Row, registered: dict) -> str:
  """The word that a table bears."""
  what, least = registered["hypotheses"][row.name], registered["least"]
  small = [k for k, x in row.dose.items() if x is None or x < least[k]]
  if small:
    return f"not tested ({', '.join(small)})"
  if what.get("test") == "not worse":
    if row.adjusted <= registered["alpha"]:
      return f"yes, within {what['margin']:g} bit"
    worse = row.interval.high < -what["margin"]
    return "no, it harms" if worse else "can't tell"
  return word(row.mean, row.adjusted, registered["alpha"])


def table(pairs: list[Pair], registered: dict) -> str:
  """Markdown of all."""
  if len(pairs) < 2:
    return "not run: results/cc_equal-SEED.json of two seeds are needed.\n"
  seeds = [pair[0]["seed"] for pair in pairs]
  parts = [
    f"Registered {registered['registered']}. Seeds {seeds}; test split, "
    "greedy. Intervals are Student's t over seeds.",
    *preliminary(registered["seeds"], seeds),
    _verdicts(rows(pairs, registered), registered),
    "## Streams that share four of eight facts",
    _scores(pairs, ""),
    "## Streams that share nothing",
    _scores(pairs, "alone_"),
    "## Doses",
    _doses(pairs),
    _plateaus(pairs),
  ]
  return "\n\n".join(parts) + "\n"


def _verdicts(found: list[Row], registered: dict) -> str:
  by, lines = {x.name: x for x in found}, []
  for name, what in registered["hypotheses"].items():
    if name not in by:
      lines.append([what["says"], *[""] * 5, "**not run**", "", ""])
      continue
    row = by[name]
    met = ", ".join(
      f"{k} {'not recorded' if x is None else f'{x:.2f}'}"
      for k, x in row.dose.items()
    )
    lines.append([
      what["says"], f"{row.mean:+.2f}",
      f"{row.interval.low:+.2f} to {row.interval.high:+.2f}", f"{row.seeds}",
      f"{row.interval.p:.3f}", f"{row.adjusted:.3f}",
      f"**{verdict(row, registered)}**", f"{row.detectable:.2f}", met,
    ])  # fmt: skip
  heads = ["claim", "difference, bits", "95 %", "seeds", "p", "p, Holm",
           "verdict", "detectable", "dose"]  # fmt: skip
  return markdown(heads, lines)


def _scores(pairs: list[Pair], prefix: str) -> str:
  lines = []
  for arm in ARMS:
    kinds = {"code": "-"} if arm in CODES else KINDS
    found = {
      kind: {x: over_seeds(pairs, arm, kind, x, prefix) for x in COLUMNS}
      for kind in kinds
    }
    if found[next(iter(kinds))]["bits"] is None:
      lines.append([arm, "not run", *[""] * len(COLUMNS)])
      continue
    for kind, label in kinds.items():
      cells = [
        shown(found[kind][x], digits) for x, (_, digits) in COLUMNS.items()
      ]
      lines.append([arm, label, *cells])
  return markdown(
    ["arm", "memory", *(label for label, _ in COLUMNS.values())], lines
  )


def _doses(pairs: list[Pair]) -> str:
  lines = []
  for arm in ARMS:
    if arm in CODES:
      continue
    tested = [over_seeds(pairs, arm, "cc", x) for x in ("read", "changed")]
    own = [[trained(pair, arm, key) for pair in pairs] for key in TRAINED]
    own = [None if None in x else np.array(x) for x in own]
    cells = ["-" if x is None else f"{x.mean():.3f}" for x in (*tested, *own)]
    lines.append([arm, *cells])
  heads = ["rounds that read a memory", "that read a new one"]
  return markdown(["arm", *heads, *TRAINED.values()], lines)


def _plateaus(pairs: list[Pair]) -> str:
  lines = []
  for arm in ("code", "long"):
    found = [(pair[0].get("plateaus", {}).get(arm) or [None])[-1]
             for pair in pairs]  # fmt: skip
    when = [f"{x['step']} ({x['by']})" if x else "its steps" for x in found]
    lines.append([arm, ", ".join(when)])
  return markdown(["arm", "ended at, by seed"], lines)


def main():
  registered = json.loads((HERE / "registration.json").read_text())
  text = table(load(HERE / "results", registered["seeds"]), registered)
  (HERE / "table.md").write_text(text)
  print(text)


if __name__ == "__main__":
  main()
