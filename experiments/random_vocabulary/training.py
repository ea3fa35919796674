"""What was seen of an arm while it was trained: looks at held-out sources."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.random_vocabulary import stored
from experiments.random_vocabulary.stored import BySeed, Tier

LOOKS = 5  # held-out looks whose mean is one estimate of a gain
LAST = 1e-6  # of a phase, which is logged as a mean over a window


def known(value: Any) -> bool:
  """Whether it is a finite number: shares of nobody are None or nan."""
  return isinstance(value, int | float) and math.isfinite(value)


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


def rote_share(tier: Tier, arm: str) -> BySeed:
  """Of codes with injected ids, those that don't need them. -> [1]

  Held-out looks of all budgets, pooled over the codes that used any; a seed in
  which none ever did is left out.
  """

  def get(found):
    lines = [x for part in stored.each_budget(tier, found) for x in looks(part)]
    used = [
      (x["held_use_rate"], x["held_rote_share"])
      for x in lines
      if known(x.get("held_use_rate")) and x["held_use_rate"] > 0
      if known(x.get("held_rote_share"))
    ]
    if not used:
      return None
    rates, shares = np.array(used, float).T
    return np.array([np.average(shares, weights=rates)])

  return stored.each(tier, arm, get)


def retained(tier: Tier, arm: str) -> tuple[BySeed, BySeed]:
  """Held-out gain after all was relaxed, and the best before. -> [1] each

  After: the mean of the last looks. Before: the best mean of as many looks in a
  row while anything was still constrained. Both are means over the budgets. A
  seed that at any of them was never free, or has too few looks of a kind, is
  left out.
  """
  pairs = stored.each(
    tier,
    arm,
    lambda found: [_retained(x) for x in stored.each_budget(tier, found)],
  )
  means = {s: np.mean(x, 0) for s, x in pairs.items() if None not in x}
  return tuple({s: x[[i]] for s, x in means.items()} for i in (0, 1))


def _retained(found: dict) -> tuple[float, float] | None:
  """After and before, at one budget."""
  seen = [x for x in looks(found) if x["phase"] is not None]
  seen = [x for x in seen if known(x.get("held_gain"))]
  last = max((x["phase"] for x in seen), default=0)
  windows = drawn(found)
  free = bool(windows) and abs(windows[-1]["inject"]) < LAST
  late = [x["held_gain"] for x in seen if x["phase"] >= last - LAST]
  # A window in which the last change fell is of neither kind.
  early = [x["held_gain"] for x in seen if x["phase"] <= last - 1 + LAST]
  if not free or min(len(late), len(early)) < LOOKS:
    return None
  rows = np.lib.stride_tricks.sliding_window_view(early, LOOKS)
  return float(np.mean(late[-LOOKS:])), float(rows.mean(-1).max())


def series(
  tier: Tier, arm: str, name: str, lines: Callable[[dict], list[dict]] = looks
) -> tuple[np.ndarray, np.ndarray]:
  """A number over training at the budget shown: steps [n] and values [seeds, n]

  Of the steps that all seeds have it at.
  """
  each_seed = [
    {x["step"]: x[name] for x in lines(found) if known(x.get(name))}
    for found in stored.each(
      tier, arm, lambda found: found, stored.shown(tier)
    ).values()
    if found.get("held")
  ]
  shared = set.intersection(*map(set, each_seed)) if each_seed else set()
  steps = sorted(shared)
  return np.array(steps), np.array([[x[s] for s in steps] for x in each_seed])
