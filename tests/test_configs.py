"""configs/: every config is complete, and says what it says."""

import importlib.util
from pathlib import Path

import pytest

from rsrc_jax import build

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").iterdir())


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize(
  "path", [p for p in CONFIGS if p.suffix == ".py"], ids=lambda p: p.stem
)
def test_a_config_builds_and_states_its_command(path, tmp_path):
  module = load(path)
  text = module.__doc__ + module.get_config.__doc__
  assert "./tools/run" in text and "minute" in text
  config = module.get_config()
  if config.data.source == "text":
    corpus = tmp_path / "corpus.txt"
    line = "Sentence number {} speaks of {} red lamps and of little else."
    corpus.write_text("\n\n".join(line.format(i, i * i) for i in range(1_000)))
    config.data.path = str(corpus)
    config.data.vocab_size, config.data.max_tokens = 320, 60
  phases = build.phases(build.world(config, tmp_path))
  assert phases[0].name == "base"
  assert {p.name for p in phases} == {
    "base", "lead", "surprising", "sft", "english_rl", "code",
  }  # fmt: skip
