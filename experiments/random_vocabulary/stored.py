"""Stored results of the experiment as arrays: what examine.py and run.py wrote.

Everything is by seed, a dict seed -> value, so that a seed or an arm that is
missing is left out of what needs it and of nothing else.
"""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsrc_jax.metrics import statistics

LOOKS = 5  # held-out looks whose mean is one estimate of a gain
LAST = 1e-6  # of a phase, which is logged as a mean over a window
BySeed = dict[int, np.ndarray]


class Tier(NamedTuple):
  """One corpus, all its seeds."""

  name: str
  found: dict[int, dict]  # seed -> what examine.py found
  runs: dict[int, dict]  # seed -> the run's summary
  budgets: tuple[int, ...]


def load(
  folder: Path, name: str, *, seeds: list[int] | None = None
) -> tuple[Tier, list[int]]:
  """A tier, and the seeds that were left out since they are not in `seeds`.

  A seed's runs at several budgets, NAME-kK-SEED, are put together as one; what
  is not by budget is taken from the smallest.

  Raises:
    ValueError: seeds of one tier were examined at different budgets.
  """
  found, runs = {}, {}
  size = lambda path: int(path.name.split("-")[1][1:])
  for path in sorted(folder.glob(f"{name}-k*-*.json.gz"), key=size):
    seed, *run = path.name.removesuffix(".json.gz").split("-")[2:]
    value = json.loads(gzip.decompress(path.read_bytes()))
    kept = runs if run else found
    kept[int(seed)] = (
      together(kept[int(seed)], value) if int(seed) in kept else value
    )
  every = {*found, *runs}
  absent = sorted(every - set(every if seeds is None else seeds))
  keep = lambda x: {s: v for s, v in sorted(x.items()) if s not in absent}
  found, runs = keep(found), keep(runs)
  budgets = {tuple(x["budgets"]) for x in found.values()}
  if len(budgets) > 1:
    raise ValueError(
      f"results/{name}-*: budgets {sorted(budgets)} differ by seed; run the "
      "seeds of a tier with one config."
    )
  return Tier(name, found, runs, next(iter(budgets), ())), absent


def together(one: dict, more: dict) -> dict:
  """The same seed at other budgets. Costs stay those of the first."""
  if "budgets" not in one:
    return one
  merged = {**one, "budgets": one["budgets"] + more["budgets"], "arms": {}}
  for name, arm in one["arms"].items():
    other = more["arms"].get(name, {})
    both = {
      key: arm[key] | other.get(key, {})
      for key in ("by_budget", "valid", "questions")
      if key in arm
    }
    merged["arms"][name] = {**arm, **both}
  return merged


def arms(tier: Tier) -> list[str]:
  """Arms that wrote codes in any seed, in the order of the config."""
  return list(
    dict.fromkeys(
      name
      for found in tier.found.values()
      for name, arm in found["arms"].items()
      if "by_budget" in arm
    )
  )


def each(tier: Tier, arm: str, get: Callable[[dict], Any]) -> dict[int, Any]:
  """get(what was found of the arm) by seed; where it has no such key, none."""
  values = {}
  for seed, found in tier.found.items():
    try:
      value = get(found["arms"][arm])
    except KeyError:
      continue
    if value is not None:
      values[seed] = value
  return values


def shared_documents(tier: Tier) -> bool:
  """Whether all seeds were scored on the same documents."""
  digests = {x["corpus"]["digest"] for x in tier.found.values()}
  return len(tier.found) > 1 and len(digests) == 1


def gain_curves(tier: Tier, arm: str) -> BySeed:
  """Edit similarity of d less that of D without a code. -> [budgets, docs]"""

  def get(found):
    at = [found["by_budget"][str(k)] for k in tier.budgets]
    floor = np.asarray([x["no_code_rows"] for x in at], float)
    return np.asarray([x["edit_similarity"] for x in at], float) - floor

  return each(tier, arm, get)


def gains(tier: Tier, arm: str) -> BySeed:
  """Area under the gain over log2 k, over its span. -> [docs]"""
  return {
    seed: _area(rows.T, tier.budgets)
    for seed, rows in gain_curves(tier, arm).items()
  }


