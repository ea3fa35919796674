"""Exploratory arms and controls at three tokens: what each part does, alone.

  ./tools/sweep run --config=experiments/core/explore.py --into=core \\
      --workdir=runs/core_explore

The seeds are the grid's first three and the base's settings the grid's, so that
these arms are held against the grid's arms of three tokens from the same base.
explore.md, which explore_table.py writes, is no test of anything: no arm was
tuned, and nothing is corrected for the number of contrasts.
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load, module

HERE = Path(__file__).resolve().parent
core = module(HERE / "sweep.py")
K = core.TUNED_AT
GATE = core.GATE
SEEDS = 3
# Nothing is relaxed: the line reaches its end long after the run's.
UNRELAXED = load(core.ROOT / "configs" / "default.py").curriculum.to_dict() | {
  "steps": 10**9
}
LIKELIHOOD = (
  ("verifier.edit", 0.0), ("shaping.gain", 1.0), ("patterns.cdv.taught", 0),
  ("loss.weights.D", 0.0),
)  # fmt: skip
# Changes of "full".
OF_FULL = {
  "literal": ((f"{GATE}.name", "literal"),),
  "shuffled": ((f"{GATE}.name", "shuffled"),),
  "multiply": ((f"{GATE}.mode", "multiply"), (f"{GATE}.bonus", 0.0)),
  "unrelaxed": (("curriculum", UNRELAXED),),
  "banned": (("augment.ban", 4),),
}
# Changes of "no_injection", the mask alone.
OF_MASK = {
  "likelihood": LIKELIHOOD,
  "no_lessons": (
    ("patterns.cdv.lessons", 0), ("loss.lesson_weights.D", 0.0),
  ),
  "frozen_d": (
    ("patterns.cdv.frozen_d", True), ("patterns.cdv.lessons", 0),
    ("patterns.cdv.taught", 0), ("loss.weights.D", 0.0),
    ("loss.lesson_weights.D", 0.0),
  ),
}  # fmt: skip
# Writers, and the changes of "plain" that they are trained with.
WRITTEN = {
  "words": ("cdv", "words", core.NO_FORCING),
  "matched": ("cdv", str(HERE / "matched.py"), core.NO_FORCING),
  "matched_masked": ("cdv", str(HERE / "matched.py"), core.NO_INJECTION),
  "pairs": ("extract", str(HERE / "pairs.py"), core.NO_FORCING),
  "hand_made": ("extract", str(HERE / "hand_made.py"), core.NO_FORCING),
  "hash": ("extract", "hash", core.NO_FORCING),
}


def get_config(which: str = "") -> ml_collections.ConfigDict:
  """The arms, or `quick`: everything once, nothing learnt."""
  config = core.get_config(which)
  config.arms = arms()
  config.report.headline = "likelihood"
  return config


def get_sweep(which: str = ""):
  """The grid's first seeds."""
  name = "quick" if which == "quick" else "explore"
  return [x | {"name": name} for x in core.get_sweep()[:SEEDS]]


def arms() -> dict:
  """All exploratory arms by name."""
  bonus = core.REGISTERED["tuned"]["entropy_bonus"]
  found = {}
  for name, changes in OF_FULL.items():
    found[name] = arm("cdv", "force", changes, bonus["full"])
  for name, changes in OF_MASK.items():
    changes = (*core.NO_INJECTION, *changes)
    found[name] = arm("cdv", "force", changes, bonus["no_injection"])
  for name, (pattern, write, changes) in WRITTEN.items():
    found[name] = arm(pattern, write, changes, bonus["plain"])
  found["pairs_rl"] = arm(
    "cdv", str(HERE / "pairs_rl.py"), core.NO_FORCING, bonus["english_rl"]
  ) | {"start": "pairs"}
  found["x2"] = {
    "stage": str(HERE / "autoencoder.py"),
    "overrides": (("budgets", (K,)), *core.NO_INJECTION),
  }
  found["x2_rl"] = arm("cdv", "force", core.NO_FORCING, bonus["plain"]) | {
    "start": "x2"
  }
  return found


def arm(pattern: str, write: str, changes: tuple, bonus: float) -> dict:
  """config.arms.NAME at three tokens, with the entropy bonus of its kin."""
  own = (("budgets", (K,)), ("loss.entropy_bonus.C", bonus), *changes)
  return {"pattern": pattern, "write": write, "overrides": own}
