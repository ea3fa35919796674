"""Runs the experiment: trains every arm of every seed, then measures them.

  ./.venv/bin/python experiments/random_vocabulary/run.py --tier=all
  ./.venv/bin/python experiments/random_vocabulary/run.py --tier=all --quick
  ./.venv/bin/python experiments/random_vocabulary/run.py --tier=text --seeds=0

One process a seed and budget, `--jobs` at a time, each on a core of its own,
with its output.log in its folder under runs/random_vocabulary. A run that is
there is resumed, what is stored is left alone: repeat the command after
anything, and remove a stored file to have it made again.
Results go to results/TIER-kBUDGET-SEED.json.gz, from which analyse.py makes the
tables, the figures and the verdicts. --tier=all runs every tier that a CPU can,
then crossplay.py and analyse.py. --quick keeps to itself, in runs/.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging

from rsrc_jax import sweep
from rsrc_jax.runtime.configs import load

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The config of a tier, the budgets that it is trained at, one policy each, and
# the seeds: of facts as they are registered, of the others by their cost.
REGISTERED = json.loads((HERE / "registration.json").read_text())
TIERS = {
  "facts": ("configs/random_vocabulary.py", REGISTERED["budgets"],
            REGISTERED["seeds"]),
  "text": ("configs/random_vocabulary_text.py", (8,), (1, 2, 3)),
  "large": ("configs/random_vocabulary_large.py", (16,), (0, 1, 2)),
  "smollm2": ("configs/random_vocabulary_smollm2.py", (8,), (0, 1, 2)),
  "append": ("configs/append_hack.py", (8,), (0, 1, 2)),
  "cold": ("configs/append_cold.py", (8,), (0, 1, 2)),
  "use": ("configs/injected_use.py", (4,), (0, 1, 2)),
}  # fmt: skip

# On two cores; the order in which they are run.
ON_CPU = ("facts", "append", "cold", "use", "text")
# On text, and away from three tokens, the arms that the contrasts need.
FEWER = "E1,E2,E3,E3o,E4,E5,B1,B2,B5,B6,F,X1"

TIER = flags.DEFINE_enum(
  "tier", "facts", [*TIERS, "all"], "What to compress; all: on a CPU."
)
SEEDS = flags.DEFINE_list("seeds", [], "Seeds; default: the tier's.")
ARMS = flags.DEFINE_string("arms", "", "Some arms, comma-separated; or all.")
BUDGETS = flags.DEFINE_list(
  "budgets", [], "Tokens a code; default: the tier's."
)
JOBS = flags.DEFINE_integer("jobs", 2, "Seeds at a time.")
QUICK = flags.DEFINE_bool("quick", False, "Shrunk: does everything work?")
CHILD = flags.DEFINE_bool("child", False, "Run one seed in this process.")


def main(argv):
  del argv
  absl_logging.set_verbosity(absl_logging.WARNING)  # orbax is talkative
  asked = [int(k) for k in BUDGETS.value]
  if CHILD.value:
    return one(TIER.value, asked[0], int(SEEDS.value[0]))
  # All seeds of a budget before the next: what is there can be analysed.
  jobs = [
    job(tier, k, seed)
    for tier in (ON_CPU if TIER.value == "all" else (TIER.value,))
    for k in asked or TIERS[tier][1]
    for seed in SEEDS.value or TIERS[tier][2]
  ]
  sweep.check(jobs, sweep.run(jobs, JOBS.value))
  if TIER.value == "all" and not QUICK.value:
    for script in ("crossplay.py", "analyse.py"):
      subprocess.run([sys.executable, HERE / script], cwd=ROOT, check=True)


def job(tier: str, k: int, seed: int | str) -> sweep.Job:
  """One run and what is measured of it, by this script as a child."""
  fewer = tier == "text" or (tier == "facts" and k != 3)
  arms = ARMS.value or (FEWER if fewer else "")
  command = [sys.executable, __file__, "--child", f"--seeds={seed}",
             f"--tier={tier}", f"--arms={arms}",
             f"--budgets={k}", f"--quick={QUICK.value}"]  # fmt: skip
  name = name_of(tier, k, seed)
  return sweep.Job(name, command, workdir_of(name))


def name_of(tier: str, k: int, seed: int | str) -> str:
  return f"{tier}-k{k}-{seed}" + ("-quick" if QUICK.value else "")


def workdir_of(name: str) -> Path:
  return ROOT / "runs" / "random_vocabulary" / name


def one(tier: str, k: int, seed: int) -> None:
  from experiments.random_vocabulary import measure_arms
  from rsrc_jax import runs, train

  name = name_of(tier, k, seed)
  workdir = workdir_of(name)
  config = load(ROOT / TIERS[tier][0])
  config.seed, config.only, config.budget = seed, ARMS.value, k
  config.eval.budgets = (k,)
  config.augment.seed += seed  # the injected ids are drawn anew, too
  if QUICK.value:
    shrink(config)
  results = workdir if QUICK.value else HERE / "results"
  paths = [results / f"{stem}.json.gz" for stem in (name, f"{name}-run")]
  if all(path.exists() for path in paths):
    print(f"== {name}: stored already", flush=True)
    return
  print(f"== {name}", flush=True)
  summary = train.train(config, workdir)
  found = measure_arms.measure(runs.open(workdir))
  results.mkdir(exist_ok=True)
  for path, value in zip(paths, (found, summary), strict=True):
    # Compressed: per-document scores are what the bootstrap needs.
    with gzip.GzipFile(path, "wb", mtime=0) as file:
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


if __name__ == "__main__":
  app.run(main)
