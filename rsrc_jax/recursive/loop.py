"""The loop of recursive models: arms on the same puzzles, then dead compute.

train(config, workdir) is a plain function, as train.train is: same run
directory, same checkpoints, same books. An arm is a model and its supervision;
all arms of a run see the same puzzles, each for its own number of steps.
"""

import contextlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rsrc_jax.accounting import energy, ledger, metering
from rsrc_jax.lm import keys
from rsrc_jax.models import recursive
from rsrc_jax.models.recursive import Recursive
from rsrc_jax.recursive import dead_compute, puzzles, targets, train_step
from rsrc_jax.recursive.train_step import Items
from rsrc_jax.rl import learner
from rsrc_jax.runtime import (
  checkpoint,
  processes,
  provenance,
  run_log,
  sharding,
)
from rsrc_jax.runtime.signals import Interrupted, stop_requests
from rsrc_jax.types import TrainState


class Arm(NamedTuple):
  """A model and how it is supervised."""

  name: str
  model: Recursive
  settings: Any  # its block of the config
  init: Any  # params -> TrainState
  step: Any  # jitted (state, items) -> state, metrics; donates the state


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
    ValueError: a setting that can't work; before any compile.
    Interrupted: SIGTERM or Ctrl-C came and the run was saved.
    FloatingPointError: the loss stopped being a number.
  """
  if processes.count() > 1:
    raise ValueError(
      f"config.loop=refine runs on one process, not on {processes.count()}: "
      "start it without --processes."
    )
  workdir = Path(workdir)
  meter = energy.open_meter(accelerators=sharding.accelerators())
  begun = meter.read()
  _check(config)
  provenance.check(config, workdir)
  if (done := workdir / "summary.json").exists():
    return json.loads(done.read_text())
  made = provenance.environment()
  workdir.mkdir(parents=True, exist_ok=True)
  data = puzzles.load(**config.data, seed=config.seed)
  arms = [arm_of(config, name, data) for name in _names(config)]
  provenance.record(config, workdir)
  log = log or run_log.Log(workdir)
  books = ledger.Ledger(workdir / "ledger.jsonl", meter, since=begun)
  found, samples = {}, []
  shut = contextlib.closing
  with stop_requests() as stop, shut(log), shut(books):
    for number, arm in enumerate(arms, 1):
      title = f"{arm.name} ({number}/{len(arms)})"
      look = _looking(arm, books)
      state, curve = run_arm(
        config, arm, data, look, workdir, log, books, title, stop
      )
      path = workdir / f"measured-{arm.name}.json"
      if not path.exists():
        log.note(f"{arm.name}: measuring on {len(data.test.question)} puzzles.")
        measured = measure(config, arm, data, look, state, workdir, books)
        run_log.write_json(path, measured | {"curve": curve})
      found[arm.name] = json.loads(path.read_text())
      samples += found[arm.name].pop("boards")
  lines = "".join(json.dumps(line) + "\n" for line in samples)
  run_log.write_atomic(workdir / "samples.jsonl", lines)
  totals = ledger.totals(books.read(), pue=config.ledger.pue)
  kept = ("git", "python", "packages", "backend", "devices", "processes")
  summary = {
    "loop": "refine", "seed": config.seed, "source": data.name,
    "train": len(data.train.question), "test": len(data.test.question),
    "cells": data.cells, "arms": found, "seconds": totals["wall_seconds"],
    "ledger": totals, "made_with": {name: made[name] for name in kept},
  }  # fmt: skip
  run_log.write_json(workdir / "summary.json", summary)
  return summary


def arm_of(config, name: str, data: puzzles.Data) -> Arm:
  """Builds an arm.

  Raises:
    ValueError: see models.recursive.make and supervise.make.
  """
  own = config.arms[name]
  model = recursive.make(
    vocab_size=data.vocab_size, cells=data.cells,
    identities=data.identities, **{**config.model, **own.model},
  )  # fmt: skip
  rate = own.learning_rate or config.optimizer.learning_rate
  tx = learner.optimizer(
    **{**config.optimizer, "learning_rate": rate}, steps=own.steps
  )
  begin, step = train_step.make(
    model, tx, batch_size=config.batch_size, supersteps=own.supersteps,
    scheme=own.targets, halting=own.model.get("halting", False),
    explore=config.explore, rising=own.rising, ema=config.ema,
  )  # fmt: skip

  def init(key):
    params = model.init(key)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=tx.init(params),
      carry=begin(params, items_of(config, data, 0)),
      curriculum=None,
      seed=jnp.asarray(config.seed, jnp.uint32),
    )

  return Arm(name, model, own, init, jax.jit(step, donate_argnums=0))


def items_of(config, data: puzzles.Data, step: int) -> Items:
  """What may enter at a step: a function of seed and step alone."""
  rng = np.random.default_rng((config.seed, 1, step))
  rows = rng.integers(len(data.train.question), size=config.batch_size)
  return data.batch(data.train, data.train_identity, rows, rng)


def run_arm(config, arm, data, look, workdir, log, books, title, stop):
  """Trains an arm to its end. -> its state and its curve"""
  saver = checkpoint.open_saver(
    workdir / "checkpoints" / arm.name,
    keep_last=config.checkpoint.keep_last, keep_best=0, metric="nll",
  )  # fmt: skip
  state = arm.init(keys.child(jax.random.key(config.seed), keys.Seed.RECURSIVE))
  window, curve, host, seconds = [], [], {}, 0.0
  if (found := checkpoint.restore(saver, state)) is not None:
    state, host = found
    window, curve, seconds = host["window"], host["curve"], host["seconds"]
    books.carry(host.get("ledger"))
  step, steps = int(state.step), arm.settings.steps
  if step >= steps:
    checkpoint.close(saver)
    return state, curve
  books.resume(arm.name, host.get("ledger"))
  log.start(arm.name, title, step, steps)
  count = metering.compiled(
    books, "step", arm.step, state, items_of(config, data, step),
    closed_form=step_flops(arm, config.batch_size),
  )  # fmt: skip
  log.compiled(step)
  every = (config.log_every, config.eval.every, config.checkpoint.every)
  while step < steps:
    until = min(steps, *((step // n + 1) * n for n in every))
    with books.phase("step") as spend:
      done, begun = 0, time.monotonic()
      while step < until and not (done and stop()):
        state, metrics = arm.step(state, items_of(config, data, step))
        # Steps that wait in line would each hold their scratch memory.
        jax.block_until_ready(metrics)
        window.append(metrics)
        step, done = step + 1, done + 1
      seconds += time.monotonic() - begun
      spend(step=step, steps=done, **metering.work([(count, {}, done)]))
    last, stopping = step == steps, stop()
    if last or step % config.log_every == 0:
      window = _flush(log, title, step, window)
    if last or step % config.eval.every == 0:
      curve.append(_validate(config, arm, data, state, look, seconds))
      log.valid(step, curve[-1])
    if last or step % config.checkpoint.every == 0 or stopping:
      window = [{k: float(v) for k, v in m.items()} for m in window]
      host = {"window": window, "curve": curve, "seconds": seconds}
      host["ledger"] = books.position()
      with books.phase("checkpoint"):
        checkpoint.save(saver, state, host, {})
    if stopping and not last:
      log.end()
      checkpoint.close(saver)
      raise Interrupted(f"{arm.name} saved at step {step} of {steps}")
  log.end()
  checkpoint.close(saver)
  return state, curve


def measure(config, arm, data, look, state, workdir, books) -> dict[str, Any]:
  """Everything that is said of a trained arm, on the test puzzles."""
  settings, model = arm.settings, arm.model
  params, size = state.carry.ema, config.eval.batch_size
  items = data.items(data.test, data.test_identity)
  everything = dead_compute.over(
    look, params, items, size, jnp.int32(dead_compute.NOBODY)
  )
  found = dead_compute.summary(
    everything, calls=model.calls, call_flops=model.call_flops(1)
  )
  some = jax.tree.map(lambda x: x[: config.eval.causal_rows], items)
  whole = everything.exact[-1, : config.eval.causal_rows]
  found["skip"] = []
  for s in range(settings.supersteps):
    left_out = dead_compute.over(look, params, some, size, jnp.int32(s))
    lost = whole * 1.0 - left_out.exact[-1]
    found["skip"].append(dead_compute.interval(lost))
  calls = metering.charged(
    books, "test", jax.jit(dead_compute.make_calls(model, settings.supersteps))
  )
  found["calls"] = {
    name: np.asarray(x).tolist()
    for name, x in calls(params, some)._asdict().items()
  }
  passes = jax.device_get(state.carry.passes)
  finished = max(int(passes.finished), 1)
  found |= {
    "params": sum(x.size for x in jax.tree.leaves(state.params)),
    "supersteps": settings.supersteps,
    "calls_per_superstep": model.calls,
    "passes_inference": settings.supersteps * model.calls,
    "flops_inference": settings.supersteps * model.calls * model.call_flops(1),
    "steps": settings.steps,
    "passes_training": int(passes.calls),
    "passes_with_gradient": int(passes.calls_with_gradient),
    "finished": int(passes.finished),
    "passes_per_item": int(passes.calls) / finished,
    "flops_training": settings.steps * step_flops(arm, config.batch_size),
    "targets": settings.targets,
    "boards": boards(config, arm, data, everything.said),
  }  # fmt: skip
  np.savez_compressed(
    workdir / f"examined-{arm.name}.npz",
    exact=everything.exact, log_prob=everything.log_prob.astype(np.float32),
    advantage=everything.steps.advantage.astype(np.float32),
    kl=everything.steps.kl.astype(np.float32),
  )  # fmt: skip
  return found


def step_flops(arm: Arm, batch_size: int) -> float:
  """Products of a training step by formula: a backward pass is two forward."""
  model = arm.model
  return model.call_flops(batch_size) * (
    model.calls + 2 * model.calls_with_gradient
  )


def boards(config, arm, data, said) -> list[dict[str, Any]]:
  """Some puzzles as they are solved, one line each."""
  return [
    {
      "arm": arm.name, "row": row, "side": data.side, "name": data.name,
      "question": data.test.question[row].tolist(),
      "answer": data.test.answer[row].tolist(),
      "said": said[1:, row].tolist(),
    }
    for row in range(min(config.eval.samples, len(data.test.question)))
  ]  # fmt: skip


def _looking(arm, books):
  look = dead_compute.make(arm.model, arm.settings.supersteps)
  return metering.charged(books, "evaluation", jax.jit(look))


def _validate(config, arm, data, state, look, seconds) -> dict[str, float]:
  items = data.items(data.valid, data.valid_identity)
  items = jax.tree.map(lambda x: x[: config.eval.rows], items)
  found = dead_compute.over(
    look, state.carry.ema, items, config.eval.batch_size,
    jnp.int32(dead_compute.NOBODY),
  )  # fmt: skip
  passes = jax.device_get(state.carry.passes)
  step = int(state.step)
  return {
    "step": step,
    "exact": float(found.exact[-1].mean()),
    "cell": float(found.cell[-1].mean()),
    "exact_first": float(found.exact[1].mean()),
    "passes": float(passes.calls) / config.batch_size,
    "flops": step * step_flops(arm, config.batch_size),
    "seconds": seconds,
  }


def _flush(log, title, step, window):
  """Logs the means of a window; returns an empty one."""
  means = run_log.mean(jax.device_get(window))
  if not np.isfinite(means["loss"]):
    raise FloatingPointError(
      f"{title}: the loss is {means['loss']} at step {step}; the checkpoints "
      "before it are whole. Lower optimizer.learning_rate or clip_norm."
    )
  log.train(step, means)
  return []


def _names(config) -> list[str]:
  if not config.only:
    return list(config.arms)
  names = [name.strip() for name in config.only.split(",")]
  for name in names:
    if name not in config.arms:
      raise ValueError(
        f"config.only={config.only!r}: {name!r} is none of the arms "
        f"{', '.join(config.arms)}."
      )
  return names


def _check(config) -> None:
  """Raises ValueError for what would fail late."""
  for name in _names(config):
    arm = config.arms[name]
    if arm.targets not in targets.NAMES:
      raise ValueError(
        f"config.arms.{name}.targets={arm.targets!r} is none of "
        f"{', '.join(targets.NAMES)}."
      )
    if arm.supersteps < 1 or arm.steps < 1:
      raise ValueError(
        f"config.arms.{name}: supersteps={arm.supersteps} and steps="
        f"{arm.steps} must be at least 1."
      )
    if arm.targets != "final" and arm.model.get("halting"):
      raise ValueError(
        f"config.arms.{name}: halting asks whether the answer is right, which "
        f"targets={arm.targets!r} do not until the last superstep: use one of "
        "the two."
      )
  if config.batch_size < 1 or config.eval.causal_rows < 1:
    raise ValueError(
      f"config.batch_size={config.batch_size} and config.eval.causal_rows="
      f"{config.eval.causal_rows} must be at least 1."
    )
