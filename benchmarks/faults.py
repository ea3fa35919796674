"""What a run survives: kills, damaged files, full disks, clocks and NaN.

  ./.venv/bin/python benchmarks/faults.py                   all, about an hour
  ./.venv/bin/python benchmarks/faults.py --parts=kill --budget=200
  ./.venv/bin/python benchmarks/faults.py --table           faults.md alone

  kill    kill -9 at random moments of whole commands, in five forms
  damage  files of a checkpoint cut short, changed in a bit, or removed
  disk    a disk that is full at some page that a run writes (Linux, a tmpfs)
  clock   the clock of the system jumps back by an hour
  nan     the loss, or the parameters, are not a number after some step
  cost    what the digests add to a save and a restore

Every trial is one line of faults_results.jsonl. What stands there is not done
again, so that the command may be stopped and goes on. --budget: seconds after
which no trial begins. A trial is drawn from the seed and its own number; the
moment of a kill is also a matter of the machine. One core is enough.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import faults_runs  # noqa: E402

RESULTS, TABLE = HERE / "faults_results.jsonl", HERE / "faults.md"
PARTS = {"kill": 100, "damage": 200, "disk": 30, "clock": 10, "nan": 20,
         "cost": 2}  # fmt: skip
KILLS = 6  # at most, in the life of one run


def main() -> None:
  """Does what is not done yet of the parts that are asked for."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--parts", default=",".join(PARTS))
  flags.add_argument(
    "--forms", default=",".join(faults_runs.FORMS), help="of the kills"
  )
  flags.add_argument("--trials", type=int, help="of each part; default: all")
  flags.add_argument("--seed", type=int, default=0)
  flags.add_argument("--budget", type=float, default=float("inf"))
  flags.add_argument("--results", type=Path, default=RESULTS)
  flags.add_argument("--scratch", type=Path, help="runs and compiled programs")
  flags.add_argument("--table", action="store_true")
  asked = flags.parse_args()
  if not asked.table:
    with tempfile.TemporaryDirectory() as folder:
      try:
        asked.scratch = (asked.scratch or Path(folder)).resolve()
        campaign(asked, asked.scratch)
      finally:
        for child in faults_runs.STARTED:
          child.kill()  # of those that have ended, nothing is left
  text = table(read(asked.results), asked)
  if asked.results.resolve() == RESULTS:
    TABLE.write_text(text)
  print(text)


