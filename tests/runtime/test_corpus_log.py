"""What a run shows and keeps of its text."""

import io
import json

from helpers.stories import corpus, story
from rich.console import Console

from rsrc_jax.data import left_out
from rsrc_jax.runtime import corpus_log, run_log


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
