"""One table of a sweep's results, and one over its seeds.

Numbers come from the runs' summary.json alone, rows are in the order of the
plan: collecting twice gives the same bytes.
"""

import fnmatch
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.metrics import statistics
from rsrc_jax.output.files import read_json
from rsrc_jax.output.plain import csv_text, plain
from rsrc_jax.runtime import inputs, old_configs
from rsrc_jax.sweep import files, state, stored, tables
from rsrc_jax.sweep.plan import Plan, Run

# Of the headline arm, where no scores are asked for.
SCORES = ("bits_conveyed", "nll_bits", "edit_similarity", "mean_tokens")


class Collected(NamedTuple):
  """fields: that the runs differ in. scores: names of the columns.

  rows: one a finished run. groups: one for runs that differ in seeds alone.
  missing: names of runs that are not done. revisions: of the code.
  mixed: settings whose files were not the same for runs with equal values.
  """

  fields: list[str]
  scores: list[str]
  rows: list[dict[str, Any]]
  groups: list[dict[str, Any]]
  missing: list[str]
  revisions: list[str]
  mixed: list[str]


def finished(plan: Plan) -> list[Run]:
  """The runs of a plan that are done."""
  return [run for run in plan.runs if state.done(run)]


def ended(folders: Iterable[str | Path]) -> list[Run]:
  """The finished runs of sweeps, whose number is shown for each.

  Folders that are not there are passed over.

  Raises:
    ValueError: none of them is there.
  """
  there = [x for x in map(Path, folders) if stored.path(x).is_file()]
  if not there:
    raise ValueError("none of --sweeps is there: run the sweep first.")
  every = []
  for folder in there:
    plan = stored.load(folder)
    found = finished(plan)
    print(f"{plain(folder)}: {len(found)} of {len(plan.runs)} runs have ended.")
    every += found
  return every


def collect(plan: Plan, scores: str = "") -> Collected:
  """The tables of a plan's finished runs.

  scores: patterns of dotted names in summary.json, such as
    "heldout.arms.*.bits_conveyed", comma-separated; by default SCORES of the
    headline arm.
  """
  ended = finished(plan)
  fields = list(dict.fromkeys(k for x in plan.runs for k in x.changes))
  rows, names = [], {}
  for run in ended:
    remedy = "Remove it; ./tools/sweep run makes it again."
    summary = read_json(run.workdir / "summary.json", remedy)
    found = _asked(summary, scores) if scores else _headline(summary)
    names |= dict.fromkeys(found)
    values = plan.settings | run.changes
    rows.append({
      "run": run.name, "variant": run.variant, "seed": run.seed, "id": run.id,
      **{x: values[x] for x in fields if x != "seed"}, **found,
      "seconds": summary.get("seconds"), "joules": _joules(summary),
      "attempts": len(state.attempts(run)),
      "revision": (summary.get("made_with") or {}).get("git"),
    })  # fmt: skip
  here = {x.id for x in ended}
  revisions = sorted({str(x["revision"]) for x in rows})
  missing = [x.name for x in plan.runs if x.id not in here]
  groups = _groups(ended, rows, [*names])
  mixed = _mixed(plan, ended)
  return Collected(fields, [*names], rows, groups, missing, revisions, mixed)


def _mixed(plan: Plan, runs: list[Run]) -> list[str]:
  """Settings that name files of which the runs have read different ones."""
  found = {}
  for run in runs:
    values, own = plan.settings | run.changes, {}
    for name, digest in (inputs.recorded(run.workdir) or {}).items():
      if name not in inputs.MADE:
        own.setdefault(name.split("/")[0], []).append((name, digest))
    for field, files_read in own.items():
      value = repr(values.get(field.removeprefix("config.")))
      found.setdefault((field, value), set()).add(tuple(files_read))
  return sorted({field for (field, _), x in found.items() if len(x) > 1})


