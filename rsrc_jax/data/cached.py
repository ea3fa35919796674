"""Files in a cache whose names say what they were made from and what they are.

A name is KEY-CONTENT.SUFFIX, both hashes. So a file equals the result of making
it again, and a damaged file is made again. Several processes may write at once.
"""

import hashlib
from pathlib import Path

from rsrc_jax.output import files


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
  files.write_bytes(path, data)
  if most:
    age = lambda x: (x.stat().st_mtime, x.name)
    for old in sorted(path.parent.glob(f"*-*.{suffix}"), key=age)[:-most]:
      old.unlink(missing_ok=True)
  return path


def unusable(folder: str | Path, error: OSError) -> ValueError:
  """What is said where a cache can't be used."""
  return ValueError(
    f"cache_dir={str(folder)!r} can't be used ({error.strerror}): set "
    "RSRC_CACHE to a folder of yours."
  )
