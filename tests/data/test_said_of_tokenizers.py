"""Tokenizers of checkpoints: what `transformers` says of them, we say too.

golden/tokenizers/said.json is from its make.py.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from helpers import tokenizer_folders
from helpers.tokenizer_folders import CASES, TEXT

from rsrc_jax.data import hf_vocabulary

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizers"
SAID = json.loads((GOLDEN / "said.json").read_text("utf-8"))


@pytest.mark.filterwarnings("ignore:.*different chat templates")
@pytest.mark.parametrize("name", CASES)
def test_prompts_ids_and_ends_are_those_of_transformers(name, tmp_path):
  said, files = SAID[name], CASES[name]
  vocab = hf_vocabulary.vocabulary(
    tokenizer_folders.write(tmp_path, files),
    files["config.json"]["vocab_size"],
    {"C": "Say it:\n{}"},
  )
  before, after = vocab.tags["C"]
  assert [*before, *vocab.encode(TEXT), *after] == said["ids"]
  assert vocab.encode(said["plain"]) == said["plain_ids"]
  assert vocab.decode(said["plain_ids"]) == said["plain"]
  assert vocab.tags["text"] == ((said["bos"],), ())
  assert vocab.end in (said["ends"] or [said["eos"]])
  assert not vocab.text[[x for x in said["ends"] if x is not None]].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_stored_is_what_it_says_today(name, tmp_path):
  pytest.importorskip("transformers", reason="the extra 'parity'")
  spec = importlib.util.spec_from_file_location("said", GOLDEN / "make.py")
  make = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(make)
  folder = tokenizer_folders.write(tmp_path, CASES[name])
  assert make.said(folder) == SAID[name]
