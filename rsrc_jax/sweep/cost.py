"""What a sweep will cost, from runs that were measured; never by a guess.

A run that has ended says how long its own settings take, whatever the seed. One
of the same shape (it differs in counts of steps too) says what a step of each
stage takes, and what all else does: more steps cost so much more. `--measure`
makes such a run, of SHORT steps, where there is none.
"""

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.runtime import old_configs, provenance, run_log
from rsrc_jax.sweep import files, tables
from rsrc_jax.sweep.plan import Plan, Run

SHORT = 12  # steps of a run that is made to be measured
# Stages with a block of their own; the others have `steps`. A short run trains
# the reader whole, or it would be refused.
BLOCKS = {"base": "pretrain.steps", "reader": "reader.steps"}
WARMUP = "pretrain.warmup_from"  # a part of the base's steps
STEPS = re.compile(r"(pretrain\.|arms\.\w+\.)?steps")  # of a stage, or of all


class Measured(NamedTuple):
  """A finished run: what it took.

  seconds: of all its sessions. cores: that it had. steps: of each stage.
  rates: steps a second of each stage, after compilation.
  """

  where: Path
  values: dict[str, Any]
  seconds: float
  cores: int | None
  steps: dict[str, int]
  rates: dict[str, float]


class Cost(NamedTuple):
  """What a run will take: seconds, and on how many cores; from what."""

  seconds: float
  cores: int | None
  basis: str


def key(values: dict[str, Any], *, shape: bool = False) -> str:
  """The id of a run without its seeds; of a shape, without counts of steps."""
  count = lambda name: STEPS.fullmatch(name) or name == WARMUP
  return provenance.identity_of({
    name: value
    for name, value in values.items()
    if name.rpartition(".")[2] != "seed" and not (shape and count(name))
  })  # fmt: skip


def finished(roots: Sequence[Path]) -> Iterator[Measured]:
  """The finished runs in folders, down to three levels below them."""
  paths = {
    path.parent.resolve(): None
    for root in roots
    for depth in range(1, 4)
    for path in sorted(root.glob("*/" * depth + "summary.json"))
  }
  yield from filter(None, map(_measured, paths))


def _measured(workdir: Path) -> Measured | None:
  """None where it isn't a run, or doesn't say what it took."""
  try:
    summary = json.loads((workdir / "summary.json").read_text())
    config = json.loads((workdir / "config.json").read_text())
    values = old_configs.flat(old_configs.upgraded(config))
    cores = summary.get("ledger", {}).get("machine", {}).get("vcpus")
    attempt = files.read(workdir / "attempts" / "1.json") or {}
    seconds = float(summary.get("seconds") or attempt["seconds"])
    steps, rates = {}, {}
    metrics = workdir / "metrics.jsonl"
    for line in run_log.read_jsonl(metrics) if metrics.is_file() else ():
      if line["split"] == "train":
        steps[line["phase"]] = line["step"]
        rates[line["phase"]] = line.get("steps_per_second", 0.0)
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return None
  cores = len(attempt.get("cores") or ()) or cores
  return Measured(workdir, values, seconds, cores, steps, rates)


def of(plan: Plan, roots: Sequence[Path]) -> dict[str, Cost | None]:
  """What each run will take, by its id; None where nothing was measured.

  roots: folders in which finished runs are looked for.
  """
  same, alike = {}, {}
  for found in finished(roots):
    same.setdefault(key(found.values), []).append(found)
    alike.setdefault(key(found.values, shape=True), []).append(found)
  costs, known = {}, {}
  for run in plan.runs:
    if run.group not in known:
      values = plan.settings | run.changes
      own = same.get(key(values), [])
      near = alike.get(key(values, shape=True), [])
      known[run.group] = _exact(own) or _scaled(values, near)
    costs[run.id] = known[run.group]
  return costs


def _exact(own: Sequence[Measured]) -> Cost | None:
  if not own:
    return None
  seconds = statistics.median(x.seconds for x in own)
  return Cost(seconds, own[0].cores, f"{_count(own)} with these settings")


