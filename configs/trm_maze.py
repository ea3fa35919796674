"""Mazes of 30x30 whose path is longer than 110. For one GPU.

  ./tools/run --config=configs/trm_maze.py

Mazes are made here by the published criterion of Maze-Hard; they are not its
file, and no number of theirs stands beside ours. Attention instead of the
mixer, as arXiv 2510.04871 has it for grids of this size; under the symmetries
of the square.

Cost: about 25 minutes of an H100-class GPU by estimate. Not run.
Expect: not known.
"""

from pathlib import Path

from rsrc_jax.runtime.configs import module

SMALL = {"cycles": 1, "inner": 2}


def get_config():
  """Mazes, two arms: the small loop with either kind of target."""
  quick = module(Path(__file__).with_name("trm.py"))
  config, arm = quick.get_config(), quick.arm
  config.batch_size, config.ema, config.log_every = 128, 0.999, 100
  config.data.update(
    {"name": "maze", "side": 30, "train": 1_000, "heldout": 500,
     "at_least": 110}
  )  # fmt: skip
  config.model.update(
    {"core": "attention", "width": 192, "hidden": 512, "heads": 6,
     "dtype": "bfloat16"}
  )  # fmt: skip
  config.optimizer.update(
    {"learning_rate": 5e-4, "warmup": 500, "weight_decay": 1.0}
  )
  config.arms = {
    "dis_solver": arm(6_000, 6, {**SMALL, "steps": 6}, "solver_order"),
    "final_target": arm(6_000, 6, {**SMALL, "steps": 6}),
  }
  config.eval.update(
    {"every": 1_000, "rows": 250, "batch_size": 125, "causal_rows": 125}
  )
  config.checkpoint.every = 2_000
  return config
