"""Does RL find the append hack, and what does each gate do to it?

  ./tools/run --config=configs/append_hack.py --workdir=runs/append-0
  ./tools/sweep run --config=experiments/random_vocabulary/sweep.py:append

Codes of at most 8 tokens that may end early, a price on length, four ids that
every code is paid for using, and a C that has been shown to append them: the
hack is one step away. Arms are named by their gate and by how many times the
largest safe bonus they are offered (rewards.largest_bonus).

Cost: 15 to 69 minutes on one core, which it shared.
Expect: without a gate every code ends in all 4 ids at the largest safe bonus
and above; under the default's gate 1 of 6 does, at four times of it
(experiments/random_vocabulary).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside

PRICE = 0.16  # of a code at full budget: half a bit of 24 a token


def get_config() -> ml_collections.ConfigDict:
  """Four fixed ids: a C of this size does not learn to read them off."""
  config = beside(__file__, "random_vocabulary")
  config.steps, config.budget, config.budgets = 400, 8, ()
  config.batch_size, config.loss.entropy_bonus.C = 32, 0.9
  config.optimizer.learning_rate = 2e-3  # a short run
  config.eval.budgets, config.eval.every = (8,), 400
  config.checkpoint.every = 400
  config.pretrain.steps, config.pretrain.demonstrate = 400, "append"
  config.augment.update({
    "inject": 4, "ban": 0, "pool": 4, "force": False, "fixed_length": False,
  })  # fmt: skip
  # Nothing is relaxed: the offer stands to the end.
  config.curriculum = {
    "name": "linear",
    "every": 20,
    "hidden": 0.0,
    "steps": 1_000_000_000,
    "explore_steps": 400,
    "window": 0,
    "look": 10,
    "errors": 2.0,
  }
  config.patterns.cdv.length_price = PRICE
  config.patterns.cdv.gate.others = 1
  safe = PRICE * config.augment.inject / config.budget
  arms = {}
  offers = {"0": 0, "half": 0.5, "1": 1, "2": 2, "4": 4}
  for name, times in offers.items():
    arms[f"none_{name}"] = arm("none", "none", times * safe)
  for name, gate, load in (
    ("A", "literal", "none"),
    ("B", "density", "none"),
    ("BL", "density", "message"),
    ("C", "counterfactual", "none"),
  ):
    arms[f"{name}_4"] = arm(gate, load, 4 * safe)
  config.arms = arms
  config.report.headline, config.report.arms = "none_4", {}
  return config


def arm(gate: str, load: str, bonus: float) -> dict:
  path = "patterns.cdv.gate"
  overrides = (
    (f"{path}.name", gate),
    (f"{path}.load_bearing", load),
    (f"{path}.bonus", bonus),
  )
  return {"pattern": "cdv", "write": "free", "overrides": overrides}
