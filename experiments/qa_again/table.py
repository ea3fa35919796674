"""Tables and verdicts of questions again, from its stored results.

  ./.venv/bin/python experiments/qa_again/table.py

Reads registration.json, which alone says what is tested, and
results/qa_again-SEED.json; writes table.md, the same bytes every time. What has
not been run is said to be not run. A contrast in which V paid too little, or a
role had hardly a group that could teach it, reads "not tested".
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
from rsrc_jax.metrics import reward_record, statistics

HERE = Path(__file__).resolve().parent
NOT_RUN = "not run"
ARMS = {
  "qa": "(a) codes trained for questions",
  "code_on": "(b), (d) codes trained for reconstruction",
  "cc": "(c) C->D->V, then a memory by cc",
  "qa_english": "(e) words of s, trained for questions",
  "tfidf": "(e) an extract, TF-IDF",
  "qa_on": "(f) as (a), further steps without Q",
  "probes": "(f) as (a), further steps with Q",
}
FRESH = ("qa", "code_on", "qa_english", "tfidf")
READERS = {"cc": "memory of three, code of three", "long": "code of six"}
TAUGHT = {
  "untaught": "nothing further", "source200": "200 on sources alone",
  "code30": "30 on codes", "code200": "200 on codes",
  "code600": "600 on codes",
}  # fmt: skip
COLUMNS = {
  "code_asked": "one fact", "code_asked_sampled": "sampled",
  "code_pairs": "two facts", "code_pairs_sampled": "sampled",
  "code_new_pairs": "two, never asked together",
  "code_unasked": "facts never asked for", "other_asked": "from another's code",
  "nothing_asked": "the question alone", "source_asked": "s itself",
}  # fmt: skip
CODES = {
  "bits_conveyed": ("bits conveyed to D", 2), "exact_match": ("exact", 3),
  "edit_similarity": ("edit similarity", 3), "mean_tokens": ("tokens", 2),
}  # fmt: skip


class Row(NamedTuple):
  """A hypothesis, over the seeds that have what it needs."""

  name: str
  each: np.ndarray  # [seeds], the difference
  interval: statistics.Interval
  small: list[str]  # what was too little for a test
  adjusted: float | None = None  # p, Holm


def load(folder: Path, seeds: list[int]) -> list[dict]:
  """The stored summaries of these seeds, in their order."""
  return [x for x in summaries(folder, "qa_again") if x["seed"] in seeds]


def score(run: dict, arm: str, of: str, name: str) -> float | None:
  """A score of an evaluation of an arm in one seed; None: it has none."""
  return run.get("evals", {}).get(arm, {}).get(of, {}).get(name)


def over_seeds(found: list[float | None]) -> np.ndarray | None:
  """[seeds]; None unless all seeds have it."""
  return np.array(found) if found and None not in found else None


def dose(run: dict, arm: str, role: str, what: str) -> float | None:
  """V's share ("word") of a role's reward, or its dead groups ("dead").

  C is the role that `reward_shares` and `dead_groups` are about.
  """
  if role != "C":
    key = f"{role}_{'word' if what == 'word' else 'dead_groups'}"
    return run.get("doses", {}).get(arm, {}).get(key)
  if what == "dead":
    return run.get("dead_groups", {}).get(arm)
  shares = run.get("reward_shares", {}).get(arm)
  return None if shares is None else reward_record.word(shares)


def memories(run: dict) -> float | None:
  """Share of the rounds of the test split in which there was a memory."""
  return run.get("examined", {}).get("cc", {}).get("cc_read")


def too_little(runs: list[dict], what: dict, registered: dict) -> list[str]:
  """What did too little for a test of a hypothesis, in the mean over seeds."""
  found, limits = [], {**registered["least"], **registered["most"]}
  for arm in dict.fromkeys((what["a"][0], what["b"][0])):
    for role in registered["roles"].get(arm, ()):
      for kind in ("word", "dead"):
        met = over_seeds([dose(run, arm, role, kind) for run in runs])
        if met is None:
          found.append(f"{arm}: {role} {kind} not recorded")
        elif (met.mean() > limits[kind]) == (kind == "dead"):
          found.append(f"{arm}: {role} {kind} {met.mean():.2f}")
  if what.get("reads"):
    met = over_seeds([memories(run) for run in runs])
    if met is None or met.mean() < limits["read"]:
      said = "not recorded" if met is None else f"{met.mean():.2f}"
      found.append(f"memories read {said}")
  return found


def rows(runs: list[dict], registered: dict) -> list[Row]:
  """The hypotheses that two seeds at least can tell of, with Holm's p.

  The family is all of them, run or not: what is missing counts as p = 1.
  """
  found = []
  for name, what in registered["hypotheses"].items():
    pairs = [(run, *(score(run, *what[x]) for x in "ab")) for run in runs]
    pairs = [x for x in pairs if None not in x[1:]]
    each = np.array([a - b for _, a, b in pairs])
    if len(each) < 2:
      continue
    small = too_little([run for run, *_ in pairs], what, registered)
    found.append(Row(name, each, statistics.t_interval(each), small))
  p = {x.name: x.interval.p for x in found}
  adjusted = corrected(registered["hypotheses"], p, registered["alpha"])
  return [x._replace(adjusted=adjusted[x.name]) for x in found]


def verdict(row: Row, registered: dict) -> str:
  """The word that a table bears."""
  if row.small:
    return f"not tested ({'; '.join(row.small)})"
  return word(row.each.mean(), row.adjusted, registered["alpha"])


def table(runs: list[dict], registered: dict) -> str:
  """Markdown of all."""
  if len(runs) < 2:
    return f"{NOT_RUN}: results/qa_again-SEED.json of two seeds are needed.\n"
  seeds = [run["seed"] for run in runs]
  about = (
    f"Registered {registered['registered']}. Seeds {seeds}; "
    f"{registered['metric']}. Intervals are Student's t over seeds."
  )
  parts = [about, *preliminary(registered["seeds"], seeds)]
  parts += [_verdicts(rows(runs, registered), registered), "## Answers"]
  fresh = {k: x for k, x in ARMS.items() if k in FRESH}
  parts += [_answers(runs, "answers", ARMS), "## To a reader from the base"]
  parts += [_answers(runs, "fresh", fresh), "## From a memory and a code"]
  parts += [_answers(runs, "memory", READERS), "## Codes", _codes(runs)]
  parts += ["## Doses, over training", _doses(runs, registered)]
  return "\n\n".join(parts) + "\n"


def _verdicts(found: list[Row], registered: dict) -> str:
  by, lines = {x.name: x for x in found}, []
  for name, what in registered["hypotheses"].items():
    if name not in by:
      lines.append([name, what["says"], *[""] * 5, f"**{NOT_RUN}**", ""])
      continue
    row = by[name]
    lines.append([
      name, what["says"], f"{row.each.mean():+.3f}",
      f"{row.interval.low:+.3f} to {row.interval.high:+.3f}",
      f"{len(row.each)}", f"{row.interval.p:.3f}", f"{row.adjusted:.3f}",
      f"**{verdict(row, registered)}**",
      f"{statistics.detectable(row.each):.3f}",
    ])  # fmt: skip
  heads = ["", "claim", "difference", "95 %", "seeds", "p", "p, Holm",
           "verdict", "detectable"]  # fmt: skip
  return markdown(heads, lines)


def _answers(runs: list[dict], of: str, arms: dict[str, str]) -> str:
  lines = []
  for arm, label in arms.items():
    read = over_seeds([score(run, arm, of, "tokens") for run in runs])
    if read is None:
      lines.append([label, NOT_RUN, *[""] * (len(COLUMNS) + 1)])
      continue
    for taught, said in TAUGHT.items():
      values = [
        over_seeds([score(run, arm, of, f"{taught}_{x}") for run in runs])
        for x in COLUMNS
      ]
      if any(x is not None for x in values):
        cells = [shown(x, 3) or "-" for x in values]
        lines.append([label, said, shown(read, 2), *cells])
  return markdown(
    ["arm", "lessons of A", "tokens read", *COLUMNS.values()], lines
  )


def _codes(runs: list[dict]) -> str:
  lines = []
  for arm in ("code", "english", "long", *ARMS):
    own = [run.get("heldout", {}).get("arms", {}).get(arm, {}) for run in runs]
    found = {x: over_seeds([run.get(x) for run in own]) for x in CODES}
    cells = [shown(x, CODES[k][1]) or NOT_RUN for k, x in found.items()]
    lines.append([f"`{arm}`", *cells])
  return markdown(["arm", *(label for label, _ in CODES.values())], lines)


def _doses(runs: list[dict], registered: dict) -> str:
  lines = []
  for arm, roles in registered["roles"].items():
    for role in roles:
      met = [
        over_seeds([dose(run, arm, role, x) for run in runs])
        for x in ("word", "dead")
      ]
      cells = [shown(x, 3) or NOT_RUN for x in met]
      lines.append([f"`{arm}`", role, *cells])
  more = {
    "rounds of the test split with a memory": [memories(x) for x in runs],
    "Q's probes that s answers": [
      x.get("doses", {}).get("probes", {}).get("Q_answerable") for x in runs
    ],
    "Q's reward": [
      x.get("doses", {}).get("probes", {}).get("Q_paid") for x in runs
    ],
  }
  said = [
    f"{name}: {shown(over_seeds(x), 3) or NOT_RUN}" for name, x in more.items()
  ]
  heads = ["arm", "role", "V's share of the spread of its reward",
           "dead groups"]  # fmt: skip
  return f"{markdown(heads, lines)}\n\n{'; '.join(said)}."


def main():
  registered = json.loads((HERE / "registration.json").read_text())
  text = table(load(HERE / "results", registered["seeds"]), registered)
  (HERE / "table.md").write_text(text)
  print(text)


if __name__ == "__main__":
  main()
