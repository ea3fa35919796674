"""Bytes that are free, and the refusal of what needs more."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import jax

from rsrc_jax.runtime import procs
from rsrc_jax.runtime.procs import PROC

CGROUP = Path("/sys/fs/cgroup")


def check(needs: Mapping[str, float], room: float) -> None:
  """Refuses a run that a device can't hold, before anything is made.

  Args:
    needs: bytes a device, by the settings that ask for them. They are lower
      bounds, so that nothing is refused that fits.
    room: bytes that are free, of `free`.

  Raises:
    ValueError: the largest need, or all together, exceed what is free; with
      both numbers and the settings to lower.
  """
  total = sum(needs.values())
  if total > room:
    fields, most = max(needs.items(), key=lambda need: need[1])
    raise ValueError(
      f"{fields}: {_size(most)} a device of the {_size(total)} at least that "
      f"the run needs, and {_size(room)} are free: lower them, or split the "
      "model (config.mesh.fsdp)."
    )


def free(mesh: jax.sharding.Mesh) -> float:
  """Free bytes of a device; on CPU its share of what this process may take."""
  own = mesh.local_devices  # those of other processes can't be asked
  stats = own[0].memory_stats() or {}
  if "bytes_limit" in stats:
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
  return min(available(), room_of_cgroup()) / len(own)


def available(proc: Path = PROC) -> float:
  """Bytes that the host can give without swapping; page caches are given up."""
  with contextlib.suppress(OSError, ValueError, IndexError):
    for line in (proc / "meminfo").read_text().splitlines():
      if line.startswith("MemAvailable:"):
        return 1024.0 * int(line.split()[1])
  return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))


def room_of_cgroup(root: Path = CGROUP, own: str | None = None) -> float:
  """Bytes that the cgroups of this process still allow; inf without a limit.

  Args:
    root: where cgroups are mounted.
    own: the text of /proc/self/cgroup.
  """
  rooms = [float("inf")]
  for kinds, path in procs.cgroups(own):
    if kinds == "":  # version 2: every folder above counts
      names, base = ("memory.max", "memory.current"), root
    elif "memory" in kinds.split(","):
      names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
      base = root / "memory"
    else:
      continue
    folder = base / path
    above = [x for x in (folder, *folder.parents) if x.is_relative_to(base)]
    rooms += [_room(x, *names) for x in above]
  return min(rooms)


def _room(folder: Path, limit: str, used: str) -> float:
  """What one cgroup allows beyond its use; caches of files can be given up."""
  try:
    most = int((folder / limit).read_text())  # "max" is no number
    taken = int((folder / used).read_text())
  except (OSError, ValueError):
    return float("inf")
  with contextlib.suppress(OSError, ValueError):
    for line in (folder / "memory.stat").read_text().splitlines():
      name, _, value = line.partition(" ")
      if name in ("inactive_file", "total_inactive_file"):
        return float(most - max(taken - int(value), 0))
  return float(most - taken)


def _size(count: float) -> str:
  return f"{count / 1e9:,.{0 if count > 1e11 else 1}f} GB"