def valid_gains(tier: Tier, arm: str) -> dict[int, float]:
  """The same area on the validation split, of which only means are kept.

  Less that split's own floor.
  """

  def get(found):
    curve = np.array([found["valid"][str(k)] for k in tier.budgets])
    return float(_area(curve, tier.budgets))

  return each(tier, arm, get)


def _area(curves: np.ndarray, budgets: tuple[int, ...]) -> np.ndarray:
  """Over log2 k; at a single budget the value itself. [..., budgets]"""
  return (
    statistics.area(curves, budgets) if len(budgets) > 1 else curves[..., 0]
  )


def qa_from_code(tier: Tier, arm: str) -> BySeed:
  """Share of a document's questions answered from c, over budgets. -> [docs]"""
  rows = lambda found: [
    found["questions"][str(k)]["code"] for k in tier.budgets
  ]
  return each(tier, arm, lambda found: np.mean(rows(found), 0))


def rote_share(tier: Tier, arm: str) -> BySeed:
  """Of codes with injected ids, those that don't need them. -> [1]"""
  return each(
    tier, arm, lambda found: np.array([found["use"]["forced"]["rote_share"]])
  )


def looks(found: dict) -> list[dict]:
  """Held-out looks of an arm, in turn, each with the `phase` it was made in.

  A phase is logged as the mean over the window of training steps that the look
  falls into: between two whole numbers, the constraints changed within it.
  """
  lines = found.get("held") or []
  phases = sorted(
    (line["step"], line[key])
    for line in lines
    for key in ("curriculum_phase", "phase")
    if isinstance(line.get(key), int | float)
  )

  def phase(step):
    return next((p for end, p in phases if end >= step), None)

  return [
    line | {"phase": phase(line["step"])}
    for line in sorted(lines, key=lambda x: x["step"])
    if "held_reward" in line or "held_gain" in line
  ]


def drawn(found: dict) -> list[dict]:
  """Windows of training of an arm and what the curriculum set in them."""
  lines = [line for line in found.get("held") or [] if "inject" in line]
  return sorted(lines, key=lambda line: line["step"])


def retained(tier: Tier, arm: str) -> tuple[BySeed, BySeed]:
  """Held-out gain after all was relaxed, and the best before. -> [1] each

  After: the mean of the last looks. Before: the best mean of as many looks in a
  row while anything was still constrained. A seed that was never free, or has
  too few looks of a kind, is left out.
  """
  after, before = {}, {}
  for seed, found in each(tier, arm, lambda found: found).items():
    if not found.get("held"):
      continue
    seen = [x for x in looks(found) if x["phase"] is not None]
    last = max((x["phase"] for x in seen), default=0)
    windows = drawn(found)
    free = bool(windows) and abs(windows[-1]["inject"]) < LAST
    late = [x["held_gain"] for x in seen if x["phase"] >= last - LAST]
    # A window in which the last change fell is of neither kind.
    early = [x["held_gain"] for x in seen if x["phase"] <= last - 1 + LAST]
    if not free or min(len(late), len(early)) < LOOKS:
      continue
    after[seed] = np.array([np.mean(late[-LOOKS:])])
    rows = np.lib.stride_tricks.sliding_window_view(early, LOOKS)
    before[seed] = np.array([rows.mean(-1).max()])
  return after, before


def series(
  tier: Tier, arm: str, name: str, lines: Callable[[dict], list[dict]] = looks
) -> tuple[np.ndarray, np.ndarray]:
  """A number over training: steps [n] and values [seeds, n] that all have."""
  each_seed = [
    {x["step"]: x[name] for x in lines(found) if name in x}
    for found in each(tier, arm, lambda found: found).values()
    if found.get("held")
  ]
  shared = set.intersection(*map(set, each_seed)) if each_seed else set()
  steps = sorted(shared)
  return np.array(steps), np.array([[x[s] for s in steps] for x in each_seed])


def ids(tier: Tier) -> int | None:
  """How many tokens a code may choose from; None where no run says it."""
  for run in tier.runs.values():
    bits = (run.get("bounds") or {}).get("channel_bits_by_k") or {}
    if "1" in bits:  # the empty code is one more
      return round(2 ** bits["1"]) - 1
  return 120 if tier.name == "facts" else None


def channel_bits(ids: int, budget: int) -> float:
  """log2 of the number of codes of at most `budget` tokens."""
  return math.log2(sum(ids**length for length in range(budget + 1)))
