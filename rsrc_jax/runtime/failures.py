"""What a user is told of an error that is not this package's own.

A disk without room, a folder without the right to write, a file system that is
gone: each is one line with the flag and the remedy, wherever it was met.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

from rsrc_jax.output import files

# What libraries that write by themselves say of them, in an error of their own.
HIDDEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def line(error: BaseException, workdir: Path) -> str | None:
  """What to print after "error: "; None for an error that needs a traceback.

  Args:
    error: that has ended a run.
    workdir: of the run, which can go on from its last checkpoint.
  """
  if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
    notes = "".join(f" {x}" for x in getattr(error, "__notes__", ()))
    where = f"{error.filename or ''}"
    flag = ""
    if not where or Path(where).absolute().is_relative_to(workdir.absolute()):
      flag = f"--workdir={workdir}: "
    return (
      f"{flag}{files.said(error)}, and give the same command: it goes on from "
      f"the last checkpoint.{notes}"
    )
  if isinstance(error, ValueError | FileNotFoundError | FloatingPointError):
    return str(error)
  return None


def code(error: BaseException) -> int:
  """The exit code: 1 where the same command may work later, else 2."""
  later = isinstance(error, OSError) and not isinstance(
    error, FileNotFoundError
  )
  return 1 if later else 2


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
  """Makes an OSError of what a library says where a file can't be written.

  What its threads log of an error is held back: they raise it as well.

  Args:
    path: the file or folder that is written inside.
  """
  before, hook = logging.get_verbosity(), sys.unraisablehook
  logging.set_verbosity(logging.FATAL)
  sys.unraisablehook = _without_late_writes(hook)
  try:
    yield
    sys.unraisablehook = hook
  except OSError:
    raise
  except Exception as error:
    # After a fault of the machine the hook stays: writes end in a moment.
    if (number := _hidden(error)) is None:
      sys.unraisablehook = hook
      raise
    raise OSError(number, os.strerror(number), str(path)) from error
  finally:
    logging.set_verbosity(before)


def _without_late_writes(hook: Callable) -> Callable:
  """A hook that passes over writes that end after their loop was closed."""

  def shown(found):
    if str(found.exc_value) != "Event loop is closed":
      hook(found)

  return shown


def _hidden(error: BaseException | None) -> int | None:
  """The number of the fault of the machine behind an error, if there is one."""
  seen = set()
  while error is not None and id(error) not in seen:
    seen.add(id(error))
    if isinstance(error, OSError) and error.errno in HIDDEN:
      return error.errno
    for number in HIDDEN:
      if os.strerror(number) in str(error):
        return number
    error = error.__cause__ or error.__context__
  return None
