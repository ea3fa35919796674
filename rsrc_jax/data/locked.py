"""The shipped texts: docstrings, and functions, of Python and of the lock.

  python -m rsrc_jax.data.locked --lock=requirements/py311.lock

puts on record (locked.json) which packages a lock has and the digest of their
docstrings; --packages=FOLDER reads them from another folder than this Python's.

Nothing is imported: files are parsed. Packages that the lock does not name are
not read, so that the text does not depend on what else is installed.
"""

import argparse
import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
import sysconfig
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rsrc_jax.data import (
  cached,
  functions,
  left_out,
  prose,
  scripts,
  sentences,
)

# As config.data.path says them.
PYTHON, ALL, FUNCTIONS = "stdlib", "docstrings", "functions"
RECORD = Path(__file__).with_suffix(".json")
# Its docstrings, or functions, are the text of another kind, which is never
# trained on.
HELD_OUT = "numpy"
PACKAGES = "packages"  # the kind of a row of the table
KEPT = 4  # texts in the cache

# Files and folders that are not read: hidden ones and tests; in the standard
# library also foreign packages, and files that depend on the platform.
_SKIPPED = re.compile(r"\.|tests?$")
_FOREIGN = re.compile(
  r"\.|config-|_sysconfigdata|(tests?|idlelib|lib2to3|turtledemo|lib-dynload"
  r"|site-packages|dist-packages)$"
)


class Shipped(NamedTuple):
  """A text, cut into sentences."""

  cuts: list[sentences.Cut]
  left: left_out.Tally
  origin: dict[str, str]  # versions that it depends on
  digests: dict[str, str]  # sha256 of the documents of "stdlib" and "packages"


class Found(NamedTuple):
  """Files of a text: their names in it, and where they are."""

  stdlib: list[tuple[str, Path]]
  packages: list[tuple[str, Path]]
  versions: dict[str, str]  # of the packages
  left: left_out.Tally


def word(path: str | None) -> str:
  """PYTHON, ALL or FUNCTIONS, where config.data.path is one of these, else "".

  Runs of before there was a choice say "" or None for PYTHON.
  """
  if not path:
    return PYTHON
  return path if path in (PYTHON, ALL, FUNCTIONS) else ""


def read(what: str, cache_dir: str | Path) -> Shipped:
  """Reads the text that a word names, from the cache where it is known.

  The key is made of versions, the rules, and the names and sizes of the files.

  Raises:
    ValueError: `cache_dir` can't be used.
  """
  found = _found(what)
  versions = _origin(what, found)
  sizes = [
    (name, os.path.getsize(file))
    for name, file in found.stdlib + found.packages
  ]
  key = cached.digest(json.dumps([versions, sizes], sort_keys=True).encode())
  try:
    path = cached.find(cache_dir, key, "text.gz")
    if path is not None:
      stored = json.loads(gzip.decompress(path.read_bytes()))
    else:
      stored = (_functions if what == FUNCTIONS else _stored)(found)
      data = gzip.compress(json.dumps(stored).encode(), 1, mtime=0)
      cached.put(cache_dir, key, "text.gz", data, most=KEPT)
  except OSError as error:
    raise cached.unusable(cache_dir, error) from error
  cuts = [sentences.Cut(text, tuple(kept)) for text, kept in stored["cuts"]]
  left = left_out.tally_of(stored["left"])
  return Shipped(cuts, found.left | left, versions, stored["digests"])


def origin(what: str) -> dict[str, str]:
  """What the text that a word names depends on here; no file is read."""
  return _origin(what, _found(what))


def notes(text: Shipped) -> list[str]:
  """Where the packages or their docstrings are not those on record."""
  known = on_record().get(_lock_name())
  if "packages" not in text.origin or known is None:
    return []
  if text.origin["packages"] != _versions(known["packages"]):
    return [
      f"the packages installed are not those of {_lock_name()}: their "
      "docstrings, and so the corpus, are not those on record."
    ]
  if text.origin.get("text") == FUNCTIONS:
    return []  # the record is of docstrings
  if text.digests["packages"] != known["digest"]:
    return [
      f"the docstrings of the packages of {_lock_name()} are not those on "
      "record: files of theirs were changed, or this is another platform."
    ]
  return []


def on_record() -> dict[str, dict]:
  """locked.json: for each lock its packages and their docstrings' digest."""
  return json.loads(RECORD.read_text())


def _lock_name() -> str:
  return f"py{sys.version_info[0]}{sys.version_info[1]}.lock"


def _found(what: str) -> Found:
  """The files of a text."""
  root, left = Path(sysconfig.get_path("stdlib")), {}
  found = Found(_python_files(root), [], {}, left)
  if what == PYTHON:
    return found
  records = on_record()
  known = records.get(_lock_name()) or records[max(records)]
  names = [x for x in known["packages"] if x != HELD_OUT]
  return found._replace(
    packages=_package_files(names, None, found.versions, left)
  )


def _python_files(root: Path) -> list[tuple[str, Path]]:
  """The files of the standard library, by name."""
  found = []
  for folder, folders, names in os.walk(root):
    folders[:] = [name for name in folders if not _FOREIGN.match(name)]
    found += [
      Path(folder, name)
      for name in names
      if name.endswith(".py") and not _FOREIGN.match(name)
    ]
  named = [(file.relative_to(root).as_posix(), file) for file in found]
  return sorted((name, x) for name, x in named if x.is_file())


