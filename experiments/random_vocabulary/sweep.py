"""The runs of the experiment: every arm of every seed and budget of a tier.

  ./tools/sweep run --config=experiments/random_vocabulary/sweep.py:facts \\
      --jobs=2

A tier is a corpus: TIERS. TIER-quick is the same, shrunk: does everything work?
A run trains all arms of a seed at a budget. measure.py stores what the finished
runs can do, from which analyse.py makes tables, figures and verdicts.
"""

import json
from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load
from rsrc_jax.sweep.grid import product, zipped

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The config of a tier, the budgets that it is trained at, one policy each, and
# the seeds: of facts as they are registered, of the others by their cost. All
# but large and smollm2 are for a CPU.
REGISTERED = json.loads((HERE / "registration.json").read_text())
TIERS = {
  "facts": ("random_vocabulary", REGISTERED["budgets"], REGISTERED["seeds"]),
  "append": ("append_hack", (8,), (0, 1, 2)),
  "cold": ("append_cold", (8,), (0, 1, 2)),
  "use": ("injected_use", (4,), (0, 1, 2)),
  "text": ("random_vocabulary_text", (8,), (1, 2, 3)),
  "large": ("random_vocabulary_large", (16,), (0, 1, 2)),
  "smollm2": ("random_vocabulary_smollm2", (8,), (0, 1, 2)),
}
QUICK = "-quick"
# On text, and away from three tokens, the arms that the contrasts need.
FEWER = "E1,E2,E3,E3o,E4,E5,B1,B2,B5,B6,F,X1"


def get_config(tier: str = "facts") -> ml_collections.ConfigDict:
  """The config of a tier, or of TIER-quick."""
  stem, _, _ = TIERS[tier.removesuffix(QUICK)]
  config = load(ROOT / "configs" / f"{stem}.py")
  if tier.endswith(QUICK):
    shrink(config)
  return config


def get_sweep(tier: str = "facts"):
  """All seeds of a budget before the next: what is there can be analysed."""
  name = tier.removesuffix(QUICK)
  _, budgets, seeds = TIERS[name]
  drawn = get_config(tier).augment.seed
  return product(
    zipped(
      {
        "name": [f"{name}-k{k}" for k in budgets],
        "budget": budgets,
        "eval.budgets": [(k,) for k in budgets],
        "only": [arms(name, k) for k in budgets],
      }
    ),
    # The injected ids are drawn anew, too.
    zipped({"seed": seeds, "augment.seed": [drawn + x for x in seeds]}),
  )


def arms(tier: str, k: int) -> str:
  """The arms that are trained at a budget; "" is all of them."""
  return FEWER if tier == "text" or (tier == "facts" and k != 3) else ""


def shrink(config) -> None:
  """Everything once, nothing learnt."""
  config.steps, config.pretrain.steps, config.log_every = 24, 20, 10
  config.pretrain.batch_size, config.batch_size = 16, 8
  config.patterns.cdv.group = 4
  config.eval.test_rows = config.eval.rows = config.eval.batch_size = 64
  config.curriculum.every = 2
  if config.curriculum.name == "plateau":
    config.curriculum.window, config.curriculum.look = 3, 1
    config.curriculum.max_steps = 6
  config.ledger.service_seconds = 0.02
  if config.data.source == "facts":
    config.data.sentences, config.data.heldout = 4_000, 600
