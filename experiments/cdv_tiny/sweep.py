"""The default, and its ablations.

  ./tools/sweep --config=experiments/cdv_tiny/sweep.py --into=cdv_tiny \\
      --seeds=0,1,2

--variants=default,unforced runs some of them.
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load

ROOT = Path(__file__).resolve().parents[2]


def get_config() -> ml_collections.ConfigDict:
  config = load(ROOT / "configs" / "tiny.py")
  config.patterns.cdv.imitate = False  # cdv's default, named to be overridden
  return config


def get_sweep():
  """What differs from configs/tiny.py; every other setting is its own."""
  code = {"only": "code"}
  yield {"name": "default"}
  yield code | {"name": "unforced", "curriculum.hidden": 0.0}
  # Rewards differ by about 0.06 within a group: the same step, undivided.
  yield code | {
    "name": "mean_only", "normalize_std": False, "loss.weights.C": 16.0,
    "loss.entropy_bonus.C": 0.015,
  }  # fmt: skip
  yield code | {
    "name": "expert_iteration", "patterns.cdv.imitate": True,
    "loss.weights.C": 0.0,
  }  # fmt: skip
  # D's decodes differ only to a V that hears them.
  yield code | {
    "name": "d_by_grpo", "patterns.cdv.lessons": 0, "patterns.cdv.decodes": 2,
    "verifier.slots": 1.0,
  }  # fmt: skip
  yield code | {
    "name": "d_by_both", "patterns.cdv.decodes": 2, "verifier.slots": 1.0
  }  # fmt: skip
