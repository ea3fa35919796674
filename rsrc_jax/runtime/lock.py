"""One process writes a folder: FOLDER/lock.

The lock is the system's (flock), so it ends with its process, however that
ends. The file says who holds it, for the message, and for file systems that
know no locks.
"""

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsrc_jax.runtime import procs

# Seconds in which a process that was just killed lets its lock go.
WAIT = 3.0
FIELDS = {"host", "boot", "pid", "start", "since"}
# What a file system without locks answers.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def held(folder: Path, wait: float) -> Iterator[None]:
  """Holds the lock of a folder, which is made where missing.

  Args:
    folder: that this process is going to write.
    wait: seconds before another holder is named.

  Raises:
    ValueError: another process holds it.
  """
  folder.mkdir(parents=True, exist_ok=True)
  file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
  try:
    try:
      locks = taken(file, wait)
    except BlockingIOError:
      raise ValueError(f"{_refusal(folder, _read(file))}.") from None
    _check_former(folder, _read(file), locks)
    _write(file, {**procs.me(), "since": time.time()})
    try:
      yield
    finally:
      with contextlib.suppress(OSError):  # a disk that is gone
        os.ftruncate(file, 0)
  finally:
    os.close(file)


def taken(file: int, wait: float) -> bool:
  """Locks an open file for this process alone, until it is closed.

  Returns:
    False where the system or the file system knows no such locks.

  Raises:
    BlockingIOError: another process has had it for `wait` seconds.
  """
  try:
    import fcntl
  except ImportError:
    return False
  end = time.monotonic() + wait
  while True:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return True
    except BlockingIOError:
      if time.monotonic() > end:
        raise
      time.sleep(0.02)
    except OSError as error:
      if error.errno not in NO_LOCKS:
        raise
      return False


def _check_former(
  folder: Path, former: dict[str, Any] | None, locks: bool
) -> None:
  """Looks at a holder that has not said that it ended.

  locks: whether the file system has them. Then the holder is dead, but for one
    of another host, with which some network file systems share no locks.

  Raises:
    ValueError: there are no locks, and it lives or is of another host.
  """
  here = former is not None and procs.here(former)
  if not locks:
    if former and (not here or procs.alive(former)):
      own = "" if here else f", or remove {folder / 'lock'} if it has ended"
      raise ValueError(_refusal(folder, former) + own + ".")
    _note(
      f"{folder} is on a file system without locks: a second start is seen on "
      "this host, and not if both begin at once."
    )
  elif former and not here:
    _note(
      f"{folder}: {_who(former)} has not said that it ended. Its lock is free, "
      "so it is taken for dead; where this file system does not share locks "
      "between hosts it may still write: make sure that it does not."
    )


def _refusal(folder: Path, holder: dict[str, Any] | None) -> str:
  stop = (
    f", stop it (kill {holder['pid']} on {holder['host']})" if holder else ""
  )
  return (
    f"{folder} is being written by {_who(holder)}: wait for it{stop}, or give "
    "another --workdir"
  )


def _who(holder: dict[str, Any] | None) -> str:
  if holder is None:  # it has just taken it
    return "another process"
  since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder["since"]))
  return f"process {holder['pid']} on {holder['host']} since {since}"


def _read(file: int) -> dict[str, Any] | None:
  """Who holds the lock; None where the file does not say it."""
  try:
    found = json.loads(os.pread(file, 1 << 12, 0))
    return found if {*found} >= FIELDS else None
  except (ValueError, TypeError):
    return None


def _write(file: int, holder: dict[str, Any]) -> None:
  os.ftruncate(file, 0)
  os.pwrite(file, (json.dumps(holder) + "\n").encode(), 0)


def _note(text: str) -> None:
  print(f"note: {text}", file=sys.stderr)
