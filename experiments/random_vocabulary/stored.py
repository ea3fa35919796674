"""Stored results of the experiment as arrays: what measure.py wrote.

Everything is by seed, a dict seed -> value, so that a seed or an arm that is
missing is left out of what needs it and of nothing else.
"""

import gzip
import json
import math
from collections import ChainMap, Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsrc_jax.metrics import language, statistics

# Bits of a token that no text holds, as older results have it: a mask of -1e30
# nats, which their mean over all tokens counted as a number.
MASK_BITS = 1e30 / math.log(2.0)
DETAIL = 3  # tokens: the budget of what is shown at one, where it is there
BySeed = dict[int, np.ndarray]


class Tier(NamedTuple):
  """One corpus, all its seeds, at the budgets that all of them have.

  found: seed -> what measure_arms.py found, budgets put together (`together`).
  runs: seed -> k -> the run's summary.
  notes: what was left out, or not run, a line each.
  """

  name: str
  found: dict[int, dict]
  runs: dict[int, dict[int, dict]]
  budgets: tuple[int, ...]
  notes: tuple[str, ...] = ()


def load(
  folder: Path,
  name: str,
  *,
  seeds: list[int] | None = None,
  budgets: list[int] | None = None,
) -> Tier:
  """A tier from NAME-kK-SEED.json.gz and NAME-kK-SEED-run.json.gz.

  It is analysed at the budgets that all its seeds have, or, if there is none,
  at the one that most of them have; `notes` say what is left out.

  Args:
    seeds: which seeds count, or all; others are left out.
    budgets: the same of k in tokens; those of them that are absent are noted.

  Raises:
    ValueError: a file's budget is not the one in its name, or a seed's corpora
      differ by budget.
  """
  found, runs = {}, {}
  for path in sorted(folder.glob(f"{name}-k*-*.json.gz")):
    k, seed, *run = path.name.removesuffix(".json.gz").split("-")[1:]
    k, seed = int(k[1:]), int(seed)
    value = json.loads(gzip.decompress(path.read_bytes()))
    if not run and value["budgets"] != [k]:
      raise ValueError(
        f"{path.name}: budgets={value['budgets']}, not [{k}] as its name says; "
        "run the budget again."
      )
    (runs if run else found).setdefault(seed, {})[k] = value
  notes = []
  for what, allowed, here in (
    ("Seeds", seeds, {*found, *runs}),
    ("Budgets", budgets, {k for x in (found, runs) for s in x for k in x[s]}),
  ):
    extra = sorted(here - set(here if allowed is None else allowed))
    if extra:
      notes.append(f"{what} {_listed(extra)}: not registered, left out.")
  keep = lambda x: {
    s: kept
    for s, by_k in sorted(x.items())
    if seeds is None or s in seeds
    if (kept := {k: v for k, v in sorted(by_k.items())
                 if budgets is None or k in budgets})
  }  # fmt: skip
  found, runs = keep(found), keep(runs)
  found, shared, more = _shared(found, budgets)
  found = {seed: together(parts) for seed, parts in found.items()}
  return Tier(name, found, runs, shared, (*notes, *more))


def _shared(
  found: dict[int, dict[int, dict]], wanted: list[int] | None
) -> tuple[dict[int, dict[int, dict]], tuple[int, ...], list[str]]:
  """Seeds that share budgets, these budgets, and what is not among them."""
  if not found:
    return {}, (), []
  count = Counter(k for parts in found.values() for k in parts)
  shared = [k for k in sorted(count) if count[k] == len(found)]
  notes = []
  if not shared:  # the most frequent one, the smallest of equals
    shared = [min(count, key=lambda k: (-count[k], k))]
    less = [s for s, parts in found.items() if shared[0] not in parts]
    found = {s: x for s, x in found.items() if s not in less}
    notes.append(
      f"Seeds {_listed(less)}, k = {shared[0]}: not run; no budget is common "
      "to all seeds, so they are left out."
    )
  for k in sorted({*count, *(wanted or ())} - set(shared)):
    less = [s for s, parts in found.items() if k not in parts]
    of = f"seeds {_listed(less)}" if len(less) < len(found) else "every seed"
    notes.append(f"k = {k}, {of}: not run, so k = {k} is in no table.")
  return found, tuple(shared), notes


def _listed(values) -> str:
  return ", ".join(map(str, values))


def together(parts: dict[int, dict]) -> dict:
  """What was found of a seed at each budget, k -> found, as one.

  An arm is {"parts": k -> the arm as measured at k, and by_budget, valid and
  questions of all k}. What is not by budget stands in the parts alone, so that
  nobody reads one budget's for all.

  Raises:
    ValueError: the corpora differ, so that documents can't be paired.
  """
  first = next(iter(parts.values()))
  digests = {found["corpus"]["digest"] for found in parts.values()}
  if len(digests) > 1:
    raise ValueError(
      f"seed {first['seed']}: the corpus differs by budget (k = "
      f"{_listed(parts)}): run them all with one config."
    )
  by_arm = {}
  for k, found in parts.items():
    for name, arm in found["arms"].items():
      by_arm.setdefault(name, {})[k] = arm
  arms = {
    name: {"parts": by_k}
    | {
      key: dict(ChainMap(*(arm.get(key, {}) for arm in by_k.values())))
      for key in ("by_budget", "valid", "questions")
      if any(key in arm for arm in by_k.values())
    }
    for name, by_k in by_arm.items()
  }
  return {**first, "budgets": list(parts), "arms": arms}


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


