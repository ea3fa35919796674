"""The process around a run: it starts it, bounds it, and writes how it ended.

  python -m rsrc_jax.sweep.attempt OPTIONS ATTEMPT.json...

It outlives a driver that is killed by as long as the run takes to save: the
kernel tells it of its driver's end. The run itself is killed with this process.
It imports neither jax nor configs, so that it starts in a moment.

OPTIONS is JSON:
  driver   the process that has to be this one's parent
  cores    the run is pinned to them; none: to whatever it inherits
  memory   bytes that all its processes may hold; 0: no bound
  grace    seconds from TERM to KILL
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rsrc_jax.runtime import procs
from rsrc_jax.sweep import files, machine

ORPHANED = 75  # the driver had ended before anything was started
LOOK = 0.1  # seconds
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(options: dict[str, Any], paths: list[Path]) -> int:
  """Runs the command of the attempts. -> an exit code"""
  # Until the handlers are there, the end of the driver ends this process.
  if not machine.die_with_parent(signal.SIGTERM, options["driver"]):
    return ORPHANED
  machine.adopt_orphans()
  if options["cores"]:
    os.sched_setaffinity(0, options["cores"])
  records = {path: files.read(path) for path in paths}
  started = {
    "wrapper": procs.me(), "started": time.time(), "cores": options["cores"],
    "environment": {k: v for k, v in os.environ.items() if k in RECORDED},
  }  # fmt: skip
  for path, record in records.items():
    record.update(started)
    files.write(path, record)
  asked = []
  for number in STOPS:
    signal.signal(number, lambda number, _: asked.append(number))
  first = next(iter(records.values()))
  begun = time.monotonic()
  ended = _run(first, options, asked)
  ended |= {"ended": time.time(), "seconds": time.monotonic() - begun}
  ended |= {"last": files.last_line(Path(first["log"]))}
  for path, record in records.items():
    own = {"step": files.step(path.parents[1])}
    files.write(path, record | ended | own)
  return 0


RECORDED = (
  "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS",
  "JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH",
)  # fmt: skip


def _run(record: dict, options: dict, asked: list[int]) -> dict[str, Any]:
  """Runs the command to its end, or ends it. -> code and what led to it"""
  me = os.getpid()
  with open(record["log"], "ab") as log:
    try:
      child = subprocess.Popen(
        record["command"], cwd=record["cwd"], stdin=subprocess.DEVNULL,
        stdout=log, stderr=subprocess.STDOUT, process_group=0,
        preexec_fn=lambda: machine.die_with_parent(signal.SIGKILL, me),
      )  # fmt: skip
    except OSError as error:
      log.write(f"{error}\n".encode())
      return {"code": 127}
  ended, kill_at = {}, None
  while child.poll() is None:
    if asked and kill_at is None:
      _signal(child.pid, signal.SIGTERM)
      ended["stopped"], kill_at = True, time.monotonic() + options["grace"]
    if options["memory"]:
      used = machine.resident(me)
      if used > options["memory"]:
        ended["bounded"] = (
          f"killed: it held {used / 2**20:.0f} MiB, and --memory allows "
          f"{options['memory'] / 2**20:.0f}"
        )
        kill_at = 0.0
    if kill_at is not None and time.monotonic() > kill_at:
      _signal(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
      child.wait(LOOK)
  machine.end_children()  # what it has left behind
  # As a shell has it: 128 and the signal.
  code = child.returncode if child.returncode >= 0 else 128 - child.returncode
  peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
  return ended | {"code": code, "peak_bytes": peak}


def _signal(group: int, number: int) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.killpg(group, number)


if __name__ == "__main__":
  try:
    sys.exit(main(json.loads(sys.argv[1]), [Path(x) for x in sys.argv[2:]]))
  except OSError as error:
    sys.exit(f"error: {files.said(error)}")
