"""Where does C use what it is given? Injected ids that D then needs.

  ./tools/run --config=configs/injected_use.py --workdir=runs/use-0
  ./tools/sweep run --config=experiments/random_vocabulary/sweep.py:use

Codes of four tokens, nothing relaxed. Arms differ in how the injected ids are
given: asked for alone, forced beside a random subset, or as the only ids that
may be written; with no bonus or one of the whole reward, gated or not.

Cost: 9 to 14 minutes on one core.
Expect: forced and under the gate, seven codes of ten use injected ids, and 37 %
of those lose D more than chance when they are swapped
(experiments/random_vocabulary).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """As configs/append_hack.py, with codes that fill their budget."""
  config = beside(__file__, "append_hack")
  config.steps, config.budget = 600, 4
  config.eval.budgets, config.eval.every = (4,), 600
  config.checkpoint.every = 600
  config.pretrain.demonstrate = "weave"
  config.augment.update({"pool": 0, "force": True, "fixed_length": True})
  config.curriculum.explore_steps = 600
  config.patterns.cdv.length_price = 0.0
  asked = (("augment.force", False),)
  forced = (("curriculum.hidden", 0.9),)
  alone = (("curriculum.hidden", 0.9999), ("augment.inject", 12))
  config.arms = {
    "ask_0": _arm(*asked, *_gate("none", "none", 0.0)),
    "ask_1": _arm(*asked, *_gate("density", "message", 1.0)),
    "ask_1_none": _arm(*asked, *_gate("none", "none", 1.0)),
    "force_0": _arm(*forced, *_gate("none", "none", 0.0)),
    "force_1": _arm(*forced, *_gate("density", "message", 1.0)),
    "force_1_none": _arm(*forced, *_gate("none", "none", 1.0)),
    "only_0": _arm(*alone, *_gate("none", "none", 0.0)),
  }
  config.report.headline = "ask_1"
  return config


def _gate(name: str, load: str, bonus: float) -> tuple:
  path = "patterns.cdv.gate"
  return (
    (f"{path}.name", name),
    (f"{path}.load_bearing", load),
    (f"{path}.bonus", bonus),
  )


def _arm(*overrides) -> dict:
  return {"pattern": "cdv", "write": "force", "overrides": overrides}
