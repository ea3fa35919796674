"""What is kept: programs and tokenizers for all runs, memory for a process."""

import ctypes
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path


def keep_programs(environment: dict[str, str] | None = None) -> None:
  """Sets jax's cache in `environment`, by default this process's.

  Call it before jax is imported. What the user has set is not changed.
  """
  environment = os.environ if environment is None else environment
  folder = _root(environment) / "jax"
  environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
  # Small programs too: parameters are initialised op by op, by about a hundred
  # of them (0.4 MB), which took 3.6 CPU seconds of each start and take 1.4 now.
  environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def tokenizers(
  workdir: str | Path, environment: Mapping[str, str] | None = None
) -> Path:
  """The folder for trained tokenizers, which all runs share.

  It is `tokenizers` in $RSRC_CACHE, by default in $XDG_CACHE_HOME/rsrc-jax or
  ~/.cache/rsrc-jax. Its files are named by their content (see
  tokenizer.cached_sentencepiece), so that runs can't mix them up.

  Args:
    workdir: the folder that is used instead, with a warning, where nothing can
      be written to the shared one.
    environment: by default this process's.
  """
  environment = os.environ if environment is None else environment
  folder = _root(environment) / "tokenizers"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      return folder
  except OSError as error:
    warnings.warn(
      f"{folder} can't be written to ({error.strerror}): tokenizers are kept "
      f"in {workdir}. Set RSRC_CACHE to a folder of yours to share them.",
      stacklevel=2,
    )
    return Path(workdir)


def _root(environment: Mapping[str, str]) -> Path:
  if environment.get("RSRC_CACHE"):
    return Path(environment["RSRC_CACHE"]).expanduser()
  home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  return home / "rsrc-jax"


# malloc.h's names of what mallopt sets.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8


def keep_memory() -> bool:
  """Makes glibc keep the memory that XLA frees, for the next call.

  Otherwise scratch memory of more than 32 MiB is mapped again in every call of
  a program, and each page costs time when it is first touched. That was half of
  the time of a recursive model's training step (LOG.md, 2026-11-23). There is
  one arena, since those of threads hold 64 MiB at most. Threads then wait for
  each other, so that compiling and programs of many small arrays get slower:
  this is not for every loop. Resident memory stays at its peak. Call it before
  jax is imported.

  Returns:
    Whether it was set. Without glibc there is nothing to set.
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
