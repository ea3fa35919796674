"""The run directory while a run writes to it: opened, refused, or finished."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from rsrc_jax.output import files
from rsrc_jax.runtime import (
  inputs,
  lock,
  processes,
  provenance,
  run_log,
  signals,
)


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
  config: ml_collections.ConfigDict,
  workdir: Path,
  found: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
  """The summary of a run that has ended, or None where it has not.

  found: name -> digest of what the run depends on; by default of the files that
    the config names. See inputs.py.

  Raises:
    ValueError: the directory holds a run of another config, or on other data,
      or a file of it is damaged.
  """
  check(config, workdir, found)
  path = workdir / "summary.json"
  if not path.exists():
    return None
  return files.read_json(
    path, "Remove it, and give the same command: it is made again."
  )


def check_writable(workdir: Path) -> None:
  """Refuses a run directory that can't be written, before any work.

  One with a finished run may be: it is only read.

  Raises:
    ValueError: it names --workdir, what is wrong and the remedy.
  """
  if not os.path.exists(workdir / "summary.json"):
    files.check_folder(workdir, "--workdir")


def check(
  config: ml_collections.ConfigDict,
  workdir: Path,
  found: Mapping[str, str] | None = None,
) -> None:
  """Refuses a directory with a run of another config, or on other data.

  See `summary_of`.
  """
  provenance.check(config, workdir)
  found = inputs.of_settings(config) if found is None else found
  inputs.check(found, workdir, quiet=not processes.first())


@contextlib.contextmanager
def open_run(
  config: ml_collections.ConfigDict,
  workdir: Path,
  log: run_log.Log | None = None,
  stop: Callable[[], bool] | None = None,
  found: Mapping[str, str] | None = None,
) -> Iterator[Run]:
  """Records what makes the run, and listens for signals until it is closed.

  Until then no other process can open it.

  Args:
    config: of the run. See `summary_of`, which has to be asked before.
    workdir: made where missing.
    log: where to show progress; by default a Log in the run directory.
    stop: asked instead of listening for signals.
    found: see `summary_of`.

  Raises:
    ValueError: another process writes it, or has made it another run since
      `summary_of` was asked.
  """
  found = inputs.of_settings(config) if found is None else found
  with owned(workdir), processes.log_dir(workdir) as log_dir:
    check(config, workdir, found)
    inputs.record(found, workdir, log_dir)
    provenance.record(config, log_dir)
    log = log or run_log.Log(log_dir, quiet=not processes.first())
    asked = contextlib.nullcontext(stop) if stop else signals.stop_requests()
    with asked as stop, contextlib.closing(log):
      yield Run(workdir, log_dir, log, stop)


@contextlib.contextmanager
def owned(workdir: Path) -> Iterator[None]:
  """Holds the lock of a run directory, which process 0 takes for all.

  Raises:
    ValueError: a process of another job holds it.
  """
  with contextlib.ExitStack() as stack:
    said = ""
    if processes.first():
      try:
        stack.enter_context(lock.held(workdir, lock.WAIT))
      except ValueError as error:
        said = str(error)
    if processes.any_of(bool(said)):
      raise ValueError(said or f"process 0 can't write {workdir}.")
    yield
