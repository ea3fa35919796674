"""Trials of benchmarks/faults.py that share a process and its programs.

  python benchmarks/faults_inside.py PART SEED SCRATCH SECONDS 0,1,2,...

prints {"begin": n} before each trial and a line of JSON after it, until there
are none left or the seconds are over.
"""

import contextlib
import dataclasses
import io
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from absl import flags
from helpers.runs import Killed, Runs, final_state

from benchmarks import faults_damage, faults_runs
from rsrc_jax.runtime import configs, run_log
from rsrc_jax.sweep import files
from rsrc_jax.training import lane

REAL_TIME, REAL_ADVANCE = time.time, lane.advance
PAGE = 4096
LIMIT = 100  # seconds of a trial; a hang is a loss


def main() -> None:
  """One part's trials."""
  part, seed, scratch, seconds, left = sys.argv[1:]
  end = time.monotonic() + float(seconds)
  made = {
    "disk": disk, "clock": clock, "nan": nan,
    "damage": faults_damage.damage, "cost": faults_damage.cost,
  }  # fmt: skip
  trial = made[part](Path(scratch) / part)
  signal.signal(signal.SIGALRM, _too_long)
  for number in map(int, left.split(",")):
    if time.monotonic() > end:
      return
    say(begin=number)
    begun = time.monotonic()
    signal.alarm(LIMIT)
    try:
      rng = random.Random(f"{seed}-{part}-{number}")
      found = trial(number if part == "cost" else rng)
    except Exception as error:
      reason = f"{type(error).__name__}: {error}"[:400]
      found = {"form": "error", "outcome": "lost", "why": reason}
    signal.alarm(0)
    say(trial=number, **found, seconds=round(time.monotonic() - begun, 3))


def say(**found: Any) -> None:
  """A line for the parent."""
  print(json.dumps(found), flush=True)


def _too_long(number, frame):
  raise TimeoutError(f"more than {LIMIT} s")


# A small run of the default, whole or with a fault, through main.main.


@dataclasses.dataclass
class Program:
  """Runs of one config, which share their programs, by the command line."""

  runs: Runs
  folder: Path
  whole: Path
  report: bool

  @classmethod
  def of(cls, folder: Path, *, report: bool, **changes) -> "Program":
    """Makes the uninterrupted run too. report: each run draws one."""
    from rsrc_jax import main as program  # loads a config

    shutil.rmtree(folder, ignore_errors=True)
    name, small = faults_runs.FORMS["default"]
    small = {**small, "checkpoint.every": 4} | changes
    config = configs.load(faults_runs.ROOT / "configs" / f"{name}.py")
    config.update_from_flattened_dict(small)
    made = cls(Runs.of(config, folder), folder, folder / "whole", report)
    flags.FLAGS(["rsrc", f"--config={faults_runs.ROOT}/configs/{name}.py"])
    program.CONFIG.value.update_from_flattened_dict(small)
    program.named.loop_of = lambda config: SimpleNamespace(
      train=lambda config, workdir: made.runs.run(workdir, kill=made.kill),
      show=show if report else lambda *_: ("none", []),
    )
    code, said = made.run(made.whole)
    if code:
      sys.exit(f"the uninterrupted run ends with {code}: {said}")
    return made

  kill = 0  # at which question whether to stop a run ends without a word

  def run(self, workdir: Path, kill: int = 0) -> tuple[int | str, str]:
    """main.main -> exit code, or what it raised; what it said"""
    from rsrc_jax import main as program

    flags.FLAGS.workdir, self.kill = str(workdir), kill
    said, code = io.StringIO(), 0
    try:
      with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        program.main(["rsrc"])
    except SystemExit as ended:
      code = ended.code or 0
    except Killed:
      code = "killed"
    except Exception as error:
      code = type(error).__name__
      said.write(f"{code}: {error}")
    return code, said.getvalue()


def show(summary, workdir):
  """The report, as train.show draws it."""
  from rsrc_jax import train

  return train.show(summary, workdir)


def end_of(made: Program, workdir: Path, form: str, note: str, wrong: list):
  """Lets a run that had a fault go on to its end, and compares it."""
  code, said = made.run(workdir)
  if code:
    wrong = [*wrong, f"goes on: {code} {said[-300:]}"]
  else:
    found = faults_runs.differences(workdir, made.whole)
    wrong += [x for x in found if x != "no report" or made.report]
  extra = {"why": wrong[:4]} if wrong else {}
  outcome = "lost" if wrong else "survived"
  return {"form": form, "outcome": outcome, "note": note, **extra}


def disk(folder: Path):
  """-> a trial; this process needs a mount namespace of its own."""
  made = Program.of(folder, report=True)
  room = folder / "room"
  room.mkdir()
  mount(room, 1 << 30)
  made.run(room / "run")
  pages = (1 << 30) - shutil.disk_usage(room).free
  pages = pages // PAGE
  subprocess.run(["umount", "-l", room], check=True)

  def trial(rng: random.Random) -> dict[str, Any]:
    page = rng.randrange(1, pages)
    mount(room, page * PAGE)
    code, said = made.run(room / "run")
    errors = [x for x in said.splitlines() if x.startswith("error:")]
    note = "one line" if code == 2 and len(errors) == 1 else f"raised {code}"
    note = "goes on" if code == 0 else note
    mount(room, 1 << 30, "remount,")
    found = end_of(made, room / "run", "full at a page", note, [])
    subprocess.run(["umount", "-l", room], check=True)
    return found | {"page": page, "of": pages, "said": said[-200:]}

  return trial