def _headline(summary: dict) -> dict[str, float]:
  arm = (summary.get("report") or {}).get("headline") or "code"
  held = summary.get("heldout") or {}
  found = (held.get("arms") or held).get(arm) or {}
  return {x: found[x] for x in SCORES if _is_number(found.get(x))}


def _asked(summary: dict, patterns: str) -> dict[str, float]:
  flat = old_configs.flat(summary)
  return {
    name: value
    for pattern in patterns.split(",")
    for name, value in flat.items()
    if fnmatch.fnmatchcase(name, pattern) and _is_number(value)
  }


def _is_number(value: Any) -> bool:
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return math.isfinite(value)


def _joules(summary: dict) -> float | None:
  """The median of all that was spent; None where some of it is unknown."""
  total = 0.0
  for phases in (summary.get("ledger") or {}).get("phases", {}).values():
    for entry in phases.values():
      if entry["joules"] is None:
        return None
      total += entry["joules"]["median"]
  return total or None


def _groups(runs: list[Run], rows: list[dict], scores: list[str]) -> list[dict]:
  """Means over seeds, with half of the 95 % t-interval where it has one."""
  by = {}
  for run, row in zip(runs, rows, strict=True):
    by.setdefault((run.variant, run.group), []).append(row)
  found = []
  for (variant, _), own in by.items():
    line = {"variant": variant, "seeds": len(own)}
    for score in scores:
      values = [x[score] for x in own if x.get(score) is not None]
      mean = half = None
      if len(values) > 1:
        mean, half = statistics.seed_interval(values)
      elif values:
        mean = float(values[0])
      line[score], line[f"{score} +-"] = mean, half
    found.append(line)
  return found


def write(folder: Path, found: Collected) -> None:
  """Writes table.csv, table.json and groups.csv into a folder.

  Raises:
    OSError: they can't be written.
  """
  values = found._asdict()
  del values["fields"]
  files.write(folder / "table.json", values)
  for name, rows in (("table", found.rows), ("groups", found.groups)):
    files.write_text(folder / f"{name}.csv", _csv(rows))


def _csv(rows: list[dict]) -> str:
  return csv_text(list(dict.fromkeys(k for row in rows for k in row)), rows)


def shown(found: Collected) -> str:
  """Both tables and what is to be known of them, as text."""
  fields = [x for x in found.fields if x != "seed"]
  head = ["run", *fields, *found.scores, "seconds", "joules", "attempts",
          "revision"]  # fmt: skip
  rows = [
    [row.get(x) for x in head[:-1]] + [_short(row["revision"])]
    for row in found.rows
  ]
  parts = [tables.aligned(head, rows)]
  if found.scores:
    head = ["variant", "seeds", *found.scores]
    parts.append(tables.aligned(head, [_group(x, head) for x in found.groups]))
  else:
    parts.append("No scores: name some, --scores=heldout.arms.*.nll_bits")
  if len(found.revisions) > 1:
    parts.append(f"Mixed revisions: {', '.join(found.revisions)}.")
  if found.mixed:
    parts.append(f"Mixed files: {', '.join(found.mixed)}; see inputs.json.")
  if found.missing:
    few = ", ".join(found.missing[:8])
    more = f" and {len(found.missing) - 8} more" if found.missing[8:] else ""
    parts.append(f"Missing, {len(found.missing)} runs: {few}{more}.")
  return "\n\n".join(parts)


def _short(revision: str | None) -> str:
  """The first digits, and a "+" where files of it had changed."""
  text = revision or "-"
  return text.rstrip("+")[:9] + ("+" if text.endswith("+") else "")


def _group(line: dict, head: list[str]) -> list:
  cells = [line["variant"], line["seeds"]]
  for score in head[2:]:
    mean, half = line[score], line[f"{score} +-"]
    if half is None:
      cells.append(mean)
    else:
      cells.append(f"{mean:.4g} ± {half:.2g}")
  return cells
