"""Other people's checkpoints: what `transformers` says of them, we say too.

golden/pretrained holds small random models of every family and the logits and
greedy continuations that its make.py got from torch; with torch at hand
(the extra "parity") the same is asked anew of an export.
"""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import pretrained
from rsrc_jax.runtime import sharding, weights
from rsrc_jax.types import Tokens

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
FAMILIES = ("llama", "smollm2", "biased", "qwen2", "qwen3", "gemma2", "gemma3")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
  """(opened folder, policy, parameters, what transformers said)."""
  found = weights.open_folder(GOLDEN / request.param)
  params = weights.load(found, sharding.make_mesh(data=1))
  said = dict(np.load(GOLDEN / request.param / "said.npz"))
  return found, pretrained.make(**found.settings), params, said


def logits(policy, params, ids, mask):
  """[N, T] -> [N, T, V]"""
  text = Tokens(jnp.asarray(ids)[:, None], jnp.asarray(mask)[:, None])
  place = tokens.positions(text.mask)
  hidden, _ = jax.jit(policy.apply)(params, text, place)
  return np.asarray(policy.unembed(params, hidden)[:, 0])


def assert_near(got, want):
  """To 2e-5 of the largest."""
  assert np.abs(got - want).max() <= 2e-5 * np.abs(want).max()


def test_logits_are_those_of_transformers(family):
  _, policy, params, said = family
  full = logits(policy, params, said["ids"], np.ones_like(said["mask"]))
  assert_near(full, said["logits"])


def test_pads_left_or_right_change_nothing(family):
  _, policy, params, said = family
  ids, mask = said["ids"], said["mask"]
  left = logits(policy, params, ids, mask)
  assert_near(left[mask], said["padded"][mask])
  # The same rows, their pads moved to the right.
  order = np.argsort(~mask, 1, kind="stable")
  move = lambda x: np.take_along_axis(x, order, 1)
  right = logits(policy, params, move(ids), move(mask))
  assert_near(right[move(mask)], said["padded"][mask])


def test_greedy_continuations_are_those_of_transformers(family):
  """Cached decoding behind a shared prefix, with windows, caps and pads."""
  found, policy, params, said = family
  size, new = found.settings["vocab_size"], said["written"].shape[1]
  role = Role(0, 0, size, new, np.ones(size, bool), temperature=0.0)
  keys = jax.random.split(jax.random.key(0), len(said["ids"]))
  got = rollout.sample(
    policy, params, role, Tokens(said["ids"], said["mask"]), keys, samples=2
  ).output.ids
  for sample in range(2):
    np.testing.assert_array_equal(got[:, sample], said["written"])


@pytest.mark.parametrize("name", ["biased", "gemma3"])
def test_scanned_and_rematerialised_layers_are_the_same(name):
  found = weights.open_folder(GOLDEN / name)
  params = weights.load(found, sharding.make_mesh(data=1))
  policy = pretrained.make(**found.settings)
  said = np.load(GOLDEN / name / "said.npz")
  other = pretrained.make(**found.settings, scan=True, remat=True)
  want = logits(policy, params, said["ids"], said["mask"])
  got = logits(other, params, said["ids"], said["mask"])
  assert_near(got[said["mask"]], want[said["mask"]])
  text = Tokens(said["ids"][:, None], said["mask"][:, None])

  def loss(policy):
    def mean(params):
      hidden, _ = policy.apply(params, text, tokens.positions(text.mask))
      return jnp.mean(policy.unembed(params, hidden) ** 2)

    return jax.jit(jax.grad(mean))(params)

  for a, b in zip(
    jax.tree.leaves(loss(other)), jax.tree.leaves(loss(policy)), strict=True
  ):
    assert jnp.abs(a - b).max() <= 1e-5 * jnp.abs(b).max() + 1e-9


def test_an_export_is_what_was_loaded(family, tmp_path):
  found, _, params, _ = family
  files = weights.save(tmp_path, params, found.config)
  assert [f.name for f in files] == ["model.safetensors"]
  ours, theirs = (
    load_file(folder / "model.safetensors")
    for folder in (tmp_path, found.folder)
  )
  theirs.pop("lm_head.weight", None) if found.settings["tied"] else None
  assert ours.keys() == theirs.keys()
  for name, x in ours.items():
    # Gemma's norms lose a bit: they are stored less one.
    np.testing.assert_allclose(x, theirs[name], rtol=0, atol=2e-7)
  assert weights.open_folder(tmp_path).settings == found.settings


def test_transformers_loads_an_export(family, tmp_path):
  torch = pytest.importorskip("torch", reason="the extra 'parity'")
  from transformers import AutoModelForCausalLM

  found, policy, params, said = family
  params = jax.tree.map(lambda x: x * 1.1, params)  # as if it had learnt
  weights.save(tmp_path, params, found.config)
  model = AutoModelForCausalLM.from_pretrained(tmp_path).float().eval()
  with torch.no_grad():
    want = model(torch.tensor(said["ids"])).logits.numpy()
  assert_near(
    logits(policy, params, said["ids"], np.ones_like(said["mask"])), want
  )


