"""How C and D should learn in the loop: arms of one run a seed.

  ./tools/sweep run --config=experiments/core_loop/sweep.py --into=core_loop \\
      --seeds=0,1,2

All arms write three tokens from one base, and differ from the default's arm
"code" in what their name says; English arms from its "english_rl".
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load

ROOT = Path(__file__).resolve().parents[2]
HOLD = {
  "first": 0.6, "last": 0.02, "until": 0.75, "gain": 10.0, "rate": 0.05,
  "floor": 0.05, "ceiling": 3.0,
}  # fmt: skip
# Levels that last at most 250 steps: at the timer, the last one begins where
# the line of the default ends.
PLATEAU = {
  "name": "plateau", "every": 0, "hidden": 0.9, "levels": 4,
  "temperature": 1.0, "budgets": 1.0, "window": 90, "look": 10, "errors": 2.0,
  "max_steps": 250, "explore_steps": 1_500,
}  # fmt: skip
SHAPED = ("shaping.gain", 0.5)
BY_LIKELIHOOD = (("patterns.cdv.taught", 0), ("loss.weights.D", 0.0))


def get_config() -> ml_collections.ConfigDict:
  """The arms of points D (who teaches D), entropy and relaxation."""
  config = load(ROOT / "configs" / "default.py")
  code, english = (config.arms[x].to_dict() for x in ("code", "english_rl"))
  add = lambda arm, *more: arm | {"overrides": (*arm["overrides"], *more)}
  arm = lambda *changes: add(code, *changes)
  lessons = lambda n: (("patterns.cdv.lessons", n),)
  config.arms = {
    "d_by_likelihood_1": arm(*BY_LIKELIHOOD),
    "d_by_likelihood_4": arm(*BY_LIKELIHOOD, *lessons(4)),
    "d_by_grpo": arm(*lessons(0)),
    "d_by_both_1": arm(),
    "d_by_both_4": arm(*lessons(4)),
    "entropy_held": arm(("loss.hold", HOLD)),
    "plateau": arm(("curriculum", PLATEAU)),
    "shaped": arm(SHAPED),
    "half_by_reader": arm(("verifier.edit", 0.5), ("verifier.reader", 0.5)),
    "unforced": arm(("curriculum.hidden", 0.0)),
    "english": english,
    "english_shaped": add(english, SHAPED),
    "english_held": add(english, ("loss.hold", HOLD)),
  }
  config.report.headline = "d_by_both_1"
  config.report.baselines = ("english",)
  config.ledger.service_seconds = 0.05
  return config
