"""What a run's ledger says: rows of tables, and plain sentences.

From the block "ledger" of summary.json, which older runs lack; what is missing
in it is shown as unknown.
"""

from typing import Any

from rsrc_jax.report.style import (
  Interval,
  arm_label,
  arms_of,
  interval,
  number,
  phases_of,
  short,
  spread,
)

LEDGER = ("seconds", "share", "CPU seconds", "joules", "FLOPs", "recomputed")
Cell = tuple[str, str]  # what is read first, and the interval below it
Row = tuple[str, str, str, list[Cell]]  # group, name, label, cells


def sum_rows(books: dict) -> list[Row]:
  """Sums by phase and by arm, and the whole, by LEDGER."""
  phases, by_phase = _phases(books), {}
  for by in phases.values():
    for name, entry in by.items():
      by_phase.setdefault(name, []).append(entry)
  every = [entry for entries in by_phase.values() for entry in entries]
  groups = [("phase", n, n, by_phase[n]) for n in phases_of(by_phase)]
  groups += [
    ("arm", n, arm_label(n), list(phases[n].values())) for n in arms_of(phases)
  ]
  groups += [("total", "", "in all", every)] * bool(every)
  whole = _sum(every, "seconds") or 0.0
  return [(*names, _sums(entries, whole)) for *names, entries in groups]


def phase_rows(books: dict) -> list[Row]:
  """Every phase of every arm, by LEDGER; the group is the arm."""
  phases = _phases(books)
  whole = _sum(_entries(phases), "seconds") or 0.0
  return [
    (arm_label(name), name, phase, _sums([phases[name][phase]], whole))
    for name in arms_of(phases)
    for phase in phases_of(phases[name])
  ]


def program_rows(books: dict) -> list[Row]:
  """FLOPs of each arm's step by every method, against the jaxpr's count."""
  rows = []
  programs = books.get("programs") or {}
  for name in arms_of(programs):
    found = programs[name] or {}
    ours = number(found.get("walker"))
    cells = [(short(ours), "")]
    for key in ("xla_corrected", "xla_raw", "closed_form"):
      other = number(found.get(key))
      known = None not in (ours, other) and ours
      cells.append((short(other), _percent(other / ours - 1) if known else ""))
    rows.append(("", name, arm_label(name), [
      *cells, (_bytes(found.get("peak_bytes")), "")]))  # fmt: skip
  return rows


def sentences(books: dict) -> list[str]:
  """Where it ran, the source of every joule, and what was lost."""
  machine, entries = books.get("machine") or {}, _entries(_phases(books))
  name = str(machine.get("name") or "unknown")
  if "vCPU" not in name:
    name += f", {_plain(machine.get('vcpus'))} vCPUs, "
    name += f"{_plain(machine.get('gib'))} GiB"
  chips = ", ".join(map(str, machine.get("accelerators") or [])) or "none"
  sessions = number(books.get("sessions"))
  wall = number(books.get("wall_seconds"))
  found = [
    f"Machine: {name}; accelerators: {chips}. {short(wall)} s of wall time in "
    f"{_plain(sessions)} session{'s' * (sessions != 1)}.",
    _sources(books),
    f"In all {spread(_joules(entries))} J and {short(_sum(entries, 'flops'))} "
    "FLOPs, everything counted: compiling, evaluation, work done twice.",
  ]
  shared = [e for e in entries if e.get("measured") is False]
  if shared:
    part = (_sum(shared, "seconds") or 0) / (_sum(entries, "seconds") or 1)
    found.append(
      f"Marked ≈: {100 * part:.0f} % of the seconds, and their joules, are "
      "apportioned. These phases are parts of one program, whose measured time "
      "is shared out by FLOPs; all others are measured on their own."
    )
  return [*found, _waste(books), *_disagreement(books)]


