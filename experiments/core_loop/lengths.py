"""The curve at one to eight tokens: the default with longer codes.

  ./tools/sweep run --config=experiments/core_loop/lengths.py \\
      --into=core_loop --workdir=runs/core_loop_lengths --seeds=0,1,2
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = (1, 2, 3, 4, 5, 6, 7, 8)


def get_config() -> ml_collections.ConfigDict:
  """The default's policies of all lengths, and those that they go on from."""
  config = load(ROOT / "configs" / "default.py")
  config.budget, config.budgets, config.eval.budgets = 8, BUDGETS, BUDGETS
  for name in ("lead", "surprising", "sft"):
    del config.arms[name]
  for name in ("english_lengths", "code_lengths"):
    pairs = dict(config.arms[name]["overrides"])
    # As dear a token as the default's: 0.6 of a code of six.
    pairs |= {"budgets": BUDGETS, "patterns.cdv.length_price": 0.8}
    config.arms[name]["overrides"] = tuple(pairs.items())
  config.report.baselines = ("english_rl",)
  config.ledger.service_seconds = 0.05
  return config
