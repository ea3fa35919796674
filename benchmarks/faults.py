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
import socket
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
RESULTS, TABLE = HERE / "faults_results.jsonl", HERE / "faults.md"
PARTS = {"kill": 100, "damage": 200, "disk": 40, "clock": 20, "nan": 30,
         "cost": 2}  # fmt: skip
KILLS = 6  # at most, in the life of one run
GRACE = 8.0  # seconds in which the other process of a job ends by itself
STARTED = []  # child processes
PATIENCE = 120.0  # seconds; a hang is a loss too
SMALL = {
  "steps": 8, "batch_size": 8, "log_every": 3, "data.sentences": 400,
  "data.heldout": 32, "model.width": 16, "model.depth": 1, "model.hidden": 24,
  "pretrain.steps": 6, "pretrain.warmup_from": 2, "pretrain.batch_size": 8,
  "patterns.cdv.group": 4, "eval.every": 4, "eval.rows": 16,
  "eval.test_rows": 24, "eval.batch_size": 16, "eval.samples": 3,
  "checkpoint.every": 2, "ledger.service_seconds": 0.02,
}  # fmt: skip
PLATEAU = {
  "curriculum.every": 2, "curriculum.patience": 1, "curriculum.settle": 0,
  "curriculum.min_steps": 1, "curriculum.max_steps": 2,
}  # fmt: skip
# The forms of the kills: a config, and what makes it small.
FORMS = {
  "default": ("tiny", {**SMALL, "only": "code"}),
  "gated": ("random_vocabulary", {
    **SMALL, **PLATEAU, "budget": 4, "budgets": (2, 3, 4), "only": "F",
    "eval.budgets": (3,), "curriculum.levels": 4,
  }),
  "mixture": ("mixed", {
    **SMALL, **PLATEAU, "only": "mixed_all", "steps": 14,
    "patterns.qa.group": 4, "patterns.qa.each": 2, "patterns.ccv.buffer": 16,
    "patterns.ccv.parents": 4, "patterns.ccv.group": 4,
    "patterns.ccv.fresh.group": 4,
  }),
  "recursive": ("trm", {
    "only": "dis_random,final_target", "data.side": 4, "data.train": 12,
    "data.heldout": 4, "model.width": 16, "model.hidden": 16,
    "model.cell_hidden": 16, "batch_size": 8, "log_every": 3, "eval.every": 4,
    "eval.rows": 4, "eval.batch_size": 4, "eval.causal_rows": 3,
    "eval.samples": 1, "checkpoint.every": 2, "arms.final_target.steps": 8,
    "arms.final_target.supersteps": 3, "arms.dis_random.steps": 8,
    "arms.dis_random.supersteps": 3,
  }),
  "processes": ("tiny", {
    **SMALL, "only": "code", "mesh.data": -1, "batch_size": 16,
  }),
}  # fmt: skip


