"""Real text: what is read, what is refused, and that splits share nothing."""

import os
import shutil
import socket

import pytest
from helpers.stories import WORDS, story

from rsrc_jax.data import left_out, locked, scripts, sentences


@pytest.fixture(scope="module")
def library(tmp_path_factory):
  return locked.read(locked.PYTHON, tmp_path_factory.mktemp("cache")).cuts


@pytest.fixture(scope="module")
def splits(library):
  return sentences.split(library, heldout=0.1)


def test_documents_of_a_folder(tmp_path):
  (tmp_path / "b").mkdir()
  (tmp_path / ".git").mkdir()
  (tmp_path / "b" / "z.txt").write_text("One.\n\nTwo.\n", "utf-8")
  (tmp_path / "B.MD").write_bytes("\ufeffThree.\r\n\r\nFour.".encode())
  # The escape is one that Python warns of: the warning isn't ours to show.
  (tmp_path / "a.py").write_text(
    '"""Of \\d."""\nclass A:\n  """Of A."""\n  async def f():\n    """Of f."""'
  )
  (tmp_path / "c.json").write_text("{}")
  (tmp_path / ".hidden.txt").write_text("No.")
  (tmp_path / ".git" / "no.txt").write_text("No.")
  (tmp_path / "empty.txt").write_text("")
  assert sentences.documents(str(tmp_path)) == [
    ("B.MD", "Three."),
    ("B.MD", "Four."),
    ("a.py", "Of \\d."),
    ("a.py", "Of A."),
    ("a.py", "Of f."),
    ("b/z.txt", "One."),
    ("b/z.txt", "Two.\n"),
  ]


def test_digest_is_of_the_content_and_not_of_the_place(tmp_path):
  for name in ("b.txt", "a.txt"):
    (tmp_path / "here" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "here" / name).write_text(name)
  shutil.copytree(tmp_path / "here", tmp_path / "there")

  def digest(name):
    return sentences.corpus_digest(sentences.documents(str(tmp_path / name)))

  assert digest("here") == digest("there")
  (tmp_path / "there" / "a.txt").write_text("changed")
  assert digest("here") != digest("there")


def refused(path, kind=ValueError):
  """The message, one line that names the field and the value."""
  with pytest.raises(kind) as error:
    sentences.documents(path)
  message = str(error.value)
  assert "\n" not in message
  assert message.startswith(f"config.data.path={path!r}")
  return message


@pytest.mark.parametrize("path", ["no/such/file.txt", "", "a\0b"])
def test_missing_path(path):
  assert "does not exist: give a .txt" in refused(path, FileNotFoundError)


def test_nothing_to_read(tmp_path):
  assert "has no .txt, .md or .py file" in refused(str(tmp_path))
  (tmp_path / "data.csv").write_text("a,b")
  assert "has no .txt, .md or .py file" in refused(str(tmp_path))
  assert "has no .txt, .md or .py" in refused(str(tmp_path / "data.csv"))


@pytest.mark.parametrize(
  "name, content",
  [
    ("empty.txt", ""),
    ("blank.md", " \n\n \n"),
    ("no_docstrings.py", "x = 1\n"),
  ],
)
def test_no_text(tmp_path, name, content):
  (tmp_path / name).write_text(content)
  assert "holds no text" in refused(str(tmp_path / name))
  assert "holds no text" in refused(str(tmp_path))


