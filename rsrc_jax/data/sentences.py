"""Real text: from files to documents, and to splits that share nothing.

A document is the unit of a split. It is a paragraph of a .txt or .md file, or
the docstring of a module, class or function in a .py file. Both are about as
long and have one subject. Whole files would be too large a unit: a single file
could not be split. `without_overlap` removes what one paragraph repeats of
another.

Words are those of `scripts.words`.
"""

import ast
import hashlib
import os
import platform
import re
import stat
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rsrc_jax.data import left_out, prose, scripts

SUFFIXES = (".txt", ".md", ".py")
OVERLAP = 13  # words in a row that no two splits share

EMPTY = "empty"  # why a file gives nothing
REPEATED = "repeated"  # why a sentence is left out
_HIDDEN = re.compile(r"\.")  # names of files and folders that are not read
_ADVICE = "convert it, allow it or give another file"


class Document(NamedTuple):
  """A paragraph or a docstring, before it is cut into sentences."""

  file: str  # where it came from, relative to config.data.path
  text: str


class Cut(NamedTuple):
  """A document as its sentences."""

  text: str  # of the document, with single spaces: `assign` reads it
  sentences: tuple[str, ...]


class Splits(NamedTuple):
  """Sentences. No two splits share a document or OVERLAP words in a row."""

  train: list[str]
  valid: list[str]
  test: list[str]


def documents(path: str, left: left_out.Tally | None = None) -> list[Document]:
  """Reads a file or a folder.

  Nothing is imported or run. Hidden files and folders are left out, and in a
  folder also what is no regular file or can't be read as text. The order is
  that of the files' names, which is the same on every machine.

  Args:
    path: a .txt, .md or .py file, or a folder of them.
    left: counts what is left out.

  Raises:
    FileNotFoundError: there is nothing at `path`.
    ValueError: no file at `path` can be read as text.
  """
  left = {} if left is None else left
  if not path or not os.path.exists(path):  # False where it is out of reach
    raise FileNotFoundError(
      f"config.data.path={path!r} does not exist: give a .txt, .md or .py "
      "file, a folder of them, 'docstrings' for the text of Python and the "
      "packages of the lock, 'functions' for their functions, or 'stdlib' for "
      "the text of Python alone."
    )
  root, found = Path(path), []
  is_folder = os.path.isdir(root)
  files = _files(root, path, left) if is_folder else [root]
  if not files or files[0].suffix.lower() not in SUFFIXES:
    raise ValueError(
      f"config.data.path={path!r} has no .txt, .md or .py file: convert the "
      f"text to one of these.{_besides(left)}"
    )
  for file in files:
    name = file.relative_to(root).as_posix() if is_folder else file.name
    parts, fault = read_file(file)
    if fault not in ("", EMPTY) and not is_folder:
      raise ValueError(f"config.data.path={path!r}: {fault}: {_ADVICE}.")
    if fault:
      left_out.add(left, left_out.FILES, fault, name)
    found += [Document(name, part) for part in parts]
  if not found:
    raise ValueError(
      f"config.data.path={path!r} holds no text: all its files are empty or "
      "unreadable or, if .py, without docstrings; give files with prose in "
      f"them.{_besides(left)}"
    )
  return found


def corpus_digest(docs: list[Document]) -> str:
  """sha256 of the documents and the names of their files, in hex."""
  h = hashlib.sha256()
  for part in (part for doc in docs for part in doc):
    data = part.encode(errors="surrogatepass")
    h.update(len(data).to_bytes(8, "little") + data)
  return h.hexdigest()


def sentences(doc: Document) -> list[str]:
  """The clean prose of a document. In a .txt file, indents are no markup."""
  return list(cut([doc])[0].sentences)


def cut(
  docs: Iterable[Document], left: left_out.Tally | None = None
) -> list[Cut]:
  """Documents as their clean prose (`prose.sentences`).

  left: counts the candidates that are no sentence of prose.
  """
  left, found = {} if left is None else left, []
  for doc in docs:
    markup, kept = not doc.file.lower().endswith(".txt"), []
    for sentence, fault in prose.judged(doc.text, markup=markup):
      if fault:
        left_out.add(left, left_out.SENTENCES, fault, sentence)
      else:
        kept.append(sentence)
    found.append(Cut(" ".join(doc.text.split()), tuple(kept)))
  return found


def split(
  cuts: Iterable[Cut],
  *,
  heldout: float,
  seed: int = 0,
  left: left_out.Tally | None = None,
) -> Splits:
  """Assigns sentences by the hash of their document, then drops overlaps.

  Args:
    cuts: from `cut`.
    heldout: the fraction of documents in valid, and again in test.
    seed: hashed along with the document, so that it chooses the split.
    left: counts repeated sentences and overlaps.

  Returns:
    Sentences that differ in their words, in the order of the documents. A
    sentence of valid that overlaps with train is dropped, and one of test that
    overlaps with train or valid.

  Raises:
    ValueError: `heldout` leaves nothing to train on.
  """
  check_heldout(heldout)
  left = {} if left is None else left
  splits = Splits([], [], [])
  seen = set()
  for text, found in cuts:
    part = getattr(splits, assign(text, heldout=heldout, seed=seed))
    for sentence in found:
      words = scripts.words(sentence)
      if words in seen:
        left_out.add(left, left_out.SENTENCES, REPEATED, sentence)
      else:
        seen.add(words)
        part.append(sentence)
  known = shingles_of(splits.train)
  valid = _disjoint(splits.valid, known, left)
  known |= shingles_of(valid)
  return Splits(splits.train, valid, _disjoint(splits.test, known, left))


