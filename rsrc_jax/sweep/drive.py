"""Starts the runs of a sweep, looks after them, and says what became of them.

A driver can be killed at any moment: its runs save and stop, and what is on the
disk is whole. The next one goes on from there.
"""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rsrc_jax.runtime import procs
from rsrc_jax.sweep import files, machine, owner, plan, state
from rsrc_jax.sweep.executor import Executor, Task
from rsrc_jax.sweep.plan import Process, Run

LOOK, SHOW = 0.1, 30.0  # seconds between two looks, and two lines of progress
MOST = 30  # lines on runs that are not done


class How(NamedTuple):
  """What holds for all runs of a driver.

  together: see plan.processes. retries: of a run that failed.
  since: run id -> the attempt up to which its past is forgotten.
  revision: of the code. say: shows a line.
  """

  together: str = ""
  retries: int = 1
  since: Mapping[str, int] = MappingProxyType({})
  revision: str | None = None
  say: Callable[[str], None] = print


def drive(
  runs: Sequence[Run], executor: Executor, folder: Path, how: How
) -> dict[str, state.State]:
  """Runs what isn't done, and waits. -> the state of each run, by its name

  From the main thread: see `local`.

  Raises:
    ValueError: the sweep has another driver, or a folder holds another run.
    OSError: the state can't be written; nothing is left running.
    owner.Lost: another driver has taken the sweep; nothing is left running.
  """
  me = owner.take(folder)
  work = _Work(executor, folder, how, me)
  try:
    with _signals() as asked:
      _begin(work, runs)
      try:
        _loop(work, asked)
      finally:
        _end(work)
  finally:
    owner.end(folder, me)
  return {run.name: _state(how, run) for run in runs}


class _Work:
  """What waits and what runs."""

  def __init__(self, executor, folder, how, me):
    self.executor, self.folder, self.how, self.me = executor, folder, how, me
    self.waiting: list[Process] = []
    self.running: dict[str, tuple[Process, Any]] = {}  # key -> and its handle
    self.done = 0

  def handles(self) -> dict[str, Any]:
    return {key: handle for key, (_, handle) in self.running.items()}


def _state(how: How, run: Run) -> state.State:
  since = how.since.get(run.id, 0)
  return state.of(run, retries=how.retries, since=since)


def _begin(work: _Work, runs: Sequence[Run]) -> None:
  """Sorts the runs: done, still running without their driver, or to start."""
  left = []
  for run in runs:
    found = _state(work.how, run)
    work.done += found.word == "done"
    around = (found.attempt or {}).get("wrapper")
    if found.word == "running" and around:
      work.how.say(f"{run.name}: still runs, from an earlier start")
      work.running[run.id] = _adopted(run, found)
      continue
    if around and procs.here(around) and "code" not in found.attempt:
      # What a killed one has left.
      machine.end_marked(str(state.path(run, found.attempts)))
    if not found.final:
      left.append(run)
  work.waiting = plan.processes(left, work.how.together)


def _adopted(run: Run, found: state.State) -> tuple[Process, Any]:
  record = found.attempt
  attempt = str(state.path(run, record["number"]))
  handle = {"wrapper": record["wrapper"], "attempt": attempt}
  return Process(run.name, tuple(record["command"]), (run,)), handle


def _loop(work: _Work, asked: list[int]) -> None:
  """Until all have ended, or a signal has come and all have stopped."""
  told, renewed, shown = False, time.monotonic(), time.monotonic()
  while work.running or (work.waiting and not asked):
    if asked and not told:
      told = True
      work.how.say(f"{len(work.running)} runs are asked to save and stop.")
      work.executor.cancel(work.handles())
    free = work.executor.slots - len(work.running)
    while work.waiting and free > 0 and not asked:
      free -= _start(work, work.waiting.pop(0))
    _settle(work, again=not asked)
    if time.monotonic() - renewed > owner.RENEW:
      renewed = time.monotonic()
      owner.check(work.folder, work.me)
      owner.renew(work.folder, work.me)
    if time.monotonic() - shown > SHOW:
      shown = time.monotonic()
      work.how.say(_progress(work))
    time.sleep(LOOK)


