"""Small runs of benchmarks/faults.py: started, killed, and compared."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
GRACE = 8.0  # seconds in which the other process of a job ends by itself
STARTED = []  # child processes
PATIENCE = 900  # seconds; compiling waits for whatever else runs
SMALL = {
  "steps": 8, "batch_size": 8, "log_every": 3, "data.sentences": 400,
  "data.heldout": 32, "model.width": 16, "model.depth": 1, "model.hidden": 24,
  "pretrain.steps": 6, "pretrain.warmup_from": 2, "pretrain.batch_size": 8,
  "patterns.cdv.group": 4, "eval.every": 4, "eval.rows": 16,
  "eval.test_rows": 24, "eval.batch_size": 16, "eval.samples": 3,
  "checkpoint.every": 2, "ledger.service_seconds": 0.02,
}  # fmt: skip
PLATEAU = {
  "curriculum.every": 1, "curriculum.window": 3, "curriculum.look": 1,
  "curriculum.max_steps": 3,
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