def main() -> None:
  """Does what is not done yet of the parts that are asked for."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--parts", default=",".join(PARTS))
  flags.add_argument("--forms", default=",".join(FORMS), help="of the kills")
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
        campaign(asked, (asked.scratch or Path(folder)).resolve())
      finally:
        for child in STARTED:
          child.kill()  # of those that have ended, nothing is left
  text = table(read(asked.results), asked)
  if asked.results == RESULTS:
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
    file.write(json.dumps(trial) + "\n")
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
      codes, said = finish(start(form, whole), PATIENCE)
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
    for trial in life(scratch, form, seconds, limit, rng):
      keep(asked, part="kill", form=form, life=number, seed=asked.seed, **trial)


def life(scratch: Path, form: str, seconds: float, limit: int, rng) -> list:
  """A run that is killed up to `limit` times, and goes on to its end.

  Each moment is uniform over the seconds of an uninterrupted run, from the
  start of the process. A run that ends before that is not killed any more.
  """
  workdir, found = scratch / f"life-{form}", []
  shutil.rmtree(workdir, ignore_errors=True)
  while len(found) < limit:
    children, delay = start(form, workdir), rng.uniform(0, seconds)
    begun, victims = time.monotonic(), rng.choice(([0], [1], [0, 1]))
    while time.monotonic() < begun + delay and any(
      x.poll() is None for x in children
    ):
      time.sleep(0.005)
    if all(x.poll() is not None for x in children):
      break  # it came to its end, or failed: the next start tells which
    for child in (
      children if len(children) == 1 else (children[i] for i in victims)
    ):
      child.kill()
    finish(children, GRACE)
    found.append({"seconds": round(delay, 3), "moment": moment(workdir)})
  begun = time.monotonic()
  codes, said = finish(start(form, workdir), PATIENCE)
  wrong = differences(workdir, scratch / f"whole-{form}")
  if any(codes):
    wrong = [f"ends with {codes}: {said[-400:]}"]
  last = {"restart": round(time.monotonic() - begun, 3)}
  last |= {"outcome": "lost" if wrong else "survived"}
  if wrong:
    last["why"] = wrong[:5]
    shutil.copytree(workdir, f"{workdir}-lost-{time.time():.0f}")
  return [kill | last for kill in found]


def start(form: str, workdir: Path) -> list[subprocess.Popen]:
  """The command of a form; two processes for the form of that name."""
  name, changes = FORMS[form]
  command = [
    sys.executable, "-m", "rsrc_jax.main", f"--workdir={workdir}",
    f"--config={ROOT}/configs/{name}.py",
    *(f"--config.{k}={v}" for k, v in changes.items()),
  ]  # fmt: skip
  jobs, devices = [[]], 1
  if form == "processes":
    with socket.socket() as free:
      free.bind(("localhost", 0))
      port, devices = free.getsockname()[1], 2
    jobs = [
      [f"--coordinator=localhost:{port}", "--processes=2", f"--process={i}"]
      for i in range(2)
    ]
  count = f"--xla_force_host_platform_device_count={devices}"
  children = [
    subprocess.Popen(
      [*command, *job], cwd=ROOT, env={**os.environ, "XLA_FLAGS": count},
      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
      errors="replace",
    )
    for job in jobs
  ]  # fmt: skip
  STARTED.extend(children)
  return children


def finish(children, patience: float) -> tuple[list[int], str]:
  """Waits, then kills. -> exit codes, and what the first one said."""
  end, said = time.monotonic() + patience, []
  for child in children:
    try:
      said.append(child.communicate(timeout=max(0, end - time.monotonic()))[1])
    except subprocess.TimeoutExpired:
      child.kill()
      said.append(child.communicate()[1])
  return [child.returncode for child in children], said[0]


def moment(workdir: Path) -> str:
  """What a killed run was at, as its folder tells."""
  if (workdir / "report.html").exists():
    return "after the report"
  if (workdir / "summary.json").exists():
    return "report"
  if any(workdir.glob("checkpoints/*/*tmp*")):
    return "checkpoint being written"
  saved = {x.parent.name for x in workdir.glob("checkpoints/*/[0-9]*")}
  return f"{len(saved)} stages begun" if saved else "before a checkpoint"


def differences(a: Path, b: Path) -> list[str]:
  """What differs of two runs that have ended; times and costs may."""
  from helpers.runs import final_state

  if not all((x / "summary.json").exists() for x in (a, b)):
    return ["no summary"]
  found = []
  if not (a / "report.html").exists():
    found.append("no report")
  for name in ("summary.json", "metrics.jsonl", "samples.jsonl"):
    if told(a / name) != told(b / name):
      found.append(name)
  for folder in sorted((b / "checkpoints").iterdir()):
    x, y = (final_state(run, folder.name) for run in (a, b))
    same = x.keys() == y.keys()
    for leaf in y if same else ():
      same &= x[leaf].dtype == y[leaf].dtype
      same &= bytes_of(x[leaf]) == bytes_of(y[leaf])
    found += [] if same else [f"state of {folder.name}"]
  return found


def bytes_of(x) -> bytes:
  """The bits of an array: NaN equals NaN, and -0 is not 0."""
  import numpy as np

  return np.asarray(x).tobytes()


COSTS = {"seconds", "joules", "flops", "steps_per_second", "ledger", "rsrc",
         "trajectory", "made_with"}  # fmt: skip


def told(path: Path) -> str:
  """JSON, or JSON lines, without what it took."""

  def plain(x):
    if isinstance(x, dict):
      return {k: plain(v) for k, v in x.items() if k not in COSTS}
    return [plain(y) for y in x] if isinstance(x, list) else x

  text = path.read_text()
  values = text.splitlines() if path.suffix == ".jsonl" else [text]
  return json.dumps([plain(json.loads(x)) for x in values], sort_keys=True)


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
  STARTED.append(child)
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
  for part in ("disk", "nan", "clock"):
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
