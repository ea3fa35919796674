"""The executor of this machine: every run has cores of its own.

Cores are those that this process may use, capped by its cgroup. Memory is
bounded by watching what the processes of a run hold together, ten times a
second: a limit of addresses would count what is never touched. All runs end
with this process: save and stop, or are killed `grace` seconds later.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsrc_jax.runtime import places, procs
from rsrc_jax.sweep import files, machine
from rsrc_jax.sweep.executor import Executor, Handles, Task

THREADS = (
  "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
  "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


def shares(cores: Sequence[int], slots: int) -> list[list[int]]:
  """Cores for each of the slots, as many for each.

  Slots share a core only where there are fewer cores than slots.
  """
  each = max(len(cores) // slots, 1)
  at = lambda slot, i: cores[(slot * each + i) % len(cores)]
  return [[at(slot, i) for i in range(each)] for slot in range(slots)]


def make(
  slots: int,
  *,
  environment: Mapping[str, str],
  memory: int = 0,
  grace: float = 30.0,
  cores: Sequence[int] | None = None,
) -> Executor:
  """The executor, for a process's main thread.

  Args:
    slots: tasks at a time.
    environment: of the runs; counts of threads are set in it.
    memory: bytes that a task's processes may hold together; 0: no bound.
    grace: seconds from TERM to KILL.
    cores: to be shared out; by default those of this process.
  """
  free = shares(machine.cores() if cores is None else cores, slots)
  children: dict[str, tuple[subprocess.Popen, list[int]]] = {}
  tokens: dict[str, dict[str, Any]] = {}

  def submit(tasks: Sequence[Task], token: str) -> dict[str, Any]:
    if token in tokens:
      return tokens[token]
    handles = {}
    for task in tasks:
      share = free.pop(0)
      options = {"driver": os.getpid(), "cores": share, "memory": memory,
                 "grace": grace}  # fmt: skip
      try:
        child = _start(options, task, environment)
      except OSError:
        free.append(share)
        raise
      children[task.key] = child, share
      handles[task.key] = {
        "wrapper": procs.me(child.pid), "attempt": str(task.attempts[0])
      }  # fmt: skip
    tokens[token] = handles
    return handles

  def poll(handles: Handles) -> dict[str, str]:
    found = {}
    for key, handle in handles.items():
      child = children.get(key)
      ended = child[0].poll() is not None if child else True
      if child and ended:
        free.append(children.pop(key)[1])
      ended = ended and not procs.alive(handle["wrapper"])
      if ended:  # killed itself, it leaves what the run has started
        machine.end_marked(handle["attempt"])
      found[key] = "gone" if ended else "running"
    return found

  def cancel(handles: Handles) -> None:
    for handle in handles.values():
      if procs.alive(handle["wrapper"]):
        with contextlib.suppress(ProcessLookupError):
          os.kill(handle["wrapper"]["pid"], signal.SIGTERM)

  def logs(handle: Any) -> Path:
    return Path(files.read(Path(handle["attempt"]))["log"])

  return Executor(slots, lambda tasks: {}, submit, poll, cancel, logs)


def _start(
  options: dict[str, Any], task: Task, environment: Mapping[str, str]
) -> subprocess.Popen:
  """Starts the process around a task, in a session of its own."""
  count = str(len(options["cores"]))
  paths = [str(places.PACKAGE.parent), environment.get("PYTHONPATH", "")]
  env = {**environment, **dict.fromkeys(THREADS, count)}
  env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
  env[machine.MARK] = str(task.attempts[0])
  # What goes wrong around a run is found in its log.
  with open(files.read(task.attempts[0])["log"], "ab") as log:
    return subprocess.Popen(
      [sys.executable, "-m", "rsrc_jax.sweep.attempt", json.dumps(options),
       *map(str, task.attempts)],
      env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
      start_new_session=True,
    )  # fmt: skip
