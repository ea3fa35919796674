"""Tables, figures and verdicts of the experiment from its stored results.

  ./.venv/bin/python experiments/random_vocabulary/analyse.py

Reads registration.json, which alone says what is tested and how, and
results/TIER-kK-SEED.json.gz, TIER-kK-SEED-run.json.gz (measure.py), and
TIER-crossplay.json.
Writes table.md, samples.md and the figures beside this file, the same bytes
every time. What has not been run is said to be not run.
"""

import json
import re
from pathlib import Path
from typing import Any

from experiments import over_seeds
from experiments.random_vocabulary import (
  contrasts,
  costs,
  figures,
  stored,
  tables,
  use_tables,
)
from experiments.random_vocabulary.contrasts import UNRUN, Row, Verdict
from experiments.random_vocabulary.stored import Tier

HERE = Path(__file__).resolve().parent
COMPARED = ("facts", "text", "smollm2", "large")  # tiers of the same arms
LOOKED_AT = ("append", "cold", "use")  # in training alone
TIERS = COMPARED + LOOKED_AT
# Public benchmarks whose data is not here: no number may stand beside a name.
EXTERNAL = ("GSM8K", "BBH", "LongBench", "MeetingBank", "SQuAD", "HotpotQA",
            "LoCoMo", "LongMemEval", "NQ")  # fmt: skip
ABOUT = (
  'Effects: differences in the unit of the metric; "not worse": relative '
  "differences; H5: the ratio. The interval is the wider of the paired "
  "hierarchical bootstrap's and of Student's t over seeds, p the larger of the "
  'two; "not worse" is a one-sided test, whose interval is at 90 %. '
  "*Detectable*: the least distance from the bound, in the unit of the effect, "
  "that this design would show with a power of 0.8, before Holm's correction. "
  "What was not run keeps its place in the family."
)


def hypothesis_table(found: list[Verdict], registered: dict) -> str:
  """Markdown of the verdicts."""
  lines = []
  for row, adjusted, word in found:
    what = registered["hypotheses"][row.name]
    metric = what.get("metric", "gain" if "ratio" not in row.test else
                      "held-out gain")  # fmt: skip
    least = "-" if row.detectable is None else f"{row.detectable:.3f}"
    lines.append(
      [f"**{row.name}**" + (" (primary)" if what.get("primary") else ""),
       f"{row.a} against {row.b}: {row.test}", metric, *_numbers(row),
       tables.p_value(row.p), tables.p_value(adjusted), f"**{word}**", least,
       _seeds(row, registered)]
    )  # fmt: skip
  table = over_seeds.markdown(
    ["", "contrast", "of", "effect", "interval", "p", "p, Holm", "verdict",
     "detectable", "seeds"], lines,
  )  # fmt: skip
  less = [
    f"{row.name}: {reason}, left out."
    for row, _, _ in found
    for reason in row.left_out
  ]
  return "\n\n".join([table, "\n".join(less)] if less else [table])


def preliminary(tier: Tier, registered: dict) -> list[str]:
  """That the registered design is not complete, where it is not."""
  wanted, parts = registered["budgets"], []
  if absent := sorted(set(wanted) - set(tier.budgets)):
    parts.append(f"k = {', '.join(map(str, absent))}")
  if absent := sorted(set(registered["seeds"]) - set(tier.found)):
    parts.append(f"seeds {', '.join(map(str, absent))}")
  if not parts:
    return []
  return [
    f"**Preliminary**: {' and '.join(parts)} of the registered design "
    f"{UNRUN}; no verdict below is final."
  ]


def amendments(registered: dict) -> str:
  """What of the registration was changed, when."""
  parts = []
  for entry in registered.get("amendments", []):
    when = "before" if entry.get("before_any_reported_run") else "AFTER"
    changes = "\n".join(f"- {change}" for change in entry["changes"])
    parts.append(
      f"Amended {entry['date']}, {when} any reported run:\n\n{changes}"
    )
  return "\n\n".join(parts) or "The registration was not amended."


def exploratory_table(
  rows: list[Row], registered: dict, title: str = "contrast of gain"
) -> str:
  """Markdown of contrasts without verdicts."""
  hypothesis = lambda row: (
    f"{row.name}: " if row.name in registered["hypotheses"] else ""
  )
  lines = [
    [f"{hypothesis(row)}{row.a} - {row.b}", *_numbers(row),
     tables.p_value(row.p),
     "-" if row.detectable is None else f"{row.detectable:.3f}",
     f"{UNRUN}: {row.why}" if row.p is None else _seeds(row, registered)]
    for row in rows
  ]  # fmt: skip
  head = [title, "difference", "interval", "p, unadjusted"]
  return over_seeds.markdown([*head, "detectable", "seeds"], lines)


