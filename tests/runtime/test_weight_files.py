"""Every tensor of a checkpoint is read, or its folder is refused in a line."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rsrc_jax.runtime import sharding, weights

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"


def copied(tmp_path, name="smollm2"):
  return Path(shutil.copytree(GOLDEN / name, tmp_path / name))


def rewrite(folder, tensors=(), drop=(), **config):
  """Changes tensors and fields of a folder."""
  kept = {**load_file(folder / MODEL), **dict(tensors)}
  save_file({k: v for k, v in kept.items() if k not in drop}, folder / MODEL)
  said = json.loads((folder / "config.json").read_text()) | config
  (folder / "config.json").write_text(json.dumps(said))
  return folder


def refused(folder, message):
  with pytest.raises(ValueError, match=message) as error:
    weights.open_folder(folder)
  assert "\n" not in str(error.value) and str(folder) in str(error.value)


def split(folder, names=("model-00001-of-00002", "model-00002-of-00002")):
  """The model in two files with an index."""
  tensors = load_file(folder / MODEL)
  (folder / MODEL).unlink()
  where = {}
  for i, name in enumerate(names):
    part = dict(list(tensors.items())[i::2])
    save_file(part, folder / f"{name}.safetensors")
    where |= dict.fromkeys(part, f"{name}.safetensors")
  (folder / INDEX).write_text(json.dumps({"weight_map": where}))
  return where


def test_broken_folders_are_one_clear_line(tmp_path):
  refused(tmp_path, "no config.json")
  folder = copied(tmp_path)
  file, config = folder / "model.safetensors", folder / "config.json"
  tensors, whole = load_file(file), file.read_bytes()
  file.write_bytes(whole[:-200])
  refused(folder, "truncated")
  file.write_bytes(b"")
  refused(folder, "truncated")
  some = {k: v for k, v in tensors.items() if "layers.2.mlp" not in k}
  save_file(some, file)
  refused(folder, "lacks 3 of .* tensors, model.layers.2.mlp.down_proj.weight")
  file.write_bytes(whole)
  said = json.loads(config.read_text())
  config.write_text(json.dumps(said | {"intermediate_size": 32}))
  refused(folder, r"gate_proj.weight is \[24, 16\], .* says \[32, 16\]")
  config.write_text("{")
  refused(folder, "no JSON")
  config.write_text(json.dumps(said))
  file.rename(folder / "pytorch_model.bin")
  refused(folder, "only pickles .*pytorch_model.bin.* Convert them")
  (folder / "pytorch_model.bin").unlink()
  refused(folder, r"has no \*.safetensors")


def test_broken_json_names_its_path(tmp_path):
  folder = copied(tmp_path)
  (folder / "config.json").write_text("[1]")
  refused(folder, "config.json must hold fields")
  shutil.copy(GOLDEN / "smollm2" / "config.json", folder)
  whole = split(folder)
  for text, message in (
    ('{"weight_map": {', "index.json is no JSON"),
    ("{}", "index.json has no weight_map"),
    ('{"weight_map": []}', "index.json has no weight_map"),
    ('{"weight_map": {"a": "../x.safetensors"}}', "files of its folder"),
  ):
    (folder / INDEX).write_text(text)
    refused(folder, message)
  moved = dict(zip(whole, [*whole.values()][::-1], strict=True))
  (folder / INDEX).write_text(json.dumps({"weight_map": moved}))
  refused(folder, "index.json says that .* and it is not")


def test_a_setting_is_refused_with_the_path_of_its_file(tmp_path):
  folder = rewrite(copied(tmp_path), rope_scaling={"type": "linear"})
  refused(
    folder, "smollm2/config.json: rope_scaling .linear. needs a number factor"
  )


def test_quantised_weights_are_refused(tmp_path):
  """int8 values were once read as if they were the weights."""
  name = "model.layers.1.mlp.up_proj.weight"
  folder = copied(tmp_path)
  small = np.ones((24, 16), np.int8)
  rewrite(folder, quantization_config={"quant_method": "compressed-tensors"})
  refused(folder, "quantised .compressed-tensors.* in bfloat16, float16 or")
  shutil.copy(GOLDEN / "smollm2" / "config.json", folder)
  rewrite(folder, {name: small})
  refused(folder, "model.safetensors: model.layers.1.mlp.up_proj.weight is of "
                  "dtype I8, and only F32, F16, BF16, F64")  # fmt: skip
  scale = name.replace("weight", "weight_scale")
  rewrite(folder, {scale: np.ones(24, np.float32)})
  refused(folder, "up_proj.weight_scale: the weights are quantised")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_plain_floats_of_any_width_are_read(tmp_path, dtype):
  folder = copied(tmp_path)
  tensors = load_file(folder / MODEL)
  rewrite(folder, {k: x.astype(jnp.dtype(dtype)) for k, x in tensors.items()})
  mesh = sharding.make_mesh(data=1)
  got = weights.load(weights.open_folder(folder), mesh)["embed"]
  want = tensors["model.embed_tokens.weight"]
  np.testing.assert_allclose(got, want, rtol=5e-3, atol=1e-6)


def test_biases_that_config_json_is_silent_about_are_refused(tmp_path):
  folder = rewrite(
    copied(tmp_path, "biased"), attention_bias=False, mlp_bias=False
  )
  refused(folder, "21 tensors have no place .*mlp.down_proj.bias.*and more: "
                  ".*attention_bias, mlp_bias")  # fmt: skip
  rewrite(folder, attention_bias=True, mlp_bias=True)
  assert weights.open_folder(folder).settings["mlp_bias"]


def test_layers_too_few_or_too_many_are_counted(tmp_path):
  folder = rewrite(copied(tmp_path), num_hidden_layers=2)
  refused(folder, r"num_hidden_layers=2, and the files hold 3 layers \(0 to 2")
  refused(rewrite(folder, num_hidden_layers=4), "num_hidden_layers=4, and .* 3")


def test_what_may_stand_beside_the_text_model(tmp_path):
  """Tables of rotations, an equal output matrix, a vision tower; no more."""
  folder, one = copied(tmp_path, "gemma3"), np.ones(4, np.float32)
  plain = load_file(folder / MODEL)
  embed = plain["model.embed_tokens.weight"]
  beside = {"model.layers.0.self_attn.rotary_emb.inv_freq": one,
            "lm_head.weight": embed}  # fmt: skip
  want = weights.open_folder(rewrite(folder, beside)).settings
  refused(rewrite(folder, {"vision_tower.x": one}), "no place .*vision_tower.x")
  for prefix, outside in (
    ("language_model.", ""), ("model.language_model.", "model.")
  ):  # fmt: skip
    renamed = {
      f"{prefix}{k.removeprefix('model.') if outside else k}": x
      for k, x in plain.items()
    }
    renamed |= {f"{outside}vision_tower.encoder.x": one,
                f"{outside}multi_modal_projector.y": one}  # fmt: skip
    head = "language_model.lm_head.weight" if not outside else "lm_head.weight"
    save_file(renamed | {head: embed}, folder / MODEL)
    assert weights.open_folder(folder).settings == want
    save_file(renamed | {"language_model.extra": one}, folder / MODEL)
    refused(folder, "1 tensors have no place .*language_model.extra")


def test_another_output_matrix_beside_tied_embeddings_is_refused(tmp_path):
  """transformers 4 drops it and 5 uses it: which one was trained?"""
  folder = copied(tmp_path)
  embed = load_file(folder / MODEL)["model.embed_tokens.weight"]
  other = {"lm_head.weight": embed * 1.01}
  refused(rewrite(folder, other), "tie_word_embeddings=true, and .* lm_head")
  found = weights.open_folder(rewrite(folder, tie_word_embeddings=False))
  assert not found.settings["tied"]
  params = weights.load(found, sharding.make_mesh(data=1))
  np.testing.assert_array_equal(params["unembed"], other["lm_head.weight"])


def test_only_the_model_of_the_folder_is_read(tmp_path):
  """A second file once won by the alphabet."""
  folder = copied(tmp_path)
  tensors = load_file(folder / MODEL)
  want = tensors["model.norm.weight"]
  norm = lambda: np.asarray(
    weights.load(weights.open_folder(folder), sharding.make_mesh(data=1))[
      "norm"
    ]["scale"]
  )
  other = {k: x + 1 for k, x in tensors.items()}
  save_file(other, folder / "old_model.safetensors")
  save_file(other, folder / "adapter_model.safetensors")
  with pytest.warns(UserWarning, match="adapter_model.safetensors, old_model"):
    np.testing.assert_array_equal(norm(), want)
  (folder / "old_model.safetensors").unlink()
  with pytest.warns(UserWarning, match="an adapter: merge it first"):
    norm()
  split(folder)
  with pytest.warns(
    UserWarning, match="the model is model-00001.*and the rest"
  ):
    np.testing.assert_array_equal(norm(), want)
  save_file(other, folder / MODEL)
  refused(folder, "holds two models: model.safetensors, and the files of")
  (folder / MODEL).unlink()
  again = load_file(folder / "model-00002-of-00002.safetensors")
  again["model.norm.weight"] = want
  save_file(again, folder / "model-00002-of-00002.safetensors")
  refused(folder, "model.norm.weight is in model-00001.* and in model-00002")
  (folder / INDEX).unlink()
  refused(folder, "neither model.safetensors nor model.safetensors.index.json")
  for path in folder.glob("model-*"):
    path.unlink()
  refused(folder, "only an adapter .adapter_model.safetensors.: merge it")
