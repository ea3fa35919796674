"""Questions again: V hears a sampled answer; do answers arise by cc?

  ./tools/sweep plan --config=experiments/qa_again/sweep.py
  ./tools/sweep run --config=experiments/qa_again/sweep.py --into=qa_again

A run is a seed with all arms, from one base. `sweep.py:quick` is the experiment
shrunk: does everything work? table.py prints what was found.
"""

import json
from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import load
from rsrc_jax.sweep.grid import zipped

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REGISTERED = json.loads((HERE / "registration.json").read_text())
BUDGET = 3  # tokens of every code but those of "long"
MEMORY = 3
FIRST, SECOND, THIRD = 600, 450, 300  # steps of an arm, by what it starts from
LESSONS, FRESH = (30, 200), (600,)
ASKED = ("tfidf", "code_on", "cc", "qa", "qa_english", "qa_on", "probes")
ROUNDS, STREAMS, GROUP = 4, 8, 8  # of cc: 8 * 3 groups of 8 codes a step


def get_config(which: str = "") -> ml_collections.ConfigDict:
  """The experiment, or `quick`."""
  config = load(ROOT / "configs" / "default.py")
  config.budget = BUDGET + MEMORY
  config.model.absolute = 64  # the history of a round is the longest prompt
  qa = load(ROOT / "configs" / "qa_probes.py").patterns.qa.to_dict()
  config.patterns.qa = qa | {"group": config.patterns.cdv.group, "answers": 4}
  config.patterns.cc = load(ROOT / "configs" / "cc.py").patterns.cc.to_dict()
  config.patterns.cc.update({
    "rounds": ROUNDS, "group": GROUP, "candidates": 4, "memory": MEMORY,
  })  # fmt: skip
  bonus = config.loss.entropy_bonus
  for role, entropy in (("A", 0.0), ("Q", 0.1), ("CC", bonus.C)):
    config.loss.weights[role] = config.loss.lesson_weights[role] = 1.0
    bonus[role] = entropy
  config.arms = _arms()
  config.eval.update({"budgets": (BUDGET, BUDGET + MEMORY)})
  config.eval.update({"test_rows": 1_024, "every": 1_000})
  config.evals = {
    "answers": {
      "type": "answers", "budget": BUDGET, "lessons": LESSONS, "arms": ASKED,
    },
    "fresh": {
      "type": "answers", "budget": BUDGET, "lessons": FRESH, "weights": "base",
      "teach": ("code",), "arms": ("qa", "code_on", "qa_english", "tfidf"),
    },
    "memory": {
      "type": "answers", "budget": BUDGET + MEMORY, "lessons": LESSONS,
      "teach": ("code",), "streams": "cc", "arms": ("cc", "long"),
    },
  }  # fmt: skip
  config.ledger.service_seconds = 0.05
  config.report.headline, config.report.baselines = "qa", ()
  if which == "quick":
    _shrink(config)
  return config


def get_sweep(which: str = ""):
  """A run a seed."""
  seeds, name = ((10,), "quick") if which else (REGISTERED["seeds"], "qa_again")
  return zipped({"name": (name,) * len(seeds), "seed": tuple(seeds)})


def _arms() -> dict:
  three, six = {"budgets": (BUDGET,)}, {"budgets": (BUDGET + MEMORY,)}
  first = three | {
    "steps": FIRST, "curriculum.steps": 400, "curriculum.explore_steps": FIRST,
    "optimizer.decay": 0.0,
  }  # fmt: skip
  later = lambda steps, own=three: own | {
    "steps": steps, "curriculum.hidden": 0.0, "curriculum.explore_steps": steps,
  }  # fmt: skip
  memory = later(SECOND) | {"batch_size": STREAMS * ROUNDS}
  alone = {"patterns.qa.probes": None}  # the questions are the program's
  return {
    "code": _arm("cdv", "force", "base", first),
    "english": _arm("cdv", "source", "base", first),
    # As many steps as both phases of the others; D alone learns.
    "tfidf": _arm("extract", "tfidf", "base", three | {
      "steps": FIRST + SECOND}),
    "code_on": _arm("cdv", "force", "code", later(SECOND)),
    "long": _arm("cdv", "force", "code", later(SECOND, six)),
    "cc": _arm("cc", "force", "code", memory),
    "qa": _arm("qa", "force", "code", later(SECOND) | alone),
    "qa_english": _arm("qa", "source", "english", later(SECOND) | alone),
    "qa_on": _arm("qa", "force", "qa", later(THIRD) | alone),
    "probes": _arm("qa", "force", "qa", later(THIRD)),
  }  # fmt: skip


def _arm(pattern: str, write: str, start: str, overrides: dict) -> dict:
  return {
    "pattern": pattern, "write": write, "start": start,
    "overrides": tuple(overrides.items()),
  }  # fmt: skip


def _shrink(config) -> None:
  """Everything once, nothing learnt."""
  small = {"steps": 4, "curriculum.steps": 2, "curriculum.explore_steps": 4,
           "batch_size": 2 * ROUNDS}  # fmt: skip
  for arm in config.arms.values():
    own = dict(arm.overrides)
    arm.overrides = tuple((own | {
      k: x for k, x in small.items() if k in own
    }).items())  # fmt: skip
  config.pretrain.steps, config.log_every, config.batch_size = 20, 2, 4
  config.pretrain.batch_size, config.patterns.cc.warmup = 16, 2
  config.patterns.cc.group = config.patterns.cc.candidates = 2
  config.patterns.cdv.group, config.patterns.cdv.taught = 2, 2
  config.patterns.qa.group = config.patterns.qa.answers = 2
  for name in config.evals:
    config.evals[name].lessons, config.evals[name].pool = (1, 2), 64
  config.eval.test_rows = config.eval.rows = config.eval.batch_size = 64
  config.data.sentences, config.data.heldout = 4_000, 600
  config.model.width, config.model.depth, config.model.hidden = 16, 1, 24
