"""Which driver a sweep has: SWEEP/driver.json, at most one that lives.

A driver of this machine lives while its process does. One of another machine
lives while it renews the file, every RENEW seconds.
"""

import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsrc_jax.runtime import lock, procs
from rsrc_jax.sweep import files

RENEW, LEASE = 10.0, 120.0  # seconds


class Lost(Exception):
  """Another driver has taken the sweep."""


def path(folder: Path) -> Path:
  """The file of a sweep's owner."""
  return folder / "driver.json"


def living(found: dict[str, Any] | None) -> bool:
  """Whether a driver, as its file has it, still drives."""
  if found is None or found.get("ended"):
    return False
  if procs.here(found):
    return procs.alive(found)
  return time.time() - found["renewed"] < LEASE


def take(folder: Path) -> dict[str, Any]:
  """Makes this process the driver of a sweep. -> what tells it from others

  Raises:
    ValueError: another driver lives.
    OSError: the file can't be written.
  """
  me = procs.me()
  with _one_at_a_time(folder):
    found = files.read(path(folder))
    if living(found) and not same(found, me):
      raise ValueError(
        f"{folder} has a driver: process {found['pid']} on {found['host']}. "
        "Wait for it, or stop it by ./tools/sweep cancel."
      )
    renew(folder, me)
  # A file system may not know locks: of two writers, the last one has it.
  check(folder, me)
  return me


def renew(folder: Path, me: dict[str, Any]) -> None:
  """Writes that the driver lives."""
  files.write(path(folder), {**me, "renewed": time.time(), "ended": False})


def check(folder: Path, me: dict[str, Any]) -> None:
  """Raises Lost if the sweep has got another driver."""
  found = files.read(path(folder))
  if found is None or not same(found, me):
    raise Lost(f"{folder} has got another driver.")


def end(folder: Path, me: dict[str, Any]) -> None:
  """Writes that the driver has ended."""
  with contextlib.suppress(OSError, Lost):
    check(folder, me)
    last = {**me, "renewed": time.time(), "ended": True}
    files.write(path(folder), last)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
  """Whether both are one process."""
  keys = ("host", "boot", "pid", "start")
  return all(a[k] == b[k] for k in keys)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
  """Holds a lock while the owner is read and replaced."""
  folder.mkdir(parents=True, exist_ok=True)
  where = os.open(folder / "driver.lock", os.O_RDWR | os.O_CREAT, 0o666)
  try:
    with contextlib.suppress(OSError):  # none: see `take`
      lock.taken(where, math.inf)
    yield
  finally:
    os.close(where)