def campaign(asked, scratch: Path) -> None:
  """The trials that are missing, until there are none or no time is left."""
  scratch.mkdir(parents=True, exist_ok=True)
  settings(scratch)
  end = time.monotonic() + asked.budget
  for part in asked.parts.split(","):
    wanted = asked.trials or PARTS[part]
    if part == "kill":
      forms = asked.forms.split(",")
      for form in forms:
        kills(asked, scratch, form, wanted // len(forms), end)
      continue
    while time.monotonic() < end:
      done = {x["trial"] for x in read(asked.results) if x["part"] == part}
      left = [n for n in range(wanted) if n not in done]
      if not left:
        break
      inside(asked, scratch, part, left, end)


def settings(scratch: Path) -> None:
  """Those of all runs: one cache of programs, which are compiled quickly."""
  os.environ |= {
    "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "RSRC_CACHE": str(scratch / "cache"),
    "JAX_COMPILATION_CACHE_DIR": str(scratch / "cache" / "programs"),
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
  }  # fmt: skip
  (scratch / "cache" / "programs").mkdir(parents=True, exist_ok=True)


def read(path: Path) -> list[dict]:
  """The trials so far; a last line that was cut short is none."""
  found = []
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      found.append(json.loads(line))
    except ValueError:
      continue
  return found


def keep(asked, **trial) -> None:
  """Appends a trial. outcome: "survived", "refused" or "lost"."""
  with asked.results.open("a") as file:
    # No folder of a machine in a file that is committed.
    text = json.dumps(trial).replace(str(asked.scratch), "SCRATCH")
    file.write(text + "\n")
  print(json.dumps(trial), flush=True)


# Kills.


def kills(asked, scratch: Path, form: str, wanted: int, end: float) -> None:
  """Lives of runs of a form, until it has been killed so often."""
  whole = scratch / f"whole-{form}"
  if time.monotonic() > end:
    return
  if not (whole / "seconds").exists():
    shutil.rmtree(whole, ignore_errors=True)
    for _ in range(2):  # the second time nothing is compiled
      shutil.rmtree(whole, ignore_errors=True)
      begun = time.monotonic()
      codes, said = faults_runs.finish(
        faults_runs.start(form, whole), faults_runs.PATIENCE
      )
      if any(codes):
        sys.exit(f"the uninterrupted run of {form} ends with {codes}:\n{said}")
    (whole / "seconds").write_text(str(time.monotonic() - begun))
  seconds = float((whole / "seconds").read_text())
  while time.monotonic() < end:
    mine = [
      x for x in read(asked.results)
      if x["part"] == "kill" and x["form"] == form
    ]  # fmt: skip
    if len(mine) >= wanted:
      return
    number = max((x["life"] for x in mine), default=-1) + 1
    rng = random.Random(f"{asked.seed}-kill-{form}-{number}")
    limit = min(KILLS, wanted - len(mine))
    for trial in faults_runs.life(scratch, form, seconds, limit, rng):
      keep(asked, part="kill", form=form, life=number, seed=asked.seed, **trial)


# Faults inside of a process.


def inside(asked, scratch: Path, part: str, left: list[int], end: float):
  """Trials in one child process, which shares its compiled programs.

  Should the child die, the trial that it was at is lost, and the others are
  left to the next one.
  """
  seconds = min(end - time.monotonic(), 1e6)
  command = [
    sys.executable, str(HERE / "faults_inside.py"), part, str(asked.seed),
    str(scratch), str(seconds), ",".join(map(str, left)),
  ]  # fmt: skip
  if part == "disk":
    command = ["unshare", "-rm", *command]
  child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  faults_runs.STARTED.append(child)
  at = None
  for line in child.stdout:
    if not line.startswith("{"):
      continue
    said = json.loads(line)
    if "begin" in said:
      at = said["begin"]
      continue
    keep(asked, part=part, seed=asked.seed, **said)
    at = None
  code = child.wait()
  if at is not None:
    keep(
      asked, part=part, seed=asked.seed, trial=at, outcome="lost",
      form="process", seconds=0.0, why=f"the process ended with {code}",
    )  # fmt: skip
  elif code:
    sys.exit(f"the child of {part} ended with {code} between two trials")


# The table.


def table(trials: list[dict], asked) -> str:
  """faults.md."""
  lines = [
    "# What a run survives", "",
    "Written by `./.venv/bin/python benchmarks/faults.py` (seed "
    f"{asked.seed}), which says what each part does.", machine(), "",
    "| part | form | trials | survived | refused | lost | median s |",
    "|---|---|---:|---:|---:|---:|---:|",
  ]  # fmt: skip
  for part in (x for x in PARTS if x != "cost"):
    mine = [x for x in trials if x["part"] == part]
    for form in dict.fromkeys(x["form"] for x in mine):
      lines.append(row(part, form, [x for x in mine if x["form"] == form]))
    if mine:
      lines.append(row(f"**{part}**", "all", mine))
  kill = [x for x in trials if x["part"] == "kill"]
  lines += [
    "",
    "Survived: the run ended, and its parameters, carry, metrics, samples and "
    "summary equal those of a run that was left alone, bit by bit, costs and "
    "times aside; of damage: the newest checkpoint was read as it was saved, "
    "or the one before it with a warning that names both. Refused: nothing "
    "was read, and warnings name every checkpoint. Lost: anything else. "
    "Seconds: until the kill; else of the whole trial.",
  ]
  if kill:
    lives = len({(x["form"], x["life"]) for x in kill})
    again = statistics.median(x["restart"] for x in kill)
    lines += [
      "",
      f"Kills fell on {lives} lives, up to {KILLS} on each: a run is killed, "
      "started again and killed again, then left to its end and compared. "
      f"Median seconds of the start that was left alone: {again:.1f}. What "
      "the run was at: " + counted(x["moment"] for x in kill) + ".",
    ]
  for part in ("damage", "disk", "nan"):
    said = [x["note"] for x in trials if x["part"] == part and "note" in x]
    if said:
      lines += ["", f"{part}: {counted(said)}."]
  for x in (x for x in trials if x["part"] == "cost"):
    lines += [
      "",
      f"Digests and the check that parameters are finite, {x['form']}: "
      f"{x['save']:.3f} s of a save of {x['whole_save']:.2f} s "
      f"({x['save'] / (x['whole_save'] - x['save']):+.1%}), and "
      f"{x['restore']:.3f} s of a restore of {x['whole_restore']:.2f} s "
      f"({x['restore'] / (x['whole_restore'] - x['restore']):+.1%}); medians.",
    ]
  return "\n".join(lines) + "\n"


def row(part: str, form: str, trials: list[dict]) -> str:
  """A line of the table."""
  by = Counter(x["outcome"] for x in trials)
  seconds = statistics.median(x["seconds"] for x in trials)
  return (
    f"| {part} | {form} | {len(trials)} | {by['survived']} | {by['refused']} | "
    f"{by['lost']} | {seconds:.2f} |"
  )


def counted(words) -> str:
  """Words and how often each came."""
  return ", ".join(f"{word} ({n})" for word, n in Counter(words).most_common())


def machine() -> str:
  """What it ran on, in words."""
  from importlib.metadata import version

  kind = platform.machine()
  for line in Path("/proc/cpuinfo").read_text().splitlines():
    if line.startswith("model name"):
      kind = line.split(":")[1].strip()
      break
  return (
    f"Python {platform.python_version()}, jax {version('jax')}, orbax "
    f"{version('orbax-checkpoint')}, {kind}, one core."
  )


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  main()
