"""C -> (Q -> A) -> V: answers from the code, trained alone and after D.

  ./tools/run --config=configs/qa.py --workdir=runs/qa-0

Sentences of facts, some of which do not say where or when; codes of three
tokens; A is asked for six of the eight facts, for one or two at a time. Cost
and what to expect: experiments/qa.
"""

import ml_collections

from rsrc_jax.config import beside


def get_config() -> ml_collections.ConfigDict:
  """C -> D -> V first, then questions, alone and mixed, and in English."""
  config = beside(__file__, "tiny")
  config.data.asks = True  # codes leave the words of questions alone
  config.data.omit = 0.25
  config.steps = 600
  config.eval.test_rows = 1_024
  config.loss.weights = {"C": 1.0, "D": 1.0, "A": 1.0}
  config.loss.lesson_weights = {"C": 1.0, "D": 1.0, "A": 1.0}
  config.loss.entropy_bonus = {"C": 0.3, "D": 0.0, "A": 0.0}
  # The vocabulary is shown again in four plateaus; a mixture then goes on to
  # its second phase.
  config.curriculum.steps, config.curriculum.explore_steps = 400, 600
  config.patterns.qa = {
    "group": 16,
    "each": 4,  # questions about a source
    "unasked": ("giver", "number"),
    "pairs": 0.3,
    "answers": 1,  # more: A learns by GRPO too
    "lessons": True,
    "from_source": 0.25,
    "dropout": 0.1,
    "length_price": 0.0,
  }
  arm = lambda pattern, write, start="base": {
    "pattern": pattern, "write": write, "start": start, "overrides": (),
  }  # fmt: skip
  config.arms = {
    "code": arm("cdv", "force"),
    "qa": arm("qa", "force"),
    "qa_english": arm("qa", "source"),
  }
  return config
