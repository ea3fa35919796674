"""What the commands show and do besides running: see `cli`."""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rsrc_jax.output.plain import plain
from rsrc_jax.runtime import configs, procs, provenance
from rsrc_jax.sweep import (
  collect,
  cost,
  files,
  owner,
  state,
  status,
  stored,
)
from rsrc_jax.sweep.plan import Plan, Run


def costs(
  plan: Plan,
  folder: Path,
  roots: Sequence[Path],
  slots: int,
  measure: Callable[[list[Run]], dict] | None,
) -> str:
  """The grid and what it costs.

  measure: runs some runs, for shapes of which nothing is known.
  """
  found = cost.of(plan, roots)
  if measure and (runs := cost.unmeasured(plan, found)):
    measure([_short(plan, run, folder / "measured") for run in runs])
    found = cost.of(plan, roots)
  done = {run.id for run in plan.runs if state.done(run)}
  return cost.table(plan, found, done, slots)


def _short(plan: Plan, run: Run, folder: Path) -> Run:
  """A run with few steps, in a folder for measurements."""
  flags = (f"--config.{k}={v}" for k, v in cost.short(plan, run).items())
  argv = (*run.argv, *flags)
  id_ = provenance.identity(configs.from_flags(argv))
  return run._replace(id=id_, argv=argv, workdir=folder / f"{run.name}-{id_}")


def on_status(folder: Path, plan: Plan, flags: argparse.Namespace) -> None:
  """Prints a line a run."""
  del flags
  print(status.table(folder, plan))


def on_logs(folder: Path, plan: Plan, flags: argparse.Namespace) -> None:
  """Prints what the last attempt of each named run has printed."""
  del folder
  if not flags.runs:
    raise ValueError("whose logs? Name a run, as `status` lists them.")
  for name in flags.runs:
    run = stored.run_called(plan, name)
    records = state.attempts(run)
    if not records:
      raise ValueError(f"{run.name} was not started.")
    path = Path(records[-1]["log"])
    print(f"== {plain(path)}", flush=True)
    with contextlib.suppress(FileNotFoundError):
      sys.stdout.write(plain(path.read_text(errors="replace"), "\n\t"))


def on_collect(folder: Path, plan: Plan, flags: argparse.Namespace) -> None:
  """Writes and prints the tables; exits with 1 if runs are missing."""
  found = collect.collect(plan, flags.scores)
  collect.write(folder, found)
  print(collect.shown(found))
  print(f"\n{plain(folder)}/table.csv, table.json, groups.csv")
  if found.missing and not flags.partial:
    sys.exit(
      f"error: {len(found.missing)} runs are missing; --partial allows it."
    )


def on_cancel(folder: Path, plan: Plan, flags: argparse.Namespace) -> None:
  """Stops the driver and its runs, or the named runs for good."""
  if not flags.runs:
    found = files.read(owner.path(folder))
    if not owner.living(found):
      print("There is no driver, and nothing to stop.")
    elif not procs.here(found):
      raise ValueError(
        f"the driver is process {found['pid']} on {found['host']}: cancel it "
        "there."
      )
    else:
      os.kill(found["pid"], signal.SIGTERM)
      while owner.living(files.read(owner.path(folder))):
        time.sleep(0.1)
      print("The driver has stopped. ./tools/sweep run goes on.")
    return
  for run in [stored.run_called(plan, name) for name in flags.runs]:
    found = state.of(run)
    if found.word == "done":
      print(f"{plain(run.name)}: is done.")
      continue
    state.cancel(run)
    if found.word == "running":
      _stop(run)
    print(f"{plain(run.name)}: cancelled; --again takes it back.")


def _stop(run: Run) -> None:
  """Asks the process around a run to stop; one that starts is waited for."""
  for _ in range(50):
    who = state.attempts(run)[-1].get("wrapper")
    if who and procs.here(who):
      with contextlib.suppress(ProcessLookupError):
        os.kill(who["pid"], signal.SIGTERM)
      return
    time.sleep(0.1)
  raise ValueError(
    f"{run.name} runs on another machine, or doesn't start: it is marked, and "
    "not started again."
  )