UNREADABLE = {
  "nul.txt": (b"A text.\0\0", "not UTF-8 text"),
  "latin.md": ("Ein sch\u00f6ner Text.".encode("latin-1"), "not UTF-8 text"),
  "wide.txt": ("Of two bytes a letter.".encode("utf-16"), "not UTF-8 text"),
  "code.py": (b"\x7fELF\x02\x01\x01\0\0\0", "not UTF-8 text"),
  "old.py": (b"print 'hello'\n", "not Python"),
  "blank.txt": (b" \n\n ", "empty"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_text(tmp_path, name):
  """It is refused by itself, and left out of a folder and named."""
  content, reason = UNREADABLE[name]
  (tmp_path / name).write_bytes(content)
  alone = "holds no text" if reason == "empty" else reason
  assert alone in refused(str(tmp_path / name))
  assert f"files: {reason}" in refused(str(tmp_path))
  assert repr(name) in refused(str(tmp_path))
  (tmp_path / "a.txt").write_text("A good one.")
  left = {}
  assert len(sentences.documents(str(tmp_path), left)) == 1
  (row,) = left_out.table(left)
  assert row.reason.startswith(reason)
  assert (row.kind, row.count, row.examples) == ("files", 1, (name,))


def test_only_regular_files_are_read(tmp_path):
  """A FIFO would never end; nothing is left out without a word."""
  (tmp_path / "a.txt").write_text("A good one.")
  os.mkfifo(tmp_path / "fifo.txt")
  (tmp_path / "folder.txt").mkdir()
  (tmp_path / "folder.txt" / "b.txt").write_text("No.")
  (tmp_path / "link").symlink_to(tmp_path)
  (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
  (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
  (tmp_path / "table.csv").write_text("a,b")
  with socket.socket(socket.AF_UNIX) as door:
    door.bind(str(tmp_path / "door.md"))
    left = {}
    assert sentences.documents(str(tmp_path), left) == [
      ("a.txt", "A good one.")
    ]
  found = {name for row in left_out.table(left) for name in row.examples}
  assert found == {
    "fifo.txt", "folder.txt", "link", "gone.txt", "self.txt", "table.csv",
    "door.md",
  }  # fmt: skip
  assert "not a regular file" in refused(str(tmp_path / "fifo.txt"))


def test_unreadable(tmp_path, monkeypatch):
  """Simulated: who is root may read all."""
  (tmp_path / "below").mkdir()
  file = tmp_path / "below" / "a.txt"
  file.write_text("A text.")
  (tmp_path / "b.txt").write_text("Another text.")

  def deny(path, *unused):
    raise PermissionError(13, "Permission denied", str(path))

  with monkeypatch.context() as m:
    m.setattr(type(file), "read_bytes", deny)
    message = refused(str(file))
    assert "Permission denied" in message
    assert "'b.txt'" in refused(str(tmp_path))
  scandir = os.scandir
  with monkeypatch.context() as m:
    m.setattr(os, "scandir", deny)
    assert "can't be read (Permission denied)" in refused(str(tmp_path))
    m.setattr(
      os,
      "scandir",
      lambda path: deny(path) if str(path).endswith("below") else scandir(path),
    )
    left = {}
    assert len(sentences.documents(str(tmp_path), left)) == 1
    (row,) = left_out.table(left)
    assert row.examples == ("below",) and "Permission denied" in row.reason


def test_examples_have_no_control_characters():
  tally = {}
  for i in range(30):
    left_out.add(tally, "files", "why", f"{i}\x1b[31m\u202e\ud800\n{'x' * 99}")
    left_out.add(tally, "sentences", "why", "[red]\x9b0m")
  files, texts = left_out.table(tally)
  assert files.count == 30 and len(files.examples) == left_out.NAMED
  assert files.examples[0].startswith("0\\x1b[31m\\u202e\\ud800\\nxxx")
  assert files.examples[0].endswith("x\u2026")
  assert (texts.count, texts.examples) == (30, ("[red]\\x9b0m",))
  assert left_out.tally_of(left_out.table(tally)) == tally


def test_what_is_left_out_of_the_splits_is_counted():
  repeated = sentences.Document("a.txt", "The rain fell on the roofs of all.")
  again = sentences.Document("b.md", "The rain fell, on the roofs of all!")
  docs = [repeated, again, sentences.Document("c.txt", "Short.")]
  left = {}
  sentences.split(sentences.cut(docs, left), heldout=0.2, left=left)
  rows = {row.reason: row for row in left_out.table(left)}
  assert rows["repeated"].examples == ("The rain fell, on the roofs of all!",)
  assert rows["shorter than 20 characters"].count == 1


def test_library_in_splits_that_share_nothing(library, splits):
  assert min(map(len, splits)) > 500
  where = [
    {
      s
      for text, kept in library
      if sentences.assign(text, heldout=0.1) == name
      for s in kept
    }
    for name in sentences.Splits._fields
  ]
  grams = [set().union(*map(sentences.shingles, part)) for part in splits]
  words = [set(map(scripts.words, part)) for part in splits]
  for i in range(3):
    assert set(splits[i]) <= where[i]  # no document crosses
    assert len(words[i]) == len(splits[i])  # none is there twice
    for j in range(i):
      assert grams[i].isdisjoint(grams[j])
      assert words[i].isdisjoint(words[j])


def test_the_library_has_thousands_of_sentences(splits):
  """Some 10,000 in CPython 3.11; a distribution may have trimmed it."""
  assert 3000 < sum(map(len, splits)) < 30_000


def test_a_document_is_assigned_by_its_words_alone():
  doc = "A document\n  of two lines."
  assert sentences.assign(doc, heldout=0.3) == sentences.assign(
    "A document of two lines.", heldout=0.3
  )
  names = [sentences.assign(str(i), heldout=0.2) for i in range(2000)]
  # Binomial: 400 +- 18 of 2000.
  assert 310 < names.count("test") < 490
  assert 310 < names.count("valid") < 490
  assert names != [
    sentences.assign(str(i), heldout=0.2, seed=1) for i in range(2000)
  ]


def split(docs):
  return sentences.split(sentences.cut(docs), heldout=0.2)


def test_more_documents_move_none():
  docs = [
    sentences.Document("a.txt", part) for part in story(0, 60).split("\n\n")
  ]
  few = split(docs[:40])
  many = split(docs)
  for a, b in zip(few, many, strict=True):
    assert set(a) <= set(b)


@pytest.mark.parametrize("heldout", [0, 0.5, -1, 2.0])
def test_heldout_out_of_range(heldout):
  with pytest.raises(ValueError, match=f"data.heldout={heldout}: give"):
    sentences.split([], heldout=heldout)


def test_near_duplicates_are_removed():
  """13 words in a row are shared, or, in a short sentence, all words."""
  run = "a b c d e f g h i j k l m"  # 13 words
  train = [f"X {run} y.", "Short and sweet it is."]
  heldout = [
    f"Quite {run.upper()}, another end!",
    "Short, and sweet, it is!",
    f"Shares {run[:-2]} but the last.",  # 12 words
    "Short and sweet it was.",
  ]
  assert sentences.without_overlap(heldout, train) == heldout[2:]
  assert sentences.without_overlap(heldout, train, size=3) == []
  assert sentences.without_overlap(heldout, []) == heldout


def test_injected_near_duplicate_does_not_cross():
  docs = [
    sentences.Document("a.txt", part) for part in story(1, 60, 20).split("\n\n")
  ]
  clean = split(docs)
  victim = clean.train[0]
  # The same 19 words after one that changes, until a copy is held out.
  copies = (
    f"{word.capitalize()} {victim.split(' ', 1)[1]}" for word in WORDS.split()
  )
  copy = next(c for c in copies if sentences.assign(c, heldout=0.2) == "test")
  dirty = split([*docs, sentences.Document("b.txt", copy)])
  assert dirty == clean
  alone = split([sentences.Document("b.txt", copy)])
  assert alone.test == [copy]