def _package_files(
  names: Iterable[str],
  folder: Path | None,
  versions: dict[str, str],
  left: left_out.Tally,
) -> list[tuple[str, Path]]:
  """The files of distributions, by name; those that are missing are counted.

  folder: instead of the places that this Python searches.
  versions: gets those that are found.
  """
  where = {} if folder is None else {"path": [str(folder)]}
  installed = {}
  for dist in importlib.metadata.distributions(**where):
    installed.setdefault(_normal(dist.metadata["Name"] or ""), dist)
  found = []
  for name in sorted(names):
    dist = installed.get(name)
    if dist is None or dist.files is None:
      left_out.add(left, PACKAGES, "of the lock, but not installed", name)
      continue
    versions[name] = dist.version
    found += [
      (f"{name}/{file.as_posix()}", Path(file.locate()))
      for file in sorted(dist.files, key=lambda x: x.as_posix())
      if file.suffix == ".py"
      and not any(map(_SKIPPED.match, file.parts))  # ".." too: scripts
    ]
  return [(name, file) for name, file in found if file.is_file()]


def _stored(found: Found) -> dict:
  """What the cache keeps of a text: documents with sentences, as JSON."""
  left, cuts, digests = {}, [], {}
  for kind in ("stdlib", "packages"):
    docs = _documents(getattr(found, kind), left)
    digests[kind] = sentences.corpus_digest(docs)
    cuts += [x for x in sentences.cut(docs, left) if x.sentences]
  return {"cuts": cuts, "left": left_out.table(left), "digests": digests}


def _functions(found: Found) -> dict:
  """The same of functions. A document is a file, by its name."""
  left, cuts, digests = {}, [], {}
  for kind in ("stdlib", "packages"):
    docs = []
    for name, file in getattr(found, kind):
      kept = functions_of(name, file, left)
      docs += [sentences.Document(name, x) for x in kept]
      cuts += [sentences.Cut(name, tuple(kept))] if kept else []
    digests[kind] = sentences.corpus_digest(docs)
  return {"cuts": cuts, "left": left_out.table(left), "digests": digests}


def functions_of(name: str, file: Path, left: left_out.Tally) -> list[str]:
  """The short functions of a file; of one that is no Python, none."""
  try:
    return functions.of_source(file.read_bytes().decode("utf-8-sig"), left)
  except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
    wrong = f"not Python {platform.python_version()}"
    left_out.add(left, left_out.FILES, wrong, name)
    return []


def _documents(
  files: list[tuple[str, Path]], left: left_out.Tally
) -> list[sentences.Document]:
  """The docstrings of files."""
  found = []
  for name, file in files:
    parts, fault = sentences.read_file(file)
    if fault not in ("", sentences.EMPTY):
      left_out.add(left, left_out.FILES, fault, name)
    found += [sentences.Document(name, part) for part in parts]
  return found


def _origin(what: str, found: Found) -> dict[str, str]:
  """What a text depends on, in words."""
  rules = [scripts.__file__, prose.__file__, sentences.__file__, __file__]
  rules += [functions.__file__] if what == FUNCTIONS else []
  code = b"".join(Path(file).read_bytes() for file in rules)
  made = {
    "text": what,
    "python": platform.python_version(),
    "unicode": unicodedata.unidata_version,
    "rules": cached.digest(code),
  }
  if what != PYTHON:
    made["packages"] = _versions(found.versions)
  return made


def _versions(packages: dict[str, str]) -> str:
  """A digest of the versions of packages, without the one held out."""
  lines = [f"{x}=={y}" for x, y in sorted(packages.items()) if x != HELD_OUT]
  return cached.digest("\n".join(lines).encode())


def _normal(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


# The record.


def entry(lock: Path, folder: Path | None = None) -> dict:
  """What is put on record for a lock, whose packages are installed.

  Raises:
    ValueError: they are not.
  """
  text = lock.read_text()
  wanted = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M))
  wanted = {_normal(name): version for name, version in wanted.items()}
  versions, left = {}, {}
  names = [x for x in wanted if x != HELD_OUT]
  docs = _documents(_package_files(names, folder, versions, left), left)
  for name in names:
    if versions.get(name) != wanted[name]:
      raise ValueError(
        f"{lock.name} has {name}=={wanted[name]}, and installed is "
        f"{versions.get(name)}: install the lock first."
      )
  return {
    "lock": hashlib.sha256(lock.read_bytes()).hexdigest(),
    "parsed_by": platform.python_version(),
    "platform": f"{platform.system()} {platform.machine()}",
    "documents": len(docs),
    "digest": sentences.corpus_digest(docs),
    "packages": dict(sorted(wanted.items())),
  }


def main() -> None:
  """Puts a lock on record."""
  parser = argparse.ArgumentParser(description=main.__doc__)
  parser.add_argument("--lock", type=Path, required=True)
  parser.add_argument("--packages", type=Path)
  asked = parser.parse_args()
  records = on_record() if RECORD.exists() else {}
  records[asked.lock.name] = entry(asked.lock, asked.packages)
  RECORD.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
  print(RECORD, records[asked.lock.name]["digest"])


if __name__ == "__main__":
  main()
