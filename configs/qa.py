"""C -> (Q -> A) -> V: answers from the code, never from the source.

  ./tools/run --config=configs/qa.py --workdir=runs/qa-0

Sentences of facts, some of which do not say where or when; codes of three
tokens; A is asked for six of the eight facts, for one or two at a time. C is
paid for right answers, sampled, with A's likelihood of them as a fifth beside.

Cost: not timed yet since V hears answers; a step takes 1.4 times what it did
before, when a run took 3.3 minutes on two cores (seed 0).
Expect: not known with this reward; with A's likelihood alone .62 of the
questions about one fact answered rightly from the code, .17 from the question
alone (experiments/qa).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """C -> D -> V first, then questions; questions alone; both in English."""
  config = beside(__file__, "tiny")
  config.data.asks = True  # codes leave the words of questions alone
  config.data.omit = 0.25
  config.steps = 600
  config.eval.test_rows = 1_024
  config.ledger.service_seconds = 0.2
  config.loss.weights = {"C": 1.0, "D": 1.0, "A": 1.0}
  config.loss.lesson_weights = {"C": 1.0, "D": 1.0, "A": 1.0}
  config.loss.entropy_bonus = {"C": 0.1, "D": 0.0, "A": 0.0}
  # Words are hidden from the first arms alone, which begin with the base.
  config.curriculum.hidden, config.curriculum.explore_steps = 0.0, 600
  config.patterns.qa = {
    "group": 8,
    "each": 4,  # questions about a source
    "unasked": ("giver", "number"),
    "pairs": 0.3,
    "answers": 2,  # of A to each question, which V hears
    "taught": 1,  # codes of each source whose answers A learns from by GRPO
    "lessons": True,
    "from_source": 0.25,
    "dropout": 0.1,
    "length_price": 0.0,
    "probes": None,  # Q, an opponent of C: see configs/qa_probes.py
  }
  first = {
    "curriculum.hidden": 0.9, "curriculum.steps": 400,
    "loss.entropy_bonus.C": 0.3,
  }  # fmt: skip
  # Questions begin once the reward of C -> D -> V is flat, or after its steps.
  plateau = {
    "curriculum.window": 120, "optimizer.decay": 0.0, "steps": 1_000,
  }  # fmt: skip
  until = {"until": "plateau"}
  # A is new: at first V finds all of its answers wrong, and no code better than
  # another. Its likelihood tells them apart from the first step on.
  asked = {"shaping.gain": 0.25}
  config.only = "code,qa"  # "": all, which take twice as long
  config.arms = {
    "code": _arm("cdv", "force", "base", **first, **plateau) | until,
    "english_rl": _arm("cdv", "source", "base", **first, **plateau) | until,
    "qa": _arm("qa", "force", "code", **asked),
    "qa_cold": _arm("qa", "force", "base", **first, **asked),
    "qa_english": _arm("qa", "source", "english_rl", **asked),
  }
  return config


def _arm(pattern: str, write: str, start: str, **overrides) -> dict:
  return {
    "pattern": pattern,
    "write": write,
    "start": start,
    "overrides": tuple(overrides.items()),
  }
