"""Runs a config over seeds and stores the summaries beside its experiment.

  ./.venv/bin/python experiments/sweep.py --config=qa
  ./.venv/bin/python experiments/sweep.py --config=ccv --seeds=3,4 --jobs=2

For configs whose experiment is a folder of the same name or, with --into, of
another. A run is a folder under runs/; one that is there is resumed, or left
alone where it has ended. Results: experiments/NAME/results/CONFIG-SEED.json.
"""

import concurrent.futures
import os
import queue
import shutil
import subprocess
import sys
from pathlib import Path

from absl import app, flags

ROOT = Path(__file__).resolve().parent.parent

CONFIG = flags.DEFINE_string("config", None, "Of configs/, without the .py.")
INTO = flags.DEFINE_string("into", None, "The experiment; default: --config.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds to run.")
JOBS = flags.DEFINE_integer("jobs", 1, "Runs at a time, each on its own core.")
flags.mark_flag_as_required("config")


def main(argv):
  sys.path.insert(0, str(ROOT))
  from rsrc_jax.runtime import cache

  env = {**os.environ, "PYTHONPATH": str(ROOT)}
  cache.keep_programs(env)  # seeds run the same programs
  cores = queue.SimpleQueue()
  for number in range(JOBS.value):
    cores.put(number % (os.cpu_count() or 1))
  with concurrent.futures.ThreadPoolExecutor(JOBS.value) as pool:
    run = lambda seed: one(seed, argv[1:], env, cores)
    codes = list(pool.map(run, SEEDS.value))
  failed = [s for s, code in zip(SEEDS.value, codes, strict=True) if code]
  if failed:
    raise SystemExit(f"seeds {', '.join(failed)} failed; see their output.")


def one(seed: str, more: list[str], env: dict, cores: queue.SimpleQueue) -> int:
  """One run in a process of its own; its exit status."""
  workdir = ROOT / "runs" / CONFIG.value / seed
  command = [
    sys.executable, "-m", "rsrc_jax.main", f"--workdir={workdir}",
    f"--config=configs/{CONFIG.value}.py", f"--config.seed={seed}", *more,
  ]  # fmt: skip
  core, pin = cores.get(), None
  if hasattr(os, "sched_setaffinity") and JOBS.value > 1:
    pin = lambda: os.sched_setaffinity(0, {core})
  print(f"== {CONFIG.value} seed {seed}", flush=True)
  try:
    code = subprocess.run(command, cwd=ROOT, env=env, preexec_fn=pin).returncode
  finally:
    cores.put(core)
  if code == 0:
    results = ROOT / "experiments" / (INTO.value or CONFIG.value) / "results"
    results.mkdir(parents=True, exist_ok=True)
    stored = results / f"{CONFIG.value}-{seed}.json"
    shutil.copy(workdir / "summary.json", stored)
  return code


if __name__ == "__main__":
  app.run(main)
