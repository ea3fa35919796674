"""Policies of equal FLOPs and unequal recursion.

  ./tools/sweep run --config=experiments/policy_recursion/sweep.py \\
      --seeds=0,1,2

sweep.py:reinject is a further policy. measure.py reads the loops of the
finished runs.
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load
from rsrc_jax.sweep.grid import zipped

ROOT = Path(__file__).resolve().parents[2]
# Depth times loops; 1x1 is the parameters of 1x4 at a quarter of its FLOPs.
POLICIES = {
  "": {
    "name": ("4x1", "2x2", "1x4", "1x1"),
    "model.depth": (4, 2, 1, 1),
    "model.loops": (1, 2, 4, 1),
    "model.reinject": (False,) * 4,
  },
  "reinject": {
    "name": ("1x4_reinject",),
    "model.depth": (1,),
    "model.loops": (4,),
    "model.reinject": (True,),
  },
}


def get_config(which: str = "") -> ml_collections.ConfigDict:
  """That of configs/recursive_policy.py."""
  del which
  return load(ROOT / "configs" / "recursive_policy.py")


def get_sweep(which: str = ""):
  """The policies that are compared, or the further one."""
  return zipped(POLICIES[which])
