"""config.json of each family, against the classes of transformers.

golden/pretrained/configs.json has config.json files: those of the hub, with
where they are from, and odd ones with a field or two changed. What the classes
of transformers make of them, and the defaults of those classes, stands in
configs_said.json, which golden/pretrained/make.py wrote.
"""

import importlib.util
import json
from pathlib import Path

import pytest

from rsrc_jax.models import families, pretrained

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
GIVEN = json.loads((GOLDEN / "configs.json").read_text())
SAID = json.loads((GOLDEN / "configs_said.json").read_text())
# Of the classes, what no forward pass reads: ids, caches, training, names.
ELSEWHERE = {
  "architectures", "attention_dropout", "bos_token_id",
  "chunk_size_feed_forward", "default_theta", "dtype", "eos_token_id",
  "id2label", "initializer_range", "is_encoder_decoder", "label2id",
  "max_position_embeddings", "output_hidden_states", "pad_token_id",
  "pretraining_tp", "problem_type", "return_dict", "transformers_version",
  "use_cache",
}  # fmt: skip


def expected(family, said):
  """The settings of a model, from what its class says of every field."""
  heads, width = said["num_attention_heads"], said["hidden_size"]
  gemma, bias = family.startswith("gemma"), said.get("attention_bias", False)
  size = said.get("head_dim") or width // heads
  rope = said["rope_parameters"]
  full = rope.get("full_attention", rope)
  kinds = said.get("layer_types") or ""
  scaling = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor",
               "original_max_position_embeddings"),
  }[full["rope_type"]]  # fmt: skip
  activation = said["hidden_activation" if gemma else "hidden_act"]
  found = {
    "vocab_size": said["vocab_size"],
    "width": width,
    "depth": said["num_hidden_layers"],
    "heads": heads,
    "kv_heads": said["num_key_value_heads"],
    "hidden": said["intermediate_size"],
    "size": size,
    "tied": said["tie_word_embeddings"],
    "epsilon": said["rms_norm_eps"],
    "activation": {"silu": "silu", "gelu_pytorch_tanh": "gelu"}[activation],
    "qkv_bias": bias or family == "qwen2",
    "o_bias": bias and family != "qwen2",
    "mlp_bias": said.get("mlp_bias", False),
    "qk_norm": family in ("qwen3", "gemma3_text", "gemma3"),
    "post_norms": gemma,
    "windows": tuple(said["sliding_window"] if x == "s" else 0 for x in kinds)
    if "s" in kinds
    else (),
    "rope_base": full["rope_theta"],
    "rope_scaling": (full["rope_type"], *(full[x] for x in scaling))
    if scaling
    else None,
    "window_base": rope.get("sliding_attention", {}).get("rope_theta", 0.0),
  }
  if 0 in (said.get("no_rope_layers") or ()):
    found["turned"] = tuple(bool(x) for x in said["no_rope_layers"])
  if gemma:
    found |= {
      "embed_scale": width**0.5,
      "query_scale": said["query_pre_attn_scalar"] ** -0.5,
      "attention_cap": said["attn_logit_softcapping"] or 0.0,
      "logit_cap": said["final_logit_softcapping"] or 0.0,
    }
  return found


@pytest.mark.parametrize("family", families.DEFAULTS)
def test_defaults_are_those_of_the_class(family):
  ours, said = families.DEFAULTS[family], SAID["defaults"][family]
  theta = said["default_theta"]
  theta = theta if isinstance(theta, dict) else {"global": theta}
  said |= {"rope_theta": theta["global"], "rope_scaling": None}
  if "local" in theta:  # the class takes these from older files
    said |= {
      "rope_local_base_freq": theta["local"],
      "sliding_window_pattern": 6,
    }
  # Read by the attention, though no field of the class.
  said.setdefault("head_dim", None)
  assert ours == {name: said[name] for name in ours}
  read = {*ours, *families.SIZES, *families.FIXED, *ELSEWHERE}
  assert not set(said) - read, "fields of the class that nobody read"


@pytest.mark.parametrize("name", GIVEN["hub"])
def test_files_of_the_hub_give_what_transformers_makes_of_them(name):
  config = GIVEN["hub"][name]["config"]
  assert pretrained.settings(config) == expected(
    config["model_type"], SAID["hub"][name]
  )


@pytest.mark.parametrize("name", GIVEN["odd"])
def test_odd_files_give_the_same_or_are_refused(name):
  config, said = GIVEN["odd"][name]["config"], SAID["odd"][name]
  refused = GIVEN["odd"][name].get("refused")
  if refused is None:
    found = pretrained.settings(config)
    assert found == expected(config["model_type"], said)
    return
  with pytest.raises(ValueError) as error:
    pretrained.settings(config)
  text = str(error.value)
  assert text.startswith("config.json") and refused in text
  assert "\n" not in text