def check_heldout(heldout: float) -> None:
  """Raises ValueError where `heldout` leaves nothing to train on."""
  if not 0 < heldout < 0.5:
    raise ValueError(
      f"config.data.heldout={heldout}: give a fraction above 0 and below 0.5; "
      "valid and test each take as much."
    )


def others(cuts: Iterable[Cut], train: list[str]) -> list[str]:
  """The different sentences of `cuts` that do not overlap with `train`."""
  found = {scripts.words(x): x for _, kept in cuts for x in kept}
  return without_overlap(list(found.values()), train)


def assign(text: str, *, heldout: float, seed: int = 0) -> str:
  """The split of a document: "train", "valid" or "test".

  It depends on no other document.
  """
  salted = f"{seed}\n{' '.join(text.split())}".encode(errors="surrogatepass")
  place = int.from_bytes(hashlib.sha256(salted).digest()[:8], "big") / 2**64
  if place < heldout:
    return "test"
  return "valid" if place < 2 * heldout else "train"


def shingles(sentence: str, size: int = OVERLAP) -> set[tuple[str, ...]]:
  """All runs of `size` words; the whole sentence where it is shorter."""
  words = scripts.words(sentence)
  size = min(size, len(words))
  return {words[i : i + size] for i in range(len(words) - size + 1)}


def shingles_of(
  sentences: Iterable[str], size: int = OVERLAP
) -> set[tuple[str, ...]]:
  """The shingles of all sentences."""
  return set().union(*(shingles(sentence, size) for sentence in sentences))


def without_overlap(
  heldout: Sequence[str], train: Iterable[str], size: int = OVERLAP
) -> list[str]:
  """The sentences of `heldout` that share no shingle with one of `train`."""
  known = shingles_of(train, size)
  return [s for s in heldout if known.isdisjoint(shingles(s, size))]


def _disjoint(heldout, known, left: left_out.Tally) -> list[str]:
  """The sentences of `heldout` that have no shingle of `known`."""
  kept = []
  for sentence in heldout:
    if known.isdisjoint(shingles(sentence)):
      kept.append(sentence)
    else:
      reason = f"{OVERLAP} words in a row, or all, are in another split"
      left_out.add(left, left_out.SENTENCES, reason, sentence)
  return kept


# Files.


def _besides(left: left_out.Tally) -> str:
  said = left_out.said(left_out.table(left), left_out.FILES)
  return f" Left out: {said}." if said else ""


def _files(root: Path, path: str, left: left_out.Tally) -> list[Path]:
  """The files below a folder, sorted by name, without hidden ones.

  Raises:
    ValueError: the folder itself can't be read.
  """
  name_of = lambda file: Path(file).relative_to(root).as_posix()

  def fail(error: OSError) -> None:
    reason = f"can't be read ({error.strerror})"
    if Path(error.filename) == root:
      raise ValueError(
        f"config.data.path={path!r} {reason}: allow it, or give another folder."
      ) from error
    left_out.add(left, left_out.FILES, reason, name_of(error.filename))

  files = []
  for folder, folders, names in os.walk(root, onerror=fail):
    every = [
      Path(folder, x) for x in [*folders, *names] if not _HIDDEN.match(x)
    ]
    folders[:] = [x for x in folders if _is_entered(Path(folder, x))]
    for file in every:
      if file.name in folders:
        continue
      if os.path.isdir(file):
        reason = "a link to a folder, or a folder with the name of a file"
        left_out.add(left, left_out.FILES, reason, name_of(file))
      elif file.suffix.lower() in SUFFIXES:
        files.append(file)
      else:
        reason = f"not named {', '.join(SUFFIXES)}"
        left_out.add(left, left_out.FILES, reason, name_of(file))
  return sorted(files, key=name_of)


def _is_entered(folder: Path) -> bool:
  named = folder.suffix.lower() in SUFFIXES or _HIDDEN.match(folder.name)
  return not named and not os.path.islink(folder)


def read_file(file: Path) -> tuple[list[str], str]:
  """The documents of a .txt, .md or .py file, and why there are none, or ""."""
  try:
    if not stat.S_ISREG(os.stat(file).st_mode):  # a FIFO would never end
      return [], "not a regular file"
    data = file.read_bytes()
  except OSError as error:
    return [], f"can't be read ({error.strerror})"
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError:
    text = "\0"
  if "\0" in text:
    return [], "not UTF-8 text"
  text = text.replace("\r\n", "\n").replace("\r", "\n")
  if not text.strip():
    return [], EMPTY
  suffix = file.suffix.lower()
  if suffix != ".py":
    return prose.paragraphs(text, markup=suffix == ".md"), ""
  parts = _docstrings(text)
  wrong = f"not Python {platform.python_version()}"
  return ([], wrong) if parts is None else (parts, "")


def _docstrings(text: str) -> list[str] | None:
  """Docstrings of the module, its classes and functions, breadth first.

  None: it is not Python.
  """
  try:
    with warnings.catch_warnings():  # about the escapes and literals of others
      warnings.simplefilter("ignore")
      tree = ast.parse(text)
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None
  nodes = [tree]
  for node in nodes:  # the list grows; no expression holds a docstring
    parts = ast.iter_child_nodes(node)
    nodes += [part for part in parts if not isinstance(part, ast.expr)]
  kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
  named = (node for node in nodes if isinstance(node, kinds))
  return [part for node in named if (part := ast.get_docstring(node))]
