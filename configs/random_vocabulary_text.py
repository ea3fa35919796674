"""The research question on real text: docstring sentences, or your own files.

  ./tools/run --config=configs/random_vocabulary_text.py --workdir=runs/rv-text
  ./tools/sweep run --config=experiments/random_vocabulary/sweep.py:text

The arms, switches and schedule of configs/random_vocabulary.py; what differs is
what longer sources and a larger vocabulary ask for: a larger model, a longer
pretraining and larger budgets. The text is that of the stored runs, docstrings
of Python's standard library; --config.data.path=docstrings has some eight times
as much and was not run.

Cost: 35 to 60 minutes on one core.
Expect: a gain of .45 in edit similarity from the first eight tokens of the
sentence, .30 from RL and .22 from F (experiments/random_vocabulary).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """The CPU tier on text: 1.0 million parameters, 1,028 tokens."""
  config = beside(__file__, "random_vocabulary")
  config.data = {
    "source": "text",
    "path": "",  # "stdlib", as the stored runs say it
    "vocab_size": 1_028,  # four of them ask
    "symbols": 0,
    "max_tokens": 24,
    "min_tokens": 8,
    "heldout": 0.1,
    "asks": True,
  }
  config.model.width, config.model.depth = 128, 3
  config.model.hidden = 352
  config.model.absolute = 64
  config.budget, config.eval.budgets = 8, (8,)
  config.steps = 1_200
  config.batch_size, config.patterns.cdv.group = 16, 12
  config.pretrain.steps, config.pretrain.warmup_from = 1_500, 600
  config.pretrain.batch_size = 48
  config.curriculum.explore_steps = 1_200
  # At 1.2, that of facts, C stays uniform until the bonus is all but gone: a
  # share of a long sentence is less reward (LOG.md, 2026-11-23).
  config.loss.entropy_bonus.C = 0.2
  # Nothing is forced from step 960 on at the latest.
  config.curriculum.levels, config.curriculum.max_steps = 3, 320
  # A sentence has some 60 nats here: what one of them is worth as reward.
  english = dict(config.arms.E5.overrides) | {"kl": 0.016}
  config.arms.E5.overrides = tuple(english.items())
  return config
