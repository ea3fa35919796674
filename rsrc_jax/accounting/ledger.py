"""What a run has spent: seconds, energy, FLOPs, by phase, in one JSONL file.

Lines are added and never changed, so that what failed, what a kill threw away
and what was done twice stay on the bill. Sums are made by `totals`, from the
file alone.

  open     a session: which machine, and how its energy is known
  program  a compiled program: its FLOPs by three methods and its memory
  phase    one stretch of work, without the phases inside it
  resume   a session went on from a checkpoint: later lines were rolled back
  lost     the session before ended without a word
  close    a session that ended in order
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rsrc_jax.accounting import energy
from rsrc_jax.metrics import rsrc
from rsrc_jax.runtime import run_log

# Of a training step that is one program, in the order in which they run. Their
# FLOPs are counted apart; their seconds are shares of the step's. A role may
# bring a section of its own (lm.roles.Role.section), which comes behind them.
SCOPES = ("prefill", "C", "D", "V", "reference", "update")
PHASES = ("data", "compile", *SCOPES, "evaluation", "checkpoint", "test",
          "service", "idle")  # fmt: skip
# Not part of what it took to train: the final test, and measuring the service.
AFTER = ("test", "service")
NOTHING = energy.Use(0.0, 0.0, {})


class Ledger:
  """Writes the lines of one session. One writer a run directory."""

  def __init__(
    self,
    path: Path | None,
    meter: energy.Meter,
    *,
    since: energy.Use | None = None,
  ):
    """Opens a session.

    Args:
      path: ledger.jsonl of a run; None keeps no books.
      meter: reads seconds, CPU seconds and counted joules.
      since: the meter before the data were built, which is charged as `data`.
    """
    self.path, self.meter = path, meter
    self.arm, self.lines, self.session = "", 0, 0
    self.opening = {
      "machine": meter.machine._asdict(),
      "terms": [term._asdict() for term in meter.terms],
    }
    self._stack = []  # [name, Use at its start, Use of the phases inside it]
    self._spent = {}  # arm -> [Use, FLOPs] until it was trained
    self._end = meter.read()
    if path is None:
      return
    before = run_log.read_jsonl(path) if path.exists() else []
    # A last line that was cut short is dropped, or the next one would join it.
    kept = "".join(json.dumps(line) + "\n" for line in before)
    if path.exists() and path.read_text() != kept:
      run_log.write_atomic(path, kept)
    # Line by line: a kill loses no line that was written.
    self._file = path.open("a", buffering=1, encoding="utf-8")
    self.lines = before[-1]["n"] + 1 if before else 0
    for line in before:
      self._sum(line)
    self.session = sum(line["kind"] == "open" for line in before)
    if before and before[-1]["kind"] != "close":
      # Nothing was heard after the last line: the kill came some time later.
      gap = time.time() - before[-1]["at"]
      self._write("lost", session=self.session - 1, at_most_seconds=gap)
    self._write("open", **self.opening)
    if since is not None:
      use = energy.minus(self._end, since)
      self._write("phase", phase="data", **use._asdict(), status="ok")

  @contextlib.contextmanager
  def phase(self, name: str, **facts: Any) -> Iterator[Callable[..., Any]]:
    """Charges what happens inside to `name`; phases nest.

    Yields a function, spend(value, **facts): it hands the value back, and the
    phase does not end before the value's arrays are there (jax returns before
    its work is done). Facts are written with the line: steps, samples, flops by
    scope. An exception closes the phase as failed, and passes.
    """
    frame = [name, self.meter.read(), NOTHING]
    outer = not self._stack
    idle = energy.minus(frame[1], self._end) if outer else None
    self._stack.append(frame)
    waits, status = [], "failed"

    def spend(value=None, **more):
      facts.update(more)
      waits.append(value)
      return value

    try:
      yield spend
      jax.block_until_ready(waits)
      status = "ok"
    finally:
      now = self.meter.read()
      path = "/".join(f[0] for f in self._stack)
      self._stack.pop()
      whole = energy.minus(now, frame[1])
      if self._stack:
        self._stack[-1][2] = energy.add(self._stack[-1][2], whole)
      else:
        self._end = now
      own = energy.minus(whole, frame[2])
      line = {"phase": path, **own._asdict(), "status": status, **facts}
      if idle is not None:
        line["idle"] = idle._asdict()
      # Programs are shared and cached: who comes first must not pay for all.
      shared = name == "compile" and path.split("/")[0] not in AFTER
      self._write("phase", arm="" if shared else self.arm, **line)

  def program(self, **facts: Any) -> None:
    """Notes a compiled program: its FLOPs, XLA's figures, its memory."""
    self._write("program", **facts)

  def resume(self, arm: str, saved: dict[str, Any] | None) -> None:
    """Goes on with an arm from what its checkpoint knew of these books.

    saved: what `position` gave when it was saved; None where there was no
    checkpoint, and everything that the arm has spent was for nothing.
    """
    self.arm = arm
    if self.lines > 1:
      self._write("resume", line=saved["lines"] if saved else 0)

  def carry(self, saved: dict[str, Any] | None) -> None:
    """Makes good what a lost or cut file no longer holds, from a checkpoint.

    saved: as for `resume`; asked once for each checkpoint that is restored.
    """
    if self.path is None or not saved or saved["lines"] <= self.lines:
      return
    for arm, known in saved["carried"].items():
      before, executed = self._spent.get(arm, (NOTHING, 0.0))
      missing = energy.minus(energy.Use(**known["use"]), before)
      flops = {"carried": known["flops"] - executed}
      self._write(
        "phase", arm=arm, phase="carried", status="ok", flops=flops,
        **missing._asdict(),
      )  # fmt: skip
    self.lines = saved["lines"]

  def spent(self, *arms: str) -> tuple[energy.Use, float]:
    """What some arms, and what they share, have cost until now: use, FLOPs."""
    use, flops = NOTHING, 0.0
    for arm in dict.fromkeys(("", *arms)):
      more, executed = self._spent.get(arm, (NOTHING, 0.0))
      use, flops = energy.add(use, more), flops + executed
    return use, flops

  def position(self) -> dict[str, Any]:
    """For a checkpoint: how long the books are, and their sums so far."""
    carried = {
      arm: {"use": use._asdict(), "flops": flops}
      for arm, (use, flops) in self._spent.items()
    }
    return {"lines": self.lines, "carried": carried}

  def read(self) -> list[dict]:
    """All lines, earlier sessions' among them."""
    if self.path is None or not self.path.exists():
      return []
    return run_log.read_jsonl(self.path)

  def close(self) -> None:
    """Ends the session in order; what came after its last phase is idle."""
    idle = energy.minus(self.meter.read(), self._end)
    self._write("close", idle=idle._asdict())
    self.meter.close()
    if self.path is not None:
      self._file.close()

  def _write(self, kind: str, **facts: Any) -> None:
    if self.path is None:
      return
    line = {"kind": kind, "n": self.lines, "session": self.session}
    line |= {"arm": self.arm, "at": time.time(), **facts}
    self._file.write(json.dumps(line) + "\n")  # a line a write: never cut
    self.lines += 1
    self._sum(line)

  def _sum(self, line: dict) -> None:
    use, flops = spending([line])
    before, executed = self._spent.get(line["arm"], (NOTHING, 0.0))
    self._spent[line["arm"]] = (energy.add(before, use), executed + flops)


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


def spending(lines: list[dict]) -> tuple[energy.Use, float]:
  """Use and FLOPs of what was done to train; the test and service left out."""
  use, flops = NOTHING, 0.0
  for line in lines:
    if line["kind"] == "phase" and line["phase"].split("/")[0] not in AFTER:
      use = energy.add(use, _use(line))
      use = energy.add(use, energy.Use(**line.get("idle", NOTHING._asdict())))
      flops += sum(line.get("flops", {}).values())
  return use, flops


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
  use, recompute = _use(line), line.get("recompute", 0.0)
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
    "joules": rsrc.interval(sum(draws)) if known else None,
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


def _use(line: dict) -> energy.Use:
  return energy.Use(line["seconds"], line["cpu_seconds"], line["counted"])


def _order(phases: dict) -> list[str]:
  known = [name for name in PHASES if name in phases]
  return known + sorted(set(phases) - set(known))
