"""What is in a file: BLAKE2b of its content, kept as long as it is the same.

Hashing takes 1.3 s a GB (docs/run_directory.md). The digest of a large file is
kept in the cache folder, by path, size, inode and the times of its last
changes, so that weights are not read again at each start.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from rsrc_jax.runtime import cache

KEPT_FROM = 1 << 20  # bytes; smaller files are read as soon as the cache is
KEPT = 1000  # entries
# A file that changes twice within a tick of its clock looks unchanged: what is
# younger is not kept. Seconds.
SETTLED = 2.0


def of_file(path: Path) -> str:
  """The digest of a regular file, 64 hexadecimal digits.

  Raises:
    ValueError: it can't be read; names it.
  """
  try:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
      raise ValueError(f"{path} is no regular file.")
    entry = _entry(path) if found.st_size >= KEPT_FROM else None
    state = [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
    if entry is not None and (kept := _kept(entry, path, state)):
      return kept
    digest = _hash(path)
    settled = time.time() - found.st_ctime > SETTLED
    if entry is not None and settled and _same(path, found):
      _keep(entry, path, state, digest)
    return digest
  except OSError as error:
    raise ValueError(f"{path} can't be read ({error.strerror}).") from None


def of_texts(texts: Iterable[str | bytes]) -> str:
  """One digest for several texts or bytes, in order."""
  h = hashlib.blake2b(digest_size=32)
  for text in texts:
    data = (
      text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    )
    h.update(len(data).to_bytes(8, "little") + data)
  return h.hexdigest()


def _hash(path: Path) -> str:
  with path.open("rb") as file:
    new = lambda: hashlib.blake2b(digest_size=32)
    return hashlib.file_digest(file, new).hexdigest()


def _same(path: Path, before: os.stat_result) -> bool:
  now = path.stat()
  return (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def _entry(path: Path) -> Path | None:
  """The file that keeps the digest of a path; None without a cache folder."""
  folder = cache.digests()
  if folder is None:
    return None
  name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
  return folder / f"{name}.json"


def _kept(entry: Path, path: Path, state: list[int]) -> str | None:
  try:
    found = json.loads(entry.read_text())
    same = found["path"] == str(path.absolute()) and found["state"] == state
    return found["digest"] if same else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _keep(entry: Path, path: Path, state: list[int], digest: str) -> None:
  """Keeps a digest; a cache that can't be written costs time and no more."""
  found = {"path": str(path.absolute()), "state": state, "digest": digest}
  part = entry.with_name(f".{entry.name}.{os.getpid()}")
  with contextlib.suppress(OSError):
    every = sorted(entry.parent.glob("*.json"), key=os.path.getmtime)
    for old in every[:-KEPT]:
      old.unlink(missing_ok=True)
    part.write_text(json.dumps(found))
    part.replace(entry)
