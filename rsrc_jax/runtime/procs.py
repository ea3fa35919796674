"""Which process this is, and whether another one is still alive.

It reads /proc. Where that is missing (not Linux), a process is known by its
number alone.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PROC = Path("/proc")


class Stat(NamedTuple):
  """Of /proc/PID/stat."""

  state: str
  parent: int
  session: int
  start: int  # clock ticks after the boot


def me(pid: int | None = None) -> dict[str, Any]:
  """What tells a process from all others: host, boot, pid and start."""
  pid = os.getpid() if pid is None else pid
  found = stat(pid)
  return {
    "host": socket.gethostname(), "boot": boot(), "pid": pid,
    "start": found.start if found else None,
  }  # fmt: skip


def boot() -> str:
  """The id of this boot of the machine; empty where there is none."""
  try:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
  except OSError:
    return ""


def cgroups(own: str | None = None) -> Iterator[tuple[str, str]]:
  """The controllers and the path of each cgroup of this process.

  Version 2 names no controllers. own: the text of /proc/self/cgroup.
  """
  if own is None:
    try:
      own = (PROC / "self" / "cgroup").read_text()
    except OSError:
      own = ""
  for line in own.splitlines():
    _, kinds, path = line.split(":", 2)
    yield kinds, path.strip("/")


def here(who: dict[str, Any]) -> bool:
  """Whether a process of `me` is one of this machine."""
  return who["host"] == socket.gethostname()


def alive(who: dict[str, Any]) -> bool:
  """Whether a process of this machine still runs; a zombie does not."""
  if who["boot"] != boot():
    return False
  if not PROC.is_dir():
    with contextlib.suppress(ProcessLookupError, PermissionError):
      os.kill(who["pid"], 0)
      return True
    return False
  found = stat(who["pid"])
  if found is None or found.state in "ZX":
    return False
  return found.start == who["start"]


def stat(pid: int) -> Stat | None:
  """What the kernel says of a process; None where it is not there."""
  try:
    text = (PROC / str(pid) / "stat").read_text()
  except OSError:
    return None
  fields = text[text.rindex(")") + 2 :].split()  # a name may hold anything
  return Stat(fields[0], int(fields[1]), int(fields[3]), int(fields[19]))