def shown(tier: Tier) -> int:
  """The budget of what is shown at one: 3, or else the smallest there is."""
  return DETAIL if DETAIL in tier.budgets else min(tier.budgets, default=DETAIL)


def each(
  tier: Tier, arm: str, get: Callable[[dict], Any], k: int | None = None
) -> dict[int, Any]:
  """get(what was found of the arm) by seed; where it has no such key, none.

  With k, of the arm as measured at k.
  """
  values = {}
  for seed, found in tier.found.items():
    try:
      value = found["arms"][arm]
      value = get(value if k is None else value["parts"][k])
    except KeyError:
      continue
    if value is not None:
      values[seed] = value
  return values


def mean(
  tier: Tier,
  arm: str,
  get: Callable[[dict], Any],
  weight: Callable[[dict], float] = lambda _: 1.0,
) -> dict[int, float]:
  """The same at every budget, their mean. A seed that lacks one has none.

  A budget of no weight needs no value: a share of nobody.
  """

  def over(found):
    pairs = [(get(x), weight(x)) for x in each_budget(tier, found)]
    pairs = [pair for pair in pairs if pair[1] > 0]
    if not pairs or any(value is None for value, _ in pairs):
      return None
    values, weights = zip(*pairs, strict=True)
    return float(np.average(values, weights=weights))

  return each(tier, arm, over)


def each_budget(tier: Tier, found: dict) -> list[dict]:
  """An arm as measured at each budget; a KeyError where one is missing."""
  return [found["parts"][k] for k in tier.budgets]


def shared_documents(tier: Tier) -> bool:
  """Whether all seeds were scored on the same documents."""
  digests = {x["corpus"]["digest"] for x in tier.found.values()}
  return len(tier.found) > 1 and len(digests) == 1


def foreign_share(codes: dict) -> float | None:
  """Share of an arm's tokens that no text holds; None where it wrote none.

  codes: what measure_arms.codes found. Older results have the mean over all
  tokens, "lm_bits_per_token", of which masks left nothing but their share.
  """
  if "foreign_share" in codes:
    return codes["foreign_share"]
  mean = codes["lm_bits_per_token"]
  if mean is None:
    return None
  return mean / MASK_BITS if mean > language.MASKED else 0.0


def text_bits(codes: dict) -> float | None:
  """Bits a token of the others under the frozen model; None where unknown."""
  if "foreign_share" in codes:
    return codes["lm_bits_of_text"]
  mean = codes["lm_bits_per_token"]
  return None if mean is None or mean > language.MASKED else mean


def gain_curves(tier: Tier, arm: str) -> BySeed:
  """Edit similarity of d less that of D without a code. -> [budgets, docs]"""

  def get(found):
    at = [found["by_budget"][str(k)] for k in tier.budgets]
    floor = np.asarray([x["no_code_rows"] for x in at], float)
    return np.asarray([x["edit_similarity"] for x in at], float) - floor

  return each(tier, arm, get)


def similarities(tier: Tier, arm: str) -> BySeed:
  """Area under the edit similarity itself, no floor subtracted. -> [docs]"""

  def get(found):
    at = [found["by_budget"][str(k)] for k in tier.budgets]
    rows = np.asarray([x["edit_similarity"] for x in at], float)
    return area(rows.T, tier.budgets)

  return each(tier, arm, get)


def gains(tier: Tier, arm: str) -> BySeed:
  """Area under the gain over log2 k, over its span. -> [docs]"""
  return {
    seed: area(rows.T, tier.budgets)
    for seed, rows in gain_curves(tier, arm).items()
  }


def valid_gains(tier: Tier, arm: str) -> dict[int, float]:
  """The same area on the validation split, of which only means are kept.

  Less that split's own floor.
  """

  def get(found):
    curve = np.array([found["valid"][str(k)] for k in tier.budgets])
    return float(area(curve, tier.budgets))

  return each(tier, arm, get)


def area(curves: np.ndarray, budgets: tuple[int, ...]) -> np.ndarray:
  """Under curves [..., budgets] over log2 k; at one budget the value itself."""
  return (
    statistics.area(curves, budgets) if len(budgets) > 1 else curves[..., 0]
  )


def qa_from_code(tier: Tier, arm: str) -> BySeed:
  """Share of a document's questions answered from c, over budgets. -> [docs]"""
  rows = lambda found: [
    found["questions"][str(k)]["code"] for k in tier.budgets
  ]
  return each(tier, arm, lambda found: np.mean(rows(found), 0))


def summaries(tier: Tier) -> dict[int, list[dict]]:
  """Runs' summaries of the seeds that have one at every budget, in turn."""
  return {
    seed: [by_k[k] for k in tier.budgets]
    for seed, by_k in tier.runs.items()
    if tier.budgets and set(tier.budgets) <= set(by_k)
  }


def ids(tier: Tier) -> int | None:
  """How many tokens a code may choose from; None where no run says it."""
  for run in (x for by_k in tier.runs.values() for x in by_k.values()):
    for k, bits in (
      (run.get("bounds") or {}).get("channel_bits_by_k", {}).items()
    ):
      near = round(2 ** (bits / int(k)))
      return min(
        range(max(near - 1, 1), near + 2),
        key=lambda n: abs(channel_bits(n, int(k)) - bits),
      )
  return 120 if tier.name == "facts" else None


def channel_bits(ids: int, budget: int) -> float:
  """log2 of the number of codes of at most `budget` tokens."""
  return math.log2(sum(ids**length for length in range(budget + 1)))
