"""The arms of configs/asked_ids.py over seeds.

  ./tools/sweep run --config=experiments/asked_ids/sweep.py --into=asked_ids

table.py prints what was found.
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load
from rsrc_jax.sweep.grid import zipped

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)


def get_config() -> ml_collections.ConfigDict:
  """That of configs/asked_ids.py."""
  return load(ROOT / "configs" / "asked_ids.py")


def get_sweep():
  """All arms of a seed in a run, whose seed also draws what is injected."""
  return zipped({"name": ("asked_ids",) * len(SEEDS), "seed": SEEDS})