def mount(folder: Path, size: int, more: str = "") -> None:
  """A disk of so many bytes."""
  subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"{more}size={size}", "none", folder],
    check=True,
  )  # fmt: skip


def clock(folder: Path):
  """-> a trial."""
  made, number = Program.of(folder, report=False), [0]
  whole = sum(x.steps for x in made.runs.stages)

  def trial(rng: random.Random) -> dict[str, Any]:
    step, killed = rng.randrange(whole), rng.random() < 0.5
    number[0] += 1
    workdir, done = folder / f"run-{number[0]}", [0]

    def advance(now, until, counts):
      after = REAL_ADVANCE(now, until, counts)
      done[0] += after.step - now.step
      if done[0] > step:
        time.time = lambda: REAL_TIME() - 3600
      return after

    lane.advance = advance
    try:
      if killed:  # its next session begins before its last one ended
        made.run(workdir, kill=rng.randrange(1, 8))
        unclosed(workdir)
        time.time = lambda: REAL_TIME() - 3600
      found = end_of(made, workdir, "an hour back", "", [])
      wrong = negative(workdir)
    finally:
      time.time, lane.advance = REAL_TIME, REAL_ADVANCE
    found["form"] += " while it is down" if killed else " while it runs"
    del found["note"]
    shutil.rmtree(workdir)
    if wrong:
      found |= {"outcome": "lost", "why": wrong[:3]}
    return found

  return trial


def unclosed(workdir: Path) -> None:
  """Takes the last line of the ledger, which a killed process has not written.

  Within one process, what ends a run still closes its ledger.
  """
  path = workdir / "ledger.jsonl"
  *lines, last = path.read_text().splitlines(keepends=True)
  if json.loads(last)["kind"] == "close":
    path.write_text("".join(lines))


def negative(workdir: Path) -> list[str]:
  """Seconds below zero, of the ledger and the summary."""

  def search(x, path):
    if isinstance(x, dict):
      return [y for k, v in x.items() for y in search(v, f"{path}.{k}")]
    if isinstance(x, list):
      return [y for v in x for y in search(v, path)]
    if "seconds" in path and isinstance(x, int | float) and x < 0:
      return [f"{path}={x}"]
    return []

  lines = run_log.read_jsonl(workdir / "ledger.jsonl")
  summary = files.read(workdir / "summary.json")
  return search(lines, "ledger") + search(summary, "summary")


def nan(folder: Path):
  """-> a trial. Checkpoints come between two lines of the log."""
  made, number = Program.of(folder, report=False, log_every=5), [0]

  def trial(rng: random.Random) -> dict[str, Any]:
    stage = rng.choice(made.runs.stages)
    step, of = rng.randint(1, stage.steps), rng.choice(("loss", "parameters"))
    if of == "parameters" and rng.random() < 0.5:
      step = 4  # a checkpoint is due, and every loss was finite
    number[0] += 1
    workdir = folder / f"run-{number[0]}"
    lane.advance = poisoned(stage.name, step, of)
    try:
      code, said = made.run(workdir)
    finally:
      lane.advance = REAL_ADVANCE
    wrong = [] if code == 2 else [f"ended with {code}"]
    errors = [x for x in said.splitlines() if x.startswith("error:")]
    named = [f"at step {step};", f"after step {step};"]
    if of == "parameters":  # the loss of the next step shows it
      named.append(f"at step {step + 1};")
    if (
      len(errors) != 1
      or stage.name not in errors[0]
      or not any(x in errors[0] for x in named)
    ):
      wrong.append(f"said {errors}")
    wrong += not_finite(workdir)
    kept = "kept" if "is kept" in said else "none yet"
    found = end_of(
      made, workdir, f"NaN in the {of}", f"checkpoint {kept}", wrong
    )
    shutil.rmtree(workdir)
    return found | {"stage": stage.name, "step": step}

  return trial


def poisoned(stage: str, step: int, of: str):
  """lane.advance, with NaN after a step of a stage."""

  def advance(now, until, counts):
    if now.stage.name != stage or not now.step < step <= until:
      return REAL_ADVANCE(now, until, counts)
    now = REAL_ADVANCE(now, step, counts)
    params = jax.tree.map(
      lambda x: jax.device_put(np.full(x.shape, math.nan, x.dtype), x.sharding),
      now.state.params,
    )
    window = list(now.window)
    if of == "loss":
      window[-1] = {**window[-1], "loss": np.float32(math.nan)}
    now = now._replace(state=now.state._replace(params=params), window=window)
    return REAL_ADVANCE(now, until, counts) if step < until else now

  return advance


def not_finite(workdir: Path) -> list[str]:
  """Checkpoints with parameters that are not finite."""
  return [
    f"{folder.name}: {name} was saved"
    for folder in (workdir / "checkpoints").iterdir()
    if any(x.name.isdigit() for x in folder.iterdir())
    for name, x in final_state(workdir, folder.name).items()
    if name.startswith(".params") and not np.isfinite(np.asarray(x)).all()
  ]


if __name__ == "__main__":
  main()
