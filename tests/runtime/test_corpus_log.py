"""What a run shows and keeps of its text."""

import io
import json

from helpers.stories import corpus, shipped, story
from rich.console import Console

from rsrc_jax import runs
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import left_out, text
from rsrc_jax.runtime import configs, corpus_log, provenance, run_log


def recorded(found, folder):
  """What the start of a run prints."""
  file = io.StringIO()
  console = Console(file=file, width=200)
  log = run_log.Log(folder, console=console)
  corpus_log.record(found, folder, log)
  return file.getvalue()


def test_the_table_is_shown_once_and_stays_as_json(tmp_path):
  (tmp_path / "a.txt").write_text(story(2, 300, 5))
  run = tmp_path / "run"
  run.mkdir()
  tally = {}
  for i in range(30):
    left_out.add(tally, left_out.FILES, "empty", f"[red]\x1b[31m{i}.txt")
  found = corpus(tmp_path / "a.txt", tmp_path / "cache")
  rows = (*left_out.table(tally), *found.left_out)
  found = found._replace(left_out=rows, notes=("an [old] note",))
  shown = recorded(found, run)
  assert "note: an [old] note" in shown and "\x1b" not in shown
  assert "[red]\\x1b[31m0.txt" in shown and "17 more in left_out.json" in shown
  stored = json.loads((run / "left_out.json").read_text())
  assert stored[0]["kind"] == "files" and stored[0]["count"] == 30
  assert len(stored[0]["examples"]) == left_out.NAMED
  assert (run / "text" / "sentences.json.gz").is_file()
  assert (run / "text" / "tokenizer.model").is_file()
  assert "left out" not in recorded(found, run)


def test_data_without_files_leaves_nothing(tmp_path):
  from rsrc_jax.data import facts

  assert (
    recorded(
      facts.make(vocab_size=128, sentences=200, heldout=20, seed=0), tmp_path
    )
    == ""
  )
  assert [*tmp_path.iterdir()] == []


def test_a_run_is_examined_with_its_own_text(tmp_path, monkeypatch):
  """Where Python, packages and the cache are others."""
  monkeypatch.setenv("RSRC_CACHE", str(tmp_path / "cache"))
  shipped(monkeypatch, 2)
  monkeypatch.setattr(text, "_other_sentences", lambda _: [])
  config = configs.load_config(
    "cdv_text",
    **{"data.vocab_size": 320, "data.max_tokens": 40, "data.heldout": 0.2},
  )
  run = tmp_path / "run"
  run.mkdir()
  made = make_setup(config, tmp_path / "cache", corpus_log.folder(run))
  provenance.record(config, run)
  recorded(made.corpus, run)
  shipped(monkeypatch, 3, packages="bb")
  monkeypatch.setenv("RSRC_CACHE", str(tmp_path / "other"))
  opened = runs.open(run).setup.corpus
  assert opened.digest == made.corpus.digest and opened.notes == ()
  ids = list(range(made.corpus.vocab.size))
  assert opened.vocab.pieces(ids) == made.corpus.vocab.pieces(ids)
  assert not [*(tmp_path / "other").rglob("*.model")]
  later = make_setup(config, tmp_path / "other", corpus_log.folder(run))
  assert later.corpus.digest == made.corpus.digest
  assert "now bb" in later.corpus.notes[0]
