"""Runs the experiment: trains every arm of every seed, then examines them.

  ./.venv/bin/python experiments/random_vocabulary/run.py            (overnight)
  ./.venv/bin/python experiments/random_vocabulary/run.py --quick    (minutes)
  ./.venv/bin/python experiments/random_vocabulary/run.py --tier=text --seeds=0

One process a seed, `--jobs` at a time, each on a core of its own. A run that is
there is resumed or left alone, so the command can be repeated after anything.
Results go to results/TIER-SEED.json, from which analyse.py makes the tables,
the figures and the verdicts; --quick keeps to itself, in runs/.
"""

import concurrent.futures
import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from absl import app, flags

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TIERS = {
  "facts": "configs/random_vocabulary.py",
  "text": "configs/random_vocabulary_text.py",
  "append": "configs/append_hack.py",
  "use": "configs/injected_use.py",
}

TIER = flags.DEFINE_enum("tier", "facts", list(TIERS), "What to compress.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds.")
ARMS = flags.DEFINE_string("arms", "", "Some arms, comma-separated; or all.")
JOBS = flags.DEFINE_integer("jobs", 2, "Seeds at a time.")
QUICK = flags.DEFINE_bool("quick", False, "Shrunk: does everything work?")
CHILD = flags.DEFINE_bool("child", False, "Run one seed in this process.")


def main(argv):
  del argv
  if CHILD.value:
    return one(TIER.value, int(SEEDS.value[0]))
  with concurrent.futures.ThreadPoolExecutor(JOBS.value) as pool:
    jobs = [
      pool.submit(child, seed, number) for number, seed in enumerate(SEEDS.value)
    ]
    failed = [seed for seed, job in zip(SEEDS.value, jobs) if job.result()]
  if failed:
    raise SystemExit(f"seeds {', '.join(failed)} failed; see their output.")


def child(seed: str, number: int) -> int:
  """One seed in a process of its own, pinned where the system can."""
  command = [sys.executable, __file__, "--child", f"--seeds={seed}",
             f"--tier={TIER.value}", f"--arms={ARMS.value}",
             f"--quick={QUICK.value}"]  # fmt: skip
  cores = os.cpu_count() or 1
  pin = None
  if hasattr(os, "sched_setaffinity") and JOBS.value > 1:
    pin = lambda: os.sched_setaffinity(0, {number % min(JOBS.value, cores)})
  env = {**os.environ, "PYTHONPATH": str(ROOT)}
  return subprocess.run(command, cwd=ROOT, env=env, preexec_fn=pin).returncode


def one(tier: str, seed: int) -> None:
  sys.path.insert(0, str(HERE))
  import examine

  from rsrc_jax import train

  name = f"{tier}-{seed}" + ("-quick" if QUICK.value else "")
  workdir = ROOT / "runs" / "random_vocabulary" / name
  config = load(TIERS[tier])
  config.seed, config.only = seed, ARMS.value
  if QUICK.value:
    shrink(config)
  print(f"== {name}", flush=True)
  summary = train.train(config, workdir)
  found = examine.examine(config, workdir)
  results = workdir if QUICK.value else HERE / "results"
  results.mkdir(exist_ok=True)
  for stem, value in ((name, found), (f"{name}-run", summary)):
    # Compressed: per-document scores are what the bootstrap needs.
    with gzip.GzipFile(results / f"{stem}.json.gz", "wb", mtime=0) as file:
      file.write(json.dumps(value, ensure_ascii=False).encode())


def shrink(config) -> None:
  """Everything once, nothing learnt."""
  config.steps, config.pretrain.steps, config.log_every = 24, 20, 10
  config.pretrain.batch_size, config.batch_size = 16, 8
  config.patterns.cdv.group = 4
  config.eval.test_rows = config.eval.rows = config.eval.batch_size = 64
  config.curriculum.every, config.curriculum.min_steps = 2, 2
  config.curriculum.max_steps = 6
  config.ledger.service_seconds = 0.02
  if config.data.source == "facts":
    config.data.sentences, config.data.heldout = 4_000, 600


def load(path: str):
  spec = importlib.util.spec_from_file_location("config", ROOT / path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


if __name__ == "__main__":
  app.run(main)
