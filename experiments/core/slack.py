"""The gate where it pays: ids that are asked for, slack, and a dear token.

  ./tools/sweep run --config=experiments/core/slack.py --into=core \\
      --workdir=runs/core_slack

Where a budget binds, the bonus within the safe bound is a hundredth of the
spread of reward (LOG.md, 2026-11-26), so that the grid can't test the gate.
This is the setting of configs/asked_ids.py, where it is a tenth or more, on the
grid's seeds.
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load, module

HERE = Path(__file__).resolve().parent
core = module(HERE / "sweep.py")
ARMS = ("asked", "asked_unpaid")
GATES = ("shuffled", "literal")  # exploratory, in the place of "density"


def get_config(which: str = "") -> ml_collections.ConfigDict:
  """Four arms that differ in the gate alone; `quick`: nothing is learnt."""
  config = load(core.ROOT / "configs" / "asked_ids.py")
  asked = config.arms["asked"].to_dict()
  config.arms = {x: config.arms[x].to_dict() for x in ARMS} | {
    gate: asked | {"overrides": ((f"{core.GATE}.name", gate),)}
    for gate in GATES
  }
  if which == "quick":
    config.steps, config.pretrain.steps, config.log_every = 24, 20, 10
    config.data.sentences, config.data.heldout = 4_000, 600
    config.eval.test_rows = config.eval.rows = 64
    config.evals.use.rows = config.evals.fresh.rows = 64
  return config


def get_sweep(which: str = ""):
  """A run a seed; the named ids are drawn anew, too."""
  name = "quick" if which == "quick" else "slack"
  return [x | {"name": name} for x in core.get_sweep()]
