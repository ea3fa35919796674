"""Runs of a sweep that need no jax: what is asked of them, they do."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from rsrc_jax.sweep import drive, local, plan

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
import ml_collections
def get_config():
  return ml_collections.ConfigDict(
    {"seed": 0, "x": 0, "rate": 0.5, "text": "", "sizes": (1, 2),
     "log_every": 1, "block": {"flag": False}})
"""

# python -c FAKE OPTIONS WORKDIR: notes its start, does as asked, and ends.
FAKE = """
import json, os, pathlib, signal, subprocess, sys, time
asked, folder = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
number = len(list((folder / "attempts").glob("*.json")))
with (folder / "starts").open("a") as file:
  cores = sorted(os.sched_getaffinity(0))
  threads = int(os.environ["OMP_NUM_THREADS"])
  file.write(json.dumps([number, os.getpid(), cores, threads]) + "\\n")
def save(*_):
  (folder / "saved").touch()
  sys.exit(3)
signal.signal(signal.SIGTERM, signal.SIG_IGN if asked.get("deaf") else save)
signal.signal(signal.SIGINT, lambda *_: sys.exit(9))
(folder / "config.json").write_text(json.dumps(asked["config"]))
if asked.get("child"):
  child = subprocess.Popen(["sleep", "600"], start_new_session=True)
  (folder / "child").write_text(str(child.pid))
held = bytearray(asked.get("bytes", 0))
held[::4096] = b"x" * len(held[::4096])
(folder / "ready").touch()
time.sleep(asked.get("wait", 0))
print(asked.get("says", "what was wrong").format(number), flush=True)
codes = asked.get("codes", [0])
code = codes[min(number, len(codes)) - 1]
if asked.get("step"):
  line = {"phase": "code", "step": asked["step"] * number}
  (folder / "metrics.jsonl").write_text(json.dumps(line) + "\\n")
if code:
  sys.exit(code)
summary = {"seed": asked["config"]["seed"], "seconds": 1.0}
(folder / "summary.json").write_text(json.dumps(summary))
"""


def made(folder: Path, count: int = 3, **how) -> plan.Plan:
  """A plan of runs r0-0, r1-0, ... in a folder."""
  config = folder / "fake.py"
  config.parent.mkdir(parents=True, exist_ok=True)
  config.write_text(CONFIG)
  variants = how.pop("variants", None) or [
    {"name": f"r{i}", "x": i} for i in range(count)
  ]
  return plan.plan(config, folder, variants=variants, **how)


def processes(of: plan.Plan, **asked):
  """What stands for plan.processes: fakes. asked: of all, or of r0, r1, ..."""
  names = {run.variant for run in of.runs}
  every = {k: v for k, v in asked.items() if k not in names}

  def make(runs, together=""):
    del together
    return [
      plan.Process(run.name, (
        sys.executable, "-S", "-c", FAKE,
        json.dumps({"config": of.settings | run.changes, **every,
                    **asked.get(run.variant, {})}),
        str(run.workdir),
      ), (run,))
      for run in runs
    ]  # fmt: skip

  return make


def driven(of: plan.Plan, slots=2, *, executor=(), quiet=True, **how):
  """Drives the runs in this process. -> states by name"""
  made = local.make(slots, environment=dict(os.environ), **dict(executor))
  if quiet:
    how["say"] = lambda text: None
  folder = of.runs[0].workdir.parent
  return drive.drive(of.runs, made, folder, drive.How(**how))


DRIVER = """
import json, pathlib, sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
from helpers import fake_runs
from rsrc_jax.sweep import drive, files, plan
{before}
of = fake_runs.made(pathlib.Path({folder!r}), {count})
plan.processes = fake_runs.processes(of, **json.loads({asked!r}))
try:
  found = fake_runs.driven(of, {slots}, executor=json.loads({executor!r}),
                           quiet=False)
except OSError as error:
  sys.exit(files.said(error))
sys.exit(drive.unfinished(found) or 0)
"""


def start(folder, count=3, slots=2, executor=(), before="", **asked):
  """Drives such runs in a process of its own, which begins with `before`."""
  script = DRIVER.format(
    root=str(ROOT), folder=str(folder), count=count, slots=slots,
    asked=json.dumps(asked), executor=json.dumps(dict(executor)),
    before=before,
  )  # fmt: skip
  return subprocess.Popen(
    [sys.executable, "-c", script], stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip


def starts(run: plan.Run) -> list[list]:
  """[attempt, pid, cores, threads] of each start of a fake."""
  path = run.workdir / "starts"
  lines = path.read_text().splitlines() if path.is_file() else []
  return [json.loads(x) for x in lines]


def wait_for(true, seconds=60.0):
  """Waits until something is true."""
  until = time.monotonic() + seconds
  while not (found := true()):
    assert time.monotonic() < until, "waited in vain"
    time.sleep(0.05)
  return found
