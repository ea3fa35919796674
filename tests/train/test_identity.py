"""A run goes on, and is shown again, on what it began with; else it says so.

Nothing is trained: the folders are as they are when a run has begun.
"""

import json

import pytest
from helpers.runs import ROOT, shrunk

from rsrc_jax import population, runs, train
from rsrc_jax.build import identity
from rsrc_jax.build.setup import make_setup
from rsrc_jax.recursive import loop, puzzles
from rsrc_jax.runtime import inputs, lock, provenance
from rsrc_jax.runtime.configs import load


def lamps(many):
  return "\n\n".join(
    f"Lamp number {i} of {i * i} in the old house burns red until day {i % 7}."
    for i in range(many)
  )


def begun(config, workdir, found, summary=False):
  workdir.mkdir(exist_ok=True)
  inputs.record(found, workdir, workdir)
  provenance.record(config, workdir)
  if summary:
    (workdir / "summary.json").write_text('{"seed": 0}')


def refusal(call, *parts):
  with pytest.raises(ValueError) as error:
    call(*parts)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_an_edited_text_is_refused_before_any_compile(tmp_path):
  """Also where the run has ended, whose results are of the other text."""
  (tmp_path / "text").mkdir()
  file, workdir = tmp_path / "text" / "a.txt", tmp_path / "run"
  file.write_text(lamps(500))
  config = load(ROOT / "configs" / "cdv_text.py")
  config.data.path, config.data.vocab_size = str(tmp_path / "text"), 400
  config.model.width, config.model.heads, config.model.kv_heads = 16, 2, 1
  found = identity.of(make_setup(config, tmp_path / "cache"))
  assert set(found) == {"config.data.path/a.txt", "corpus", "tokenizer"}
  begun(config, workdir, found)
  (tmp_path / "text" / "notes.json").write_text("{}")  # which nobody reads
  file.write_text(lamps(500).replace("old house", "new barn"))
  said = refusal(train.train, config, workdir)
  assert "another config.data.path/a.txt (digest" in said
  assert "restore it to go on with that run" in said
  assert "restore it to read that run" in refusal(runs.open, workdir)
  (workdir / "summary.json").write_text('{"seed": 0}')
  assert said == refusal(train.train, config, workdir)
  file.write_text(lamps(500) + "\n\n")  # of which the corpus is the same
  assert runs.open(workdir).setup.corpus.digest == found["corpus"]
  file.write_text(lamps(500))
  assert train.train(config, workdir) == {"seed": 0}
  assert not (workdir / "checkpoints").exists()
  assert inputs.recorded(workdir) == found


def test_what_no_file_says_is_compared_too(tmp_path):
  """As the docstrings of another Python would be."""
  config = shrunk()
  setup = make_setup(config, tmp_path)
  found = identity.of(setup)
  assert set(found) == {"corpus", "tokenizer"}
  begun(config, tmp_path, found | {"corpus": "0" * 64})
  said = refusal(train.train, config, tmp_path)
  assert "another corpus (digest 000000000000 then" in said
  assert "environment.json" in said
  assert "to read that run" in refusal(runs.open, tmp_path)
  other = runs.read_config(tmp_path)
  other.data.sentences += 100  # other data is asked for
  assert list(runs.open(tmp_path, other).stages)
  vocab = setup.corpus.vocab
  for changed in (
    vocab._replace(pieces=lambda ids: ["x" for _ in ids]),
    vocab._replace(code=vocab.text),
    vocab._replace(tags={**vocab.tags, "C": ((1,), (2,))}),
  ):
    assert identity.of_vocabulary(changed) != found["tokenizer"]


def test_code_of_the_user_is_compared(tmp_path):
  toy = ROOT / "tests" / "helpers" / "doors" / "toy_writer.py"
  mine = tmp_path / "mine.py"
  mine.write_text(toy.read_text())
  rule = {"pattern": "extract", "write": str(mine), "start": "base"}
  config = shrunk(only="mine")
  config.arms.mine = {**rule, "overrides": ()}
  begun(config, tmp_path / "run", inputs.of_settings(config))
  with mine.open("a") as file:
    file.write("# another one\n")
  said = refusal(train.train, config, tmp_path / "run")
  assert "another config.arms.mine.write (digest" in said


def test_seeds_that_have_ended_are_compared(tmp_path):
  of = [shrunk(seed=seed) for seed in (0, 1)]
  folders = [tmp_path / str(seed) for seed in (0, 1)]
  for config, folder in zip(of, folders, strict=True):
    found = identity.of(make_setup(config, tmp_path))
    begun(config, folder, found, summary=True)
  done = [json.loads((x / "summary.json").read_text()) for x in folders]
  assert population.train(of, folders, how="vmap") == done
  begun(of[1], folders[1], {"corpus": "0" * 64}, summary=True)
  with pytest.raises(ValueError, match="1 holds a run on another corpus"):
    population.train(of, folders, how="vmap")


def test_puzzles_are_compared(tmp_path):
  mine = tmp_path / "mine.py"
  text = ("from rsrc_jax.data import sudoku\n"
          "def puzzles(*, seed, side, train, heldout):\n"
          "  return sudoku.puzzles(seed=seed + {}, side=side, train=train,\n"
          "    heldout=heldout)\n")  # fmt: skip
  mine.write_text(text.format(0))
  config = load(ROOT / "configs" / "trm.py")
  config.data.update({"name": str(mine), "side": 4, "train": 12, "heldout": 4})
  data = puzzles.load(**config.data, seed=0)
  found = inputs.of_settings(config) | {"puzzles": puzzles.digest(data)}
  assert set(found) == {"config.data.name", "puzzles"}
  workdir = tmp_path / "run"
  begun(config, workdir, found, summary=True)
  assert loop.train(config, workdir) == {"seed": 0}
  mine.write_text(text.format(1))
  other = puzzles.load(**config.data, seed=0)
  assert puzzles.digest(other) != found["puzzles"]
  said = refusal(loop.train, config, workdir)
  assert "another config.data.name (digest" in said and "and 1 more" in said


def test_two_starts_of_one_run(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "WAIT", 0.0)
  with lock.held(tmp_path / "run", 0.0):
    said = refusal(train.train, shrunk(), tmp_path / "run")
    assert "is being written by process" in said
  assert sorted(x.name for x in (tmp_path / "run").iterdir()) == ["lock"]
