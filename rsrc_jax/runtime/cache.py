"""Caches: programs and tokenizers for all runs, memory for a process."""

import ctypes
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path


def keep_programs(environment: dict[str, str] | None = None) -> None:
  """Sets jax's cache in `environment`, by default this process's.

  Call it before jax is imported. Variables that the user has set stay.
  """
  environment = os.environ if environment is None else environment
  folder = _root(environment) / "jax"
  environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
  # Small programs too: parameters are initialised op by op, with about a
  # hundred programs (0.4 MB). The cache saves 2.2 of 3.6 CPU seconds at each
  # start.
  environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def tokenizers(
  workdir: str | Path, environment: Mapping[str, str] | None = None
) -> Path:
  """The folder for trained tokenizers, which all runs share.

  It is `tokenizers` in $RSRC_CACHE, by default in $XDG_CACHE_HOME/rsrc-jax or
  ~/.cache/rsrc-jax. The names of its files are hashes of their content (see
  tokenizer.cached_sentencepiece), so runs cannot confuse them.

  Args:
    workdir: the folder that is used instead, with a warning, if the shared one
      is not writable.
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


# Parameters of mallopt, from malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8


def keep_memory() -> bool:
  """Makes glibc keep the memory that XLA frees, for the next call.

  Otherwise scratch memory of more than 32 MiB is mapped again in every call of
  a program, and the first access to each page is slow. That was half of the
  time of a recursive model's training step (LOG.md, 2026-11-23). All threads
  share one arena, since other arenas hold at most 64 MiB. Threads then wait for
  each other, which slows down compilation and programs with many small arrays,
  so this is not for every loop. Resident memory stays at its peak. Call it
  before jax is imported.

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
