"""Files that are whole at every moment, and lines that are added whole."""

import contextlib
import errno
import json
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rsrc_jax.output import plain

REMEDIES = {
  errno.ENOSPC: "free some space",
  errno.EDQUOT: "free some space",
  errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
  errno.EACCES: "make it writable",
  errno.EPERM: "make it writable",
  errno.EROFS: "make it writable",
  errno.EMFILE: "raise the limit on open files (ulimit -n)",
  errno.EIO: "look at the disk",
}


def write_text(path: str | Path, text: str) -> None:
  """Replaces a file: a reader, or a crash, sees the old or the new one.

  Folders that lack are made.

  Raises:
    OSError: it could not be written, and the old file is as it was.
  """
  write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
  """The same with bytes."""
  with _part(Path(path), data) as part:
    os.replace(part, path)


def write_json(path: str | Path, value: Any) -> None:
  """The same with indented JSON; see plain.json_text."""
  write_text(path, plain.json_text(value, 2) + "\n")


def write_lines(path: str | Path, values: Iterable[Any]) -> None:
  """The same with JSON, a line a value."""
  write_text(path, "".join(plain.json_text(x) + "\n" for x in values))


def create(path: Path, value: Any) -> bool:
  """Makes a JSON file if there is none. -> whether this call has made it

  Of several processes that try, one succeeds; nobody sees a part of it.
  """
  with _part(path, (plain.json_text(value, 2) + "\n").encode()) as part:
    try:
      os.link(part, path)
    except FileExistsError:
      return False
    return True


@contextlib.contextmanager
def _part(path: Path, data: bytes) -> Iterator[Path]:
  """A file beside `path` with all of the data, on the disk; removed later."""
  part = path.with_name(f".{path.name}.{os.getpid()}.part")
  path.parent.mkdir(parents=True, exist_ok=True)
  try:
    with part.open("wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    yield part
    with contextlib.suppress(OSError):  # some file systems have no such call
      folder = os.open(path.parent, os.O_RDONLY)
      try:
        os.fsync(folder)
      finally:
        os.close(folder)
  except OSError as error:
    raise _about(error, path) from error
  finally:
    with contextlib.suppress(OSError):
      part.unlink(missing_ok=True)


def append(path: str | Path, value: Any) -> None:
  """Adds a value to a file of JSON lines, in one write.

  Raises:
    OSError: it could not be added; the file ends with the line before.
  """
  append_bytes(path, (plain.json_text(value) + "\n").encode())


def append_bytes(path: str | Path, data: bytes) -> None:
  """The same with bytes."""
  try:
    where = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
      size = os.fstat(where).st_size
      try:
        while data:
          data = data[os.write(where, data) :]
      except OSError:
        with contextlib.suppress(OSError):
          os.ftruncate(where, size)
        raise
    finally:
      os.close(where)
  except OSError as error:
    raise _about(error, Path(path)) from error


def _about(error: OSError, path: Path) -> OSError:
  """The error with the name of the file: os.write and close give none."""
  return OSError(error.errno, error.strerror or str(error), str(path))


def read_json(path: Path, remedy: str) -> Any:
  """The value of a JSON file.

  Args:
    path: of a file that is there.
    remedy: what to do where it is damaged, for the message.

  Raises:
    ValueError: it is not JSON: it was cut short, or edited.
  """
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except ValueError:
    raise ValueError(
      f"{path} is not whole: it was cut short or edited. {remedy}"
    ) from None


def read_jsonl(path: str | Path) -> list[dict]:
  """The objects of a JSON-lines file.

  A last line without its newline was being written, and is left out unless it
  is whole.

  Raises:
    ValueError: another line is no object.
  """
  path, found = Path(path), []
  *whole, last = path.read_bytes().decode("utf-8", "replace").split("\n")
  for number, text in enumerate([*whole, last], 1):
    try:
      value = json.loads(text)
    except ValueError:
      value = None
    if isinstance(value, dict):
      found.append(value)
    elif number <= len(whole) and text.strip():
      raise ValueError(
        f"{path}, line {number} is not whole: it was cut short or edited. Copy "
        "the file anew, or take that line out: "
        f"sed -i {number}d {shlex.quote(str(path))}"
      )
  return found


def check_folder(folder: str | Path, flag: str) -> None:
  """Refuses a folder in which nothing can be written, and leaves no trace.

  Args:
    folder: it need not be there yet.
    flag: by which it was given, for the message.

  Raises:
    ValueError: its name is not UTF-8, a file is in its place, or there is no
      right or no room to write.
  """
  folder, given = Path(folder), f"{flag}={plain.plain(folder)}"
  try:
    str(folder).encode()
  except UnicodeEncodeError:
    raise ValueError(
      f"{given} is not UTF-8: give a folder whose name is."
    ) from None
  try:
    there = folder.absolute()
    while not os.path.lexists(there):
      there = there.parent
    with tempfile.TemporaryFile(dir=there) as file:
      file.write(b"0" * 4096)
      file.flush()
      os.fsync(file.fileno())
  except OSError as error:
    if error.errno == errno.ENOTDIR:
      raise ValueError(
        f"{given}: {there} is no folder: give another {flag}."
      ) from None
    raise ValueError(
      f"{given} can't be written to ({error.strerror}): "
      f"{REMEDIES.get(error.errno, 'see to it')}, or give another {flag}."
    ) from None


def said(error: OSError) -> str:
  """A line on what is wrong with a file, with the remedy that is known."""
  where = error.filename or "a file"
  text = f"{where}: {error.strerror or error}"
  remedy = REMEDIES.get(error.errno)
  return f"{text}: {remedy}" if remedy else text
