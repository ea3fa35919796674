"""Rows of the tables of a run's ledger.

From the block "ledger" of summary.json, which older runs lack; what is missing
in it is shown as unknown.
"""

from typing import Any

from rsrc_jax.report.numbers import (
  Quantiles,
  number,
  percent,
  quantiles,
  short,
  spread,
)
from rsrc_jax.report.style import ARMS, Looks, arm_label, arms_of, phases_of

LEDGER = ("seconds", "share", "CPU seconds", "joules", "FLOPs", "recomputed")
Cell = tuple[str, str]  # a number, and its interval to stand below it
Row = tuple[str, str, str, list[Cell]]  # group, name, label, cells


def sum_rows(block: dict, looks: Looks = ARMS) -> list[Row]:
  """Sums by phase and by arm, and the whole, by LEDGER."""
  phases, by_phase = phases_in(block), {}
  for by in phases.values():
    for name, entry in by.items():
      by_phase.setdefault(name, []).append(entry)
  every = [entry for entries in by_phase.values() for entry in entries]
  groups = [("phase", n, n, by_phase[n]) for n in phases_of(by_phase)]
  groups += [
    ("arm", n, arm_label(n, looks), list(phases[n].values()))
    for n in arms_of(phases, looks)
  ]
  groups += [("total", "", "in all", every)] * bool(every)
  whole = total(every, "seconds") or 0.0
  return [(*names, _sums(entries, whole)) for *names, entries in groups]


def phase_rows(block: dict, looks: Looks = ARMS) -> list[Row]:
  """Every phase of every arm, by LEDGER; the group is the arm."""
  phases = phases_in(block)
  whole = total(entries_of(phases), "seconds") or 0.0
  return [
    (arm_label(name, looks), name, phase, _sums([phases[name][phase]], whole))
    for name in arms_of(phases, looks)
    for phase in phases_of(phases[name])
  ]


def program_rows(block: dict, looks: Looks = ARMS) -> list[Row]:
  """FLOPs of each arm's step by every method, against the jaxpr's count."""
  rows = []
  programs = block.get("programs") or {}
  for name in arms_of(programs, looks):
    found = programs[name] or {}
    ours = number(found.get("walker"))
    cells = [(short(ours), "")]
    for key in ("xla_corrected", "xla_raw", "closed_form"):
      other = number(found.get(key))
      known = None not in (ours, other) and ours
      cells.append((short(other), percent(other / ours - 1) if known else ""))
    rows.append(("", name, arm_label(name, looks), [
      *cells, (_bytes(found.get("peak_bytes")), "")]))  # fmt: skip
  return rows


def phases_in(block: dict) -> dict[str, dict[str, dict]]:
  """Arm -> phase -> entry; what is null in the file is empty."""
  return {
    arm: {phase: entry or {} for phase, entry in (by or {}).items()}
    for arm, by in (block.get("phases") or {}).items()
  }


def entries_of(phases: dict[str, dict[str, dict]]) -> list[dict]:
  """The sums of all phases of all arms. phases: arm -> phase -> sums"""
  return [entry for by in phases.values() for entry in by.values()]


def _sums(entries: list[dict], whole: float) -> list[Cell]:
  """One row of the ledger's tables."""
  seconds = total(entries, "seconds")
  mark = "≈ " * any(e.get("measured") is False for e in entries)
  unknown = [e for e in entries if quantiles(e.get("joules")) is None]
  at_least = "≥ " * (bool(unknown) and len(unknown) < len(entries))
  return [
    (f"{mark}{short(seconds)}", ""),
    (f"{100 * (seconds or 0) / whole:.1f} %" if whole else "—", ""),
    (short(total(entries, "cpu_seconds")), ""),
    (f"{at_least}{spread(joules_of(entries))}", ""),
    (short(total(entries, "flops")), ""),
    (short(total(entries, "recompute")), ""),
  ]


def total(entries: list[dict], key: str) -> float | None:
  """Of what is known; None where nothing is."""
  known = [number(e.get(key)) for e in entries]
  known = [v for v in known if v is not None]
  return sum(known) if known else None


def joules_of(entries: list[dict]) -> Quantiles | None:
  """Sums of medians and of ends.

  Modelled energies share the watts that they were priced with, so that they
  are all high or all low together.
  """
  known = [quantiles(e.get("joules")) for e in entries]
  known = [v for v in known if v is not None]
  if not known:
    return None
  whole = lambda xs: None if None in xs else sum(xs)
  return Quantiles(*(whole(xs) for xs in zip(*known, strict=True)))


def _bytes(value: Any) -> str:
  value = number(value)
  return "—" if value is None else f"{value / 2**20:,.1f} MiB"
