"""(C -> D -> V) -> CC: a memory that is rewritten after every round.

  ./tools/run --config=configs/cc.py --workdir=runs/cc-0

Streams of four sentences that share four of their eight facts (12 of 24 bits);
codes of two tokens, a memory of four that C and D read too.

Cost: 5 minutes of one core (seed 4, a first arm of 600 steps), the controls
that config.only leaves out some 12 more.
Expect: 3.5 bits [.3, 6.7] more with the memory than with none (experiments/cc).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """C -> D -> V first; then memories, one where nothing is in common."""
  config = beside(__file__, "tiny")
  config.budget, config.eval.budgets = 2, (1, 2)
  config.model.absolute = 64  # the history of a round is the longest prompt
  config.eval.test_rows = 1_024
  config.ledger.service_seconds = 0.2
  config.steps = 500
  config.batch_size = 128  # 32 streams of four rounds
  config.loss.weights = {"C": 1.0, "D": 1.0, "CC": 1.0}
  config.loss.lesson_weights = {"C": 1.0, "D": 1.0, "CC": 1.0}
  config.loss.entropy_bonus = {"C": 0.3, "D": 0.0, "CC": 0.3}
  config.curriculum.hidden = 0.0
  config.curriculum.explore_steps = 450
  config.patterns.cc = {
    "rounds": 4,
    "pool": 1,  # sources of which one is the next round's
    "choose": "hardest",  # of them; or random, or misled: where cc does harm
    "memory": 4,
    "shared": ("giver", "colour", "object", "city"),
    "drift": 0.1,
    "group": 8,
    "candidates": 6,
    "over_memory": 0.5,
    "over_empty": 0.5,
    "rollback": True,
    "warmup": 200,
    "imitate": False,
    "dropout": 0.15,
    "length_price": 0.0,
    "carry": 0.0,  # chance that a stream goes on at the next step
    "unshared": 0.0,  # share of the streams that have nothing in common
  }
  first = {
    "batch_size": 32, "curriculum.hidden": 0.9, "curriculum.steps": 400,
    "loss.entropy_bonus.C": 0.3, "curriculum.explore_steps": 600,
    "steps": 1_000, "curriculum.window": 120, "optimizer.decay": 0.0,
  }  # fmt: skip
  cc = "patterns.cc."
  config.only = "code,cc"  # "": the controls too, which take twice as long
  config.arms = {
    # Memories begin once its reward is flat, or after its steps.
    "code": _arm("cdv", "base", **first) | {"until": "plateau"},
    "cc": _arm("cc", "code"),
    "cc_large": _arm("cc", "code", **{f"{cc}memory": 12}),
    "cc_alone": _arm("cc", "code", **{f"{cc}shared": ()}),
  }
  return config


def _arm(pattern: str, start: str, **overrides) -> dict:
  return {
    "pattern": pattern,
    "write": "force",
    "start": start,
    "overrides": tuple(overrides.items()),
  }