def test_large_exports_are_split(tmp_path, monkeypatch):
  found = weights.open_folder(GOLDEN / "qwen3")
  params = weights.load(found, sharding.make_mesh(data=1))
  monkeypatch.setattr(weights, "SHARD_BYTES", 5_000)
  files = weights.save(tmp_path, params, found.config, dtype=jnp.bfloat16)
  assert len(files) > 2
  assert max(f.stat().st_size for f in files) < 10_000
  again = weights.load(
    weights.open_folder(tmp_path), sharding.make_mesh(data=1), jnp.bfloat16
  )
  for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True):
    np.testing.assert_array_equal(a, b.astype(jnp.bfloat16))
  files[1].unlink()
  with pytest.raises(ValueError, match=f"lacks {files[1].name}"):
    weights.open_folder(tmp_path)


def test_shards_go_where_they_belong():
  """Every leaf is split as its rule says, and is the whole of it together."""
  found = weights.open_folder(GOLDEN / "gemma3")
  whole = weights.load(found, sharding.make_mesh(data=1))
  mesh = sharding.make_mesh(data=1, fsdp=2, tensor=2)
  split = weights.load(found, mesh)
  kernel = split["blocks"]["gate"]["kernel"]
  assert kernel.shape == (3, 16, 24)
  assert {s.data.shape for s in kernel.addressable_shards} == {(3, 8, 12)}
  for a, b in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
    np.testing.assert_array_equal(a, b)


# What the hub's own files say, numbers shortened to what matters.
LLAMA_32_1B = {
  "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048,
  "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
  "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
  "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True,
  "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0,
                   "low_freq_factor": 1.0, "rope_type": "llama3",
                   "original_max_position_embeddings": 8192},
}  # fmt: skip
QWEN_25_05B = {
  "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896,
  "intermediate_size": 4864, "num_hidden_layers": 24, "hidden_act": "silu",
  "num_attention_heads": 14, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
  "rope_theta": 1000000.0, "tie_word_embeddings": True, "sliding_window": 32768,
  "max_window_layers": 24, "use_sliding_window": False,
}  # fmt: skip
GEMMA_3_4B = {
  "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
  "text_config": {
    "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
    "model_type": "gemma3_text", "sliding_window": 1024,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
  },
}  # fmt: skip
GEMMA_2_2B = {
  "model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304,
  "intermediate_size": 9216, "num_hidden_layers": 26, "head_dim": 256,
  "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_act":
  "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
  "query_pre_attn_scalar": 256, "sliding_window": 4096, "rope_theta": 10000.0,
  "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
}  # fmt: skip


def test_older_config_files_are_understood():
  """Sizes of the real ones: their parameters are counted, nothing is loaded."""
  count = lambda config: sum(
    x.size for x in jax.tree.leaves(weights.tree(pretrained.settings(config)))
  )
  llama = pretrained.settings(LLAMA_32_1B)
  assert llama["rope_scaling"] == ("llama3", 32.0, 1.0, 4.0, 8192.0)
  assert llama["rope_base"] == 5e5 and count(LLAMA_32_1B) == 1_235_814_400
  qwen = pretrained.settings(QWEN_25_05B)
  assert qwen["qkv_bias"] and not qwen["o_bias"] and qwen["windows"] == ()
  assert count(QWEN_25_05B) == 494_032_768
  gemma = pretrained.settings(GEMMA_3_4B)
  assert gemma["windows"][:7] == (1024,) * 5 + (0, 1024)
  assert gemma["rope_scaling"] == ("linear", 8.0)
  assert (gemma["rope_base"], gemma["window_base"]) == (1e6, 1e4)
  assert count(GEMMA_3_4B) == 3_880_263_168
  gemma = pretrained.settings(GEMMA_2_2B)
  assert gemma["windows"][:3] == (4096, 0, 4096)
  assert gemma["tied"] and gemma["window_base"] == 0.0
  assert count(GEMMA_2_2B) == 2_614_341_888


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"model_type": "mamba"}, "model_type='mamba' is none of llama"),
    ({"hidden_act": "relu"}, "'relu'"),
    ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type='yarn'"),
    ({"hidden_size": None}, "lacks hidden_size"),
  ],
)
def test_unknown_architectures_are_refused(changes, message):
  config = {k: v for k, v in (LLAMA_32_1B | changes).items() if v is not None}
  with pytest.raises(ValueError, match=message):
    pretrained.settings(config)


def copied(tmp_path, name="smollm2"):
  return Path(shutil.copytree(GOLDEN / name, tmp_path / name))


def test_broken_folders_are_one_clear_line(tmp_path):
  def refused(folder, message):
    with pytest.raises(ValueError, match=message) as error:
      weights.open_folder(folder)
    assert "\n" not in str(error.value)

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
