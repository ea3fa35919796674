"""The registered contrasts: effects, intervals, p and what they amount to."""

import re
from typing import NamedTuple

import numpy as np

from experiments.random_vocabulary import stored, training
from experiments.random_vocabulary.stored import Tier
from rsrc_jax.metrics import contrasts, statistics

UNRUN = "not run"
CANT_TELL = "can't tell at this size"
RAW = "edit_similarity, no floor subtracted"


class Row(NamedTuple):
  """A contrast. Differences in the metric's unit, the others as shares of b.

  p is of the hypothesis as registered, two-sided but for "not worse";
  p_against, of its opposite. `detectable` is how far from the bound the truth
  would have had to be, to be shown with a power of 0.8.
  """

  name: str
  a: str
  b: str
  test: str
  seeds: tuple[int, ...] = ()
  effect: float | None = None
  low: float | None = None
  high: float | None = None
  level: float | None = None
  p: float | None = None
  p_against: float | None = None
  bound: float = 0.0
  detectable: float | None = None
  why: str = ""  # there is no p
  left_out: tuple[str, ...] = ()  # seeds that the rest was found without


class Verdict(NamedTuple):
  """A row, its p after Holm's step-down, and what follows."""

  row: Row
  adjusted: float | None
  word: str


def best_english(tier: Tier, registered: dict) -> tuple[str | None, dict]:
  """The English arm with the largest validation area, and every arm's.

  Only arms that every seed has can be compared.
  """
  areas = {
    arm: stored.valid_gains(tier, arm) for arm in registered["english_arms"]
  }
  whole = {
    arm: float(np.mean(list(x.values())))
    for arm, x in areas.items()
    if x and len(x) == len(tier.found)
  }
  return max(whole, key=whole.get, default=None), whole


def contrast(
  tier: Tier, registered: dict, name: str, what: dict, best: str | None
) -> Row:
  """One registered contrast on one tier.

  Raises:
    ValueError: a test or a metric that the registration names and that is not
      known here.
  """
  a, b = (best if what[x] == "best_english" else what[x] for x in "ab")
  row = Row(name, str(a), b or "best English arm", what["test"])
  kind, bound = _test(what["test"])
  metrics = {
    registered["metric"]: stored.gains,
    RAW: stored.similarities,
    "rote_share": training.rote_share,
    "qa_code": stored.qa_from_code,
  }
  known = ["held_gain"] if kind == "ratio" else list(metrics)
  metric = what.get("metric", known[0])
  if metric not in known:
    raise ValueError(
      f"registration.json: {name}.metric={metric!r} is none of {known}."
    )
  if kind == "ratio":
    x, y = training.retained(tier, a)
  else:
    x, y = (metrics[metric](tier, arm) for arm in (a, b))
  seeds = tuple(sorted(set(x) & set(y)))
  if kind == "ratio" and not seeds:
    return row._replace(
      why=f"{a} was not relaxed to the end, or has too few held-out looks"
    )
  if not seeds:
    absent = [arm for arm, z in ((a, x), (b, y)) if not z] or [a, b]
    return row._replace(why=f"no {metric} of {' and '.join(map(str, absent))}")
  both = ((a, x),) if kind == "ratio" else ((a, x), (b, y))
  less = {arm: sorted(set(tier.found) - set(z)) for arm, z in both}
  row = row._replace(left_out=tuple(
    f"no {metric} of {arm} in seeds "
    f"{', '.join(map(str, seeds_of))}"
    for arm, seeds_of in less.items() if seeds_of
  ))  # fmt: skip
  docs = min(len(z[s]) for z in (x, y) for s in seeds)
  x, y = (np.stack([z[s][:docs] for s in seeds]) for z in (x, y))
  row = row._replace(seeds=seeds)
  crossed = docs > 1 and stored.shared_documents(tier)
  return _judge(row, kind, bound, registered, x, y, crossed)


