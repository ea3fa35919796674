"""config.json of the families that we run: their fields, defaults and checks.

A file leaves out what its family has by default, and each family has defaults
of its own. `DEFAULTS` holds them as the configuration classes of transformers
5.17.0 do. tests/golden/pretrained/configs.json has what those classes say.
"""

import math
from typing import Any

# model_type -> the models that we compared with transformers.
FAMILIES = {
  "llama": "Llama 3, SmolLM2",
  "smollm3": "SmolLM3",
  "qwen2": "Qwen2.5",
  "qwen3": "Qwen3",
  "gemma2": "Gemma 2",
  "gemma3_text": "Gemma 3",
  "gemma3": "Gemma 3 with its vision tower, which is left out",
}
# What others would need.
MISSING = {
  "qwen3_moe": "experts and their router (num_experts)",
  "qwen2_moe": "experts, a shared expert and their router (num_experts)",
  "mixtral": "experts and their router (num_local_experts)",
  "llama4": "experts and chunked attention",
  "gemma": "a Gemma without norms after attention and MLP",
  "gemma3n": "embeddings of each layer, AltUp and shared keys and values",
  "phi3": "qkv_proj and gate_up_proj as one tensor each, and longrope",
  "mistral": "a comparison with transformers, which was not made",
  "qwen2_vl": "rotary positions of images (mrope)",
  "qwen2_5_vl": "rotary positions of images (mrope)",
  "qwen3_next": "linear attention and experts",
}
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
         "num_attention_heads")  # fmt: skip
LAYERS = ("full_attention", "sliding_attention")
# Not read where it has this value, or none; refused where it has another.
FIXED = {"use_bidirectional_attention": False, "partial_rotary_factor": 1.0,
         "is_causal": True}  # fmt: skip
QUANTISED = ("quantization_config", "compression_config", "quantization")

_EVERY = {
  "rms_norm_eps": 1e-6, "attention_bias": False, "rope_theta": 1e4,
  "rope_scaling": None, "rope_parameters": None, "head_dim": None,
}  # fmt: skip
_SLIDING = {"use_sliding_window": False, "sliding_window": 4096,
            "max_window_layers": 28, "layer_types": None}  # fmt: skip
_LLAMA = {
  **_EVERY, "hidden_act": "silu", "num_key_value_heads": None,
  "mlp_bias": False, "tie_word_embeddings": False,
}  # fmt: skip
# Qwen2 reads no attention_bias: q, k and v have biases, o has none.
_QWEN2 = {
  **_EVERY, **_SLIDING, "hidden_act": "silu", "num_key_value_heads": 32,
  "tie_word_embeddings": False,
}  # fmt: skip
del _QWEN2["attention_bias"]
_GEMMA2 = {
  **_EVERY, "hidden_activation": "gelu_pytorch_tanh", "num_key_value_heads": 4,
  "head_dim": 256, "tie_word_embeddings": True, "query_pre_attn_scalar": 256,
  "sliding_window": 4096, "layer_types": None, "attn_logit_softcapping": 50.0,
  "final_logit_softcapping": 30.0,
}  # fmt: skip
# Sizes have a default here alone: the files of the multimodal Gemma 3 omit some
# of them. A file of another family that lacks one was cut, and is refused.
DEFAULTS = {
  "llama": _LLAMA,
  "smollm3": {
    **_LLAMA, "num_key_value_heads": 4, "tie_word_embeddings": True,
    "rope_theta": 2e6, "use_sliding_window": False, "sliding_window": None,
    "layer_types": None, "no_rope_layers": None, "no_rope_layer_interval": 4,
  },
  "qwen2": _QWEN2,
  "qwen3": {**_QWEN2, "head_dim": 128, "attention_bias": False},
  "gemma2": _GEMMA2,
  "gemma3_text": {
    **_GEMMA2, "attn_logit_softcapping": None, "final_logit_softcapping": None,
    "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6,
    "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216,
    "num_hidden_layers": 26, "num_attention_heads": 8,
  },
}  # fmt: skip
WHOLE = (*SIZES, "num_key_value_heads", "head_dim", "sliding_window",
         "sliding_window_pattern", "no_rope_layer_interval")  # fmt: skip
NUMBERS = ("rms_norm_eps", "rope_theta", "rope_local_base_freq",
           "query_pre_attn_scalar", "attn_logit_softcapping",
           "final_logit_softcapping")  # fmt: skip
FLAGS = ("attention_bias", "mlp_bias", "tie_word_embeddings",
         "use_sliding_window")  # fmt: skip
# null says "none" of these. Of the others it says nothing.
NULL = ("num_key_value_heads", "head_dim", "sliding_window", "rope_scaling",
        "rope_parameters", "layer_types", "no_rope_layers",
        "attn_logit_softcapping", "final_logit_softcapping")  # fmt: skip
