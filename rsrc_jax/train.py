"""The experiment: one base, several arms from it, equal in data and in steps.

train(config, workdir) is a plain function: the command line, a test and an
outer loop call it alike. Phases run in turn (base, then every arm); each has
checkpoints of its own, and what is finished is not done again.
"""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rsrc_jax import (
  build,
  checkpoint,
  evaluate,
  logging,
  provenance,
  results,
  sharding,
)
from rsrc_jax.data import sources
from rsrc_jax.types import Params, TrainState


class Interrupted(Exception):
  """A signal came; everything up to here is saved."""


def train(
  config: ml_collections.ConfigDict,
  workdir: str | Path,
  *,
  log: logging.Log | None = None,
) -> dict[str, Any]:
  """Runs or resumes an experiment and returns its summary.

  Args:
    config: see configs/tiny.py.
    workdir: the run directory; made where missing, resumed where it holds a
      run of the same config.
    log: where to show progress.

  Raises:
    ValueError: a setting or a corpus that can't work; before any compile.
    Interrupted: SIGTERM or Ctrl-C came and the run was saved.
    FloatingPointError: the loss stopped being a number.
  """
  workdir = Path(workdir)
  world = build.world(config, workdir)
  phases = build.phases(world)
  workdir.mkdir(parents=True, exist_ok=True)
  provenance.record(config, workdir)
  done = workdir / "summary.json"
  if done.exists():
    return json.loads(done.read_text())
  log = log or logging.Log(workdir)
  base, *arms = phases
  params = world.policy.init(jax.random.key(config.seed))
  with stop_requests() as stop, contextlib.closing(log):
    judge = jax.jit(evaluate.make_judge(world.policy, world.roles["D"]))
    trained, seconds = {}, 0.0
    for number, phase in enumerate(phases, 1):
      if phase is not base:
        params = trained["base"]
      title = f"{phase.name} ({number}/{len(phases)})"
      state, spent = run_phase(
        world, phase, params, judge, workdir, log, title, stop
      )
      trained[phase.name] = state.params
      seconds += spent
    log.note("Evaluating on the test split.")
    begun = time.monotonic()
    summary = results.evaluate_arms(world, arms, trained, judge, workdir)
    summary["seconds"] = round(seconds + time.monotonic() - begun, 1)
  logging.write_json(done, summary)
  return summary


def run_phase(
  world: build.World,
  phase: build.Phase,
  params: Params,
  judge: Callable[..., Any],
  workdir: Path,
  log: logging.Log,
  title: str,
  stop: Callable[[], bool],
) -> tuple[TrainState, float]:
  """Trains one phase to its end, from its last checkpoint if there is one.

  Returns:
    The final state and the seconds spent on it, earlier sessions included.
  """
  config = world.config
  begun = time.monotonic()
  saver = checkpoint.open_saver(
    workdir / "checkpoints" / phase.name,
    keep_last=config.checkpoint.keep_last,
    keep_best=config.checkpoint.keep_best,
    metric="nll_bits",
  )
  state = phase.init(jax.tree.map(jnp.copy, params))
  state = sharding.put(state, sharding.shardings(world.mesh, state))
  frozen = {"base": params, "reader": params}
  frozen = sharding.put(frozen, sharding.shardings(world.mesh, frozen))
  stream = sources.batches(
    world.corpus.train, batch_size=phase.batch_size, seed=phase.data_seed
  )
  window, before = [], 0.0
  if (found := checkpoint.restore(saver, state)) is not None:
    state, host = found
    stream.set_state(host["iterator"])
    window, before = host["window"], host["seconds"]
  first = int(state.step)
  if first >= phase.steps:
    checkpoint.close(saver)
    return state, before
  log.start(phase.name, title, first, phase.steps)
  where = sharding.batch_sharding(world.mesh)
  for step in range(first, phase.steps):
    batch = sharding.put(next(stream), where)
    given = phase.given(step, state.curriculum, frozen, batch)
    state, metrics = phase.step(state, frozen, batch, given)
    window.append(metrics)
    done = step + 1
    if done == first + 1:
      jax.block_until_ready(metrics)
      log.compiled(done)
    last = done == phase.steps
    if last or done % config.log_every == 0:
      window = _flush(log, title, done, window)
    valid = {}
    if phase.write and (last or done % config.eval.every == 0):
      valid = _validate(world, phase, state, frozen, judge)
      log.valid(done, valid)
    if last or done % config.checkpoint.every == 0 or stop():
      window = [{k: float(v) for k, v in m.items()} for m in window]
      host = {
        "iterator": stream.get_state(),
        "window": window,
        "seconds": before + time.monotonic() - begun,
      }
      checkpoint.save(saver, state, host, valid)
    if stop() and not last:
      log.end()
      checkpoint.close(saver)
      raise Interrupted(f"{phase.name} saved at step {done} of {phase.steps}")
  log.end()
  checkpoint.close(saver)
  return state, before + time.monotonic() - begun


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
  """Turns the first SIGTERM or Ctrl-C into a question that a loop can ask.

  A second Ctrl-C interrupts at once. Outside the main thread nothing is caught.
  """
  asked = []

  def ask(number, frame):
    del frame
    asked.append(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)

  try:
    before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
  except ValueError:
    before = {}
  try:
    yield lambda: bool(asked)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _flush(log, title, step, window):
  """Logs the means of a window; returns an empty one."""
  means = logging.mean(jax.device_get(window))
  if not np.isfinite(means["loss"]):
    raise FloatingPointError(
      f"{title}: the loss is {means['loss']} at step {step}; the checkpoints "
      "before it are whole. Lower optimizer.learning_rate or clip_norm."
    )
  log.train(step, means)
  return []


def _validate(world, phase, state, frozen, judge):
  config, key = world.config, jax.random.key(world.config.seed)
  metrics, _ = evaluate.judge_split(
    lambda batch: phase.write(state.params, frozen, batch, key),
    lambda source, code: judge(state.params, source, code),
    world.corpus.valid,
    rows=config.eval.rows,
    batch_size=config.eval.batch_size,
    entropy_bits=world.corpus.entropy_bits,
  )
  return metrics
