"""Hard 9x9 Sudoku: what 18 times fewer passes cost there. For one GPU.

  pip install larsdoku        # AGPL-3.0: read where it is installed
  ./tools/run --config=configs/trm_sudoku9.py

The arms of configs/dead_compute.py without the feed-forward ones, on
"Sudoku-Hard-1k": 1,000 puzzles of the package's collection under random
symmetries, tested on 4,000 others of other classes. No number of this set
stands beside a published one: theirs is another. Width 256 in bfloat16, batch
768, 15,000 updates an arm (arXiv 2510.04871 has width 512 and some 65,000).

Cost: about 25 minutes of an H100-class GPU by estimate. Not run.
Expect: not known; in the ablation of arXiv 2510.04871 the smaller loop costs 14
to 24 points on such puzzles.
"""

from pathlib import Path

from rsrc_jax.runtime.configs import module

SMALL = {"cycles": 1, "inner": 2}


def get_config():
  """Sudoku-Hard-1k."""
  quick = module(Path(__file__).with_name("trm.py"))
  config, arm = quick.get_config(), quick.arm
  config.batch_size, config.ema, config.log_every = 768, 0.999, 100
  config.data.update({"side": 9, "train": 1_000, "heldout": 4_000})
  config.data.hard = True
  config.model.update(
    {"width": 256, "hidden": 768, "cell_hidden": 256, "dtype": "bfloat16"}
  )
  config.optimizer.update(
    {"learning_rate": 1e-3, "warmup": 500, "weight_decay": 1.0}
  )
  config.arms = {
    "trm": arm(15_000, 16, {"cycles": 3, "inner": 6, "halting": True}),
    "dis_random": arm(15_000, 6, {**SMALL, "steps": 6}, "random_linear"),
    "dis_solver": arm(15_000, 6, {**SMALL, "steps": 6}, "solver_order"),
    "final_target": arm(15_000, 6, {**SMALL, "steps": 6}),
  }
  config.eval.update(
    {"every": 1_500, "rows": 1_000, "batch_size": 1_000, "causal_rows": 500}
  )
  config.checkpoint.every = 3_000
  return config
