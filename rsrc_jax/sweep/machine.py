"""This machine: its cores, its processes, and who is still alive.

It reads /proc. Where that is missing (not Linux), a process is known by its
number alone, and sessions and memory can't be watched.
"""

import contextlib
import ctypes
import os
import signal
import socket
from pathlib import Path
from typing import Any, NamedTuple

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MARK = "RSRC_ATTEMPT"  # in the environment of a run: the file of its attempt
PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


class Stat(NamedTuple):
  """Of /proc/PID/stat."""

  state: str
  parent: int
  session: int
  start: int  # clock ticks after the boot


def cores() -> list[int]:
  """The cores that this process may use, as many as its cgroup has time for."""
  allowed = sorted(getattr(os, "sched_getaffinity", lambda _: {0})(0))
  limit = quota()
  return allowed if limit is None else allowed[: max(int(limit), 1)]


def quota(root: Path = CGROUP, own: str | None = None) -> float | None:
  """CPU seconds a second that the cgroup allows; None where it has no limit.

  Args:
    root: where cgroups are mounted.
    own: the text of /proc/self/cgroup.
  """
  if own is None:
    try:
      own = (PROC / "self" / "cgroup").read_text()
    except OSError:
      own = ""
  limits = []
  for line in own.splitlines():
    _, kinds, path = line.split(":", 2)
    if kinds == "":  # version 2: every folder above counts
      folder = root / path.strip("/")
      above = [folder, *folder.parents]
      found = [_max(x) for x in above if x.is_relative_to(root)]
    elif "cpu" in kinds.split(","):
      found = [_v1(root / "cpu" / path.strip("/")), _v1(root / "cpu")]
    else:
      continue
    limits += [x for x in found if x is not None]
  return min(limits, default=None)


def _max(folder: Path) -> float | None:
  try:
    limit, period = (folder / "cpu.max").read_text().split()
  except (OSError, ValueError):
    return None
  return None if limit == "max" else int(limit) / int(period)


def _v1(folder: Path) -> float | None:
  try:
    limit = int((folder / "cpu.cfs_quota_us").read_text())
    period = int((folder / "cpu.cfs_period_us").read_text())
  except (OSError, ValueError):
    return None
  return limit / period if limit > 0 else None


def die_with_parent(number: int, parent: int) -> bool:
  """Asks the kernel for a signal when the parent ends. -> whether it lives

  The signal comes when the *thread* that has started this process ends: start
  such processes from a main thread.

  Args:
    number: the signal.
    parent: the id that the parent should have; another one says that it has
      ended already.
  """
  _prctl(PR_SET_PDEATHSIG, number)
  return os.getppid() == parent


def adopt_orphans() -> None:
  """Makes this process the parent of what its children leave behind."""
  _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
  with contextlib.suppress(OSError, AttributeError):  # Linux has it
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_children() -> None:
  """Kills all that this process has started or adopted, and waits for it."""
  me = os.getpid()
  while True:
    for folder in PROC.glob("[0-9]*"):
      pid = int(folder.name)
      if pid != me and (of := stat(pid)) and me in (of.parent, of.session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
          os.kill(pid, signal.SIGKILL)
    try:
      os.waitpid(-1, 0)
    except ChildProcessError:
      return


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


def session(leader: int) -> list[int]:
  """The processes of a session that have not ended, its leader among them."""
  found = []
  for folder in PROC.glob("[0-9]*"):
    of = stat(int(folder.name))
    if of and of.session == leader and of.state not in "ZX":
      found.append(int(folder.name))
  return found


def end_marked(mark: str) -> None:
  """Kills all processes that have the value as MARK in their environment.

  It is what an attempt has started, whatever session and parent it has got; a
  number of a process could be another one's by now.
  """
  for folder in PROC.glob("[0-9]*"):
    with contextlib.suppress(OSError):
      if f"{MARK}={mark}".encode() in environment(int(folder.name)):
        os.kill(int(folder.name), signal.SIGKILL)


def environment(pid: int) -> list[bytes]:
  """The environment that a process was started with."""
  return (PROC / str(pid) / "environ").read_bytes().split(b"\0")


def resident(leader: int) -> int:
  """Bytes in memory of all processes of a session."""
  pages = 0
  for pid in session(leader):
    with contextlib.suppress(OSError, IndexError):
      pages += int((PROC / str(pid) / "statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE")
