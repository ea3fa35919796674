"""C -> C -> V: rewriting the codes that an earlier policy has left.

  ./tools/run --config=configs/ccv.py --workdir=runs/ccv-0

Six tokens a code and a price on each. `early` stops after 200 steps and leaves
codes in its young language; all other arms go on from there for equally many
steps: compressing new sources alone, or rewriting old codes beside it.

Cost: 3.6 minutes on two cores, compiling included (seed 0); all arms take three
times as long.
Expect: the best of 16 rewrites is worth 7.1 bits [-4.3, 18.4] more than the old
code, and less than reading the source again (experiments/ccv).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """The early policy, and three ways to go on from it."""
  config = beside(__file__, "tiny")
  config.budget = 6
  config.steps = 400
  config.eval.budgets = (2, 4, 6)
  config.eval.test_rows = 1_024
  config.ledger.service_seconds = 0.2
  config.patterns.cdv.length_price = 0.15
  config.loss.weights = {"C": 1.0, "D": 1.0, "R": 1.0}
  config.loss.lesson_weights = {"C": 1.0, "D": 1.0, "R": 1.0}
  config.loss.entropy_bonus = {"C": 0.1, "D": 0.0, "R": 0.1}
  # What is forced is forced on the early policy alone.
  config.curriculum.hidden = 0.0
  config.patterns.ccv = {
    "fresh": dict(config.patterns.cdv),
    "buffer": 4_096,
    "parents": 16,
    "group": 16,
    "joint": 1,  # codes of a source that R reads at once
    "length_price": 0.15,
    "over_parent": 1.0,
    "targets": "final",
    "left": 0.5,
    "warmup": 100,
  }
  early = {
    "steps": 200, "curriculum.hidden": 0.9, "curriculum.steps": 200,
    "loss.entropy_bonus.C": 0.3,
  }  # fmt: skip
  ccv = "patterns.ccv.targets"
  config.only = "early,rewrite"  # "": all, which take three times as long
  config.arms = {
    "early": _arm("cdv", "force", "base", **early),
    "go_on": _arm("cdv", "force", "early"),
    "rewrite": _arm("ccv", "force", "early"),
    "rewrite_next": _arm("ccv", "force", "early", **{ccv: "next"}),
    "rewrite_rl": _arm("ccv", "force", "early", **{ccv: "none"}),
  }
  config.report.headline = "rewrite"
  return config


def _arm(pattern: str, write: str, start: str, **overrides) -> dict:
  return {
    "pattern": pattern,
    "write": write,
    "start": start,
    "overrides": tuple(overrides.items()),
  }
