"""Makes the small checkpoints of this folder and what `transformers` says.

  pip install "rsrc-jax[parity]"
  python tests/golden/pretrained/make.py            (or some names of FAMILIES)

One random model a family, with every feature that the family has; logits of
rows with and without pads on the left, and greedy continuations, by torch on a
CPU in float32. Weights are drawn wide, so that a wrong mask, norm or rotation
shows. Written with the versions in versions.json.

  python tests/golden/pretrained/make.py configs

writes configs_said.json: the defaults of each configuration class, and what it
makes of each config.json in configs.json.
"""

import inspect
import json
import sys
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
  "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0, 1], "rope_theta": 2e6,
                          "use_sliding_window": True, "sliding_window": 4,
                          "layer_types": [FAR, NEAR, NEAR]}),
}  # fmt: skip
CLASSES = {
  "llama": "Llama", "smollm3": "SmolLM3", "qwen2": "Qwen2", "qwen3": "Qwen3",
  "gemma2": "Gemma2", "gemma3_text": "Gemma3Text", "gemma3": "Gemma3",
}  # fmt: skip
# What a configuration makes of its file and the model reads.
RESOLVED = (
  "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
  "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act",
  "hidden_activation", "rms_norm_eps", "tie_word_embeddings", "attention_bias",
  "mlp_bias", "rope_parameters", "sliding_window", "layer_types",
  "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping",
  "no_rope_layers",
)  # fmt: skip
ROWS, LENGTH, NEW = 3, 10, 8


def main(names):
  if names == ["configs"]:
    path = HERE / "configs_said.json"
    return path.write_text(lines(configs()))
  for name in names or FAMILIES:
    kind, changes = FAMILIES[name]
    torch.manual_seed(1)
    model = build(kind, changes)
    model.save_pretrained(HERE / name)
    (HERE / name / "generation_config.json").unlink()
    np.savez(HERE / name / "said.npz", **said(model))
    note(name)
    print(name)


def note(name):
  """The versions that wrote this one."""
  path = HERE / "versions.json"
  versions = json.loads(path.read_text())
  versions[name] = {x.__name__: x.__version__ for x in (torch, transformers)}
  path.write_text(json.dumps(versions, indent=1) + "\n")


def configs():
  given = json.loads((HERE / "configs.json").read_text())
  classes = {
    name: getattr(transformers, f"{kind}Config")
    for name, kind in CLASSES.items()
  }
  return {
    "versions": {"transformers": transformers.__version__},
    "defaults": {name: defaults(kind) for name, kind in classes.items()},
    **{
      part: {
        name: resolved(classes, one["config"]) for name, one in block.items()
      }
      for part, block in given.items()
    },
  }


def lines(found):
  """JSON with a line for each entry of each part."""
  parts = (
    f"{json.dumps(part)}: {{\n"
    + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in x.items())
    + "\n}"
    for part, x in found.items()
  )
  return "{\n" + ",\n".join(parts) + "\n}\n"


def defaults(kind):
  """The default of each field, as its class has it."""
  found = {
    name: x.default
    for name, x in inspect.signature(kind).parameters.items()
    if x.default is not x.empty
    and isinstance(x.default, int | float | str | None)
  }
  return {**found, "default_theta": getattr(kind, "default_theta", None)}


def resolved(classes, config):
  """The fields that the class computes, or the kind of its error."""
  try:
    whole = classes[config["model_type"]].from_dict(
      {k: v for k, v in config.items() if k != "model_type"}
    )
  except Exception as error:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
  text = whole.get_text_config()
  found = {
    name: getattr(text, name) for name in RESOLVED if hasattr(text, name)
  }
  found["tie_word_embeddings"] = whole.tie_word_embeddings
  if found.get("layer_types"):  # a letter a layer
    found["layer_types"] = "".join(x[0] for x in found["layer_types"])
  return found


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
  main(sys.argv[1:])
