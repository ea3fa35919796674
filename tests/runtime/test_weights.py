"""weights.py writes a checkpoint: a folder that is made, and never added to."""

import os

import jax
import numpy as np
import pytest
from helpers.small_checkpoint import CONFIG

from rsrc_jax.models import pretrained
from rsrc_jax.runtime import sharding, weights


def filled(value):
  """Parameters of the small checkpoint that are all equal."""
  shapes = weights.tree(pretrained.settings(CONFIG))
  return jax.tree.map(lambda x: np.full(x.shape, value, x.dtype), shapes)


def scale(folder):
  """What is read back of one parameter."""
  found = weights.load(weights.open_folder(folder), sharding.make_mesh(data=1))
  return set(np.asarray(found["norm"]["scale"]).tolist())


def test_a_second_export_does_not_mix_with_the_first(tmp_path, monkeypatch):
  """Seven files and an index, then one file that no index names."""
  out = tmp_path / "out"
  with monkeypatch.context() as patch:
    patch.setattr(weights, "SHARD_BYTES", 5_000)
    assert len(weights.save(out, filled(3.0), CONFIG)) > 2
  before = sorted(out.iterdir())
  with pytest.raises(ValueError, match="out is not empty") as error:
    weights.save(out, filled(7.0), CONFIG)
  assert "\n" not in str(error.value)
  assert sorted(out.iterdir()) == before and scale(out) == {3.0}
  (tmp_path / "new").mkdir()  # an empty one is as good as none
  weights.save(tmp_path / "new", filled(7.0), CONFIG)
  assert scale(tmp_path / "new") == {7.0}


@pytest.mark.parametrize("at", [0, 1])
def test_an_export_that_was_cut_is_no_checkpoint(tmp_path, monkeypatch, at):
  real, calls = weights.save_file, []

  def cut(*parts, **more):
    calls.append(1)
    if len(calls) > at:
      raise KeyboardInterrupt
    real(*parts, **more)

  monkeypatch.setattr(weights, "save_file", cut)
  monkeypatch.setattr(weights, "SHARD_BYTES", 5_000)
  with pytest.raises(KeyboardInterrupt):
    weights.save(tmp_path / "out", filled(3.0), CONFIG)
  with pytest.raises(ValueError, match=r"has no config\.json"):
    weights.open_folder(tmp_path / "out")


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_modes_of_the_user(tmp_path, umask, mode):
  """safetensors writes 0600, whatever the umask is."""
  (tmp_path / "tokenizer.json").write_text("{}")
  (tmp_path / "tokenizer.json").chmod(0o400)
  before = os.umask(umask)
  try:
    beside = [tmp_path / "tokenizer.json"]
    weights.save(tmp_path / "out", filled(3.0), CONFIG, beside=beside)
  finally:
    os.umask(before)
  modes = {
    x.name: x.stat().st_mode & 0o777 for x in (tmp_path / "out").iterdir()
  }
  assert modes == dict.fromkeys(
    ("config.json", "model.safetensors", "tokenizer.json"), mode
  )


def test_all_that_is_no_weight_is_kept(tmp_path):
  kept = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "LICENSE", "merges.txt", "preprocessor.json",
    "special_tokens_map.json", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "additional_chat_templates/rag.jinja",
  )  # fmt: skip
  left = (
    "config.json", "model.safetensors", "model.safetensors.index.json",
    "pytorch_model.bin", "pytorch_model.bin.index.json", "old.gguf",
    ".gitattributes", "runs/x.json",
  )  # fmt: skip
  for name in (*kept, *left):
    path = tmp_path / "theirs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
  beside = weights.others(tmp_path / "theirs")
  weights.save(tmp_path / "out", filled(3.0), CONFIG, beside=beside)
  out = tmp_path / "out"
  ours = {str(x.relative_to(out)) for x in out.rglob("*") if x.is_file()}
  assert ours == {*kept, "config.json", "model.safetensors"}
  assert all((out / name).read_text() == name for name in kept)


def test_what_a_run_reads_of_a_checkpoint(tmp_path, monkeypatch):
  monkeypatch.setattr(weights, "SHARD_BYTES", 5_000)
  files = weights.save(tmp_path, filled(3.0), CONFIG)
  for name in ("tokenizer.json", "chat_template.jinja", "README.md", "x.bin"):
    (tmp_path / name).write_text(name)
  (tmp_path / "more.safetensors").write_bytes(files[0].read_bytes())
  with pytest.warns(UserWarning, match="more.safetensors is not read"):
    found = weights.files_read(weights.open_folder(tmp_path))
  small = ("config.json", "model.safetensors.index.json", "tokenizer.json",
           "chat_template.jinja")  # fmt: skip
  assert found == sorted([*files, *(tmp_path / name for name in small)])
