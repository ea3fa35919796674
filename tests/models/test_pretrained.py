"""Other people's checkpoints: what `transformers` says of them, we say too.

golden/pretrained holds small random models of every family and the logits and
greedy continuations that its make.py got from torch; with torch at hand
(the extra "parity") the same is asked anew of an export.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import pretrained
from rsrc_jax.runtime import sharding, weights
from rsrc_jax.types import Tokens

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
FAMILIES = ("llama", "smollm2", "smollm3", "biased", "qwen2", "qwen3", "gemma2",
            "gemma3")  # fmt: skip
# Of the models on the hub, as their pages have it.
PARAMETERS = {
  "llama-3.1-8b": 8_030_261_248,
  "llama-3.2-1b": 1_235_814_400,
  "llama-3.2-3b": 3_212_749_824,
  "smollm2-135m": 134_515_008,
  "smollm2-360m": 361_821_120,
  "smollm2-1.7b": 1_711_376_384,
  "smollm3-3b": 3_075_098_624,
  "qwen2.5-0.5b-instruct": 494_032_768,
  "qwen2.5-1.5b-instruct": 1_543_714_304,
  "qwen2.5-3b-instruct": 3_085_938_688,
  "qwen2.5-7b-instruct": 7_615_616_512,
  "qwen3-0.6b": 596_049_920,
  "qwen3-1.7b": 1_720_574_976,
  "qwen3-4b": 4_022_468_096,
  "qwen3-8b": 8_190_735_360,
  "gemma-2-2b": 2_614_341_888,
  "gemma-2-9b": 9_241_705_984,
  "gemma-2-27b": 27_227_128_320,
  "gemma-3-270m": 268_098_176,
  "gemma-3-1b-it": 999_885_952,
  "gemma-3-4b-it": 3_880_263_168,
}


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


@pytest.mark.parametrize("name", ["biased", "smollm3", "gemma3"])
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


def test_models_of_the_hub_have_their_number_of_parameters():
  """Nothing is loaded; golden/pretrained/configs.json has their fields."""
  given = json.loads((GOLDEN / "configs.json").read_text())["hub"]
  count = lambda config: sum(
    x.size for x in jax.tree.leaves(weights.tree(pretrained.settings(config)))
  )
  found = {name: count(given[name]["config"]) for name in PARAMETERS}
  assert found == PARAMETERS
