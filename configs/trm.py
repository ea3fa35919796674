"""Recursive models on 6x6 Sudoku: what learns, and which steps are dead.

  ./tools/run --config=configs/trm.py

The quick form of experiments/dead_compute: a TRM (arXiv 2510.04871), Deep
Improvement Supervision with targets in random order (arXiv 2511.16886), and the
control that it lacks, the same small loop with the answer as the target of
every superstep. Puzzles are made here (6x6, as few clues as leave one
solution), 1,000 to learn from under random symmetries; test puzzles are of
other symmetry classes.

Cost: 4.5 minutes on two cores, compiling included.
Expect: 97 % of the test puzzles right from final_target and 94 % from
dis_random, with 18 passes of the net, and 73 % from trm with 336, which has not
ended learning by then: each has 1,800 updates.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The quick form."""
  config = ml_collections.ConfigDict()
  config.loop = "rsrc_jax.recursive.loop"
  config.seed = 0
  config.batch_size = 32  # N: slots in flight
  config.log_every = 50
  config.only = ""  # names of arms, comma-separated; empty: all of them
  config.ema = 0.99  # of the parameters that are evaluated
  config.explore = 0.1  # share of items that may not halt before a drawn step

  config.data = {
    "name": "sudoku",
    "side": 6,
    "train": 1_000,
    "heldout": 400,  # puzzles of the validation and of the test split
    "clues": 0,  # to stop removing at; 0: as few as can be
    "at_least": 0,  # steps of a maze's path
    "copies": 8,  # of ARC's tasks
    "version": "arcagi1",
    "hard": False,  # from the package larsdoku, side 9
  }
  config.model = {
    "core": "mixer",
    "width": 48,
    "depth": 2,
    "hidden": 128,
    "cell_hidden": 96,
    "heads": 4,
    "cycles": 1,
    "inner": 2,
    "dtype": "float32",
  }
  config.optimizer = {
    "learning_rate": 2e-3,
    "warmup": 50,
    "decay": 0.3,  # share of the steps, at the end
    "clip_norm": 1.0,
    "b2": 0.95,
    "weight_decay": 0.1,
  }
  config.arms = {
    "trm": arm(1_800, 16, {"cycles": 3, "inner": 6, "halting": True}),
    "dis_random": arm(1_800, 6, {"steps": 6}, "random_linear"),
    "final_target": arm(1_800, 6, {"steps": 6}),
  }
  config.eval = {
    "every": 300,
    "rows": 200,  # of the validation split while training
    "batch_size": 200,
    "causal_rows": 100,  # puzzles on which supersteps are left out
    "samples": 4,
  }
  config.checkpoint = {"every": 500, "keep_last": 2}
  config.ledger = {"pue": 1.0}
  return config


def arm(steps, supersteps, model, targets="final", learning_rate=0.0) -> dict:
  """One arm: its number of updates, S, its targets, and its model."""
  return {
    "steps": steps,
    "supersteps": supersteps,
    "targets": targets,
    "learning_rate": learning_rate,  # 0: that of config.optimizer
    "model": dict(model),  # its own, so that it can be changed alone
  }
