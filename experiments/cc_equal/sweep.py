"""cc at equal tokens: a memory and a code against a longer code.

  ./tools/sweep plan --config=experiments/cc_equal/sweep.py
  ./tools/sweep run --config=experiments/cc_equal/sweep.py --into=cc_equal

A run trains all arms of a seed from one base; a second one has the two arms of
a smaller model. `sweep.py:quick` is all of it shrunk: does everything work?
"""

import json
from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REGISTERED = json.loads((HERE / "registration.json").read_text())
CODE, MEMORIES = 2, (2, 4, 8)
LONG = CODE + 4  # tokens of the code that the memory of four is held against
STREAMS, ROUNDS = 16, 4
STEPS, WARMUP = 350, 200  # of the arms behind the plateau
SMALL = {"model.width": 48, "model.hidden": 132, "only": "code,cc_m4"}
CC = "patterns.cc."


def get_config(which: str = "") -> ml_collections.ConfigDict:
  """The experiment, or `quick`."""
  config = load(ROOT / "configs" / "default.py")
  config.budget = LONG
  config.model.absolute = 64  # the history of a round is the longest prompt
  config.patterns.cc = load(ROOT / "configs" / "cc.py").patterns.cc.to_dict()
  config.patterns.cc.update({
    "rounds": ROUNDS, "group": 6, "candidates": 4, "warmup": WARMUP,
  })  # fmt: skip
  config.loss.weights.CC = config.loss.lesson_weights.CC = 1.0
  config.loss.entropy_bonus.CC = config.loss.entropy_bonus.C
  config.arms = _arms()
  config.eval.update({"budgets": (CODE, LONG), "test_rows": 1_024})
  config.eval.every = 500
  config.evals = {"streams": {"type": "streams", "arm": "cc_m4"}}
  config.ledger.service_seconds = 0.05
  config.report.headline, config.report.baselines = "cc_m4", ()
  if which == "quick":
    _shrink(config)
  return config


def get_sweep(which: str = ""):
  """A run a seed, and one of the smaller model."""
  found = []
  for seed in REGISTERED["seeds"] if not which else (10,):
    found.append({"name": "cc_equal", "seed": seed})
    found.append({"name": "cc_small", "seed": seed} | SMALL)
  return found


def _arms() -> dict:
  first = {
    "steps": 800, "curriculum.steps": 400, "curriculum.explore_steps": 600,
    "curriculum.window": 120, "optimizer.decay": 0.0,
  }  # fmt: skip
  # As many groups of codes, of as many codes, as a step of cc has.
  later = {
    "steps": STEPS, "curriculum.hidden": 0.0, "curriculum.explore_steps": STEPS,
    "batch_size": STREAMS * (ROUNDS - 1), "patterns.cdv.group": 6,
  }  # fmt: skip
  two, six = {"budgets": (CODE,)}, {"budgets": (LONG,)}
  found = {
    "code": _arm("cdv", "base", first | two) | {"until": "plateau"},
    "long": _arm("cdv", "base", first | six) | {"until": "plateau"},
    "code_on": _arm("cdv", "code", later | two),
    "long_on": _arm("cdv", "long", later | six),
  }
  memory = later | two | {"batch_size": STREAMS * ROUNDS}
  del memory["patterns.cdv.group"]
  found |= {
    f"cc_m{m}": _arm("cc", "code", memory | {f"{CC}memory": m})
    for m in MEMORIES
  }
  pool = 4
  misled = {
    f"{CC}choose": "misled", f"{CC}pool": pool,
    "batch_size": STREAMS * ROUNDS * pool,
  }  # fmt: skip
  # The warm-up to the end; C and CC learn from no reward.
  lessons = {
    f"{CC}warmup": STEPS, "loss.weights.C": 0.0, "loss.weights.CC": 0.0,
  }  # fmt: skip
  return found | {
    "cc_misled": _arm("cc", "code", memory | misled),
    "cc_carried": _arm("cc", "code", memory | {f"{CC}carry": 0.9}),
    "cc_lessons": _arm("cc", "code", memory | lessons),
    "cc_alone": _arm("cc", "code", memory | {f"{CC}shared": ()}),
    "cc_mixed": _arm("cc", "code", memory | {f"{CC}unshared": 0.25}),
  }


def _arm(pattern: str, start: str, overrides: dict) -> dict:
  return {
    "pattern": pattern, "write": "force", "start": start,
    "overrides": tuple(overrides.items()),
  }  # fmt: skip


def _shrink(config) -> None:
  """Everything once, nothing learnt."""
  small = {
    "steps": 6, "curriculum.window": 3, "curriculum.steps": 2,
    "curriculum.explore_steps": 6, f"{CC}warmup": 3,
  }  # fmt: skip
  for name, arm in config.arms.items():
    own = dict(arm.overrides)
    rows = own.get("batch_size", 16)
    own |= {k: x for k, x in small.items() if k in own}
    own["batch_size"] = max(rows // 8 // ROUNDS, 2) * ROUNDS
    config.arms[name].overrides = tuple(own.items())
  config.pretrain.steps, config.log_every, config.curriculum.look = 20, 2, 1
  config.pretrain.batch_size, config.patterns.cc.warmup = 16, 3
  config.patterns.cc.group = config.patterns.cc.candidates = 2
  config.patterns.cdv.group, config.patterns.cdv.taught = 2, 2
  config.eval.test_rows = config.eval.rows = config.eval.batch_size = 64
  config.data.sentences, config.data.heldout = 4_000, 600
  config.model.width, config.model.depth, config.model.hidden = 16, 1, 24
