"""Makes the small checkpoints of this folder and what `transformers` says.

  pip install "rsrc-jax[parity]"
  python tests/golden/pretrained/make.py

One random model a family, with every feature that the family has; logits of
rows with and without pads on the left, and greedy continuations, by torch on a
CPU in float32. Weights are drawn wide, so that a wrong mask, norm or rotation
shows. Written with the versions in versions.json.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).resolve().parent
SIZES = {
  "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24,
  "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1,
  "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
  "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
  "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
  "low_freq_factor": 1.0, "high_freq_factor": 4.0,
  "original_max_position_embeddings": 32,
}  # fmt: skip
GEMMA3_ROPE = {
  "full_attention": {
    "rope_type": "linear", "factor": 8.0, "rope_theta": 1e6,
  },
  "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}  # fmt: skip
NEAR, FAR = "sliding_attention", "full_attention"
GEMMA = {"head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 4}
FAMILIES = {
  "llama": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": False,
                      "head_dim": 12}),
  "smollm2": ("Llama", {"rope_theta": 1e5, "tie_word_embeddings": True}),
  "biased": ("Llama", {"attention_bias": True, "mlp_bias": True,
                       "tie_word_embeddings": False}),
  "qwen2": ("Qwen2", {"rope_theta": 1e6, "tie_word_embeddings": True}),
  "qwen3": ("Qwen3", {"rope_theta": 1e6, "head_dim": 12,
                      "tie_word_embeddings": True}),
  "gemma2": ("Gemma2", GEMMA | {"attn_logit_softcapping": 5.0,
                                "final_logit_softcapping": 3.0}),
  "gemma3": ("Gemma3", GEMMA | {"layer_types": [NEAR, FAR, NEAR],
                                "rope_parameters": GEMMA3_ROPE}),
}  # fmt: skip
ROWS, LENGTH, NEW = 3, 10, 8


def main():
  for name, (kind, changes) in FAMILIES.items():
    torch.manual_seed(1)
    model = build(kind, changes)
    model.save_pretrained(HERE / name)
    (HERE / name / "generation_config.json").unlink()
    np.savez(HERE / name / "said.npz", **said(model))
    print(name)
  versions = {x.__name__: x.__version__ for x in (torch, transformers)}
  (HERE / "versions.json").write_text(json.dumps(versions) + "\n")


def build(kind, changes):
  text = "Text" if kind == "Gemma3" else ""
  config = getattr(transformers, f"{kind}{text}Config")
  model = getattr(transformers, f"{kind}ForCausalLM")
  model = model(config(**SIZES | changes, attn_implementation="eager"))
  with torch.no_grad():
    for name, x in model.named_parameters():
      noise = 0.3 * torch.randn_like(x)
      x.copy_(x + noise if "norm" in name else noise)
  return model.eval()


@torch.no_grad()
def said(model):
  ids = torch.randint(3, SIZES["vocab_size"], (ROWS, LENGTH))
  mask = torch.ones_like(ids)
  mask[1, :4] = 0
  mask[2, :1] = 0
  ids = ids * mask
  place = (mask.cumsum(-1) - 1).clamp(min=0)
  every = torch.ones_like(mask)
  written = model.generate(
    ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
    eos_token_id=None,
  )[:, LENGTH:]  # fmt: skip
  return {
    "ids": ids.numpy().astype(np.int32),
    "mask": mask.numpy().astype(bool),
    "logits": model(ids, attention_mask=every).logits.numpy(),
    "padded": model(
      ids, attention_mask=mask, position_ids=place
    ).logits.numpy(),
    "written": written.numpy().astype(np.int32),
  }


if __name__ == "__main__":
  main()