def _test(text: str) -> tuple[str, float]:
  """What is tested, and against which number."""
  if text.startswith("not worse"):
    return "not worse", 0.0
  if not (found := re.fullmatch(r"(difference|ratio) [<>] ([\d.]+)", text)):
    raise ValueError(
      f"registration.json: test={text!r} must be 'difference > 0', "
      "'difference < 0', 'ratio > R' or 'not worse by more than the margin'."
    )
  if found[1] == "difference" and float(found[2]):
    raise ValueError(f"registration.json: test={text!r}: compare with 0.")
  return found[1], float(found[2])


def _judge(row, kind, bound, registered, x, y, crossed) -> Row:
  """Fills in the statistics. x, y [seeds, docs]"""
  alpha, margin = registered["alpha"], registered["equivalence_margin"]
  options = {"draws": registered["draws"], "crossed": crossed}
  relative = kind != "difference"
  bound = 1 - margin if kind == "not worse" else bound
  mean = float(y.mean())
  if relative and mean <= 0:
    return row._replace(why=f"the mean of {row.b} is not above 0")
  shift = 1.0 if kind == "not worse" else 0.0
  effect = x.mean() / mean - shift if relative else (x - y).mean()
  row = row._replace(effect=float(effect), bound=bound - shift)
  if len(x) < 2:
    return row._replace(why="1 seed; an interval needs 2")
  # A one-sided test at alpha goes with an interval at 1 - 2 alpha.
  level = 1 - (2 if kind == "not worse" else 1) * alpha
  if kind == "difference":
    found = contrasts.paired_bootstrap(x, y, level=level, **options)
    p = found.p
  else:
    found = contrasts.paired_ratio(x, y, against=bound, level=level, **options)
    p = found.p
    if kind == "not worse":
      p = contrasts.tost(x, y, margin=margin, alpha=alpha, **options)
      p = p.p_not_worse
  least = contrasts.minimum_detectable(
    x, bound * y if relative else y, level=level
  )
  return row._replace(
    low=found.low - shift, high=found.high - shift, level=level, p=p,
    p_against=found.p, detectable=least / mean if relative else least,
  )  # fmt: skip


def verdicts(tier: Tier, registered: dict, best: str | None) -> list[Verdict]:
  """All hypotheses: the primary alone, the others by Holm's step-down.

  What was not run keeps its place in the family, so that a missing arm makes no
  other p smaller.
  """
  rows = {
    name: contrast(tier, registered, name, what, best)
    for name, what in registered["hypotheses"].items()
  }
  family = registered["family"]
  ps = {h: 1.0 if rows[h].p is None else rows[h].p for h in family}
  held = statistics.holm(ps, 1 - registered["alpha"])
  found = []
  for name, row in rows.items():
    adjusted = held[name].p if name in held else row.p
    size = len(family) if name in held else 1
    word = _word(row, adjusted, size, registered["alpha"])
    found.append(Verdict(row, None if row.p is None else adjusted, word))
  return found


def _word(row: Row, adjusted: float | None, family: int, alpha: float) -> str:
  """yes, no, or that nothing can be said. `no` is as hard to earn as `yes`."""
  if row.p is None:
    return f"{UNRUN}: {row.why}"
  above = row.effect > row.bound
  if above != ("<" in row.test):
    return "yes" if adjusted <= alpha else CANT_TELL
  against = adjusted
  if row.test.startswith("not worse"):
    against = min(1.0, family * row.p_against)
  return "no" if against <= alpha else CANT_TELL


def sensitivity(tier: Tier, registered: dict, best: str | None) -> list[Row]:
  """The contrasts of gain on the edit similarity itself: no verdicts.

  An arm's floor is its own D's, and a D that is bad without a code would gain
  more. The best English arm stays the one that was chosen by gain.
  """
  return [
    contrast(tier, registered, name, what | {"metric": RAW}, best)
    for name, what in registered["hypotheses"].items()
    if what["test"].startswith("difference") and "metric" not in what
  ]


def exploratory(tier: Tier, registered: dict, best: str | None) -> list[Row]:
  """Contrasts of gain that nothing was said of beforehand: no verdicts."""
  return [
    contrast(
      tier, registered, f"{a} - {b}",
      {"a": a, "b": b, "test": "difference > 0"}, best,
    )
    for a, b in registered["exploratory"]
  ]  # fmt: skip
