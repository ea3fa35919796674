"""Tables, figures and verdicts of the experiment from its stored results.

  ./.venv/bin/python experiments/random_vocabulary/analyse.py

Reads registration.json, which alone says what is tested and how, and
results/TIER-SEED.json.gz, TIER-SEED-run.json.gz and TIER-crossplay.json.
Writes table.md, samples.md and the figures beside this file, the same bytes
every time. What has not been run is said to be not run.
"""

import json
import re
from pathlib import Path
from typing import Any

import contrasts
import costs
import figures
import stored
import tables
from contrasts import UNRUN, Row, Verdict
from stored import Tier

HERE = Path(__file__).resolve().parent
TIERS = ("facts", "text", "append")
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
  return tables.markdown(
    ["", "contrast", "of", "effect", "interval", "p", "p, Holm", "verdict",
     "detectable", "seeds"], lines,
  )  # fmt: skip


def exploratory_table(rows: list[Row], registered: dict) -> str:
  """Markdown of contrasts without verdicts."""
  lines = [
    [f"{row.a} - {row.b}", *_numbers(row), tables.p_value(row.p),
     "-" if row.detectable is None else f"{row.detectable:.3f}",
     f"{UNRUN}: {row.why}" if row.p is None else _seeds(row, registered)]
    for row in rows
  ]  # fmt: skip
  head = ["contrast of gain", "difference", "interval", "p, unadjusted"]
  return tables.markdown([*head, "detectable", "seeds"], lines)


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


def report(
  tiers: dict[str, Tier], registered: dict, left_out: dict[str, list[int]]
) -> str:
  """table.md."""
  parts = ["# Forced random vocabulary: tables", tables.LEGEND]
  for name in ("facts", "text"):
    tier = tiers[name]
    confirms = name == registered["confirmatory_tier"]
    role = "confirmatory" if confirms else "replication"
    parts.append(f"## Tier {name} ({role})")
    if left_out[name]:
      extra = ", ".join(map(str, left_out[name]))
      parts.append(f"Seeds {extra}: not registered, left out.")
    if not tier.found:
      parts.append(f"{UNRUN}: no results/{name}-SEED.json.gz.")
      continue
    if confirms and tier.budgets != tuple(registered["budgets"]):
      raise ValueError(
        f"results/{name}-*: budgets {list(tier.budgets)} are not the "
        f"registered {registered['budgets']}."
      )
    best, areas = contrasts.best_english(tier, registered)
    parts += [
      tables.provenance(tier, registered),
      "### Hypotheses",
      tables.chosen(best, areas, registered),
      hypothesis_table(contrasts.verdicts(tier, registered, best), registered),
      ABOUT,
      *tables.of_tier(tier, best),
      "### Accounting",
      *costs.accounting(tier),
      "### Exploratory contrasts",
      exploratory_table(
        contrasts.exploratory(tier, registered, best), registered
      ),
    ]
  parts += ["## Tier append", *tables.append(tiers["append"])]
  parts += ["## Benchmarks of others", ", ".join(
    f"{name}: {UNRUN}" for name in EXTERNAL) + "."]  # fmt: skip
  return check_names("\n\n".join(parts) + "\n")


def analyse(folder: Path) -> str:
  """Reads folder/registration.json and folder/results; writes beside them.

  Returns:
    What was printed.
  """
  registered = json.loads((folder / "registration.json").read_text())
  results, tiers, left_out = folder / "results", {}, {}
  for name in TIERS:
    confirms = name == registered["confirmatory_tier"]
    tiers[name], left_out[name] = stored.load(
      results, name, seeds=registered["seeds"] if confirms else None
    )
  text = report(tiers, registered, left_out)
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
