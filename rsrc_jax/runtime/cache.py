"""What a process keeps: programs for the next run, memory for the next step."""

import ctypes
import os
from pathlib import Path


def keep_programs(environment: dict[str, str] | None = None) -> None:
  """Sets jax's cache in `environment`, by default this process's.

  To be called before jax is imported; what the user has set stays.
  """
  environment = os.environ if environment is None else environment
  home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  folder = home / "rsrc-jax" / "jax"
  environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
  # Small programs too: parameters are initialised op by op, by about a hundred
  # of them (0.4 MB), which took 3.6 CPU seconds of each start and take 1.4 now.
  environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


# malloc.h's names of what mallopt sets.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8


def keep_memory() -> bool:
  """Has glibc keep what XLA frees, instead of giving it back at every call.

  Scratch memory of more than 32 MiB is otherwise mapped anew in every call of a
  program, and each page is paid for when it is first touched: half of the time
  of a recursive model's training step (LOG.md, 2026-11-23). One arena, since
  those of threads hold 64 MiB at most; that makes threads wait for each other,
  so that programs of many small arrays, and compiling, get slower: not for
  every loop. Resident memory stays what it was at its peak. To be called before
  jax is imported.

  Returns:
    Whether anything was set: there is nothing to set without glibc.
  """
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return False
  return all(
    [
      mallopt(ARENA_MAX, 1),
      mallopt(MMAP_THRESHOLD, 1 << 30),
      mallopt(TRIM_THRESHOLD, 2**31 - 1),
      mallopt(TOP_PAD, 1 << 26),
    ]
  )
