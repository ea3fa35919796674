"""What a run has spent: seconds, energy, FLOPs, by phase, in one JSONL file.

Lines are added and never changed. What failed, what a kill threw away and what
was done twice is therefore counted. totals.py sums, from the file alone.

  open     a session: which machine, and how its energy is known
  program  a compiled program: its FLOPs by three methods and its memory
  phase    one stretch of work, without the phases inside it
  resume   a session went on from a checkpoint: later lines were rolled back
  lost     the session before ended without a word
  close    a session that ended in order
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from rsrc_jax.accounting import energy
from rsrc_jax.output import files

# Of a training step that is one program, in the order in which they run. Their
# FLOPs are counted apart; their seconds are shares of the step's. A role may
# bring a section of its own (lm.roles.Role.section), which comes behind them.
SCOPES = ("prefill", "C", "D", "V", "reference", "update")
PHASES = ("data", "compile", *SCOPES, "evaluation", "checkpoint", "test",
          "service", "idle")  # fmt: skip
# Not part of what it took to train: the final test, and measuring the service.
AFTER = ("test", "service")
NEEDED = ("kind", "n", "session", "arm", "at")  # of every line
NOTHING = energy.Use(0.0, 0.0, {})


@dataclasses.dataclass
class _Frame:
  """A phase that is open."""

  name: str
  arm: str
  begun: energy.Use
  inside: energy.Use = NOTHING  # of the phases inside it


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
      path: ledger.jsonl of a run; None keeps no ledger.
      meter: reads seconds, CPU seconds and counted joules.
      since: the meter before the data were built, which is charged as `data`.

    Raises:
      OSError: the file can't be written.
      ValueError: it is damaged.
    """
    self.path, self.meter = path, meter
    self.failed: OSError | None = None  # why a line could not be written
    self.lines, self.session = 0, 0
    self.opening = {
      "machine": meter.machine._asdict(),
      "terms": [term._asdict() for term in meter.terms],
    }
    self._stack = []  # _Frame, outermost first
    self._spent = {}  # arm -> [Use, FLOPs] until it was trained
    self._end = meter.read()  # of the last phase
    self._last = ""  # its arm
    if path is None:
      return
    before = _lines(path)
    # A last line that was cut short is dropped, or the next one would join it.
    if before and not path.read_bytes().endswith(b"\n"):
      files.write_lines(path, before)
    self.lines = before[-1]["n"] + 1 if before else 0
    for line in before:
      self._sum(line)
    self.session = sum(line["kind"] == "open" for line in before)
    if before and before[-1]["kind"] != "close":
      # Nothing was heard after the last line: the kill came some time later.
      # A clock that was set back meanwhile tells nothing.
      gap = max(0.0, time.time() - before[-1]["at"])
      self._write("lost", session=self.session - 1, at_most_seconds=gap)
    self._write("open", **self.opening)
    if since is not None:
      use = energy.minus(self._end, since)
      self._write("phase", phase="data", **use._asdict(), status="ok")
    self.check()

  def check(self) -> None:
    """Raises the OSError of a line that could not be written, if one could not.

    The lines after it are not written either, so that the file has no gap.
    """
    if self.failed is not None:
      raise self.failed

  @contextlib.contextmanager
  def phase(
    self, name: str, arm: str = "", **facts: Any
  ) -> Iterator[Callable[..., Any]]:
    """Charges what happens inside to `name`; phases nest.

    arm: whose work it is; "": that of the phase around it, and what no phase is
    around is shared by all arms.

    Yields a function, spend(value, **facts): it hands the value back, and the
    phase does not end before the value's arrays are there (jax returns before
    its work is done). Facts are written with the line: steps, samples, flops by
    scope. An exception closes the phase as failed, and passes.
    """
    arm, outer = self._whose(arm), not self._stack
    frame = _Frame(name, arm, self.meter.read())
    idle = energy.minus(frame.begun, self._end) if outer else None
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
      path = "/".join(f.name for f in self._stack)
      self._stack.pop()
      whole = energy.minus(now, frame.begun)
      if self._stack:
        self._stack[-1].inside = energy.add(self._stack[-1].inside, whole)
      else:
        self._end, self._last = now, arm
      own = energy.minus(whole, frame.inside)
      line = {"phase": path, **own._asdict(), "status": status, **facts}
      if idle is not None:
        line["idle"] = idle._asdict()
      # Programs are shared and cached: who comes first must not pay for all.
      shared = name == "compile" and path.split("/")[0] not in AFTER
      self._write("phase", arm="" if shared else arm, **line)

  def program(self, arm: str = "", **facts: Any) -> None:
    """Notes a compiled program: its FLOPs, XLA's figures, its memory.

    arm: see `phase`.
    """
    self._write("program", arm=self._whose(arm), **facts)

  def resume(self, arm: str, saved: dict[str, Any] | None) -> None:
    """Goes on with an arm from what its checkpoint knew of this ledger.

    saved: what `position` gave when it was saved; None where there was no
    checkpoint, and everything that the arm has spent was for nothing.
    """
    if self.lines > 1:
      self._write("resume", arm=arm, line=saved["lines"] if saved else 0)

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
    """For a checkpoint: how long the ledger is, and its sums so far."""
    carried = {
      arm: {"use": use._asdict(), "flops": flops}
      for arm, (use, flops) in self._spent.items()
    }
    return {"lines": self.lines, "carried": carried}

  def read(self) -> list[dict]:
    """All lines, earlier sessions' among them."""
    return [] if self.path is None else _lines(self.path)

  def close(self) -> None:
    """Ends the session in order; what came after its last phase is idle."""
    idle = energy.minus(self.meter.read(), self._end)
    self.meter.close()
    self._write("close", arm=self._last, idle=idle._asdict())

  def _whose(self, arm: str) -> str:
    """The arm named, or that of the phase that is open."""
    return arm or (self._stack[-1].arm if self._stack else "")

  def _write(self, kind: str, arm: str = "", **facts: Any) -> None:
    if self.path is None:
      return
    line = {"kind": kind, "n": self.lines, "session": self.session}
    line |= {"arm": arm, "at": time.time(), **facts}
    if self.failed is None:
      try:
        files.append(self.path, line)
      except OSError as error:
        # The sums go on, and into the next checkpoint: see `carry`.
        self.failed = error
    self.lines += 1
    self._sum(line)

  def _sum(self, line: dict) -> None:
    use, flops = spending([line])
    before, executed = self._spent.get(line["arm"], (NOTHING, 0.0))
    self._spent[line["arm"]] = (energy.add(before, use), executed + flops)


def _lines(path: Path) -> list[dict]:
  """The lines of a ledger; none where there is no file.

  Raises:
    ValueError: one was cut short, or edited.
  """
  found = files.read_jsonl(path) if path.exists() else []
  for number, line in enumerate(found, 1):
    if lack := [x for x in NEEDED if x not in line]:
      raise ValueError(
        f"{path}: its {number}. line has no {lack[0]!r}, and is of no ledger: "
        "copy the file anew, or take that line out."
      )
  return found


def spending(lines: list[dict]) -> tuple[energy.Use, float]:
  """Use and FLOPs of what was done to train; the test and service left out."""
  use, flops = NOTHING, 0.0
  for line in lines:
    if line["kind"] == "phase" and line["phase"].split("/")[0] not in AFTER:
      use = energy.add(use, use_of(line))
      use = energy.add(use, energy.Use(**line.get("idle", NOTHING._asdict())))
      flops += sum(line.get("flops", {}).values())
  return use, flops


def use_of(line: dict) -> energy.Use:
  """What a line of the kind "phase" was charged: seconds and joules."""
  return energy.Use(line["seconds"], line["cpu_seconds"], line["counted"])
