"""What each arm has cost: FLOPs, joules, reuse and RSRC (ours), as tables."""

import numpy as np

from experiments.over_seeds import markdown
from experiments.random_vocabulary import stored
from experiments.random_vocabulary.stored import Tier
from rsrc_jax.report import style, survival_map

COLUMNS = {
  "training_joules": "training, J (base included)",
  "training_flops": "training, FLOPs (base included)",
  "flops_C": "encode, FLOPs",
  "flops_D": "decode, FLOPs",
  "joules_C": "encode, J",
  "joules_D": "decode, J",
  "m_star_flops": "m*, FLOPs",
  "m_star_joules": "m*, J",
  "k": "bits saved a sample",
  "rsrc_i": "RSRC_i (ours)",
  "rsrc_t": "RSRC_t(n) (ours)",
  "rsrc_life": "RSRC_life(n) (ours)",
  "break_even_samples": "samples until the state is paid",
}


def accounting(tier: Tier) -> list[str]:
  """FLOPs by phase, then joules, reuse and RSRC (ours), from the ledgers."""
  seeds = {
    seed: runs
    for seed, runs in stored.summaries(tier).items()
    if all(x.get("ledger") for x in runs)
  }
  if not seeds:
    return [
      f"not run: no seed has a results/{tier.name}-kK-SEED-run.json.gz with a "
      "ledger at every budget."
    ]
  ledgers = [[x["ledger"]["phases"] for x in runs] for runs in seeds.values()]
  budgets = ", ".join(map(str, tier.budgets))
  k = stored.shown(tier)
  return [
    f"FLOPs by phase, sums over the runs of the budgets {budgets}, means over "
    f"seeds {', '.join(map(str, seeds))}. Every budget has a base of its own. "
    "`base` is pretraining with its warm-up, "
    "from which every arm starts; V and `reference` are never free; "
    "`evaluation`, `test` and `service` teach nothing. There is no memory cc "
    "in this experiment: its FLOPs are 0.",
    phases_table(ledgers, "flops"),
    "Joules by phase, the same sums, of the medians of their intervals; "
    "whatever is in no phase of an arm is shared.",
    phases_table(ledgers, "joules"),
    f"Of the runs at k = {k} alone, training included:",
    *use(at_budget(tier, k)),
  ]


def at_budget(tier: Tier, k: int) -> list[dict]:
  """Summaries of the runs at k, of the seeds that have all budgets."""
  return [
    runs[tier.budgets.index(k)] for runs in stored.summaries(tier).values()
  ]


def training_flops(tier: Tier) -> dict[str, float]:
  """By arm: sums over the budgets, means over seeds, base included."""
  found = {}
  for k in tier.budgets:
    for point in points(at_budget(tier, k)):
      found.setdefault(point["name"], []).append(point["training_flops"])
  return {
    name: sum(x)
    for name, x in found.items()
    if len(x) == len(tier.budgets) and None not in x
  }


def phases_table(ledgers: list[list[dict]], what: str) -> str:
  """Arms by phases of "flops" or "joules"; the last row and column are sums.

  Args:
    ledgers: of each seed, a list of its budgets' {arm: {phase: entry}}.
    what: which number of an entry.
  """

  def one(ledger, arm, phase):
    found = (ledger.get(arm, {}).get(phase) or {}).get(what) or 0.0
    return found["median"] if isinstance(found, dict) else found

  def spent(arm, phase):
    return np.mean([sum(one(x, arm, phase) for x in seed) for seed in ledgers])

  flat = [x for seed in ledgers for x in seed]
  names = style.arms_of(name for x in flat for name in x)
  phases = style.phases_of(p for x in flat for arm in x.values() for p in arm)
  table = np.array([[spent(n, p) for p in phases] for n in names])
  kept = table.any(0)
  if not kept.any():
    return f"{what}: not known."
  phases = [p for p, keep in zip(phases, kept, strict=True) if keep]
  table = table[:, kept]
  rows = [
    [name or "shared", *map(style.short, [*row, row.sum()])]
    for name, row in zip(names, table, strict=True)
  ]
  total = [*table.sum(0), table.sum()]
  rows.append(["**all**", *map(style.short, total)])
  return markdown(["arm", *phases, "all"], rows)


def use(runs: list[dict]) -> list[str]:
  """Joules and FLOPs of use, break-even reuse and RSRC (ours) by arm."""
  marks = points(runs)
  if not marks:
    return ["RSRC (ours): not run."]
  shown = lambda p: map(style.short, (p[x] for x in COLUMNS))
  rows = [[p["name"], *shown(p), _peak(runs, p["name"])] for p in marks]
  return [
    markdown(["arm", *COLUMNS.values(), "peak MiB of a step"], rows),
    "m*: break-even reuse, what encoding costs over what each question asked "
    "of c instead of s saves. n = "
    f"{style.count(marks[0]['samples_served'])} samples served (declared). "
    "Bits under a V that knows the alphabet alone; RSRC in bit/J.",
  ]


def points(runs: list[dict]) -> list[dict]:
  """Marks of the survival map, one an arm; none without `rsrc` blocks."""
  runs = [x for x in runs if (x.get("rsrc") or {}).get("arms")]
  marks = survival_map.points(runs) if runs else []
  return [p for p in marks if p["mark"] != "seed"]


def _peak(runs: list[dict], arm: str) -> str:
  """Memory of a training step, where the compiler told."""
  programs = [(x.get("ledger") or {}).get("programs") or {} for x in runs]
  found = [(x.get(arm) or {}).get("peak_bytes") for x in programs]
  found = [x for x in found if x]
  return f"{np.mean(found) / 2**20:.0f}" if found else "-"