def _scaled(values: dict[str, Any], near: Sequence[Measured]) -> Cost | None:
  """From runs with other counts of steps: a step costs what it did there."""
  found = []
  for other in near:
    seconds = other.seconds
    for stage, had in other.steps.items():
      want, rate = steps_of(values, stage), other.rates.get(stage)
      if not rate or want is None:
        break
      seconds += (want - had) / rate
    else:
      if other.steps and seconds > 0:
        found.append(seconds)
  if not found:
    return None
  steps = ", ".join(sorted({str(max(x.steps.values())) for x in near}))
  basis = f"the rates of {_count(near)} of {steps} steps"
  return Cost(statistics.median(found), near[0].cores, basis)


def steps_of(values: dict[str, Any], stage: str) -> int | None:
  """How long a stage is trained; None where the config doesn't say."""
  fields = [BLOCKS[stage]] if stage in BLOCKS else []
  fields += [f"arms.{stage}.steps", "steps"]
  return next((values[x] for x in fields if x in values), None)


def _count(of: Sequence[Measured]) -> str:
  return f"{len(of)} finished run{'s' if len(of) > 1 else ''}"


def short(plan: Plan, run: Run) -> dict[str, Any]:
  """Settings that make a run short, and leave its shape."""
  values = plan.settings | run.changes
  found = {
    name: min(value, SHORT)
    for name, value in values.items()
    if STEPS.fullmatch(name)
  }
  # The share of the base's steps that the roles are taught in stays.
  if values.get(WARMUP) and values.get("pretrain.steps"):
    share = values[WARMUP] / values["pretrain.steps"]
    found[WARMUP] = round(share * found["pretrain.steps"])
  if "log_every" in values:
    found["log_every"] = SHORT // 3
  return found


def unmeasured(plan: Plan, costs: dict[str, Cost | None]) -> list[Run]:
  """A run of each shape of which nothing is known."""
  found = {}
  for run in plan.runs:
    if costs[run.id] is None:
      found.setdefault(key(plan.settings | run.changes, shape=True), run)
  return list(found.values())


def table(
  plan: Plan, costs: dict[str, Cost | None], done: set[str], slots: int
) -> str:
  """The grid and what it costs, a line for each variant.

  Args:
    plan: of the sweep.
    costs: of each run, by id.
    done: ids of the runs that have ended.
    slots: how many run at a time.
  """
  groups = {}
  for run in plan.runs:
    groups.setdefault((run.variant, run.group), []).append(run)
  rows = [_row(runs, costs[runs[0].id], done) for runs in groups.values()]
  head = ("variant", "runs", "done", "min a run", "core-h left", "seeds",
          "changes", "measured by")  # fmt: skip
  shown = rows[:50]
  text = tables.aligned(head, shown)
  if len(rows) > len(shown):
    text += f"\n... and {len(rows) - len(shown)} more variants"
  return f"{text}\n{_total(plan, costs, done, slots)}"


def _row(runs: list[Run], cost: Cost | None, done: set[str]) -> tuple:
  left = [x for x in runs if x.id not in done]
  seeds = [x.seed for x in runs]
  few = ",".join(map(str, seeds)) if len(seeds) < 6 else f"{len(seeds)} seeds"
  minutes = hours = None
  if cost is not None:
    minutes = cost.seconds / 60
    if cost.cores:
      hours = len(left) * cost.seconds * cost.cores / 3600
  return (
    runs[0].variant, len(runs), len(runs) - len(left), minutes, hours, few,
    tables.changes(runs[0].changes), cost.basis if cost else "not measured",
  )  # fmt: skip


def _total(plan: Plan, costs, done: set[str], slots: int) -> str:
  left = [x for x in plan.runs if x.id not in done]
  known = [costs[x.id] for x in left if costs[x.id] is not None]
  said = f"{len(plan.runs)} runs, {len(plan.runs) - len(left)} done."
  if known:
    hours = "an unknown number of"
    if all(x.cores for x in known):
      hours = f"{sum(x.seconds * x.cores for x in known) / 3600:.3g}"
    wall = sum(x.seconds for x in known) / slots / 3600
    said += (
      f" {len(known)} of the {len(left)} left take {hours} core-hours by "
      f"measurement, {wall:.3g} hours at {slots} at a time."
    )
  if missing := len(left) - len(known):
    said += (
      f" Nothing was measured for {missing}: --measure runs {SHORT} steps of "
      "one of each shape."
    )
  return said
