"""Real text: what is read, what is refused, and that splits share nothing."""

import os
import random
import shutil

import pytest

from rsrc_jax.data import sentences

WORDS = """river stone house garden winter letter window paper teacher market
  bridge morning forest silver candle engine harbour village mountain shadow"""


def story(seed, count, words=9):
  """`count` paragraphs of one random sentence each."""
  rng = random.Random(seed)
  sentences = (
    " ".join(rng.choices(WORDS.split(), k=words)).capitalize() + "."
    for _ in range(count)
  )
  return "\n\n".join(sentences)


@pytest.fixture(scope="module")
def library():
  return sentences.documents(None)


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


@pytest.mark.parametrize(
  "name, content",
  [
    ("nul.txt", b"A text.\0\0"),
    ("latin.md", "Ein schöner Text.".encode("latin-1")),
    ("wide.txt", "A text of two bytes a letter.".encode("utf-16")),
    ("code.py", b"\x7fELF\x02\x01\x01\0\0\0"),
  ],
)
def test_binary_file(tmp_path, name, content):
  (tmp_path / name).write_bytes(content)
  (tmp_path / "a.txt").write_text("A good one.")
  for path in (tmp_path / name, tmp_path):
    message = refused(str(path))
    assert repr(str(tmp_path / name)) in message and "not UTF-8" in message


def test_not_python(tmp_path):
  (tmp_path / "old.py").write_text("print 'hello'\n")
  message = refused(str(tmp_path))
  assert "old.py" in message and "is not Python" in message


def test_unreadable(tmp_path, monkeypatch):
  """Simulated: who is root may read all."""
  file = tmp_path / "a.txt"
  file.write_text("A text.")

  def deny(path, *unused):
    raise PermissionError(13, "Permission denied", str(path))

  with monkeypatch.context() as m:
    m.setattr(type(file), "read_bytes", deny)
    message = refused(str(tmp_path))
    assert repr(str(file)) in message and "Permission denied" in message
  with monkeypatch.context() as m:
    m.setattr(os, "scandir", deny)
    assert "can't be read (Permission denied)" in refused(str(tmp_path))


def test_library_in_splits_that_share_nothing(library, splits):
  assert min(map(len, splits)) > 500
  where = [
    {
      s
      for doc in library
      if place(doc) == name
      for s in sentences.sentences(doc)
    }
    for name in sentences.Splits._fields
  ]
  grams = [set().union(*map(sentences.shingles, part)) for part in splits]
  words = [set(map(sentences.normalise, part)) for part in splits]
  for i in range(3):
    assert set(splits[i]) <= where[i]  # no document crosses
    assert len(words[i]) == len(splits[i])  # none is there twice
    for j in range(i):
      assert grams[i].isdisjoint(grams[j])
      assert words[i].isdisjoint(words[j])


def place(doc):
  return sentences.assign(doc.text, heldout=0.1)


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


def test_more_documents_move_none():
  docs = [
    sentences.Document("a.txt", part) for part in story(0, 60).split("\n\n")
  ]
  few = sentences.split(docs[:40], heldout=0.2)
  many = sentences.split(docs, heldout=0.2)
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
  clean = sentences.split(docs, heldout=0.2)
  victim = clean.train[0]
  # The same 19 words after one that changes, until a copy is held out.
  copies = (
    f"{word.capitalize()} {victim.split(' ', 1)[1]}" for word in WORDS.split()
  )
  copy = next(c for c in copies if sentences.assign(c, heldout=0.2) == "test")
  dirty = sentences.split(
    [*docs, sentences.Document("b.txt", copy)], heldout=0.2
  )
  assert dirty == clean
  alone = sentences.split([sentences.Document("b.txt", copy)], heldout=0.2)
  assert alone.test == [copy]
