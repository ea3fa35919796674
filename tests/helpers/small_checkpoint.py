"""A small checkpoint folder as others make them: weights and a tokenizer."""

import json
from pathlib import Path

import jax
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from rsrc_jax.models import pretrained
from rsrc_jax.runtime import weights

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
  "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
  "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONFIG = {
  "model_type": "llama", "architectures": ["LlamaForCausalLM"],
  "vocab_size": 400, "hidden_size": 16, "intermediate_size": 24,
  "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
  "tie_word_embeddings": True, "rope_theta": 1e4, "rms_norm_eps": 1e-5,
  "hidden_act": "silu",
}  # fmt: skip
SENTENCES = [
  f"Lamp number {i} of {i * i} in the old house burns red until day {i % 7}."
  for i in range(1_200)
]


def make(folder: Path, **changes) -> Path:
  """Writes the folder; its tokenizer is a byte-level BPE of SENTENCES.

  changes: of CONFIG.
  """
  config = CONFIG | changes
  policy = pretrained.make(**pretrained.settings(config))
  weights.save(folder, jax.jit(policy.init)(jax.random.key(0)), config)
  made = tokenizers.Tokenizer(models.BPE())
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  made.train_from_iterator(
    SENTENCES,
    trainers.BpeTrainer(
      vocab_size=390,
      special_tokens=SPECIALS,
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
    ),
  )
  made.save(str(folder / "tokenizer.json"))
  info = {"bos_token": SPECIALS[1], "eos_token": SPECIALS[2],
           "chat_template": TEMPLATE}  # fmt: skip
  (folder / "tokenizer_config.json").write_text(json.dumps(info))
  return folder
