"""Several old codes rewritten into one, over three seeds.

  ./tools/sweep run --config=experiments/ccv_joint/sweep.py --into=ccv_joint

A run is a seed with all arms, in the loop of configs/default.py: V's word on d
is the reward, codes end by themselves, half of the sources announce a budget
and the others pay for length. `sweep.py:quick` is the experiment shrunk: does
everything work? table.py prints what was found.
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load
from rsrc_jax.sweep.grid import zipped

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (30, 31, 32)
JOINT = 4  # codes that R reads at once in the arm "joint"
PRICE = 0.6  # as in the default's arms of free length
LENGTHS = (("budgets", (2, 3, 4, 6)), ("augment.unannounced", 0.5))
# What is forced is forced on the early policy alone, which keeps half of its
# entropy: its samples should differ.
EARLY = (
  ("curriculum.hidden", 0.9), ("curriculum.steps", 400),
  ("curriculum.explore_steps", 1_200),
)  # fmt: skip


def get_config(which: str = "") -> ml_collections.ConfigDict:
  """The experiment, or `quick`."""
  config = load(ROOT / "configs" / "default.py")
  config.steps = 600  # of every arm
  config.curriculum.hidden = 0.0
  config.curriculum.explore_steps = 600
  config.loss.weights.R = config.loss.lesson_weights.R = 1.0
  config.loss.entropy_bonus.R = config.loss.entropy_bonus.C
  config.patterns.cdv.length_price = PRICE
  config.patterns.ccv = {
    "fresh": dict(config.patterns.cdv),
    "buffer": 4_096,
    "parents": 16,
    "group": 12,
    "joint": 1,
    "length_price": PRICE,
    "over_parent": 1.0,
    "targets": "final",
    "left": 0.5,
    "warmup": 100,
  }
  joint = ("patterns.ccv.joint", JOINT)
  config.arms = {
    "early": _arm("cdv", "base", *EARLY),
    "go_on": _arm("cdv", "early"),
    "one": _arm("ccv", "early"),
    "joint": _arm("ccv", "early", joint),
  }
  config.eval.every, config.eval.test_rows = 600, 1_024
  config.ledger.service_seconds = 0.05
  config.report.headline = "joint"
  config.report.baselines = ()
  if which == "quick":
    _shrink(config)
  return config


def get_sweep(which: str = ""):
  """A run a seed."""
  seeds, name = (SEEDS[:1], "quick") if which else (SEEDS, "ccv_joint")
  return zipped({"name": (name,) * len(seeds), "seed": seeds})


def _arm(pattern: str, start: str, *overrides) -> dict:
  return {
    "pattern": pattern, "write": "force", "start": start,
    "overrides": (*LENGTHS, *overrides),
  }  # fmt: skip


def _shrink(config) -> None:
  """Everything once, nothing learnt."""
  config.steps, config.pretrain.steps, config.log_every = 24, 20, 10
  config.pretrain.batch_size, config.batch_size = 16, 8
  config.patterns.cdv.group = config.patterns.ccv.fresh.group = JOINT  # least
  config.patterns.ccv.update({
    "buffer": 32, "parents": 4, "group": 4, "warmup": 8,
  })  # fmt: skip
  config.eval.test_rows = config.eval.rows = config.eval.batch_size = 64
  config.data.sentences, config.data.heldout = 4_000, 600
