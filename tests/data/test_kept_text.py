"""A run's own copy of its text: read where its text is gone or another."""

import gzip
import json

import numpy as np
import pytest
from helpers.stories import corpus, shipped, story

from rsrc_jax.data import (
  kept_text,
  left_out,
  locked,
  text,
  tokenizer,
)


@pytest.fixture(autouse=True)
def other_text(monkeypatch):
  """numpy's docstrings take a second to read; and no text here is large."""
  monkeypatch.setattr(text, "FEW", 0)
  monkeypatch.setattr(
    text, "_other_sentences", lambda _: ["Another kind of text is this."] * 40
  )


def keep(found, folder):
  assert found.keep(folder) == ""
  return found


def same(one, other):
  assert one.digest == other.digest
  ids = list(range(one.vocab.size))
  assert one.vocab.pieces(ids) == other.vocab.pieces(ids)
  np.testing.assert_array_equal(one.ood.ids, other.ood.ids)
  assert one.left_out == other.left_out and one.ood_name == other.ood_name


def test_a_run_on_shipped_text_reads_its_copy(tmp_path, monkeypatch):
  shipped(monkeypatch, 2)
  kept = tmp_path / "run" / "text"
  make = lambda **changes: corpus(
    locked.ALL, tmp_path / "cache", kept=kept, **changes
  )
  first = keep(make(), kept)
  assert first.notes == ()
  same(make(), first)
  assert make().notes == ()
  # Another machine: other packages, an empty cache, another SentencePiece.
  shipped(monkeypatch, 3, packages="bb")
  monkeypatch.setattr(
    tokenizer, "cached_sentencepiece", lambda *_, **__: pytest.fail("trained")
  )
  later = make()
  same(later, first)
  (note,) = later.notes
  assert "packages aa, now bb" in note and "own copy" in note
  same(make(examine=True), first)
  assert make(examine=True).notes == ()
  assert keep(later, kept).digest == first.digest


def test_what_is_asked_otherwise_is_not_in_the_copy(tmp_path, monkeypatch):
  shipped(monkeypatch, 2)
  kept, cache = tmp_path / "text", tmp_path / "cache"
  first = keep(corpus(locked.ALL, cache, kept=kept), kept)
  for changes in ({"seed": 1}, {"heldout": 0.25}):
    other = corpus(locked.ALL, cache, kept=kept, **changes)
    plain = corpus(locked.ALL, cache, **changes)
    assert other.digest == plain.digest != first.digest
  wider = corpus(locked.ALL, cache, kept=kept, vocab_size=330)
  assert wider.vocab.size == 330


def test_a_path_that_is_there_is_read_and_one_that_is_gone_is_not_needed(
  tmp_path,
):
  file, kept, cache = tmp_path / "a.txt", tmp_path / "text", tmp_path / "cache"
  file.write_text(story(2, 300, 5))
  first = keep(corpus(file, cache, kept=kept), kept)
  same(corpus(file, tmp_path / "none", kept=kept), first)  # and its tokenizer
  file.write_text(story(3, 300, 5))
  edited = corpus(file, cache, kept=kept)
  assert edited.digest == corpus(file, cache).digest != first.digest
  with pytest.raises(ValueError, match="holds a run on other text") as error:
    edited.keep(kept)
  assert "\n" not in str(error.value) and str(file) in str(error.value)
  same(corpus(file, cache, kept=kept, examine=True), first)
  file.unlink()
  gone = corpus(file, tmp_path / "none", kept=kept)
  same(gone, first)
  assert f"{str(file)!r} is not there: the run's own copy" in gone.notes[0]
  with pytest.raises(FileNotFoundError, match="does not exist"):
    corpus(file, cache, kept=tmp_path / "other")


@pytest.mark.parametrize(
  "name, spoil",
  [
    (kept_text.SENTENCES, lambda x: x[: len(x) // 2]),
    (kept_text.SENTENCES, lambda x: b"no gzip at all"),
    (kept_text.SENTENCES, lambda x: x[:60] + b"\xff\xff" + x[62:]),
    (kept_text.SENTENCES, lambda x: gzip.compress(b"{}")),
    (kept_text.SENTENCES, lambda x: gzip.compress(b"[1, 2]")),
    (kept_text.SENTENCES, lambda x: changed(x, splits=[[1], [2], [3]])),
    (kept_text.SENTENCES, lambda x: changed(x, tokenizer={"vocab_size": 320})),
    (kept_text.TOKENIZER, lambda x: x[:-1]),
    (kept_text.TOKENIZER, None),
  ],
)
def test_a_damaged_copy_is_refused_in_a_line(
  tmp_path, monkeypatch, name, spoil
):
  shipped(monkeypatch, 2)
  kept, cache = tmp_path / "text", tmp_path / "cache"
  keep(corpus(locked.ALL, cache, kept=kept), kept)
  path = kept / name
  if spoil is None:
    path.unlink()
  else:
    path.write_bytes(spoil(path.read_bytes()))
  with pytest.raises(ValueError, match="is damaged") as error:
    corpus(locked.ALL, cache, kept=kept, examine=True)
  message = str(error.value)
  assert message.startswith(str(path)) and "\n" not in message
  assert "remove its folder" in message


def changed(data, **values):
  return gzip.compress(
    json.dumps(json.loads(gzip.decompress(data)) | values).encode()
  )


def test_equal_texts_give_equal_bytes(tmp_path, monkeypatch):
  shipped(monkeypatch, 2)
  for name in "ab":
    keep(corpus(locked.ALL, tmp_path / "cache"), tmp_path / name)
  for name in (kept_text.SENTENCES, kept_text.TOKENIZER):
    one, other = ((tmp_path / x / name).read_bytes() for x in "ab")
    assert one == other
  assert (tmp_path / "a" / kept_text.SENTENCES).read_bytes()[4:8] == bytes(4)


def test_a_very_large_text_is_not_copied(tmp_path, monkeypatch):
  shipped(monkeypatch, 2)
  monkeypatch.setattr(kept_text, "MOST", 100)
  found = corpus(locked.ALL, tmp_path / "cache")
  assert "keeps no copy of its text" in found.keep(tmp_path / "text")
  assert not (tmp_path / "text").exists()


def test_the_table_counts_tokens_and_is_in_the_copy(tmp_path, monkeypatch):
  shipped(monkeypatch, 2)
  kept = tmp_path / "text"
  found = keep(
    corpus(locked.ALL, tmp_path / "cache", max_tokens=28, min_tokens=21), kept
  )
  rows = {row.reason: row for row in found.left_out}
  assert rows["why"].examples == ("x",)
  long, short = (
    rows[x] for x in rows if "max_tokens" in x or "min_tokens" in x
  )
  whole = sum(len(x.ids) for x in (found.train, found.valid, found.test))
  before = sum(map(len, kept_text.read(kept, asked()).splits))
  assert whole + long.count + short.count == before
  assert left_out.said(found.left_out, "files", 1).startswith("1 files: why")


def asked():
  return {"path": locked.ALL, "seed": 0, "heldout": 0.2}
