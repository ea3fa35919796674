"""C -> D -> V by a pretrained model: SmolLM2-135M-Instruct on real text.

  ./.venv/bin/python tools/fetch_smollm2.py        (once)
  ./tools/run --config=configs/smollm2.py --workdir=runs/smollm2

LoRA on all products, and full fine-tuning as an arm beside it, for one
H100-class GPU. config.model.path names any folder of a Llama, Qwen or Gemma
checkpoint.

Cost: not known; meant for at most 25 minutes of one H100-class GPU.
Expect: not known.
"""

import ml_collections

from rsrc_jax.data.hf_vocabulary import INSTRUCTIONS
from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """Eight tokens for sentences of 12 to 32, on a GPU."""
  config = beside(__file__, "cdv_text")
  config.model_name = "pretrained"
  config.model = {
    "path": "~/.cache/rsrc-jax/smollm2-135m-instruct",
    "dtype": "bfloat16",  # of activations; parameters and logits are float32
    "scan": True,
    "remat": False,
  }
  config.lora = {
    "rank": 16,  # 0: all parameters are trained
    "base": "float32",  # frozen weights; or bfloat16, if no arm trains them
    "alpha": 32.0,
    "targets": r"blocks/(q|k|v|o|gate|up|down)$",
  }
  config.data.min_tokens, config.data.max_tokens = 12, 32
  config.data.instructions = INSTRUCTIONS  # {} is the text; say it otherwise
  del config.data["vocab_size"]
  config.budget, config.eval.budgets = 8, (8,)
  config.pretrain.steps = 0  # it has been pretrained
  config.steps, config.batch_size = 400, 32
  config.optimizer.learning_rate = 3e-4
  config.loss.entropy_bonus.C = 0.02
  config.curriculum.steps, config.curriculum.explore_steps = 250, 400
  config.eval.every = config.checkpoint.every = 100
  config.eval.rows = config.eval.batch_size = 128
  config.eval.test_rows = 512
  config.arms = {
    "lead": _arm("extract", "lead"),
    "surprising": _arm("extract", "surprising"),
    "english_rl": _arm("cdv", "source"),
    "code": _arm("cdv", "force"),
    "code_full": _arm(
      "cdv", "force", ("lora.rank", 0), ("optimizer.learning_rate", 2e-5)
    ),
  }
  return config


def _arm(pattern: str, write: str, *overrides) -> dict:
  return {"pattern": pattern, "write": write, "overrides": overrides}
