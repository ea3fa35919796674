"""The research question on an accelerator: text, 36 million parameters.

  ./tools/run --config=configs/random_vocabulary_large.py --workdir=runs/large
  ./tools/sweep run --config=experiments/random_vocabulary/sweep.py:large

The arms and switches of configs/random_vocabulary.py; sentences of up to 96
tokens, codes of 16. A corpus of your own (`--config.data.path`) should have
some ten million tokens.

Cost: not known; meant for half an hour an arm of one H100-class device. Not
run.
Expect: not known.
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """A model from scratch in bfloat16; float32 logits, mismatch logged."""
  config = beside(__file__, "random_vocabulary_text")
  config.data.vocab_size, config.data.max_tokens = 8_196, 96
  config.model = config.model.to_dict() | {
    "width": 512, "depth": 10, "heads": 8, "kv_heads": 4, "hidden": 1_408,
    "rope_base": 10_000.0, "absolute": 160, "scan": True, "dtype": "bfloat16",
  }  # fmt: skip
  config.budget, config.eval.budgets = 16, (16,)
  config.steps = 3_000
  config.batch_size, config.patterns.cdv.group = 128, 16
  config.pretrain.steps, config.pretrain.warmup_from = 6_000, 3_000
  config.pretrain.batch_size = 512
  for block in (config.optimizer, config.pretrain.optimizer):
    block.learning_rate, block.warmup = 5e-4, 200
  config.curriculum.explore_steps = 3_000
  config.curriculum.levels, config.curriculum.max_steps = 6, 400
  config.eval.every = config.checkpoint.every = 500
  return config