def test_what_transformers_refuses_is_refused():
  """Every error of its classes is one of ours, by name, in the test above."""
  failed = {name for name, said in SAID["odd"].items() if isinstance(said, str)}
  assert failed and all("refused" in GIVEN["odd"][name] for name in failed)


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("*/config.json")))
def test_fields_that_equal_their_default_may_be_left_out(folder):
  """The models of golden/, whose logits test_pretrained compares."""
  config = json.loads(folder.read_text())
  defaults = families.DEFAULTS[config["model_type"]]
  short = {k: v for k, v in config.items() if defaults.get(k, ...) != v}
  assert len(short) <= len(config) - 3
  assert pretrained.settings(short) == pretrained.settings(config)


def test_the_text_of_a_multimodal_gemma_3_has_its_own_defaults():
  """Gemma 3 4B once ran with SiLU, because its file says no activation."""
  config = json.loads((GOLDEN / "gemma3" / "config.json").read_text())
  own = ("hidden_activation", "attn_logit_softcapping", "tie_word_embeddings",
         "rms_norm_eps", "attention_bias", "model_type")  # fmt: skip
  text = {k: v for k, v in config.items() if k not in own}
  nested = {"model_type": "gemma3", "text_config": text}
  assert pretrained.settings(nested) == pretrained.settings(config)
  assert pretrained.settings(nested)["activation"] == "gelu"
  text["tie_word_embeddings"] = False
  assert not pretrained.settings(nested)["tied"]
  nested["tie_word_embeddings"] = True
  with pytest.raises(ValueError, match="tie_word_embeddings=True, and False"):
    pretrained.settings(nested)
  with pytest.raises(ValueError, match="text_config=3 must hold fields"):
    pretrained.settings({"model_type": "gemma3", "text_config": 3})


@pytest.mark.parametrize(
  "family, needs",
  [
    ("qwen3_moe", "experts and their router"),
    ("qwen2_moe", "a shared expert"),
    ("gemma3n", "AltUp"),
    ("phi3", "qkv_proj"),
    ("mistral", "comparison"),
    ("mamba", "is not supported. Supported are llama"),
    (None, "is not supported. Supported are llama"),
  ],
)
def test_others_are_refused_with_what_they_need_and_what_there_is(
  family, needs
):
  with pytest.raises(ValueError) as error:
    pretrained.settings({"model_type": family})
  assert needs in str(error.value) and f"{family!r}" in str(error.value)
  assert all(name in str(error.value) for name in families.FAMILIES)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"quantization_config": {"quant_method": "fp8"}}, r"quantised \(fp8\)"),
    ({"quantization": {"bits": 4, "mode": "affine"}}, r"quantised \(affine\)"),
    ({"compression_config": {"format": "pack"}}, r"quantised \(pack\)"),
    ({"hidden_size": None}, "lacks hidden_size"),
    ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be a whole number"),
    ({"num_hidden_layers": True}, "num_hidden_layers=True"),
    ({"vocab_size": 64.5}, "vocab_size=64.5"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps=nan"),
    ({"hidden_act": 3}, "hidden_act=3 must be a name"),
    ({"hidden_act": "relu"}, "'relu' is none of silu"),
    ({"rope_scaling": [2.0]}, r"rope_scaling=\[2.0\] must be fields"),
    ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor .* has '2'"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
     "needs a number low_freq_factor above 0, and has None"),
    ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor .* has 0"),
    ({"rope_scaling": {"type": ["linear"]}}, r"rope_type=\['linear'\]"),
    ({"rope_parameters": {"full_attention": "x"}}, "fields for each kind"),
    ({"rope_theta": 0}, "rope_theta=0 must be a number above 0"),
    ({"model_type": ["llama"]}, r"model_type=\['llama'\] is not supported"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0,
                       "attention_factor": 1.0}}, "has attention_factor"),
    ({"is_causal": False}, "is_causal=False"),
  ],
)  # fmt: skip
def test_impossible_fields_are_one_line_with_their_name(changes, message):
  config = GIVEN["odd"]["llama of sizes alone"]["config"]
  with pytest.raises(ValueError, match=message) as error:
    pretrained.settings(config | changes)
  assert str(error.value).startswith("config.json")
  assert "\n" not in str(error.value)


def test_transformers_still_says_so():
  """With the extra "parity": the stored values, asked anew."""
  pytest.importorskip("torch", reason="the extra 'parity'")
  spec = importlib.util.spec_from_file_location("make", GOLDEN / "make.py")
  make = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(make)
  found = json.loads(make.lines(make.configs()))
  for part in ("hub", "odd"):
    for name, said in found[part].items():
      stored = SAID[part][name]
      same = (
        isinstance(said, str) if isinstance(stored, str) else said == stored
      )
      assert same, name
  for family, ours in families.DEFAULTS.items():
    said, stored = found["defaults"][family], SAID["defaults"][family]
    both = set(ours) & set(said)
    assert {x: said[x] for x in both} == {x: stored[x] for x in both}
