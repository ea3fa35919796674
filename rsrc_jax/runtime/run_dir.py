"""The run directory while a run writes to it: opened, refused, or finished."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from rsrc_jax.output import files
from rsrc_jax.runtime import processes, provenance, run_log, signals


class Run(NamedTuple):
  """A run that is being written.

  workdir: the run directory, which all processes see; checkpoints go there.
  log_dir: where this process writes everything else. On process 0 it is the
    run directory, on the others a folder that is removed at the end.
  log: what is shown and logged.
  stop: () -> whether a signal has asked the run to end.
  """

  workdir: Path
  log_dir: Path
  log: run_log.Log
  stop: Callable[[], bool]


def summary_of(
  config: ml_collections.ConfigDict, workdir: Path
) -> dict[str, Any] | None:
  """The summary of a run that has ended, or None where it has not.

  Raises:
    ValueError: the directory holds a run of another config, or a file of it is
      damaged.
  """
  provenance.check(config, workdir)
  path = workdir / "summary.json"
  if not path.exists():
    return None
  return files.read_json(
    path, "Remove it, and give the same command: it is made again."
  )


def check(workdir: Path) -> None:
  """Refuses a run directory that can't be written, before any work.

  One with a finished run may be: it is only read.

  Raises:
    ValueError: it names --workdir, what is wrong and the remedy.
  """
  if not os.path.exists(workdir / "summary.json"):
    files.check_folder(workdir, "--workdir")


@contextlib.contextmanager
def open_run(
  config: ml_collections.ConfigDict,
  workdir: Path,
  log: run_log.Log | None = None,
  stop: Callable[[], bool] | None = None,
) -> Iterator[Run]:
  """Records what makes the run, and listens for signals until it is closed.

  Args:
    config: of the run. See `summary_of`, which has to be asked before.
    workdir: made where missing.
    log: where to show progress; by default a Log in the run directory.
    stop: asked instead of listening for signals.
  """
  with processes.log_dir(workdir) as log_dir:
    provenance.record(config, log_dir)
    log = log or run_log.Log(log_dir, quiet=not processes.first())
    asked = contextlib.nullcontext(stop) if stop else signals.stop_requests()
    with asked as stop, contextlib.closing(log):
      yield Run(workdir, log_dir, log, stop)
