"""Hugging Face checkpoints: config.json and tensor names, mapped to ours.

families.py has the fields of each family and their defaults. Only names and
numbers are here; runtime/weights.py reads and writes the files.
"""

from typing import Any, NamedTuple

from rsrc_jax.models import families, transformer

make = transformer.make
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu"}
SCALINGS = {
  "default": (),
  "linear": ("factor",),
  "llama3": ("factor", "low_freq_factor", "high_freq_factor",
             "original_max_position_embeddings"),
}  # fmt: skip
# Of a block of rotary settings, beside those of SCALINGS. The length is written
# into blocks whose kind has no use for it.
ROTARY = ("type", "rope_type", "rope_theta", "partial_rotary_factor",
          "original_max_position_embeddings")  # fmt: skip


class Place(NamedTuple):
  """The place of a checkpoint's tensor in our tree."""

  path: tuple[str, ...]
  layer: int | None = None  # of the stacked blocks
  transposed: bool = False  # [out, in] there, [in, out] here
  offset: float = 0.0  # ours less theirs


def settings(config: dict[str, Any]) -> dict[str, Any]:
  """A config.json -> keyword arguments of transformer.make.

  Fields that it lacks are those of its family (families.DEFAULTS).

  Raises:
    ValueError: an unknown family, activation or rotation, or a field that is
      missing or impossible; the message begins with "config.json".
  """
  config = families.complete(config)
  family = config["model_type"]
  gemma = family.startswith("gemma")
  act = config["hidden_activation" if gemma else "hidden_act"]
  if act not in ACTIVATIONS:
    raise ValueError(
      f"config.json: activation {act!r} is none of {', '.join(ACTIVATIONS)}."
    )
  heads, width = config["num_attention_heads"], config["hidden_size"]
  size = config["head_dim"] or width // heads
  bias = config.get("attention_bias", False)
  kwargs = {
    "vocab_size": config["vocab_size"],
    "width": width,
    "depth": config["num_hidden_layers"],
    "heads": heads,
    "kv_heads": config["num_key_value_heads"] or heads,
    "hidden": config["intermediate_size"],
    "size": size,
    "tied": config["tie_word_embeddings"],
    "epsilon": config["rms_norm_eps"],
    "activation": ACTIVATIONS[act],
    "qkv_bias": bias or family == "qwen2",
    "o_bias": bias,
    "mlp_bias": config.get("mlp_bias", False),
    "qk_norm": family in ("qwen3", "gemma3_text"),
    "post_norms": gemma,
    "windows": _windows(config),
    **_rotation(config),
  }
  if gemma:
    kwargs |= {
      "embed_scale": width**0.5,
      "query_scale": config["query_pre_attn_scalar"] ** -0.5,
      "attention_cap": config["attn_logit_softcapping"] or 0.0,
      "logit_cap": config["final_logit_softcapping"] or 0.0,
    }
  return kwargs


def _windows(config: dict) -> tuple[int, ...]:
  """The window of each layer, 0 for none; empty if no layer has one."""
  depth, kinds = config["num_hidden_layers"], config.get("layer_types")
  window = config.get("sliding_window")
  if not config.get("use_sliding_window", True):
    window = None
  if not kinds:
    kinds = [families.LAYERS[near] for near in _near(config, window)]
  slides = [kind == "sliding_attention" for kind in kinds]
  if any(slides) and not window:
    raise ValueError(
      f"config.json: {sum(slides)} of {depth} layers slide (layer_types), and "
      "there is no sliding_window."
    )
  return tuple(window if x else 0 for x in slides) if any(slides) else ()


def _near(config: dict, window: int | None) -> list[bool]:
  """Which layers have a window where layer_types is silent."""
  family, layers = config["model_type"], range(config["num_hidden_layers"])
  if family.startswith("gemma"):
    every = config.get("sliding_window_pattern", 2)
    return [bool((i + 1) % every) for i in layers]
  if family.startswith("qwen"):
    return [bool(window) and i >= config["max_window_layers"] for i in layers]
  if family == "smollm3":
    return [bool(window) and not turned for turned in _turned(config)]
  return [False for _ in layers]


