"""Small tasks of ARC-AGI-1: a smoke test of the third kind of puzzle.

  pip install "rsrc-jax[arc]"
  ./tools/run --config=configs/trm_arc.py

Tasks whose grids are at most 12x12, each in eight copies under a symmetry and
with an embedding of its own; tested on their test pairs. A smoke test on the
public training set, not a score: the published runs take days on several GPUs.

Cost: not known: not run to its end.
Expect: not known; 1 minute shows that it learns.
"""

from pathlib import Path

from rsrc_jax.runtime.configs import module

SMALL = {"cycles": 1, "inner": 2, "steps": 6}


def get_config():
  """ARC-AGI-1, grids up to 12x12."""
  quick = module(Path(__file__).with_name("trm.py"))
  config, arm = quick.get_config(), quick.arm
  config.data.update({"name": "arc", "side": 12})
  config.model.update({"core": "attention", "width": 64, "hidden": 192})
  config.arms = {
    "dis_random": arm(600, 6, SMALL, "random_linear"),
    "final_target": arm(600, 6, SMALL),
  }
  config.eval.update({"rows": 50, "batch_size": 50, "causal_rows": 50})
  return config
