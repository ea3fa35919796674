"""Files in a cache whose names say what they were made from and what they are.

A name is KEY-CONTENT.SUFFIX, both hashes. So a file equals the result of making
it again, and a damaged file is made again. Several processes may write at once.
"""

import hashlib
import os
import tempfile
from pathlib import Path


def digest(data: bytes) -> str:
  """16 hexadecimal digits."""
  return hashlib.sha256(data).hexdigest()[:16]


def find(folder: str | Path, key: str, suffix: str) -> Path | None:
  """The whole file of a key, or None.

  Raises:
    OSError: the folder can't be read.
  """
  for path in sorted(Path(folder).glob(f"{key}-*.{suffix}")):
    if path.name == f"{key}-{digest(path.read_bytes())}.{suffix}":
      return path
  return None


def put(
  folder: str | Path, key: str, suffix: str, data: bytes, most: int = 0
) -> Path:
  """Writes the file of a key.

  most: how many files with this suffix stay, the newest ones; 0: all.

  Raises:
    OSError: the folder can't be written to.
  """
  path = Path(folder, f"{key}-{digest(data)}.{suffix}")
  write(path, data)
  if most:
    age = lambda x: (x.stat().st_mtime, x.name)
    for old in sorted(path.parent.glob(f"*-*.{suffix}"), key=age)[:-most]:
      old.unlink(missing_ok=True)
  return path


def write(path: Path, data: bytes) -> None:
  """Writes a file next to its place, then moves it there: it is atomic."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=path.parent) as folder:
    part = Path(folder, path.name)
    part.write_bytes(data)
    os.replace(part, path)


def unusable(folder: str | Path, error: OSError) -> ValueError:
  """What is said where a cache can't be used."""
  return ValueError(
    f"cache_dir={str(folder)!r} can't be used ({error.strerror}): set "
    "RSRC_CACHE to a folder of yours."
  )
