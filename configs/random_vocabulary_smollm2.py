"""The research question by a pretrained model: SmolLM2-135M on real text.

  ./.venv/bin/python tools/fetch_smollm2.py        (once)
  ./tools/run --config=configs/random_vocabulary_smollm2.py --workdir=runs/rv-sm
  ./tools/sweep run --config=experiments/random_vocabulary/sweep.py:smollm2

The arms and switches of configs/random_vocabulary.py on the weights, texts and
adapters of configs/smollm2.py; what is injected and banned is asked for in
words.

Cost: not known; meant for at most 15 minutes an arm of one H100-class GPU. Not
run.
Expect: not known.
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """Eight tokens for sentences of 12 to 32, as configs/smollm2.py has them."""
  config = beside(__file__, "random_vocabulary_text")
  model = beside(__file__, "smollm2")
  for name in ("model_name", "model", "lora", "data", "budget"):
    config[name] = model[name]
  config.eval = model.eval
  config.checkpoint.every = model.checkpoint.every
  config.pretrain.steps = 0  # it has been pretrained
  config.pretrain.demonstrate = ""
  config.steps = config.curriculum.explore_steps = 600
  config.batch_size, config.patterns.cdv.group = 32, 12
  config.optimizer.learning_rate = 3e-4
  # Uniform over 49,152 ids is 10.8 nats a token where 1,028 have 6.9.
  config.loss.entropy_bonus.C = 0.16
  # Looks are twice as frequent, and levels as short as 38 of them.
  config.curriculum.every, config.curriculum.window = 5, 38
  config.curriculum.levels, config.curriculum.max_steps = 2, 240
  config.arms = {  # a rule and RL in English; RL out of it, and its controls
    name: config.arms[name]
    for name in ("E1", "E2", "E5", "B1", "B2", "B4", "B5", "B6", "F")
  }
  return config
