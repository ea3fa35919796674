"""Three patterns on one set of weights: C -> D -> V first, then all of them.

  ./tools/run --config=configs/mixed.py --workdir=runs/mixed-0

The curriculum watches the reward of C -> D -> V. While it rises, words are
hidden and nothing else is played; after the last plateau the arm goes on with
questions and rewriting beside it.

Cost: 4 minutes of one core (seed 2).
Expect: 12.7 of 14.8 bits kept by D, and .51 of the questions about one fact
answered rightly from the code (experiments/qa).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """configs/qa.py's sources, questions and arms, and two that mix."""
  config = beside(__file__, "qa")
  ccv = beside(__file__, "ccv").patterns.ccv.to_dict()
  config.patterns.ccv = ccv | {"length_price": 0.0, "parents": 8, "group": 8}
  config.patterns.ccv.fresh = dict(config.patterns.cdv)
  config.loss.weights.R = config.loss.lesson_weights.R = 1.0
  config.loss.entropy_bonus.R = 0.05
  config.steps = 1_200
  config.curriculum = {
    "name": "plateau", "every": 0, "hidden": 0.9, "levels": 4,
    "temperature": 1.0, "budgets": 1.0, "window": 120, "look": 10,
    "errors": 2.0, "max_steps": 180, "explore_steps": 1_200,
  }  # fmt: skip
  first, both = (("cdv", 1.0),), (("cdv", 0.5), ("qa", 0.5))
  every = (("cdv", 0.4), ("qa", 0.4), ("ccv", 0.2))
  config.only = "mixed"  # "": all
  config.arms = {
    "code": _arm(),
    "mixed": _arm(first, first, first, first, both),
    "mixed_all": _arm(first, first, first, first, every),
  }
  config.report.headline = "mixed"
  return config


def _arm(*phases) -> dict:
  arm = {"pattern": "cdv", "write": "force", "start": "base", "overrides": ()}
  return arm | ({"phases": phases} if phases else {})