def _numbers(row: Row) -> list[str]:
  if row.effect is None:
    return ["-", "-"]
  sign = "" if row.test.startswith("ratio") else "+"
  effect = f"{row.effect:{sign}z.3f}"
  if row.low is None:
    return [effect, "-"]
  ends = f"{row.low:{sign}z.3f} to {row.high:{sign}z.3f} ({row.level:.0%})"
  return [effect, ends.replace("%", " %")]


def _seeds(row: Row, registered: dict) -> str:
  wanted = len(registered["seeds"])
  short = f" of {wanted}" if len(row.seeds) < wanted else ""
  return f"{len(row.seeds)}{short}"


def check_names(text: str) -> str:
  """The text, if it names no external benchmark but to say it was not run.

  Raises:
    ValueError: a line has the bare name of one and does not say so.
  """
  for line in text.splitlines():
    for name in EXTERNAL:
      # "NAME-style" is the honest name of a metric on data of our own.
      bare = re.search(rf"(?<!\w){name}(?!\w|-style)", line, re.IGNORECASE)
      said = re.search(rf"{name}: {UNRUN}", line, re.IGNORECASE)
      if bare and not said:
        raise ValueError(
          f"{name} is named in {line.strip()!r}, but its data was never run: "
          "name what was run instead."
        )
  return text


def report(tiers: dict[str, Tier], registered: dict) -> str:
  """table.md."""
  parts = ["# Forced random vocabulary: tables", tables.LEGEND]
  for name in COMPARED:
    tier = tiers[name]
    confirms = name == registered["confirmatory_tier"]
    role = "confirmatory" if confirms else "replication"
    parts.append(f"## Tier {name} ({role})")
    if not tier.found:
      parts += tier.notes
      parts.append(f"{UNRUN}: no results/{name}-kK-SEED.json.gz.")
      continue
    best, areas = contrasts.best_english(tier, registered)
    parts += [
      tables.provenance(tier, registered),
      "### Hypotheses",
      *(preliminary(tier, registered) if confirms else []),
      tables.chosen(best, areas, registered),
      hypothesis_table(contrasts.verdicts(tier, registered, best), registered),
      amendments(registered),
      ABOUT,
      "### Sensitivity: the edit similarity itself",
      "Without a floor; the English arm is the one above.",
      exploratory_table(
        contrasts.sensitivity(tier, registered, best),
        registered,
        "contrast of edit similarity",
      ),
      *tables.of_tier(tier, best),
      "### Use of injected ids",
      use_tables.use_table(tier),
      "### Accounting",
      *costs.accounting(tier),
      "### Exploratory contrasts",
      exploratory_table(
        contrasts.exploratory(tier, registered, best), registered
      ),
    ]
  for name in LOOKED_AT:
    parts += [f"## Tier {name}", *use_tables.held(tiers[name])]
  parts += ["## Benchmarks of others", ", ".join(
    f"{name}: {UNRUN}" for name in EXTERNAL) + "."]  # fmt: skip
  return check_names("\n\n".join(parts) + "\n")


def analyse(folder: Path) -> str:
  """Reads folder/registration.json and folder/results; writes beside them.

  Returns:
    What was printed.
  """
  registered = json.loads((folder / "registration.json").read_text())
  results, tiers = folder / "results", {}
  for name in TIERS:
    confirms = name == registered["confirmatory_tier"]
    asked = {"seeds": registered["seeds"], "budgets": registered["budgets"]}
    tiers[name] = stored.load(results, name, **(asked if confirms else {}))
  text = report(tiers, registered)
  (folder / "table.md").write_text(text, encoding="utf-8")
  main_tier = tiers[registered["confirmatory_tier"]]
  samples = tables.samples(main_tier)
  (folder / "samples.md").write_text(samples, encoding="utf-8")
  best, _ = contrasts.best_english(main_tier, registered)
  said = figures.draw(main_tier, tiers["append"], best, crossplay(results,
                      main_tier.name), folder)  # fmt: skip
  return text + "\n" + "\n".join(said)


def crossplay(results: Path, tier: str) -> dict[str, Any]:
  """Arm -> {"matrix": [seeds, seeds]}; empty where it was not run."""
  path = results / f"{tier}-crossplay.json"
  return json.loads(path.read_text()) if path.exists() else {}


def main():
  print(analyse(HERE))


if __name__ == "__main__":
  main()
