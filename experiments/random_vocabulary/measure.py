"""Measures the finished runs of the experiment and stores what is found.

  ./.venv/bin/python experiments/random_vocabulary/measure.py
  ./.venv/bin/python experiments/random_vocabulary/measure.py \\
      --sweeps=runs/random_vocabulary-facts-quick --results=runs/quick

Results go to results/TIER-kBUDGET-SEED.json.gz and the run's summary beside it,
to TIER-kBUDGET-SEED-run.json.gz. What is stored is left alone: remove a file to
have it made again.
"""

import gzip
import json
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from experiments.random_vocabulary import measure_arms, sweep
from rsrc_jax import runs
from rsrc_jax.runtime import cache
from rsrc_jax.sweep import collect

ROOT = sweep.ROOT
SWEEPS = flags.DEFINE_list(
  "sweeps",
  [str(ROOT / "runs" / f"random_vocabulary-{tier}") for tier in sweep.TIERS],
  "Folders of sweeps; those that are not there are passed over.",
)
RESULTS = flags.DEFINE_string(
  "results", str(sweep.HERE / "results"), "Where the results are stored."
)


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)  # orbax is talkative
  cache.keep_programs()
  try:
    ended = collect.ended(SWEEPS.value)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from None
  for run in ended:
    measured(run.name, run.workdir, Path(RESULTS.value))


def measured(name: str, workdir: Path, results: Path) -> None:
  """Stores a run's summary, and what its arms can do."""
  paths = [results / f"{stem}.json.gz" for stem in (name, f"{name}-run")]
  if all(path.exists() for path in paths):
    print(f"== {name}: stored already", flush=True)
    return
  print(f"== {name}", flush=True)
  run = runs.open(workdir)
  write(paths[0], measure_arms.measure(run))
  write(paths[1], run.summary)


def write(path: Path, value: Any) -> None:
  """Compressed: per-document scores are what the bootstrap needs."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with gzip.GzipFile(path, "wb", mtime=0) as file:
    file.write(json.dumps(value, ensure_ascii=False).encode())


if __name__ == "__main__":
  app.run(main)
