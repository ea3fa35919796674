"""What a run's ledger says, in plain sentences.

From the block "ledger" of summary.json, which older runs lack; what is missing
in it is called unknown.
"""

from typing import Any

from rsrc_jax.report.ledger_table import (
  entries_of,
  joules_of,
  phases_in,
  total,
)
from rsrc_jax.report.numbers import number, percent, short, spread


def sentences(block: dict) -> list[str]:
  """Where it ran, the source of every joule, and what was lost."""
  machine, entries = block.get("machine") or {}, entries_of(phases_in(block))
  name = str(machine.get("name") or "unknown")
  if "vCPU" not in name:
    name += f", {_plain(machine.get('vcpus'))} vCPUs, "
    name += f"{_plain(machine.get('gib'))} GiB"
  chips = ", ".join(map(str, machine.get("accelerators") or [])) or "none"
  sessions = number(block.get("sessions"))
  wall = number(block.get("wall_seconds"))
  found = [
    f"Machine: {name}; accelerators: {chips}. {short(wall)} s of wall time in "
    f"{_plain(sessions)} session{'s' * (sessions != 1)}.",
    _sources(block),
    f"In all {spread(joules_of(entries))} J and "
    f"{short(total(entries, 'flops'))} FLOPs, everything counted: "
    "compiling, evaluation, work done twice.",
  ]
  shared = [e for e in entries if e.get("measured") is False]
  if shared:
    part = (total(shared, "seconds") or 0) / (total(entries, "seconds") or 1)
    found.append(
      f"Marked ≈: {100 * part:.0f} % of the seconds, and their joules, are "
      "apportioned. These phases are parts of one program, whose measured time "
      "is shared out by FLOPs; all others are measured on their own."
    )
  return [*found, _waste(block), *_disagreement(block)]


def _sources(block: dict) -> str:
  terms = []
  for term in block.get("terms") or []:
    often = number(term.get("interval_seconds"))
    terms.append(
      f"{term.get('name')}: {term.get('source')}, boundary "
      f"{term.get('boundary')}{f', read every {_plain(often)} s' * bool(often)}"
    )
  listed = "; ".join(terms) or "none is known"
  return f"Source of every joule: {listed}; PUE {_plain(block.get('pue'))}."


def _waste(block: dict) -> str:
  """Work that was lost or done twice; all but what was lost is counted."""
  back = block.get("rolled_back") or {}
  lost = block.get("lost") or []
  parts = []
  if number(back.get("seconds")):
    parts.append(
      f"rolled back by a resume: {short(back['seconds'])} s and "
      f"{short(back.get('flops'))} FLOPs, both counted"
    )
  if number(block.get("failed")):
    parts.append(f"phases that failed: {_plain(block['failed'])}, counted too")
  if lost:
    seconds = total(lost, "at_most_seconds")
    parts.append(
      f"unrecorded before {len(lost)} kill{'s' * (len(lost) > 1)}: at most "
      f"{short(seconds)} s, not counted"
    )
  if not parts:
    return "Nothing was rolled back, lost or failed."
  text = "; ".join(parts)
  return f"{text[0].upper()}{text[1:]}."


def _disagreement(block: dict) -> list[str]:
  """How far the ways to count FLOPs lie apart."""
  worst = {}
  for found in (block.get("programs") or {}).values():
    ours = number((found or {}).get("walker"))
    for key in ("xla_corrected", "xla_raw", "closed_form"):
      other = number((found or {}).get(key))
      if ours and other is not None:
        worst.setdefault(key, []).append(other / ours - 1)
  if not worst:
    return []
  names = {
    "xla_corrected": "XLA, loops corrected",
    "xla_raw": "XLA as it reports, every loop counted once",
    "closed_form": "the closed form",
  }
  parts = [
    f"{names[key]} {percent(max(worst[key], key=abs))}"
    for key in names
    if key in worst
  ]
  return [
    "FLOPs are counted by walking the jaxpr. Farthest from it, over the arms: "
    f"{'; '.join(parts)}."
  ]


def _plain(value: Any) -> str:
  """A count, or a setting as it was set."""
  value = number(value)
  return "unknown" if value is None else f"{value:g}"
