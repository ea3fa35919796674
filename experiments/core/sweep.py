"""The runs of the registered experiment: six arms, four budgets, five seeds.

  ./tools/sweep plan --config=experiments/core/sweep.py        # its cost
  ./tools/sweep run --config=experiments/core/sweep.py --into=core --jobs=2

A run trains all arms of a seed at all budgets from one base. `sweep.py:tune`
has the trials of tuning on seed 10 (tune.py reads their validation), and
`sweep.py:quick` is the experiment shrunk: does everything work?
"""

import json
from pathlib import Path

import ml_collections

from rsrc_jax.ops import rewards
from rsrc_jax.runtime.configs import load, module

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REGISTERED = json.loads((HERE / "registration.json").read_text())
# Of a code of six tokens, for all arms: each token up to a budget is worth it,
# where twice as dear a one makes codes of two (LOG.md, 2026-11-26).
PRICE = 0.3
INJECTED = 4
GATE = "patterns.cdv.gate"
NO_GATE = ((f"{GATE}.bonus", 0.0),)
NO_INJECTION = (("augment.inject", 0), (GATE, None))
NO_FORCING = (*NO_INJECTION, ("curriculum.hidden", 0.0))
# Each arm differs from "full" in what is named here, and in its tuned bonus.
ARMS = {
  "full": ("cdv", "force", ()),
  "no_gate": ("cdv", "force", NO_GATE),
  "no_injection": ("cdv", "force", NO_INJECTION),
  "plain": ("cdv", "force", NO_FORCING),
  "english_rl": ("cdv", "source", NO_FORCING),
  "extract": ("extract", REGISTERED["tuned"]["extract"], ()),
}
# Trials on seed 10 at three tokens: as many for each arm.
BONUSES = (0.08, 0.15, 0.25, 0.4)
EXTRACTS = ("surprising", "tfidf", "oracle", "lead")
TUNED_AT = 3


def get_config(which: str = "") -> ml_collections.ConfigDict:
  """The experiment, or `tune`, or `quick`."""
  config = load(ROOT / "configs" / "default.py")
  config.arms = _trials() if which == "tune" else _grid()
  # C is told no budget: it ends where another token is not worth its price, or
  # is cut at k. So there is slack, which a bonus needs.
  config.augment.update({
    "inject": INJECTED, "unannounced": 1.0, "seed": 1_000,
  })  # fmt: skip
  config.pretrain.demonstrate, config.pretrain.unannounced = "weave", 0.5
  config.curriculum = PLATEAU
  config.patterns.cdv.length_price = PRICE
  config.patterns.cdv.gate = gate(config.budget)
  config.eval.budgets = tuple(REGISTERED["budgets"])
  config.eval.every = 500
  config.ledger.service_seconds = 0.05
  config.report.headline = next(iter(config.arms))
  config.report.baselines = ()
  if which == "quick":
    _shrink(config)
  return config


def get_sweep(which: str = ""):
  """A run a seed; the injected ids are drawn anew, too."""
  seeds = (10,) if which == "tune" else REGISTERED["seeds"]
  name = which or "core"
  return [
    {"name": name, "seed": x, "augment.seed": 1_000 + x} for x in seeds
  ]  # fmt: skip


# Four levels, each at its own plateau or after 250 steps.
PLATEAU = module(HERE.parent / "core_loop" / "sweep.py").PLATEAU


def gate(budget: int) -> dict:
  """Density times the message's load, at the largest bonus that is safe."""
  bonus = rewards.largest_bonus(price=PRICE, listed=INJECTED, budget=budget)
  return module(ROOT / "configs" / "asked_ids.py").gate(bonus)


def _grid() -> dict:
  tuned = REGISTERED["tuned"]["entropy_bonus"]
  return {
    f"{arm}_k{k}": _arm(arm, k, tuned.get(arm))
    for arm in ARMS
    for k in REGISTERED["budgets"]
  }


def _trials() -> dict:
  policies = [arm for arm in ARMS if arm != "extract"]
  found = {
    f"{arm}_{round(100 * bonus):02d}": _arm(arm, TUNED_AT, bonus)
    for arm in policies
    for bonus in BONUSES
  }
  rules = {f"extract_{x}": _arm("extract", TUNED_AT, None, x) for x in EXTRACTS}
  return found | rules


def _arm(arm: str, k: int, bonus: float | None, rule: str = "") -> dict:
  pattern, write, changes = ARMS[arm]
  own = [("budgets", (k,)), *changes]
  if bonus is not None:
    own.append(("loss.entropy_bonus.C", bonus))
  return {"pattern": pattern, "write": rule or write, "overrides": tuple(own)}


def _shrink(config) -> None:
  """Everything once, nothing learnt."""
  config.steps, config.pretrain.steps, config.log_every = 24, 20, 10
  config.pretrain.batch_size, config.batch_size = 16, 8
  config.patterns.cdv.group = 4
  config.eval.test_rows = config.eval.rows = config.eval.batch_size = 64
  config.curriculum.window, config.curriculum.look = 3, 1
  config.curriculum.max_steps = 6
  config.data.sentences, config.data.heldout = 4_000, 600
