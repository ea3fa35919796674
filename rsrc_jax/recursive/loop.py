"""The outer loop of recursive models: arms on the same puzzles, then tests.

train(config, workdir) is a plain function with the same run directory, the same
checkpoints and the same ledger as train.train. All arms of a run are trained on
the same puzzles, each for its own number of steps.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
from rich.console import Console
from rich.table import Table

from rsrc_jax.accounting import energy_sources, metering
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.accounting.totals import totals
from rsrc_jax.data.grids import PuzzleData
from rsrc_jax.lm import keys
from rsrc_jax.output import files
from rsrc_jax.recursive import arms, checks, measure, puzzles
from rsrc_jax.recursive.arms import Arm
from rsrc_jax.runtime import (
  checkpoint,
  failures,
  finite,
  inputs,
  processes,
  provenance,
  run_dir,
  run_log,
  sharding,
)
from rsrc_jax.runtime.signals import Interrupted
from rsrc_jax.types import TrainState


def train(
  config: ml_collections.ConfigDict,
  workdir: str | Path,
  *,
  log: run_log.Log | None = None,
) -> dict[str, Any]:
  """Runs or resumes an experiment and returns its summary.

  Args:
    config: see configs/trm.py.
    workdir: the run directory; made where missing, resumed where it holds a run
      of the same config.
    log: where to show progress.

  Raises:
    ValueError: a setting that can't work, or the folder holds a run on other
      puzzles; before any compile.
    Interrupted: SIGTERM or Ctrl-C came and the run was saved.
    FloatingPointError: the loss stopped being a number.
    OSError: a file can't be written; the run goes on from its last checkpoint.
  """
  if processes.count() > 1:
    raise ValueError(
      f"config.loop=refine runs on one process, not on {processes.count()}: "
      "start it without --processes."
    )
  workdir = Path(workdir)
  meter = energy_sources.open_meter(accelerators=sharding.accelerators())
  begun = meter.read()
  checks.check(config)
  run_dir.check_writable(workdir)
  provenance.check(config, workdir)
  made = provenance.environment()  # before: the source tree may change
  console = log.console if log else Console(stderr=True)
  with run_log.waiting("reading the puzzles", console):
    data = puzzles.load(**config.data, seed=config.seed)
  reads = inputs.of_settings(config) | {"puzzles": puzzles.digest(data)}
  if (done := run_dir.summary_of(config, workdir, reads)) is not None:
    return done
  built = [arms.arm_of(config, name, data) for name in checks.names(config)]
  with run_dir.open_run(config, workdir, log, found=reads) as run:
    ledger = Ledger(workdir / "ledger.jsonl", meter, since=begun)
    with contextlib.closing(ledger):
      found = _run_arms(config, built, data, run, ledger)
    ledger.check()
    boards = [line for arm in found.values() for line in arm.pop("boards")]
    files.write_lines(workdir / "samples.jsonl", boards)
    sums = totals(ledger.read(), pue=config.ledger.pue)
    summary = {
      "loop": "refine", "seed": config.seed, "source": data.name,
      "train": len(data.train.question), "test": len(data.test.question),
      "cells": data.cells, "arms": found, "seconds": sums["wall_seconds"],
      "ledger": sums, "made_with": provenance.made_with(made),
    }  # fmt: skip
    files.write_json(workdir / "summary.json", summary)
  return summary


def _run_arms(config, built, data, run, ledger) -> dict[str, Any]:
  """Trains and measures each arm, unless that is done. -> results by name"""
  found = {}
  for number, arm in enumerate(built, 1):
    title = f"{arm.name} ({number}/{len(built)})"
    read = measure.make_reader(arm, ledger)
    state, curve = run_arm(config, arm, data, read, run, ledger, title)
    path = run.workdir / f"measured-{arm.name}.json"
    if not path.exists():
      run.log.note(
        f"{arm.name}: measuring on {len(data.test.question)} puzzles."
      )
      measured = measure.measure(
        config, arm, data, read, state, run.workdir, ledger
      )
      files.write_json(path, measured | {"curve": curve})
    found[arm.name] = files.read_json(
      path, "Remove it, and give the same command: the arm is measured again."
    )
  return found


def run_arm(
  config: ml_collections.ConfigDict,
  arm: Arm,
  data: PuzzleData,
  read: Any,
  run: run_dir.Run,
  ledger: Ledger,
  title: str,
) -> tuple[TrainState, list[dict[str, float]]]:
  """Trains an arm to its end, from its last checkpoint if there is one.

  Args:
    config: of the run.
    arm: of `arms.arm_of`.
    data: its puzzles.
    read: of `measure.make_reader`.
    run: where it is logged and saved.
    ledger: where it is charged.
    title: how it is shown.

  Returns:
    The state and the learning curve, of `measure.validate`.

  Raises:
    Interrupted: a signal came and the arm was saved.
    FloatingPointError: the loss stopped being a number.
  """
  saver = checkpoint.open_saver(
    run.workdir / "checkpoints" / arm.name,
    keep_last=config.checkpoint.keep_last, keep_best=0, metric="nll",
  )  # fmt: skip
  log, host = run.log, {"window": [], "curve": [], "seconds": 0.0}
  with run_log.waiting("making parameters", log.console):
    state = arm.init(keys.parameters(config.seed))
  if (found := checkpoint.restore(saver, state)) is not None:
    state, host = found
    ledger.carry(host.get("ledger"))
  window, curve, seconds = host["window"], host["curve"], host["seconds"]
  step, steps = int(state.step), arm.settings.steps
  if step >= steps:
    checkpoint.close(saver)
    return state, curve
  ledger.resume(arm.name, host.get("ledger"))
  unwritten = host.get("unwritten", ())
  log.start(arm.name, title, step, steps, unwritten)
  count = metering.compiled(
    ledger, "step", arm.step, state, arms.items_of(config, data, step),
    closed_form=arms.step_flops(arm, config.batch_size), arm=arm.name,
  )  # fmt: skip
  log.compiled(step)
  every = (config.log_every, config.eval.every, config.checkpoint.every)
  while step < steps:
    until = min(steps, *((step // n + 1) * n for n in every))
    begun = time.monotonic()
    state, metrics = _advance(
      config, arm, data, state, range(step, until), ledger, count, run.stop
    )
    seconds += time.monotonic() - begun
    window, step = window + metrics, step + len(metrics)
    last, stopping = step == steps, run.stop()
    remedy = {"saved": checkpoint.newest(saver), "block": "config.optimizer"}
    finite.check_steps(title, step, window, **remedy)
    if last or step % config.log_every == 0:
      window = run_log.flush_window(log, step, window)
    if last or step % config.eval.every == 0:
      curve.append(measure.validate(config, arm, data, state, read, seconds))
      log.valid(step, curve[-1])
    failed = log.failed or ledger.failed
    if last or step % config.checkpoint.every == 0 or stopping or failed:
      window = [{k: float(v) for k, v in m.items()} for m in window]
      host = {"window": window, "curve": curve, "seconds": seconds}
      host |= {"ledger": ledger.position(), "unwritten": log.unwritten}
      with (
        ledger.phase("checkpoint", arm.name),
        failures.writing(saver.directory),
      ):
        finite.check_params(title, step, state.params, **remedy)
        checkpoint.save(saver, state, host, {})
    if failed:
      failed.add_note(f"{arm.name} is saved at step {step}.")
      raise failed
    if stopping and not last:
      log.end()
      checkpoint.close(saver)
      raise Interrupted(f"{arm.name} saved at step {step} of {steps}")
  log.end()
  checkpoint.close(saver)
  return state, curve


def _advance(config, arm, data, state, steps, ledger, count, stop):
  """Runs `steps`, or fewer if `stop` says so, but one at least.

  -> the state, and the metrics of each step
  """
  found = []
  with ledger.phase("step", arm.name) as spend:
    for step in steps:
      state, metrics = arm.step(state, arms.items_of(config, data, step))
      # Steps that are queued would each hold their scratch memory.
      jax.block_until_ready(metrics)
      found.append(metrics)
      if stop():
        break
    work = metering.work([(count, {}, len(found))])
    spend(step=step + 1, steps=len(found), **work)
  return state, found


def show(
  summary: dict[str, Any], workdir: str | Path
) -> tuple[Path, list[Table]]:
  """Writes the report of a run. -> its path, and tables for a terminal"""
  from rsrc_jax.recursive import report  # matplotlib is slow to import

  return report.show(summary, workdir)