NEVER_NULL = {"qwen3": ("head_dim",)} | dict.fromkeys(
  ("gemma2", "gemma3_text"), ("head_dim", "num_key_value_heads")
)


def complete(config: dict[str, Any]) -> dict[str, Any]:
  """All fields of a config.json that its family reads, defaults filled in.

  Of a multimodal Gemma 3 those of its text model. model_type is that of the
  text model.

  Raises:
    ValueError: an unknown or a quantised model, a missing size, a value that
      is none of its field.
  """
  if not isinstance(config, dict):
    raise ValueError("config.json holds no fields ({...}).")
  family = config.get("model_type")
  if family not in tuple(FAMILIES):  # it may be anything
    raise ValueError(_unknown(family))
  _refuse_quantised(config)
  if family == "gemma3":
    family, config = "gemma3_text", _text(config)
    _refuse_quantised(config)
  for name, plain in FIXED.items():
    if config.get(name) not in (None, plain):
      raise ValueError(
        f"config.json: {name}={config[name]!r} is not known here, only {plain}."
      )
  names = dict.fromkeys((*SIZES, *DEFAULTS[family]))
  found = {**DEFAULTS[family], **{k: config[k] for k in names if k in config}}
  if absent := [name for name in SIZES if found.get(name) is None]:
    raise ValueError(f"config.json lacks {', '.join(absent)}.")
  null = set(NULL) - set(NEVER_NULL.get(family, ()))
  for name, value in found.items():
    if value is not None or name not in null:
      _check(name, value)
  depth = found["num_hidden_layers"]
  for name in ("layer_types", "no_rope_layers"):
    if found.get(name) and len(found[name]) != depth:
      raise ValueError(
        f"config.json: {name} is of {len(found[name])} layers, and "
        f"num_hidden_layers={depth}."
      )
  return {**found, "model_type": family}


def _unknown(family) -> str:
  known = "; ".join(f"{name} ({what})" for name, what in FAMILIES.items())
  needs = MISSING.get(str(family))
  lacks = f" It needs {needs}." if needs else ""
  return (
    f"config.json: model_type={family!r} is not supported.{lacks} Supported "
    f"are {known}."
  )


def _text(config: dict) -> dict:
  """The fields of the text model of a multimodal Gemma 3.

  tie_word_embeddings may stand inside or outside of text_config, and versions
  of transformers differ in which one they read.
  """
  text = config.get("text_config")
  text = {} if text is None else text
  if not isinstance(text, dict):
    raise ValueError(f"config.json: text_config={text!r} must hold fields.")
  name = "tie_word_embeddings"
  outer = {name: config[name]} if config.get(name) is not None else {}
  if outer and text.get(name, config[name]) != config[name]:
    raise ValueError(
      f"config.json: {name}={config[name]}, and {text[name]} in text_config: "
      "make them equal."
    )
  return outer | text


def _refuse_quantised(config: dict) -> None:
  for name in QUANTISED:
    block = config.get(name)
    if not block:
      continue
    method = block
    if isinstance(block, dict):
      kinds = ("quant_method", "quant_type", "format", "mode")
      method = next((block[k] for k in kinds if k in block), block)
    raise ValueError(
      f"config.json: {name} says that the weights are quantised ({method}), "
      "which is not read here: download the checkpoint in bfloat16, float16 or "
      "float32 that it was made from."
    )


def positive(value: Any) -> bool:
  """Whether it is a number, finite and above 0."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  return number and 0 < value < math.inf


def _check(name: str, value: Any) -> None:
  """Raises ValueError where a value can't be one of its field."""
  if name in WHOLE:
    good = positive(value) and isinstance(value, int)
    want = "a whole number above 0"
  elif name == "max_window_layers":
    good, want = value == 0 or positive(value), "a number of layers"
  elif name in NUMBERS:
    good, want = positive(value), "a number above 0"
  elif name in FLAGS:
    good, want = isinstance(value, bool), "true or false"
  elif name == "layer_types":
    good = isinstance(value, list) and not [x for x in value if x not in LAYERS]
    want = f"a list of {' and '.join(LAYERS)}"
  elif name == "no_rope_layers":
    good = isinstance(value, list) and not [x for x in value if x not in (0, 1)]
    want = "a list of 0 (no rotary positions) and 1"
  elif name in ("rope_scaling", "rope_parameters"):
    good, want = isinstance(value, dict), "fields ({...}) or null"
  else:
    good, want = isinstance(value, str), "a name"
  if not good:
    shown = "null" if value is None else repr(value)
    raise ValueError(f"config.json: {name}={shown} must be {want}.")
