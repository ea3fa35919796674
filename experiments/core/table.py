"""Tables and verdicts of the registered experiment, from its stored results.

  ./.venv/bin/python experiments/core/table.py

Reads registration.json, which alone says what is tested, results/core-SEED.json
of the grid and results/slack-SEED.json of the setting where the gate pays;
writes table.md, the same bytes every time. What has not been run is said to be
not run, and a contrast whose mechanism did too little reads "not tested".
"""

import json
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
from rsrc_jax.metrics import contrasts, statistics

HERE = Path(__file__).resolve().parent
ENGLISH = ("english_rl", "extract")
METRICS = {
  "bits_conveyed": ("bits conveyed", 2),
  "edit_similarity": ("edit similarity", 3),
  "exact": ("exact match", 3),
  "bits_per_channel_bit": ("bits a bit sent, own alphabet", 3),
}
SLACK = {
  "bits_listed": ("bits conveyed, ids named", 2),
  "carried": ("bits that named ids carry", 2),
}
# Of a mechanism, below which a contrast does not test it. A bonus is a share of
# the spread of reward; the others are means over the steps of training.
LEAST = {"bonus": contrasts.PAID, "hidden": 0.05, "use_rate": 0.05}


class Row(NamedTuple):
  """A contrast of areas."""

  name: str
  metric: str
  mean: float
  interval: statistics.Interval
  detectable: float
  dose: dict[str, float | None]
  adjusted: float | None = None  # p, Holm


