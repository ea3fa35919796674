"""A small pretrained checkpoint through the whole loop: LoRA on its weights."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_checkpoint

from experiments.random_vocabulary import measure_arms
from rsrc_jax import runs, train
from rsrc_jax.build.setup import initial_params, make_setup
from rsrc_jax.data import sources
from rsrc_jax.models import lora
from rsrc_jax.runtime import inputs, memory, weights
from rsrc_jax.runtime.configs import load, module
from rsrc_jax.stages import plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  """configs/smollm2_cpu.py on a small checkpoint and its own sentences."""
  folder = tmp_path_factory.mktemp("pretrained")
  config = load(ROOT / "configs" / "smollm2_cpu.py")
  # Of one layer: what a stack of them is has tests of its own.
  path = small_checkpoint.make(folder / "checkpoint", num_hidden_layers=1)
  config.model.path = str(path)
  (folder / "checkpoint" / "chat_template.jinja").write_text(
    small_checkpoint.TEMPLATE
  )
  (folder / "text.txt").write_text("\n\n".join(small_checkpoint.SENTENCES))
  config.data.path, config.data.max_tokens = str(folder / "text.txt"), 60
  config.lora.rank, config.steps, config.only = 2, 2, "code"
  config.ledger.enabled = False
  config.optimizer.warmup = 0
  return config


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  return train.train(config, workdir), workdir


def test_adapters_are_trained_and_saved_alone(config, finished):
  summary, workdir = finished
  run = runs.open(workdir)
  adapters, base = run.state("code").params, run.base
  assert set(adapters) == {"blocks"}
  names = {k for node in adapters["blocks"].values() for k in node}
  assert names == {"lora_a", "lora_b"}
  # B starts at zero: whatever it holds has been learnt.
  learnt = [n["lora_b"] for n in adapters["blocks"].values()]
  assert all(np.abs(x).max() > 0 for x in learnt)
  full = run.params("code")
  assert full["embed"] is base["embed"]
  assert full["blocks"]["q"]["kernel"] is base["blocks"]["q"]["kernel"]
  assert summary["params"] == sum(x.size for x in jax.tree.leaves(base))


def test_what_was_trained_can_be_exported(config, finished, tmp_path):
  """tools/export.py: adapters merged, the tokenizer beside them."""
  _, workdir = finished
  out = tmp_path / "out"
  command = [sys.executable, ROOT / "tools" / "export.py", "--arm=code",
             f"--workdir={workdir}", f"--out={out}"]  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert "from_pretrained" in done.stdout
  run = runs.open(workdir)
  params = weights.load(weights.open_folder(out), run.setup.mesh)
  base, adapters = run.base, run.state("code").params
  merged = lora.merge(base, adapters, config.lora.alpha / config.lora.rank)
  kernel = params["blocks"]["up"]["kernel"]
  np.testing.assert_allclose(
    kernel, merged["blocks"]["up"]["kernel"], atol=1e-6
  )
  assert np.abs(kernel - base["blocks"]["up"]["kernel"]).max() > 1e-5
  names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
  for name in names:
    theirs = Path(config.model.path, name)
    assert (out / name).read_bytes() == theirs.read_bytes()
  tool = module(ROOT / "tools" / "export.py")
  with pytest.raises(SystemExit, match=r"error: .* is not empty, and a chec"):
    tool.main(command[2:])
  command[-1] = f"--out={tmp_path / 'new'}"
  again = [*command[:2], "--arm=cod", *command[3:]]
  refused = subprocess.run(again, capture_output=True, text=True)
  assert refused.returncode == 1 and "no arm 'cod'" in refused.stderr


def test_a_checkpoint_that_has_changed_is_named(config, finished):
  """Weights, and a template where there was another."""
  _, workdir = finished
  folder = Path(config.model.path)
  assert {
    "config.model.path/model.safetensors", "config.model.path/config.json",
    "config.model.path/tokenizer.json", "config.data.path", "corpus",
    "config.model.path/chat_template.jinja", "tokenizer",
  } <= set(inputs.recorded(workdir))  # fmt: skip
  for name, call in (
    ("model.safetensors", lambda: runs.open(workdir)),
    # Not the results of the other one.
    ("tokenizer_config.json", lambda: train.train(config, workdir)),
  ):
    before = (folder / name).read_bytes()
    last = bytes([before[-1] ^ 1]) if name.endswith("safetensors") else b" }"
    (folder / name).write_bytes(before[:-1] + last)
    with pytest.raises(ValueError, match=f"another config.model.path/{name}"):
      call()
    (folder / name).write_bytes(before)


def test_codes_are_ids_of_its_tokenizer(config, finished):
  _, workdir = finished
  setup = make_setup(config, workdir)
  C = setup.roles["C"]
  assert C.end == 2 and not C.support[[0, 1]].any()
  lines = (workdir / "samples.jsonl").read_text()
  assert "Lamp" in lines


def test_pretrained_settings_that_cannot_work_are_one_line(config, tmp_path):
  def refused(message, **changes):
    broken = config.copy_and_resolve_references()
    broken.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message) as error:
      make_setup(broken, tmp_path)
    assert "\n" not in str(error.value)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(memory, "free", lambda mesh: 150e3)  # 33 kB each
    refused(r"5 times its parameters: 0\.0 GB a device", **{"lora.rank": 0})
    make_setup(config, tmp_path)  # adapters alone fit
  refused("has no config.json", **{"model.path": str(tmp_path)})
  refused("a pretrained model reads text", **{"data.source": "facts"})
  refused(r"config\.pretrain\.steps=-1", **{"pretrain.steps": -1})
  half = {"lora.base": "bfloat16"}
  refused("'code' trains all weights", **half, **{"lora.rank": 0})
  refused("'base' trains all weights", **half, **{"pretrain.steps": 3})
  refused("one of 'float32', 'bfloat16'", **{"lora.base": "int4"})


def test_a_frozen_base_is_kept_once_and_as_asked(config, tmp_path):
  """Nothing of the base is copied for a phase that does not train it."""
  half = config.copy_and_resolve_references()
  half.lora.base = "bfloat16"
  setup = make_setup(half, tmp_path)
  base, arm = plan.make_stages(setup)
  params = initial_params(setup)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
  state = base.init(params)
  assert jax.tree.leaves(state.opt_state) == []
  kept, before = jax.tree.leaves(state.params), jax.tree.leaves(params)
  assert all(x is y for x, y in zip(kept, before, strict=True))
  adapters = jax.tree.leaves(arm.init(params).params)
  assert {x.dtype for x in adapters} == {jnp.dtype("float32")}
  whole = initial_params(make_setup(config, tmp_path))
  assert jax.tree.leaves(whole)[0].dtype == jnp.float32


def test_the_research_question_on_its_weights(config, tmp_path):
  """F of configs/random_vocabulary_smollm2.py takes a step, asked in words."""
  asked = load(ROOT / "configs" / "random_vocabulary_smollm2.py")
  asked.model, asked.data = config.model, config.data
  asked.only, asked.lora.rank, asked.batch_size = "F", 2, 2
  asked.eval.batch_size = asked.eval.rows = asked.eval.test_rows = 2
  asked.patterns.cdv.group = 2
  setup = make_setup(asked, tmp_path)
  said, C = setup.corpus.vocab.decode, setup.roles["C"]
  assert said([*C.use_tag]) == "\n\nUse these tokens:"
  assert said([*C.avoid_tag]) == "\n\nDo not use these tokens:"
  _, arm = plan.make_stages(setup)
  base = initial_params(setup)
  state, frozen = arm.init(base), {"base": base, "reader": base}
  batch = next(sources.batches(setup.corpus.train, batch_size=2, seed=0))
  controls = arm.controls(state, frozen, batch)
  state, metrics = arm.step(state, frozen, batch, controls)
  assert int(state.step) == 1
  assert all(np.isfinite(x) for x in jax.device_get(metrics).values())


def test_adapters_are_measured(config, finished):
  """measure_arms.py of the experiment reads a run that has trained adapters."""
  summary, workdir = finished
  found = measure_arms.measure(runs.open(workdir))["arms"]["code"]
  # Of more rows; the first are those of the run's own test.
  rows = found["by_budget"]["8"]["nll_bits"][: config.eval.test_rows]
  score = np.mean(rows)
  same = summary["heldout"]["code"]["nll_bits"]
  assert score == pytest.approx(same, rel=1e-4)
  assert np.isfinite(found["valid"]["8"])
