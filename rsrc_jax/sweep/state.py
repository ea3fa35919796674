"""What has become of a run, from the files of its folder alone.

  summary.json     of the run itself: it is done, if config.json has its id
  sweep.json       what the run is; whether it was cancelled
  attempts/N.json  the N-th start: its claim, and how it ended
  attempts/N.log   what it printed

Whoever makes N.json may start the N-th attempt, so that no two drivers do. The
process around the run (`attempt`) writes into it when it starts and when it
ends, whether or not the driver is still there.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.runtime import inputs, procs, provenance
from rsrc_jax.sweep import files, owner
from rsrc_jax.sweep.plan import Run

SAVED, REFUSED = 3, 2  # exit codes of rsrc_jax.main
# Saved; a peer was lost; KILL and TERM before the run could save.
INTERRUPTED = (SAVED, 134, 137, 143)
WORDS = ("planned", "running", "done", "interrupted", "failed", "cancelled")


class State(NamedTuple):
  """A run's state, one of WORDS, and why.

  attempts: how many were started. failures: how many of them have failed.
  last: the last line of the last attempt. final: it is not to be started again.
  attempt: the record of the last one.
  """

  word: str
  attempts: int = 0
  failures: int = 0
  last: str = ""
  final: bool = False
  attempt: dict[str, Any] | None = None


def of(run: Run, *, retries: int = 1, since: int = 0) -> State:
  """The state of a run.

  Args:
    run: of a plan.
    retries: how often a run that has failed is started again.
    since: what happened up to this attempt is forgotten.

  Raises:
    ValueError: the folder holds a finished run with another id.
  """
  records = attempts(run)
  count, last = len(records), records[-1] if records else None
  if done(run):
    return State("done", count, 0, "", True, last)
  new = [x for x in records if x["number"] > since]
  failed = [x for x in new if x.get("code") is not None
            and outcome(x) == "failed"]  # fmt: skip
  found = State("planned", count, len(failed), "", False, last)
  described = files.read(run.workdir / "sweep.json") or {}
  if last is not None:
    found = found._replace(word=outcome(last), last=why(last))
    if found.word == "running":
      return found
  if described.get("cancelled"):
    return found._replace(word="cancelled", final=True)
  if found.word == "failed":
    refused = last["code"] == REFUSED and last in new
    final = refused or len(failed) > retries or stuck(new)
    return found._replace(final=final)
  if found.word == "interrupted" and stuck(new):
    return found._replace(final=True)
  return found


def done(run: Run) -> bool:
  """Whether the folder holds the finished run.

  Raises:
    ValueError: it holds a finished run with another id.
  """
  if not (run.workdir / "summary.json").is_file():
    return False
  if (found := provenance.stored_identity(run.workdir)) == run.id:
    return True
  raise ValueError(
    f"{run.workdir} holds a finished run with the id {found}, not {run.id}: "
    "move that folder away."
  )


def check_inputs(runs: Iterable[Run]) -> None:
  """Refuses to add runs to finished ones that began with other files.

  Raises:
    ValueError: names the run and the file.
  """
  now = {}  # by group: seeds read the same files
  for run in runs:
    if not done(run) or inputs.recorded(run.workdir) is None:
      continue
    if run.group not in now:
      stored = json.loads((run.workdir / "config.json").read_text())
      now[run.group] = inputs.again(stored, run.workdir)
    inputs.check(now[run.group], run.workdir, to="go on with this sweep, or "
                 "give another --workdir")  # fmt: skip


def attempts(run: Run) -> list[dict[str, Any]]:
  """The records of a run's attempts, in turn."""
  found = []
  while (record := files.read(path(run, len(found) + 1))) is not None:
    found.append(record)
  return found


def path(run: Run, number: int) -> Path:
  """The file of an attempt, counted from 1."""
  return run.workdir / "attempts" / f"{number}.json"


def outcome(attempt: dict[str, Any]) -> str:
  """running, interrupted or failed: what its record and its process say."""
  code = attempt.get("code")
  if code is None:
    return "running" if _lives(attempt) else "interrupted"
  if attempt.get("bounded"):  # its memory
    return "failed"
  return "interrupted" if code in INTERRUPTED else "failed"


def _lives(attempt: dict[str, Any]) -> bool:
  """Whether an attempt without an end goes on."""
  if (who := attempt.get("wrapper")) is None:
    return owner.living(attempt["driver"] | {"renewed": attempt["claimed"]})
  if procs.here(who):
    return procs.alive(who)
  # Of another machine: its processes end with its driver, which renews a file.
  now = files.read(owner.path(Path(attempt["folder"])))
  mine = now is not None and owner.same(now, attempt["driver"])
  return mine and owner.living(now)


def why(attempt: dict[str, Any]) -> str:
  """A line on how an attempt has ended."""
  code = attempt.get("code")
  if code is None:
    return "" if _lives(attempt) else "ended without a word"
  if attempt.get("bounded"):
    return attempt["bounded"]
  if code == 0:
    return "ended with 0 and left no summary.json"
  return attempt.get("last") or f"ended with {code}"


def stuck(records: list[dict[str, Any]]) -> bool:
  """Whether the last two attempts ended alike, at the same step.

  Of one driver, and not because they were asked to stop: after a power cut, or
  a driver that was killed, a run goes on as often as it takes.
  """
  if len(records) < 2:
    return False
  ends = [
    (x["driver"], x.get("code"), why(x), x.get("step")) for x in records[-2:]
  ]
  return ends[0] == ends[1] and not any(x.get("stopped") for x in records[-2:])


def claim(
  run: Run, command: tuple[str, ...], folder: Path, fields: dict[str, Any]
) -> Path | None:
  """Makes the next attempt of a run. -> its file; None if another has it

  Args:
    run: of a plan; it is not running.
    command: what will be started.
    folder: of the sweep.
    fields: of the record: token, driver, revision, cwd.
  """
  number = len(attempts(run)) + 1
  if number == 1:  # or it is there already, cancelled
    files.create(run.workdir / "sweep.json", description(run))
  record = {
    "number": number, "run": run.id, "name": run.name, "command": command,
    "folder": str(folder), "claimed": time.time(), **fields,
    "log": str(path(run, number).with_suffix(".log")),
  }  # fmt: skip
  made = files.create(path(run, number), record)
  return path(run, number) if made else None


def description(run: Run) -> dict[str, Any]:
  """What sweep.json says of a run."""
  return {
    "name": run.name, "id": run.id, "group": run.group,
    "changes": run.changes, "argv": run.argv,
  }  # fmt: skip


def cancel(run: Run, cancelled: bool = True) -> None:
  """Marks a run so that it is not started again, or takes the mark away."""
  where = run.workdir / "sweep.json"
  found = files.read(where) or description(run)
  if found.get("cancelled", False) != cancelled:
    files.write(where, found | {"cancelled": cancelled})
