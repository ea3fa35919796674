"""Hugging Face checkpoints: config.json and tensor names, mapped to ours.

Llama 3, SmolLM2, Qwen2.5, Qwen3, Gemma 2 and the text of Gemma 3, as Hugging
Face stores them. Only names and numbers are here; runtime/weights.py reads and
writes the files.
"""

from typing import Any, NamedTuple

from rsrc_jax.models import transformer

make = transformer.make
FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "gemma3")
# Defaults of the text model that a multimodal Gemma 3 config omits.
GEMMA3 = {
  "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4,
  "head_dim": 256, "query_pre_attn_scalar": 256, "tie_word_embeddings": True,
}  # fmt: skip
NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size",
          "num_attention_heads")  # fmt: skip
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu"}


class Place(NamedTuple):
  """The place of a checkpoint's tensor in our tree."""

  path: tuple[str, ...]
  layer: int | None = None  # of the stacked blocks
  transposed: bool = False  # [out, in] there, [in, out] here
  offset: float = 0.0  # ours less theirs


def settings(config: dict[str, Any]) -> dict[str, Any]:
  """A config.json -> keyword arguments of transformer.make.

  Raises:
    ValueError: an unknown family, activation or rotation, or a missing number.
  """
  family = config.get("model_type")
  if family not in FAMILIES:
    raise ValueError(
      f"config.json: model_type={family!r} is none of {', '.join(FAMILIES)}."
    )
  if family == "gemma3":
    config = {**GEMMA3, **config["text_config"], "model_type": "gemma3_text"}
  if absent := [name for name in NEEDED if name not in config]:
    raise ValueError(f"config.json lacks {', '.join(absent)}.")
  family = config["model_type"]
  gemma = family.startswith("gemma")
  act = config.get("hidden_activation") or config.get("hidden_act", "silu")
  act = "gelu_pytorch_tanh" if gemma and act == "gelu" else act
  if act not in ACTIVATIONS:
    raise ValueError(f"config.json: activation {act!r} is not known here.")
  heads, width = config["num_attention_heads"], config["hidden_size"]
  size = config.get("head_dim") or width // heads
  bias = bool(config.get("attention_bias", False))
  kwargs = {
    "vocab_size": config["vocab_size"],
    "width": width,
    "depth": config["num_hidden_layers"],
    "heads": heads,
    "kv_heads": config.get("num_key_value_heads") or heads,
    "hidden": config["intermediate_size"],
    "size": size,
    "tied": bool(config.get("tie_word_embeddings", gemma)),
    "epsilon": config.get("rms_norm_eps", 1e-6),
    "activation": ACTIVATIONS[act],
    "qkv_bias": bias or family == "qwen2",
    "o_bias": bias,
    "mlp_bias": bool(config.get("mlp_bias", False)),
    "qk_norm": family in ("qwen3", "gemma3_text"),
    "post_norms": gemma,
    "windows": _windows(config, family),
    **_rotation(config),
  }
  if gemma:
    kwargs |= {
      "embed_scale": width**0.5,
      "query_scale": config.get("query_pre_attn_scalar", size) ** -0.5,
      "attention_cap": config.get("attn_logit_softcapping") or 0.0,
      "logit_cap": config.get("final_logit_softcapping") or 0.0,
    }
  return kwargs


def _windows(config: dict, family: str) -> tuple[int, ...]:
  depth, window = config["num_hidden_layers"], config.get("sliding_window")
  kinds = config.get("layer_types")
  if family.startswith("qwen") and not config.get("use_sliding_window"):
    return ()
  if not window or family == "llama":
    return ()
  if not kinds:
    first = config.get("max_window_layers", 0)
    every = config.get("sliding_window_pattern") or (
      2 if family == "gemma2" else 6
    )
    near = (
      (lambda i: i >= first)
      if family.startswith("qwen")
      else (lambda i: (i + 1) % every)
    )
    kinds = [
      "sliding_attention" if near(i) else "full_attention" for i in range(depth)
    ]
  return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def _rotation(config: dict) -> dict[str, Any]:
  """Bases and scaling, from the fields of older and newer files."""
  new = config.get("rope_parameters") or {}
  full = new.get("full_attention", new)
  near = new.get("sliding_attention", {})
  old = config.get("rope_scaling") or {}
  # Gemma 3 files without these fields use the defaults of the family.
  gemma3 = config["model_type"].startswith("gemma3")
  base = full.get("rope_theta") or config.get("rope_theta")
  local = near.get("rope_theta") or config.get("rope_local_base_freq")
  return {
    "rope_base": float(base or (1e6 if gemma3 else 1e4)),
    "rope_scaling": _scaling(full if "rope_type" in full else old),
    "window_base": float(local or (1e4 if gemma3 else 0.0)),
  }


def _scaling(block: dict) -> tuple | None:
  kind = block.get("rope_type") or block.get("type") or "default"
  if kind == "default":
    return None
  if kind == "linear":
    return "linear", float(block["factor"])
  if kind == "llama3":
    names = ("factor", "low_freq_factor", "high_freq_factor",
             "original_max_position_embeddings")  # fmt: skip
    return "llama3", *(float(block[name]) for name in names)
  raise ValueError(
    f"config.json: rope_type={kind!r} is none of default, linear, llama3."
  )


def places(kwargs: dict[str, Any], prefix: str = "model.") -> dict[str, Place]:
  """All tensors of a model of these settings, by their names in the file.

  prefix: of all names except the output matrix's.
  """
  shift = -1.0 if kwargs["post_norms"] else 0.0  # Gemma stores scale - 1
  norm = lambda *path, **at: Place((*path, "scale"), offset=-shift, **at)
  found = {
    f"{prefix}embed_tokens.weight": Place(("embed",)),
    f"{prefix}norm.weight": norm("norm"),
  }
  if not kwargs["tied"]:
    found["lm_head.weight"] = Place(("unembed",))
  for layer in range(kwargs["depth"]):
    here = f"{prefix}layers.{layer}."
    for name, ours in _norms(kwargs).items():
      found[f"{here}{name}.weight"] = norm("blocks", ours, layer=layer)
    for name, bias in _products(kwargs).items():
      path = ("blocks", name.rsplit(".", 1)[1].removesuffix("_proj"))
      found[f"{here}{name}.weight"] = Place((*path, "kernel"), layer, True)
      if bias:
        found[f"{here}{name}.bias"] = Place((*path, "bias"), layer)
  return found


def _norms(kwargs) -> dict[str, str]:
  found = {"input_layernorm": "attention_norm"}
  if kwargs["post_norms"]:
    found |= {
      "post_attention_layernorm": "attention_post",
      "pre_feedforward_layernorm": "mlp_norm",
      "post_feedforward_layernorm": "mlp_post",
    }
  else:
    found["post_attention_layernorm"] = "mlp_norm"
  if kwargs["qk_norm"]:
    found |= {f"self_attn.{x}_norm": f"{x}_norm" for x in "qk"}
  return found


def _products(kwargs) -> dict[str, bool]:
  """Matrices of a layer, and whether they have a bias."""
  return {
    **{f"self_attn.{x}_proj": kwargs["qkv_bias"] for x in "qkv"},
    "self_attn.o_proj": kwargs["o_bias"],
    **{f"mlp.{x}_proj": kwargs["mlp_bias"] for x in ("gate", "up", "down")},
  }
