"""Real text: from files to documents, and to splits that share nothing.

A document is the unit of a split. It is a paragraph of a .txt or .md file, or
the docstring of a module, class or function in a .py file. Both are about as
long and have one subject. Whole files would be too large a unit: a single file
could not be split. `without_overlap` removes what one paragraph repeats of
another.

Words are runs of letters and digits. Where a script writes no spaces, only
whole sentences are compared.
"""

import ast
import hashlib
import os
import platform
import re
import sysconfig
import warnings
from pathlib import Path
from typing import NamedTuple

from rsrc_jax.data import prose

SUFFIXES = (".txt", ".md", ".py")
OVERLAP = 13  # words in a row that no two splits share

# Names of files that are not read: hidden ones; in the standard library also
# tests, foreign packages, and files that depend on the platform.
_HIDDEN = re.compile(r"\.")
_FOREIGN = re.compile(
  r"\.|config-|_sysconfigdata|(tests?|idlelib|lib2to3|turtledemo|lib-dynload"
  r"|site-packages|dist-packages)$"
)

_WORD = re.compile(r"\w+")


class Document(NamedTuple):
  """A paragraph or a docstring, before it is cut into sentences."""

  file: str  # where it came from, relative to config.data.path
  text: str


class Splits(NamedTuple):
  """Sentences. No two splits share a document or OVERLAP words in a row."""

  train: list[str]
  valid: list[str]
  test: list[str]


def documents(path: str | None) -> list[Document]:
  """Reads a file or a folder; None is Python's standard library.

  Nothing is imported or run. Hidden files and folders are left out. The order
  is that of the files' names, which is the same on every machine.

  Args:
    path: a .txt, .md or .py file, a folder of them, or None.

  Raises:
    FileNotFoundError: there is nothing at `path`.
    ValueError: a file can't be read as text, or there is none to read.
  """
  root = Path(sysconfig.get_path("stdlib") if path is None else path)
  if path == "" or not os.path.exists(root):  # False where it is out of reach
    raise FileNotFoundError(
      f"config.data.path={path!r} does not exist: give a .txt, .md or .py "
      "file, a folder of them, or None for the sources of Python's standard "
      "library."
    )
  files = _files(root, path) if os.path.isdir(root) else [root]
  if not files or files[0].suffix.lower() not in SUFFIXES:
    raise ValueError(
      f"config.data.path={path!r} has no .txt, .md or .py file: convert the "
      "text to one of these."
    )
  found = []
  for file in files:
    name = file.name if file == root else file.relative_to(root).as_posix()
    text, suffix = _read(file, path), file.suffix.lower()
    if suffix == ".py":
      parts = _docstrings(text, file, path)
    else:
      parts = prose.paragraphs(text, markup=suffix == ".md")
    found += [Document(name, part) for part in parts]
  if not found:
    raise ValueError(
      f"config.data.path={path!r} holds no text: all its files are empty or, "
      "if .py, without docstrings; give files with prose in them."
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
  return prose.sentences(doc.text, markup=not doc.file.lower().endswith(".txt"))


def split(docs: list[Document], *, heldout: float, seed: int = 0) -> Splits:
  """Assigns sentences by the hash of their document, then drops overlaps.

  Args:
    docs: from `documents`.
    heldout: the fraction of documents in valid, and again in test.
    seed: hashed along with the document, so that it chooses the split.

  Returns:
    Sentences that differ in their words, in the order of the documents. A
    sentence of valid that overlaps with train is dropped, and one of test that
    overlaps with train or valid.

  Raises:
    ValueError: `heldout` leaves nothing to train on.
  """
  if not 0 < heldout < 0.5:
    raise ValueError(
      f"config.data.heldout={heldout}: give a fraction above 0 and below 0.5; "
      "valid and test each take as much."
    )
  splits = Splits([], [], [])
  seen = set()
  for doc in docs:
    part = getattr(splits, assign(doc.text, heldout=heldout, seed=seed))
    for sentence in sentences(doc):
      words = normalise(sentence)
      if words not in seen:
        seen.add(words)
        part.append(sentence)
  valid = without_overlap(splits.valid, splits.train)
  test = without_overlap(splits.test, splits.train + valid)
  return Splits(splits.train, valid, test)


def others(docs: list[Document], train: list[str]) -> list[str]:
  """The different sentences of `docs` that do not overlap with `train`."""
  found = {normalise(x): x for doc in docs for x in sentences(doc)}
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


def normalise(sentence: str) -> tuple[str, ...]:
  """The words of a sentence. Equal words mean that it is the same sentence."""
  return tuple(_WORD.findall(sentence.casefold()))


def shingles(sentence: str, size: int = OVERLAP) -> set[tuple[str, ...]]:
  """All runs of `size` words; the whole sentence where it is shorter."""
  words = normalise(sentence)
  size = min(size, len(words))
  return {words[i : i + size] for i in range(len(words) - size + 1)}


def without_overlap(
  heldout: list[str], train: list[str], size: int = OVERLAP
) -> list[str]:
  """The sentences of `heldout` that share no shingle with one of `train`."""
  known = set().union(*(shingles(sentence, size) for sentence in train))
  return [s for s in heldout if known.isdisjoint(shingles(s, size))]


def _files(root: Path, path: str | None) -> list[Path]:
  """The files below a folder, sorted by name, without hidden ones."""

  def fail(error: OSError) -> None:
    raise ValueError(_unreadable(error.filename, path, error)) from error

  skip, suffixes = (_FOREIGN, ".py") if path is None else (_HIDDEN, SUFFIXES)
  files = []
  for folder, folders, names in os.walk(root, onerror=fail):
    folders[:] = [name for name in folders if not skip.match(name)]
    names = [name for name in names if name.lower().endswith(suffixes)]
    files += [Path(folder, name) for name in names if not skip.match(name)]
  return sorted(files, key=lambda file: file.relative_to(root).as_posix())


def _read(file: Path, path: str | None) -> str:
  """The text of a file, with lines that end in \\n."""
  try:
    data = file.read_bytes()
  except OSError as error:
    raise ValueError(_unreadable(file, path, error)) from error
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError:
    text = "\0"
  if "\0" in text:
    raise ValueError(
      f"config.data.path={path!r}: {str(file)!r} is not UTF-8 text: convert it "
      "or move it out of config.data.path."
    )
  return text.replace("\r\n", "\n").replace("\r", "\n")


def _unreadable(name: Path | str, path: str | None, error: OSError) -> str:
  return (
    f"config.data.path={path!r}: {str(name)!r} can't be read "
    f"({error.strerror}): allow it or move it out of config.data.path."
  )


def _docstrings(text: str, file: Path, path: str | None) -> list[str]:
  """Docstrings of the module, its classes and functions, breadth first."""
  try:
    with warnings.catch_warnings():  # about the escapes and literals of others
      warnings.simplefilter("ignore")
      tree = ast.parse(text)
  except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
    raise ValueError(
      f"config.data.path={path!r}: {str(file)!r} is not Python "
      f"{platform.python_version()} ({error}): correct it or move it out of "
      "config.data.path."
    ) from error
  nodes = [tree]
  for node in nodes:  # the list grows; no expression holds a docstring
    parts = ast.iter_child_nodes(node)
    nodes += [part for part in parts if not isinstance(part, ast.expr)]
  kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
  named = (node for node in nodes if isinstance(node, kinds))
  return [part for node in named if (part := ast.get_docstring(node))]
