"""What each arm has cost: FLOPs, joules, reuse and RSRC (ours), as tables."""

import numpy as np
from stored import Tier
from tables import markdown

from rsrc_jax import drawing
from rsrc_jax.metrics import survival_map

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
  runs = [x for x in tier.runs.values() if x.get("ledger")]
  if not runs:
    return [f"not run: no results/{tier.name}-SEED-run.json.gz with a ledger."]
  return [
    "FLOPs by phase, means over seeds. `base` is pretraining with its warm-up, "
    "from which every arm starts; V and `reference` are never free; "
    "`evaluation`, `test` and `service` teach nothing. There is no memory cc "
    "in this experiment: its FLOPs are 0.",
    phases_table([x["ledger"]["phases"] for x in runs], "flops"),
    "Joules by phase, medians of their intervals, means over seeds; whatever "
    "is in no phase of an arm is shared.",
    phases_table([x["ledger"]["phases"] for x in runs], "joules"),
    *use(runs),
  ]


def phases_table(ledgers: list[dict], what: str) -> str:
  """Arms by phases of "flops" or "joules"; the last row and column are sums."""

  def spent(arm, phase):
    entries = [x.get(arm, {}).get(phase) or {} for x in ledgers]
    found = [entry.get(what) or 0.0 for entry in entries]
    return np.mean([x["median"] if isinstance(x, dict) else x for x in found])

  names = drawing.arms_of(name for x in ledgers for name in x)
  phases = drawing.phases_of(
    p for x in ledgers for arm in x.values() for p in arm
  )
  table = np.array([[spent(n, p) for p in phases] for n in names])
  kept = table.any(0)
  if not kept.any():
    return f"{what}: not known."
  phases = [p for p, keep in zip(phases, kept, strict=True) if keep]
  table = table[:, kept]
  rows = [
    [name or "shared", *map(drawing.short, [*row, row.sum()])]
    for name, row in zip(names, table, strict=True)
  ]
  total = [*table.sum(0), table.sum()]
  rows.append(["**all**", *map(drawing.short, total)])
  return markdown(["arm", *phases, "all"], rows)


def use(runs: list[dict]) -> list[str]:
  """Joules and FLOPs of use, break-even reuse and RSRC (ours) by arm."""
  marks = points(runs)
  if not marks:
    return ["RSRC (ours): not run."]
  shown = lambda p: map(drawing.short, (p[x] for x in COLUMNS))
  rows = [[p["name"], *shown(p), _peak(runs, p["name"])] for p in marks]
  return [
    markdown(["arm", *COLUMNS.values(), "peak MiB of a step"], rows),
    "m*: break-even reuse, what encoding costs over what each question asked "
    "of c instead of s saves. n = "
    f"{drawing.count(marks[0]['samples_served'])} samples served (declared). "
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