def _turned(config: dict) -> list[bool]:
  """Which layers have rotary positions; SmolLM3 leaves some without."""
  layers = range(config["num_hidden_layers"])
  if not config.get("no_rope_layer_interval"):
    return [True for _ in layers]
  said = config["no_rope_layers"]
  every = config["no_rope_layer_interval"]
  return [bool(x) for x in said or [(i + 1) % every for i in layers]]


def _rotation(config: dict) -> dict[str, Any]:
  """Bases and scaling, from the fields of older and newer files."""
  name, block = "rope_parameters", config["rope_parameters"] or {}
  gemma3 = config["model_type"] == "gemma3_text"
  full, near = block, block
  if set(block) & set(families.LAYERS):
    _known(block, families.LAYERS, name)
    full, near = (block.get(kind) or {} for kind in families.LAYERS)
    if not (isinstance(full, dict) and isinstance(near, dict)):
      raise ValueError(f"config.json: {name} must hold fields for each kind.")
  elif gemma3 and block:
    raise ValueError(
      f"config.json: {name} of gemma3_text must have blocks named "
      f"{' and '.join(families.LAYERS)}."
    )
  if config["rope_scaling"]:  # of all layers, or of those without a window
    name, full = "rope_scaling", {**(full if gemma3 else {}),
                                  **config["rope_scaling"]}  # fmt: skip
    near = near if gemma3 else full
  base = _base(full, config["rope_theta"])
  local = _base(near, config.get("rope_local_base_freq", config["rope_theta"]))
  scaling, nearer = _scaling(full, name), _scaling(near, name)
  apart = gemma3 or (local, nearer) != (base, scaling)
  if apart and nearer:
    raise ValueError(
      f"config.json: {name} scales the rotation of layers with a window, which "
      "is not known here."
    )
  found = {
    "rope_base": base,
    "rope_scaling": scaling,
    "window_base": local if apart else 0.0,
  }
  turned = _turned(config)
  return found if all(turned) else {**found, "turned": tuple(turned)}


def _base(block: dict, otherwise: float) -> float:
  base = block.get("rope_theta", otherwise)
  if not families.positive(base):
    raise ValueError(f"config.json: rope_theta={base!r} must be above 0.")
  return float(base)


def _scaling(block: dict, name: str) -> tuple | None:
  """`block`: of the field `name`. -> see layers.frequencies."""
  kind = block.get("rope_type") or block.get("type") or "default"
  if kind not in tuple(SCALINGS):
    raise ValueError(
      f"config.json: rope_type={kind!r} of {name} is none of "
      f"{', '.join(SCALINGS)}."
    )
  wanted = SCALINGS[kind]
  _known(block, (*ROTARY, *wanted), f"{name} ({kind})")
  if block.get("partial_rotary_factor") not in (None, 1.0):
    raise ValueError(
      f"config.json: {name} turns a part of each head (partial_rotary_factor="
      f"{block['partial_rotary_factor']}), which is not known here."
    )
  for key in wanted:
    if not families.positive(block.get(key)):
      raise ValueError(
        f"config.json: {name} ({kind}) needs a number {key} above 0, and has "
        f"{block.get(key)!r}."
      )
  return (kind, *(float(block[key]) for key in wanted)) if wanted else None


def _known(block: dict, names: tuple[str, ...], where: str) -> None:
  if unknown := [x for x in block if x not in names]:
    raise ValueError(
      f"config.json: {where} has {', '.join(unknown)}, which is not read here. "
      f"Read are {', '.join(names)}."
    )


def places(kwargs: dict[str, Any], prefix: str = "model.") -> dict[str, Place]:
  """All tensors of a model of these settings, by their names in the file.

  prefix: of all names except the output matrix's; see `head`.
  """
  shift = -1.0 if kwargs["post_norms"] else 0.0  # Gemma stores scale - 1
  norm = lambda *path, **at: Place((*path, "scale"), offset=-shift, **at)
  found = {
    f"{prefix}embed_tokens.weight": Place(("embed",)),
    f"{prefix}norm.weight": norm("norm"),
  }
  if not kwargs["tied"]:
    found[head(prefix)] = Place(("unembed",))
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


def head(prefix: str) -> str:
  """The name of the output matrix beside tensors of this prefix."""
  inner = "language_model.model."
  return f"{'language_model.' if prefix == inner else ''}lm_head.weight"


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
