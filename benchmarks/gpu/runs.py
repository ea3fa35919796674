"""Whole runs through the command line: the default, and one on text.

This process starts no jax on the card, so that the run has all of it.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.gpu.run import ROOT, clipped, fingerprint
from benchmarks.gpu.table import ARMS

# The services are timed more briefly; no number of the run depends on it.
BRIEF = ["--config.ledger.service_seconds=0.2"]
TEXT = {
  "data.path": "stdlib",
  "steps": 60, "pretrain.steps": 60, "pretrain.warmup_from": 30,
  "only": "code", "eval.every": 60, "eval.test_rows": 256,
  "curriculum.steps": 40, "curriculum.explore_steps": 60,
}  # fmt: skip
# A toy on text: beside tests/helpers/runs.py, what a corpus of text needs.
TEXT_TOY = {
  "data.path": "stdlib",
  "steps": 8, "pretrain.steps": 6, "pretrain.warmup_from": 2,
  "pretrain.batch_size": 8, "batch_size": 8, "log_every": 3, "eval.every": 8,
  "eval.rows": 16, "eval.test_rows": 16, "eval.batch_size": 16,
  "eval.samples": 3, "model.width": 16, "model.depth": 1, "model.hidden": 24,
  "patterns.cdv.group": 4, "checkpoint.every": 8, "data.vocab_size": 400,
  "only": "code", "ledger.service_seconds": 0.02, "eval.budgets": (4,),
}  # fmt: skip


def default(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  flags = BRIEF
  if toy:
    from tests.helpers.runs import SHRUNK

    flags = settings(SHRUNK)
  workdir = folder(out, "default")
  kept = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
  before = sum(1 for _ in kept.glob("*-cache"))
  yield from cells({"programs in the cache before": before})
  train("configs/tiny.py", workdir, flags)
  summary = json.loads((workdir / "summary.json").read_text())
  yield from cells(margin(summary))
  yield from cells(pace(summary, workdir, ARMS))
  forget(workdir)


def text(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  workdir = folder(out, "text")
  flags = settings(TEXT_TOY if toy else TEXT)
  train("configs/cdv_text.py", workdir, [*BRIEF, *flags])
  summary = json.loads((workdir / "summary.json").read_text())
  loss = summary["heldout"]["code"]["nll_bits"]
  yield from cells({"code, bits of loss": loss})
  yield from cells(pace(summary, workdir, ("base", "code")))
  forget(workdir)


def settings(changes: dict) -> list[str]:
  return [f"--config.{name}={value}" for name, value in changes.items()]


def cells(values: dict) -> Iterator[tuple[str, dict]]:
  for row, value in values.items():
    yield row, {"value": value}


def folder(out: Path, name: str) -> Path:
  """Of a run: a cut run of the same files goes on, an ended one starts anew."""
  found = out / f"run_{name}_{fingerprint()}"
  if (found / "summary.json").is_file():
    shutil.rmtree(found)
  return found


def train(config: str, workdir: Path, flags: Sequence[str]) -> None:
  """A run to its end."""
  call([
    "-m", "rsrc_jax.main", f"--config={ROOT / config}",
    f"--workdir={workdir}", *flags,
  ])  # fmt: skip


def call(arguments: Sequence[str]) -> None:
  """Python with these arguments; what it prints goes to the step's log.

  Raises:
    RuntimeError: it failed, with the last line that it printed.
  """
  process = subprocess.Popen(
    [sys.executable, *arguments], cwd=ROOT, env=dict(os.environ), text=True,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
  )  # fmt: skip
  last = ""
  for line in process.stdout:
    print(line, end="", flush=True)
    last = line.strip() or last
  if process.wait():
    raise RuntimeError(clipped(f"{last} (status {process.returncode})"))


def margin(summary: dict) -> dict:
  """Bits that the code conveys, against the best English arm."""
  heldout = summary["heldout"]
  bits = {k: x["bits_conveyed"] for k, x in heldout["english"].items()}
  best, code = max(bits, key=bits.get), heldout["code"]["bits_conveyed"]
  return {
    "code, bits": code,
    "best English arm": best,
    "best English arm, bits": bits[best],
    "margin, bits": code - bits[best],
  }


def pace(summary: dict, workdir: Path, arms: Sequence[str]) -> dict:
  """Seconds of a run, those spent on compiling, and steps a second by arm."""
  phases = summary["ledger"]["phases"]
  compiling = sum(x["compile"]["seconds"] for x in phases.values()
                  if "compile" in x)  # fmt: skip
  found = {"seconds": summary["seconds"], "compiling, s": compiling}
  rates = steps_a_second(workdir)
  return found | {f"{x}, steps a second": rates.get(x) for x in arms}


def steps_a_second(workdir: Path) -> dict[str, float]:
  """By arm: the median over the windows of the log; compiling is not in it."""
  rates: dict[str, list[float]] = {}
  for line in (workdir / "metrics.jsonl").read_text().splitlines():
    found = json.loads(line)
    if found.get("steps_per_second"):
      rates.setdefault(found["phase"], []).append(found["steps_per_second"])
  return {arm: statistics.median(x) for arm, x in rates.items()}


def forget(workdir: Path) -> None:
  """Checkpoints of a run that ended; its summary and report stay."""
  shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
