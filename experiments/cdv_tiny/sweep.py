"""The default, and its ablations.

  ./tools/sweep run --config=experiments/cdv_tiny/sweep.py --into=cdv_tiny \\
      --seeds=0,1,2

--variants=default,unforced runs some of them.
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load
from rsrc_jax.sweep.grid import chain, product

ROOT = Path(__file__).resolve().parents[2]


def get_config() -> ml_collections.ConfigDict:
  config = load(ROOT / "configs" / "tiny.py")
  config.patterns.cdv.imitate = False  # cdv's default, named to be overridden
  return config


def get_sweep():
  """What differs from configs/tiny.py; every other setting is its own."""
  return chain([{"name": "default"}], product({"only": ("code",)}, ABLATIONS))


ABLATIONS = [
  {"name": "unforced", "curriculum.hidden": 0.0},
  # Rewards differ by about 0.06 within a group: the same step, undivided.
  {
    "name": "mean_only", "normalize_std": False, "loss.weights.C": 16.0,
    "loss.entropy_bonus.C": 0.015,
  },
  {
    "name": "expert_iteration", "patterns.cdv.imitate": True,
    "loss.weights.C": 0.0,
  },
  # The default's D learns by both: by GRPO on its own group, and by lessons.
  {"name": "d_by_likelihood", "patterns.cdv.taught": 0},
  {"name": "d_by_grpo", "patterns.cdv.lessons": 0},
  {"name": "lessons_4", "patterns.cdv.lessons": 4},
  # V's word beside the likelihood of s under D, and that likelihood alone.
  {"name": "shaped", "shaping.gain": 1.0},
  {
    "name": "shaping_alone", "verifier.edit": 0.0, "shaping.gain": 1.0,
    "patterns.cdv.taught": 0,
  },
]  # fmt: skip