def _end(work: _Work) -> None:
  """Leaves nothing running, whatever has happened."""
  if work.running:
    work.executor.cancel(work.handles())
  while work.running:
    for key, what in work.executor.poll(work.handles()).items():
      if what == "gone":
        del work.running[key]
    time.sleep(LOOK)


def _start(work: _Work, process: Process) -> bool:
  """Claims the attempts of a process and starts it. -> whether it runs

  Raises:
    owner.Lost: another driver has claimed one of them.
    OSError: it can't be claimed or started; it will be at another time.
  """
  left = [x for x in process.runs if not _state(work.how, x).final]
  if len(left) < len(process.runs):  # cancelled, or done, since it was queued
    work.waiting = plan.processes(left, work.how.together) + work.waiting
    return False
  token = uuid.uuid4().hex
  fields = {
    "token": token, "driver": work.me, "revision": work.how.revision,
    "cwd": os.getcwd(),
  }  # fmt: skip
  made = []
  try:
    for run in process.runs:
      of = state.claim(run, process.command, work.folder, fields)
      if of is None:
        raise owner.Lost(f"{run.name} was started by another driver.")
      made.append(of)
    record = files.read(made[0])
    for path in made[1:]:  # they print to one file
      files.write(path, files.read(path) | {"log": record["log"]})
    key = process.runs[0].id
    handles = work.executor.submit([Task(key, tuple(made))], token)
  except BaseException:
    for path in made:  # claimed, and not started
      with contextlib.suppress(OSError):
        _unstarted(path)
    raise
  work.how.say(
    f"== {process.name}: attempt {record['number']}, {record['log']}"
  )
  work.running[key] = process, handles[key]
  return True


def _unstarted(path: Path) -> None:
  """Ends the record of an attempt that has not been started."""
  record = files.read(path)
  if record.get("code") is None and "wrapper" not in record:
    last = files.last_line(Path(record["log"])) or "was not started"
    files.write(path, record | {"code": 1, "last": last})


def _settle(work: _Work, *, again: bool) -> None:
  """Takes what has ended, and puts what is to be tried again in the queue."""
  for key, what in work.executor.poll(work.handles()).items():
    if what != "gone":
      continue
    process, _ = work.running.pop(key)
    left = []
    for run in process.runs:
      if number := len(state.attempts(run)):
        _unstarted(state.path(run, number))
      found = _state(work.how, run)
      work.done += found.word == "done"
      work.how.say(_told(run, found))
      if found.word != "done" and not found.final and again:
        left.append(run)
    work.waiting += plan.processes(left, work.how.together)


def _told(run: Run, found: state.State) -> str:
  """A line on a run that has ended."""
  seconds = (found.attempt or {}).get("seconds")
  took = "" if seconds is None else f" after {seconds:.0f} s"
  last = f": {found.last}" if found.last else ""
  return f"{run.name}: {found.word}{took}{last}"


def _progress(work: _Work) -> str:
  """A line on what runs, at which step."""
  where = []
  for process, _ in work.running.values():
    step = files.step(process.runs[0].workdir) or ["starting"]
    where.append(" ".join(map(str, [process.name, *step])))
  waiting = sum(len(x.runs) for x in work.waiting)
  return f"{work.done} done, {waiting} waiting, running: {', '.join(where)}"


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
  """The TERM and INT signals that have come, as they come."""
  asked = []
  note = lambda number, _: asked.append(number)
  numbers = (signal.SIGTERM, signal.SIGINT)
  before = {number: signal.signal(number, note) for number in numbers}
  try:
    yield asked
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def unfinished(found: dict[str, state.State]) -> str:
  """Lines on the runs that are not done; empty if all are."""
  lines, anew, same = [], False, False
  for name, of in found.items():
    if of.word == "done":
      continue
    last = f": {of.last}" if of.last else ""
    lines.append(f"{name} {of.word}{last}")
    anew, same = anew or of.final, same or not of.final
  if len(lines) > MOST:
    lines[MOST:] = [f"... and {len(lines) - MOST} more; see `status`."]
  if same:
    lines.append("The same command goes on.")
  if anew:
    lines.append("--again starts those anew that have failed for good.")
  return "\n".join(lines)
