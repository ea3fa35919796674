"""What a sweep's runs are at, as a table."""

import time
from collections import Counter
from pathlib import Path

from rsrc_jax.sweep import files, owner, state, tables
from rsrc_jax.sweep.plan import Plan

HEAD = ("run", "state", "attempts", "seconds", "step", "last line")


def table(folder: Path, plan: Plan) -> str:
  """A line for each run that was started, and a count of all."""
  rows, counts = [], Counter()
  for run in plan.runs:
    found = state.of(run)
    counts[found.word] += 1
    if found.word == "planned":
      continue
    record = found.attempt or {}
    seconds = record.get("seconds")
    if found.word == "running" and "started" in record:
      # The clock may have been set back.
      seconds = max(time.time() - record["started"], 0.0)
    step = " ".join(map(str, files.step(run.workdir) or []))
    last = found.last
    if found.word == "running":
      last = files.last_line(Path(record["log"]))
    rows.append((run.name, found.word, found.attempts,
                 seconds and round(seconds), step, last))  # fmt: skip
  said = ", ".join(f"{counts[x]} {x}" for x in state.WORDS if counts[x])
  lines = [tables.aligned(HEAD, rows)] if rows else []
  return "\n".join(
    [*lines, f"{len(plan.runs)} runs: {said}. {_driver(folder)}"]
  )


def _driver(folder: Path) -> str:
  found = files.read(owner.path(folder))
  if owner.living(found):
    return f"Driver: process {found['pid']} on {found['host']}."
  return "No driver: ./tools/sweep run goes on."