def _phases(books: dict) -> dict[str, dict[str, dict]]:
  """Arm -> phase -> entry; what is null in the file is empty."""
  return {
    arm: {phase: entry or {} for phase, entry in (by or {}).items()}
    for arm, by in (books.get("phases") or {}).items()
  }


def _entries(phases: dict[str, dict[str, dict]]) -> list[dict]:
  return [entry for by in phases.values() for entry in by.values()]


def _sums(entries: list[dict], whole: float) -> list[Cell]:
  """One row of the ledger's tables."""
  seconds = _sum(entries, "seconds")
  mark = "≈ " * any(e.get("measured") is False for e in entries)
  unknown = [e for e in entries if interval(e.get("joules")) is None]
  at_least = "≥ " * (bool(unknown) and len(unknown) < len(entries))
  return [
    (f"{mark}{short(seconds)}", ""),
    (f"{100 * (seconds or 0) / whole:.1f} %" if whole else "—", ""),
    (short(_sum(entries, "cpu_seconds")), ""),
    (f"{at_least}{spread(_joules(entries))}", ""),
    (short(_sum(entries, "flops")), ""),
    (short(_sum(entries, "recompute")), ""),
  ]


def _sum(entries: list[dict], key: str) -> float | None:
  """Of what is known; None where nothing is."""
  known = [number(e.get(key)) for e in entries]
  known = [v for v in known if v is not None]
  return sum(known) if known else None


def _joules(entries: list[dict]) -> Interval | None:
  """Sums of medians and of ends.

  Modelled energies share the watts that they were priced with, so that they
  are all high or all low together.
  """
  known = [interval(e.get("joules")) for e in entries]
  known = [v for v in known if v is not None]
  if not known:
    return None
  total = lambda xs: None if None in xs else sum(xs)
  return Interval(*(total(xs) for xs in zip(*known, strict=True)))


def _sources(books: dict) -> str:
  terms = []
  for term in books.get("terms") or []:
    often = number(term.get("interval_seconds"))
    terms.append(
      f"{term.get('name')}: {term.get('source')}, boundary "
      f"{term.get('boundary')}{f', read every {_plain(often)} s' * bool(often)}"
    )
  listed = "; ".join(terms) or "none is known"
  return f"Source of every joule: {listed}; PUE {_plain(books.get('pue'))}."


def _waste(books: dict) -> str:
  """What was done in vain, which is on the bill all the same."""
  back = books.get("rolled_back") or {}
  lost = books.get("lost") or []
  parts = []
  if number(back.get("seconds")):
    parts.append(
      f"rolled back by a resume: {short(back['seconds'])} s and "
      f"{short(back.get('flops'))} FLOPs, both counted"
    )
  if number(books.get("failed")):
    parts.append(f"phases that failed: {_plain(books['failed'])}, counted too")
  if lost:
    seconds = _sum(lost, "at_most_seconds")
    parts.append(
      f"unrecorded before {len(lost)} kill{'s' * (len(lost) > 1)}: at most "
      f"{short(seconds)} s, not counted"
    )
  if not parts:
    return "Nothing was rolled back, lost or failed."
  text = "; ".join(parts)
  return f"{text[0].upper()}{text[1:]}."


def _disagreement(books: dict) -> list[str]:
  """How far the ways to count FLOPs lie apart."""
  worst = {}
  for found in (books.get("programs") or {}).values():
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
    f"{names[key]} {_percent(max(worst[key], key=abs))}"
    for key in names
    if key in worst
  ]
  return [
    "FLOPs are counted by walking the jaxpr. Farthest from it, over the arms: "
    f"{'; '.join(parts)}."
  ]


def _percent(share: float) -> str:
  return f"{100 * share:+.1f} %".replace("-", "−")


def _bytes(value: Any) -> str:
  value = number(value)
  return "—" if value is None else f"{value / 2**20:,.1f} MiB"


def _plain(value: Any) -> str:
  """A count, or a setting as it was set."""
  value = number(value)
  return "unknown" if value is None else f"{value:g}"