def points(run: dict, arm: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
  """Mean tokens and a metric of an arm, a pair for each budget, by tokens.

  Codes were told no budget; they were cut at it.
  """
  rows = [
    x for x in run["curve"]
    if x["arm"].rsplit("_k", 1)[0] == arm and x["budget"] is None
  ]  # fmt: skip
  rows.sort(key=lambda x: x["mean_tokens"])
  return tuple(
    np.array([x[name] for x in rows]) for name in ("mean_tokens", metric)
  )


def area(run: dict, arm: str, metric: str, budgets: list[int]) -> float:
  """Area under an arm's curve over log2 of tokens, divided by the span.

  Between the points of an arm the curve is straight in log2 of tokens. Where an
  arm's codes end before the largest budget it keeps its last value, and before
  its first point its first.
  """
  tokens, values = points(run, arm, metric)
  ends = [float(budgets[0]), float(budgets[-1])]
  inside = tokens[(tokens > ends[0]) & (tokens < ends[1])]
  grid = np.unique([*ends, *inside])
  curve = np.interp(np.log2(grid), np.log2(tokens), values)
  return float(statistics.area(curve, grid))


def areas(runs: list[dict], metric: str, registered: dict) -> dict:
  """Arm -> [seeds]; best_english is the larger of ENGLISH, seed by seed."""
  arms = dict.fromkeys(x["arm"].rsplit("_k", 1)[0] for x in runs[0]["curve"])
  budgets = registered["budgets"]
  found = {
    arm: np.array([area(run, arm, metric, budgets) for run in runs])
    for arm in arms
  }
  return found | {"best_english": np.max([found[x] for x in ENGLISH], 0)}


def dose(runs: list[dict], arm: str, name: str) -> float | None:
  """What an arm met of a mechanism: its mean over budgets and seeds."""
  found = []
  for run in runs:
    block = (
      run.get("bonus_spread", {})
      if name == "bonus"
      else {k: x.get(name) for k, x in run["doses"].items()}
    )
    found += [x for k, x in block.items() if k.rsplit("_k", 1)[0] == arm]
  if not found or None in found:
    return None
  return float(np.mean(found))


def rows(
  runs: list[dict], registered: dict, slack: list[dict] = ()
) -> list[Row]:
  """All registered contrasts, with Holm's p; one that is not run has p = 1."""
  found = []
  for metric in registered["metrics"]:
    by_arm = areas(runs, metric, registered)
    for name, what in registered["hypotheses"].items():
      found.append(_row(name, metric, runs, what, by_arm))
  what = registered["slack"]
  if len(slack) > 1:
    for metric in what["metrics"]:
      arms = {x: used(slack, x, metric) for x in (what["a"], what["b"])}
      found.append(_row("slack", metric, slack, what, arms))
  family = [f"slack {metric}" for metric in what["metrics"]]
  p = {f"{x.name} {x.metric}": x.interval.p for x in found}
  adjusted = corrected(family, p, registered["alpha"])
  return [x._replace(adjusted=adjusted[f"{x.name} {x.metric}"]) for x in found]


def _row(name, metric, runs, what, by_arm) -> Row:
  each = by_arm[what["a"]] - by_arm[what["b"]]
  return Row(
    name, metric, float(each.mean()), statistics.t_interval(each),
    statistics.detectable(each),
    {x: dose(runs, what["a"], x) for x in what.get("dose", [])},
  )  # fmt: skip


def used(slack: list[dict], arm: str, metric: str) -> np.ndarray:
  """A metric of the arm's evaluation `use`, [seeds]."""
  found = [run["evals"][arm]["use"] for run in slack]
  if metric == "carried":
    return np.array([x["use_rate"] * x["swap_bits"] for x in found])
  return np.array([x[metric] for x in found])


def verdict(row: Row, alpha: float) -> str:
  """The word that a table bears."""
  small = [k for k, x in row.dose.items() if x is None or x < LEAST[k]]
  if small:
    return f"not tested ({', '.join(small)})"
  return word(row.mean, row.adjusted, alpha)


def table(runs: list[dict], registered: dict, slack: list[dict] = ()) -> str:
  """Markdown of all."""
  if len(runs) < 2:
    return "not run: results/core-SEED.json of two seeds are needed.\n"
  seeds = [run["seed"] for run in runs]
  parts = [
    f"Registered: {registered['registered']}. Seeds {seeds}; test split.",
    *preliminary(registered["seeds"], seeds),
    _verdicts(rows(runs, registered, slack), registered),
    _slack(slack, registered),
    *(_areas(runs, metric, registered) for metric in METRICS),
    *(_budgets(runs, metric) for metric in METRICS),
    _doses(runs),
    _levels(runs),
  ]
  return "\n\n".join(parts) + "\n"


def _slack(slack: list[dict], registered: dict) -> str:
  """The arms of slack.py, or that they were not run."""
  missing = sorted(set(registered["seeds"]) - {x["seed"] for x in slack})
  if len(slack) < 2:
    return "Slack (slack.py): not run."
  heads = ["slack", *(label for label, _ in SLACK.values()), "bonus"]
  lines = []
  for arm in slack[0]["evals"]:
    cells = [shown(used(slack, arm, x), n) for x, (_, n) in SLACK.items()]
    paid = dose(slack, arm, "bonus")
    lines.append([arm, *cells, "-" if paid is None else f"{paid:.3f}"])
  left = f"Slack: seeds {missing} are not run.\n\n" if missing else ""
  return left + markdown(heads, lines)


def _verdicts(found: list[Row], registered: dict) -> str:
  lines = []
  for row in found:
    slack = row.name == "slack"
    what = registered["slack" if slack else "hypotheses"]
    what = what if slack else what[row.name]
    label, digits = (METRICS | SLACK)[row.metric]
    signed = lambda x, digits=digits: f"{x:+.{digits}f}"
    met = ", ".join(
      f"{k} {'not recorded' if x is None else f'{x:.2f}'}"
      for k, x in row.dose.items()
    )
    lines.append([
      what["says"], f"{what['a']} - {what['b']}", label, signed(row.mean),
      f"{signed(row.interval.low)} to {signed(row.interval.high)}",
      f"{row.interval.p:.3f}", f"{row.adjusted:.3f}",
      f"**{verdict(row, registered['alpha'])}**",
      f"{row.detectable:.{digits}f}", met,
    ])  # fmt: skip
  heads = ["claim", "areas", "of", "difference", "95 %", "p", "p, Holm",
           "verdict", "detectable", "dose"]  # fmt: skip
  return markdown(heads, lines)


def _areas(runs: list[dict], metric: str, registered: dict) -> str:
  label, digits = METRICS[metric]
  lines = [
    [arm, shown(x, digits), ", ".join(f"{y:.{digits}f}" for y in x)]
    for arm, x in areas(runs, metric, registered).items()
  ]
  return markdown(["arm", f"area, {label}", "by seed"], lines)


def _budgets(runs: list[dict], metric: str) -> str:
  """Means at each budget, with the tokens that were written."""
  label, digits = METRICS[metric]
  first = [x for x in runs[0]["curve"] if x["budget"] is None]
  arms = list(dict.fromkeys(x["arm"].rsplit("_k", 1)[0] for x in first))
  budgets = list(dict.fromkeys(x["arm"].rsplit("_k", 1)[1] for x in first))
  lines = []
  for arm in arms:
    cells = []
    for k in budgets:
      own = [
        x for run in runs for x in run["curve"]
        if x["arm"] == f"{arm}_k{k}" and x["budget"] is None
      ]  # fmt: skip
      value = shown(np.array([x[metric] for x in own]), digits)
      tokens = np.mean([x["mean_tokens"] for x in own])
      cells.append(f"{value} ({tokens:.2f})")
    lines.append([arm, *cells])
  return markdown([f"{label} (tokens)", *(f"k = {k}" for k in budgets)], lines)


def _doses(runs: list[dict]) -> str:
  arms = dict.fromkeys(x.rsplit("_k", 1)[0] for x in runs[0]["doses"])
  names = ("hidden", "bonus", "use_rate", "decoy_rate", "swap_bits")
  lines = [
    [arm, *("-" if (x := dose(runs, arm, name)) is None else f"{x:.3f}"
            for name in names)]
    for arm in arms
  ]  # fmt: skip
  return markdown(["dose", *names], lines)


def _levels(runs: list[dict]) -> str:
  """How the levels of constraints ended."""
  ends = [
    x["by"]
    for run in runs
    for levels in run.get("plateaus", {}).values()
    for x in levels or []
  ]
  if not ends:
    return "How levels ended was not recorded."
  fired = sum(x == "plateau" for x in ends)
  return (
    f"Of {len(ends)} levels {fired} ended at a plateau, the others by time."
  )


def main():
  registered = json.loads((HERE / "registration.json").read_text())
  folder = HERE / "results"
  text = table(
    summaries(folder, "core"), registered, summaries(folder, "slack")
  )
  (HERE / "table.md").write_text(text)
  print(text)


if __name__ == "__main__":
  main()
