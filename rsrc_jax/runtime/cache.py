"""Caches: programs, tokenizers, digests for all runs; memory for a process."""

import ctypes
import errno
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, MutableMapping
from pathlib import Path

# Bytes of compiled programs that are kept; the least recently used ones go.
PROGRAMS = 1 << 30
# Bytes that must be free on their disk.
FREE = 64 << 20
# What XLA does on a CPU by default and lengthens compiling, without a faster
# step here. Its new fusion emitters are the larger part of compiling and stay:
# without them steps took 3 to 14 % longer (LOG.md, 2026-11-26). Options that a
# version of XLA does not know are passed over by it.
OPTIONS = ("xla_cpu_disable_loop_unrolling", "xla_cpu_disable_slp_vectorizer")


def keep_programs(environment: dict[str, str] | None = None) -> None:
  """Sets in `environment` that compiling is fast and its results are kept.

  By default it is this process's. Call it before jax is imported. Variables
  that the user has set stay. The folder is `jax` in $RSRC_CACHE; it is bounded,
  several processes may use it at once, and where it can't be written to one
  line says so and the run goes on without it.
  """
  own = environment is None
  environment = os.environ if own else environment
  compile_fast(environment)
  if (
    environment.get("JAX_ENABLE_COMPILATION_CACHE", "true").lower() in "false0"
  ):
    return
  environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  theirs = environment.get("JAX_COMPILATION_CACHE_DIR")
  folder = theirs or str(_root(environment) / "jax")
  if "://" not in folder:
    try:
      _open(Path(folder))
    except OSError as error:
      environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
      _say(f"note: {_unkept(folder, error.strerror)}")
      return
  if own:
    _one_line_each(folder)
  if theirs:
    return
  environment["JAX_COMPILATION_CACHE_DIR"] = folder
  # jax locks a bounded cache, and needs this package for it.
  if importlib.util.find_spec("filelock"):
    environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(PROGRAMS))
    if environment["JAX_COMPILATION_CACHE_MAX_SIZE"] != "-1":
      remove_halves(Path(folder))


def compile_fast(environment: MutableMapping[str, str]) -> None:
  """Adds OPTIONS to XLA's flags, where the user has set no such options."""
  flags = environment.get("XLA_FLAGS", "")
  if "--xla_backend_extra_options" not in flags:
    added = f"--xla_backend_extra_options={','.join(OPTIONS)}"
    environment["XLA_FLAGS"] = f"{flags} {added}".strip()


def remove_halves(folder: Path) -> None:
  """Removes what a killed process or a full disk left half written.

  jax writes an entry and then the time of its use, under a lock. It can't evict
  anything while one of them is missing.
  """
  import filelock

  try:
    with filelock.FileLock(folder / ".lockfile", timeout=10):
      of = lambda kind: {
        x.name.removesuffix(kind) for x in folder.glob(f"*{kind}")
      }
      for name in of("-cache") ^ of("-atime"):
        for kind in ("-cache", "-atime"):
          (folder / f"{name}{kind}").unlink(missing_ok=True)
  except (OSError, filelock.Timeout):
    pass  # another start will do it; jax says what it can't write


def _open(folder: Path) -> None:
  """Makes a folder that has room; raises OSError where that can't be."""
  folder.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryFile(dir=folder):
    pass
  if shutil.disk_usage(folder).free < FREE:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _one_line_each(folder: str) -> None:
  """Says in one line what jax's warnings about its cache say in several."""
  show, said = warnings.showwarning, set()

  def one_line(message, *args, **kwargs):
    found = re.match(
      "Error (reading|writing) persistent compilation cache.*?: (.*)",
      str(message), re.S,
    )  # fmt: skip
    if not found:
      show(message, *args, **kwargs)
    elif (kind := found[1]) not in said:
      said.add(kind)
      reason = found[2].split(chr(10))[0]
      _say(
        f"note: {_unkept(folder, reason)}"
        if kind == "writing"
        else f"note: a program kept in {folder} can't be read ({reason}): it "
        "is compiled again."
      )

  warnings.showwarning = one_line


def _unkept(folder: str, reason: str | None) -> str:
  return (
    f"compiled programs can't be kept in {folder} ({reason}): the run goes on, "
    "and the next start compiles again. Set RSRC_CACHE to a folder with room."
  )


def _say(text: str) -> None:
  print(text, file=sys.stderr)


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


def digests(environment: Mapping[str, str] | None = None) -> Path | None:
  """The folder for digests of large files: `digests` beside `tokenizers`.

  None where it can't be made.
  """
  folder = _root(os.environ if environment is None else environment) / "digests"
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return None
  return folder


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
