"""JSON files that are whole at every moment, for one writer or for several."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
  """The value of a JSON file; None where there is no file.

  Raises:
    ValueError: the file is not JSON, and so not of this package.
  """
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, NotADirectoryError):
    return None
  except ValueError:
    raise ValueError(f"{path} is not JSON: move it away.") from None


def write(path: Path, value: Any) -> None:
  """Replaces a JSON file: a reader, or a crash, sees the old or the new one.

  Raises:
    OSError: it could not be written, and the old file is as it was.
  """
  write_text(path, _json(value))


def write_text(path: Path, text: str) -> None:
  """The same with a text."""
  with _part(path, text) as part:
    os.replace(part, path)


def create(path: Path, value: Any) -> bool:
  """Makes a JSON file if there is none. -> whether this call has made it

  Of several processes that try, one succeeds; nobody sees a part of it.
  """
  with _part(path, _json(value)) as part:
    try:
      os.link(part, path)
    except FileExistsError:
      return False
    return True


def _json(value: Any) -> str:
  return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@contextlib.contextmanager
def _part(path: Path, text: str) -> Iterator[Path]:
  """A file beside `path` with the whole text, on the disk; removed later."""
  part = path.with_name(f".{path.name}.{os.getpid()}.part")
  path.parent.mkdir(parents=True, exist_ok=True)
  try:
    with part.open("w", encoding="utf-8") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    yield part
    with contextlib.suppress(OSError):  # some file systems have no such call
      folder = os.open(path.parent, os.O_RDONLY)
      try:
        os.fsync(folder)
      finally:
        os.close(folder)
  finally:
    part.unlink(missing_ok=True)


def said(error: OSError) -> str:
  """A line on what is wrong with a file, with the remedy that is known."""
  where = error.filename or "a file of the sweep"
  text = f"{where}: {error.strerror or error}"
  if error.errno in (errno.ENOSPC, errno.EDQUOT):
    return f"{text}: free some space"
  if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
    return f"{text}: make it writable"
  return text


def last_line(path: Path, longest: int = 300) -> str:
  """The last line of a text file that is not blank, cut to `longest`."""
  try:
    with path.open("rb") as file:
      file.seek(0, os.SEEK_END)
      file.seek(max(file.tell() - (1 << 16), 0))
      lines = file.read().decode("utf-8", "replace").splitlines()
  except OSError:
    return ""
  return next((x.strip() for x in reversed(lines) if x.strip()), "")[:longest]


def step(workdir: Path) -> list[Any] | None:
  """[stage, step] of the last line of a run's metrics; None before any."""
  try:
    found = json.loads(last_line(workdir / "metrics.jsonl", 1 << 16))
    return [found["phase"], int(found["step"])]
  except (ValueError, KeyError, TypeError):
    return None
