"""Summaries of runs, read for a comparison: one arm a run, in pairs by seed."""

import glob
import json
import math
from pathlib import Path
from typing import Any, NamedTuple


class Run(NamedTuple):
  """One arm of one summary."""

  path: Path
  arm: str
  seed: int
  summary: dict[str, Any]


def read(which: str) -> list[Run]:
  """The runs of "PATHS:ARM", by seed.

  Raises:
    ValueError: nothing is there, a summary cannot be read, lacks the arm or the
      seed, or a seed or a run is there twice.
  """
  pattern, _, arm = which.rpartition(":")
  if not pattern or not arm:
    raise ValueError(f"{which!r} names no arm: write PATHS:ARM")
  runs, seen = {}, {}
  found = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern))
  for path in map(Path, found):
    path = path / "summary.json" if path.is_dir() else path
    if not path.exists():
      raise ValueError(f"{path} is missing: let the run finish or narrow PATHS")
    try:
      summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
      raise ValueError(f"{path} is no JSON: give a summary") from None
    run = Run(path, arm, number(path, summary, "seed"), summary)
    arms = get(path, summary, "rsrc", "arms")
    if arm not in arms:
      raise ValueError(f"{path} has no arm {arm!r}: it has {sorted(arms)}")
    if run.seed in runs:
      raise ValueError(
        f"seed {run.seed} is doubled for {which}: "
        f"{runs[run.seed].path} and {path}; name one of them"
      )
    content = json.dumps(summary | {"seed": None}, sort_keys=True)
    if content in seen:  # its times, to the last digit
      raise ValueError(
        f"{path} is a copy of {seen[content]} with another seed: name one of "
        "them"
      )
    runs[run.seed], seen[content] = run, path
  if not runs:
    raise ValueError(f"{pattern} matches no summary: check PATHS")
  return [runs[seed] for seed in sorted(runs)]


def get(path: Path, value: Any, *keys: str) -> Any:
  """value[key][key]..., or a line on what is missing."""
  for i, key in enumerate(keys, 1):
    if not isinstance(value, dict) or value.get(key) is None:
      raise ValueError(
        f"{path} has no {'.'.join(keys[:i])}: give the summary of a run that "
        "kept a ledger"
      )
    value = value[key]
  return value


def number(path: Path, value: Any, *keys: str) -> float:
  """A finite number of a summary."""
  value = get(path, value, *keys)
  if not isinstance(value, int | float) or not math.isfinite(value):
    raise ValueError(
      f"{path} has {'.'.join(keys)} = {value}: it must be a finite number"
    )
  return value


def of(run: Run, *keys: str) -> float:
  """A finite number of the run's arm."""
  return number(run.path, run.summary, "rsrc", "arms", run.arm, *keys)


def pairs(a: list[Run], b: list[Run]) -> tuple[list[Run], list[Run], list[str]]:
  """The runs of the seeds that both have, and a line on the others.

  Raises:
    ValueError: no seed is shared, or a pair was run on different corpora.
  """
  ours, theirs = ({run.seed: run for run in runs} for runs in (a, b))
  seeds = sorted(set(ours) & set(theirs))
  if not seeds:
    raise ValueError(
      f"A has seeds {sorted(ours)}, B has {sorted(theirs)}: none is shared"
    )
  for seed in seeds:
    one, other = (
      get(run.path, run.summary, "corpus", "digest")
      for run in (ours[seed], theirs[seed])
    )
    if one != other:
      raise ValueError(
        f"seed {seed} has corpus {one} in {ours[seed].path} and {other} in "
        f"{theirs[seed].path}: compare runs on the same data"
      )
  alone = {"A": set(ours) - set(theirs), "B": set(theirs) - set(ours)}
  left_out = [
    f"Left out, {name} only: seed {', '.join(map(str, sorted(more)))}."
    for name, more in alone.items()
    if more
  ]
  return [ours[s] for s in seeds], [theirs[s] for s in seeds], left_out


def copies(runs: list[Run]) -> list[int]:
  """Seeds whose arms have the same numbers to the last digit; [] if none.

  Two runs never take the same time, so that one of them is a copy.
  """
  arms = [run.summary["rsrc"]["arms"][run.arm] for run in runs]
  return [run.seed for run, x in zip(runs, arms, strict=True)
          if arms.count(x) > 1]  # fmt: skip


def served_by(runs: list[Run], served: float | None) -> float:
  """n: the flag's, or the one number that all summaries declare."""
  declared = {served}
  if served is None:
    keys = ("rsrc", "samples_served")
    declared = {number(run.path, run.summary, *keys) for run in runs}
  if len(declared) > 1:
    raise ValueError(
      f"samples_served differs, {sorted(declared)}: give one with --served"
    )
  n = declared.pop()
  if not 0 < n < math.inf:
    raise ValueError(f"samples served are {n}: give a number > 0 with --served")
  return n


def trained(run: Run) -> bool:
  """Whether training was paid for; compressors have no such entry."""
  return "train" in run.summary["rsrc"]["arms"][run.arm].get("use", {})
