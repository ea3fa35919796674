"""This machine: its cores, and the processes of a run.

It reads /proc. Where that is missing (not Linux), sessions and memory can't be
watched.
"""

import contextlib
import ctypes
import os
import signal
from pathlib import Path

from rsrc_jax.runtime import procs
from rsrc_jax.runtime.procs import PROC

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MARK = "RSRC_ATTEMPT"  # in the environment of a run: the file of its attempt
CGROUP = Path("/sys/fs/cgroup")


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
  limits = []
  for kinds, path in procs.cgroups(own):
    if kinds == "":  # version 2: every folder above counts
      folder = root / path
      above = [folder, *folder.parents]
      found = [_max(x) for x in above if x.is_relative_to(root)]
    elif "cpu" in kinds.split(","):
      found = [_v1(root / "cpu" / path), _v1(root / "cpu")]
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
      of = procs.stat(pid)
      if pid != me and of and me in (of.parent, of.session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
          os.kill(pid, signal.SIGKILL)
    try:
      os.waitpid(-1, 0)
    except ChildProcessError:
      return


def session(leader: int) -> list[int]:
  """The processes of a session that have not ended, its leader among them."""
  found = []
  for folder in PROC.glob("[0-9]*"):
    of = procs.stat(int(folder.name))
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
