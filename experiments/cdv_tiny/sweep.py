"""Runs the experiment: every seed of the default, then its ablations.

  ./.venv/bin/python experiments/cdv_tiny/sweep.py
  ./.venv/bin/python experiments/cdv_tiny/sweep.py --seeds=0 --variants=default

Each run is a folder under runs/cdv_tiny; a run that is there is resumed or left
alone, so the command can be repeated. Summaries go to results/.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from absl import app, flags

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of every variant.")
VARIANTS = flags.DEFINE_list("variants", None, "Some of them; default: all.")

# What differs from configs/tiny.py, by name; every other setting is its own.
ONLY = "--config.only=code"
FLAGS = {
  "default": [],
  "unforced": [ONLY, "--config.curriculum.hidden=0.0"],
  # Rewards differ by about 0.06 within a group: the same step, undivided.
  "mean_only": [
    ONLY, "--config.normalize_std=False", "--config.loss.weights.C=16.0",
    "--config.loss.entropy_bonus.C=0.015",
  ],
  "expert_iteration": [
    ONLY, "--config.patterns.cdv.imitate=True", "--config.loss.weights.C=0.0",
  ],
  # D's decodes differ only to a V that hears them.
  "d_by_grpo": [
    ONLY, "--config.patterns.cdv.lessons=0", "--config.patterns.cdv.decodes=2",
    "--config.verifier.slots=1.0",
  ],
  "d_by_both": [
    ONLY, "--config.patterns.cdv.decodes=2", "--config.verifier.slots=1.0",
  ],
}  # fmt: skip


def main(argv):
  del argv
  for variant in VARIANTS.value or FLAGS:
    for seed in SEEDS.value:
      name = f"{variant}-{seed}"
      workdir = ROOT / "runs" / "cdv_tiny" / name
      print(f"== {name}", flush=True)
      subprocess.run(
        [sys.executable, "-m", "rsrc_jax.main", f"--config.seed={seed}",
         f"--workdir={workdir}", *FLAGS[variant]],
        cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
      )  # fmt: skip
      results = HERE / "results"
      results.mkdir(exist_ok=True)
      shutil.copy(workdir / "summary.json", results / f"{name}.json")


if __name__ == "__main__":
  app.run(main)
