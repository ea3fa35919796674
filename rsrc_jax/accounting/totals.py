"""The sums of a ledger, from its lines alone: seconds, joules, FLOPs."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from rsrc_jax.accounting import energy
from rsrc_jax.accounting.ledger import AFTER, NOTHING, PHASES, spending, use_of
from rsrc_jax.metrics import statistics


def totals(lines: list[dict], *, pue: float = 1.0) -> dict[str, Any]:
  """The sums of a ledger, ready for summary.json (see README).

  Seconds, energy and FLOPs by arm and phase. Everything that was spent counts,
  rolled-back and failed work too, which are listed once more on their own.
  """
  sessions = [x for x in lines if x["kind"] == "open"]
  phases, rolled, failed = {}, [], 0
  for line in lines:
    if line["kind"] in ("phase", "close"):
      for name, entry in _entries(line):
        _add(phases.setdefault(line["arm"], {}), name, entry, line["session"])
      failed += line.get("status") == "failed"
  for line in _rolled_back(lines):
    rolled.append((line["seconds"], sum(line.get("flops", {}).values())))
  machine = sessions[-1]["machine"] if sessions else {}
  return {
    "machine": machine,
    "machines": sorted({x["machine"]["name"] for x in sessions}),
    "terms": sessions[-1]["terms"] if sessions else [],
    "pue": pue,
    "phases": {
      arm: {name: _priced(by[name], sessions, pue) for name in _order(by)}
      for arm, by in phases.items()
    },
    "wall_seconds": sum(
      use.seconds
      for by in phases.values()
      for entry in by.values()
      for use in entry["use"].values()
    ),
    "sessions": len(sessions),
    "rolled_back": {
      "seconds": sum(s for s, _ in rolled),
      "flops": sum(f for _, f in rolled),
    },
    "lost": [
      {"session": x["session"], "at_most_seconds": x["at_most_seconds"]}
      for x in lines
      if x["kind"] == "lost"
    ],
    "failed": failed,
    "programs": _programs(lines),
  }


def training_joules(lines: list[dict], arms: tuple[str, ...], pue: float):
  """E_t of some arms and of what all share, [draws]; None where unknown.

  Each session is priced by the meter that it had.
  """
  total = 0.0
  for session in (x for x in lines if x["kind"] == "open"):
    mine = [
      x
      for x in lines
      if x["session"] == session["session"] and x["arm"] in ("", *arms)
    ]
    use, _ = spending(mine)
    if use.seconds > 0:
      found = joules(use, session, pue)
      if found is None:
        return None
      total = total + found
  return total if np.ndim(total) else None


def _entries(line: dict) -> Iterator[tuple[str, dict]]:
  """What a line adds to which phases.

  A fused step is shared out by FLOPs over the phases inside it: their seconds
  are apportioned, not measured.
  """
  path = line.get("phase", "idle").split("/")
  if "idle" in line:
    waited = path[0] if path[0] in AFTER else "idle"
    yield waited, _entry(energy.Use(**line["idle"]))
  if line["kind"] != "phase":
    return
  flops = line.get("flops", {})
  use, recompute = use_of(line), line.get("recompute", 0.0)
  if path[0] != "step":
    compiling = path[-1] == "compile" and path[0] not in AFTER
    name = "compile" if compiling else path[0]
    yield name, _entry(use, sum(flops.values()), recompute)
    return
  total = sum(flops.values())
  if not total:
    yield "update", _entry(use, measured=False)
    return
  shares = {}
  for scope, work in flops.items():
    name = scope_phase(scope)
    shares[name] = shares.get(name, 0.0) + work
  for name, work in shares.items():
    part = energy.times(use, work / total)
    again = recompute if name == "update" else 0.0
    yield name, _entry(part, work, again, measured=False)


def scope_phase(scope: str) -> str:
  """The phase of a scope path: "C/prefill" -> prefill, "update/C" -> update.

  Prompts of all roles are one phase; where roles are only scored, reading the
  prompt is part of it.
  """
  path = [part for part in scope.split("/") if part]
  if not path:
    return "update"  # the glue between: no named part of the step
  sampled = path[0] not in ("V", "reference", "update")
  return "prefill" if path[-1] == "prefill" and sampled else path[0]


def _entry(use, flops=0.0, recompute=0.0, measured=True) -> dict:
  return {
    "use": use, "flops": flops, "recompute": recompute, "measured": measured
  }  # fmt: skip


def _add(phases: dict, name: str, entry: dict, session: int) -> None:
  into = phases.setdefault(
    name,
    {"use": {}, "flops": 0.0, "recompute": 0.0, "measured": True, "calls": 0},
  )
  use = into["use"].get(session, NOTHING)
  into["use"][session] = energy.add(use, entry["use"])
  into["flops"] += entry["flops"]
  into["recompute"] += entry["recompute"]
  into["measured"] &= entry["measured"]
  into["calls"] += 1


def _priced(entry: dict, sessions: list[dict], pue: float) -> dict:
  """Adds the joules, each session's by the meter that it had."""
  draws = [
    joules(use, sessions[session], pue) for session, use in entry["use"].items()
  ]
  known = all(x is not None for x in draws)
  return {
    "seconds": sum(use.seconds for use in entry["use"].values()),
    "cpu_seconds": sum(use.cpu_seconds for use in entry["use"].values()),
    "flops": entry["flops"],
    "recompute": entry["recompute"],
    "joules": statistics.interval(sum(draws)) if known else None,
    "measured": entry["measured"],
    "calls": entry["calls"],
  }


def joules(use: energy.Use, session: dict, pue: float):
  """Joules [draws] of a use, by the meter of an `open` line; None: unknown."""
  machine = session["machine"]
  machine = energy.Machine(
    **{**machine, "accelerators": tuple(machine["accelerators"])}
  )
  terms = tuple(energy.Term(**term) for term in session["terms"])
  return energy.joules(use, machine, terms, pue=pue)


def _rolled_back(lines: list[dict]) -> list[dict]:
  """Phases that a resume has thrown away; checkpoints were not in vain."""
  gone = {}
  for line in lines:
    if line["kind"] != "resume":
      continue
    for i, other in enumerate(lines):
      if other is line:
        break
      if (
        other["kind"] == "phase"
        and other["n"] >= line["line"]
        and other["arm"] == line["arm"]
        and other["phase"].split("/")[0] not in ("checkpoint", *AFTER)
      ):
        gone[i] = other
  return list(gone.values())


def _programs(lines: list[dict]) -> dict[str, dict]:
  """The latest note on each arm's step."""
  found = {}
  for line in lines:
    if line["kind"] == "program" and line["name"] == "step":
      left = ("kind", "session", "arm", "at", "name")
      found[line["arm"]] = {k: v for k, v in line.items() if k not in left}
  return found


def _order(phases: dict) -> list[str]:
  known = [name for name in PHASES if name in phases]
  return known + sorted(set(phases) - set(known))
