"""The experiment: one base, and several arms with equal data and steps.

train(config, workdir) builds a run and runs it. run(setup, stages, workdir)
runs stages that are already built, so that an outer loop or a test can run them
repeatedly and share their compiled programs. Stages run in turn, the base and
then every arm. Each has its own checkpoints, and finished stages are not run
again.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from rsrc_jax import runs
from rsrc_jax.accounting import (
  account,
  energy,
  energy_sources,
  flops,
  metering,
)
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.accounting.totals import joules
from rsrc_jax.build.setup import Setup, make_setup
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge, heldout, service
from rsrc_jax.runtime import (
  cache,
  checkpoint,
  processes,
  provenance,
  run_dir,
  run_log,
  sharding,
)
from rsrc_jax.runtime.signals import Interrupted
from rsrc_jax.stages import closed_form, plan
from rsrc_jax.stages.stage import Stage, frozen_of
from rsrc_jax.types import Params, TrainState


class Shared(NamedTuple):
  """The objects that all stages of a run use."""

  setup: Setup
  judge: code_judge.CodeJudge
  ledger: Ledger
  run: run_dir.Run  # its folders, its log, and requests to stop


class Trained(NamedTuple):
  """The results of the stages of a run, by stage."""

  params: dict[str, Params]  # the policy's, "untrained" among them
  carries: dict[str, Any]  # of their patterns
  stored_bits: dict[str, dict[str, int]]  # account.state_bits


def train(
  config: ml_collections.ConfigDict,
  workdir: str | Path,
  *,
  log: run_log.Log | None = None,
) -> dict[str, Any]:
  """Runs or resumes an experiment and returns its summary.

  Args:
    config: see configs/tiny.py.
    workdir: the run directory. It is made if missing, and resumed if it holds a
      run of the same config.
    log: shows progress.

  With several processes (processes.join) all call it and get the same summary.

  Raises:
    ValueError: a setting or a corpus cannot work; before any compilation.
    Interrupted: SIGTERM or Ctrl-C arrived, and the run was saved.
    FloatingPointError: the loss is not finite.
  """
  meter = open_meter()
  since = meter.read()
  setup = make_setup(config, cache.tokenizers(workdir))
  stages = plan.make_stages(setup)
  return run(setup, stages, workdir, log=log, meter=meter, since=since)


def show(summary: dict[str, Any], workdir: Path):
  """Writes the report of a run. -> its path, tables for the terminal"""
  from rsrc_jax.report import run_report  # imports matplotlib

  return run_report.show(summary, workdir)


def open_meter() -> energy.Meter:
  """The meter of time and energy, with the same terms in all processes."""
  meter = energy_sources.open_meter(accelerators=sharding.accelerators())
  return energy_sources.alike(meter, processes.count())


def run(
  setup: Setup,
  stages: list[Stage],
  workdir: str | Path,
  *,
  stop: Callable[[], bool] | None = None,
  log: run_log.Log | None = None,
  params: Params | None = None,
  meter: energy.Meter | None = None,
  since: energy.Use | None = None,
) -> dict[str, Any]:
  """Runs or resumes stages that are already built, and returns the summary.

  Args:
    setup: from make_setup.
    stages: from plan.make_stages, or an outer loop's own. The others start from
      the first one.
    workdir: the run directory, as in `train`.
    stop: called between windows of steps; if it returns True, the run is saved
      and stops. None: SIGTERM and Ctrl-C stop it.
    log: shows progress.
    params: initial parameters of the first stage; None: from the config.
    meter: from open_meter; it is closed with the run.
    since: the meter's reading before the setup, which is charged as `data`.

  Raises:
    Interrupted: `stop` returned True, and the run was saved.
    ValueError: the workdir holds a run of another config.
  """
  workdir, config = Path(workdir), setup.config
  meter = meter or open_meter()
  processes.check_same("config", config.to_json_best_effort(sort_keys=True))
  processes.check_same("corpus", setup.corpus.digest)
  made = provenance.environment()  # now, since the tree may change during a run
  if (done := run_dir.summary_of(config, workdir)) is not None:
    return done
  with run_dir.open_run(config, workdir, log, stop) as opened:
    path = opened.log_dir / "ledger.jsonl" if config.ledger.enabled else None
    ledger = Ledger(path, meter, since=since)
    with contextlib.closing(ledger):
      shared = Shared(setup, code_judge.charged(setup, ledger), ledger, opened)
      charged = [_charged(stage, setup, ledger) for stage in stages]
      trained = train_stages(shared, charged, params)
      opened.log.note("Evaluating on the test split.")
      summary, measured = heldout.evaluate_arms(
        setup, charged[1:], trained.params, trained.carries, shared.judge,
        opened.log_dir, ledger,
      )  # fmt: skip
      peers = service.peers(setup, meter)  # while the meter is open
    summary["made_with"] = provenance.made_with(made)
    if path is not None:
      facts = {
        x.name: account.Facts(x.english, x.reads_base) for x in stages[1:]
      }
      summary |= account.account(
        config.ledger, facts, measured, trained.stored_bits, peers, ledger
      )
      lines = run_log.read_jsonl(opened.log.path)
      summary["trajectory"] = account.trajectory(lines)
      opened.log.totals(account.scalars(summary))
    run_log.write_json(opened.log_dir / "summary.json", summary)
  return summary


def _charged(stage: Stage, setup: Setup, ledger: Ledger) -> Stage:
  """The stage with its `write` and `observe` charged to it."""
  decoding = metering.decoding("C", setup.config.budget)
  charge = functools.partial(metering.charged, ledger)
  return stage._replace(
    write=stage.write and charge("C", stage.write, decoding, stage.name),
    observe=stage.observe
    and charge(
      "V", stage.observe, metering.held_loops, stage.name, stage.sections
    ),
  )


# Training.


def train_stages(
  shared: Shared, stages: list[Stage], params: Params | None
) -> Trained:
  """Trains all stages in turn. params: see `run`."""
  with shared.ledger.phase("compile") as spend:
    if params is None:
      params = runs.initial_params(shared.setup)
    untrained = spend(params)
  trained = Trained({}, {}, {})
  for number, stage in enumerate(stages, 1):
    begin = trained.params[stage.start] if number > 1 else untrained
    frozen = frozen_of(stage, {"base": begin} | trained.params)
    title = f"{stage.name} ({number}/{len(stages)})"
    state = run_stage(shared, stage, begin, frozen, title)
    trained.params[stage.name] = stage.bind(state.params, frozen)
    trained.carries[stage.name] = state.carry
    trained.stored_bits[stage.name] = account.state_bits(state)
  trained.params["untrained"] = untrained
  return trained


def run_stage(
  shared: Shared,
  stage: Stage,
  params: Params,
  frozen: dict[str, Params],
  title: str,
) -> TrainState:
  """Trains one stage to its end, from its last checkpoint if there is one.

  params: initial ones. frozen: see stage.frozen_of.
  """
  setup, ledger, run = shared.setup, shared.ledger, shared.run
  config, log = setup.config, run.log
  saver = checkpoint.open_saver(
    run.workdir / "checkpoints" / stage.name,
    keep_last=config.checkpoint.keep_last,
    keep_best=config.checkpoint.keep_best,
    metric="nll_bits",
  )
  state = stage.init(params)
  state = sharding.put(state, sharding.shardings(setup.mesh, state))
  frozen = sharding.put(frozen, sharding.shardings(setup.mesh, frozen))
  stream = sources.batches(
    setup.corpus.train, batch_size=stage.batch_size, seed=stage.data_seed
  )
  window, host = [], {}
  if (found := checkpoint.restore(saver, state)) is not None:
    state, host = found
    stream.set_state(host["iterator"])
    window = host["window"]
    ledger.carry(host.get("ledger"))
  step = int(state.step)
  if step >= stage.steps:
    checkpoint.close(saver)
    return state
  ledger.resume(stage.name, host.get("ledger"))
  log.start(stage.name, title, step, stage.steps)
  counts = compile_step(setup, stage, state, frozen, ledger)
  log.compiled(step)
  every = [config.log_every, config.eval.every, config.checkpoint.every]
  every += [stage.observe_every] if stage.observe else []
  spent = lambda: _spent(ledger, stage.name, config.ledger.pue)
  while step < stage.steps:
    until = min(stage.steps, *((step // n + 1) * n for n in every))
    state, found = advance(
      shared, stage, state, frozen, stream, range(step, until), counts
    )
    window, step = window + found, step + len(found)
    last, stopping = step == stage.steps, processes.any_of(run.stop())
    if stage.observe and step % stage.observe_every == 0:
      state, held = _held_out(setup, stage, state, frozen)
      log.held(step, held)
    if last or step % config.log_every == 0:
      with ledger.phase("idle", stage.name):  # raises if the loss is not finite
        window = run_log.flush_window(log, title, step, window, spent())
    valid = {}
    if stage.write and (last or step % config.eval.every == 0):
      with ledger.phase("evaluation", stage.name):
        valid = _validate(shared, stage, state, frozen)
      log.valid(step, valid | spent())
    if last or step % config.checkpoint.every == 0 or stopping:
      window = [{k: float(v) for k, v in m.items()} for m in window]
      host = {"iterator": stream.get_state(), "window": window}
      host["ledger"] = ledger.position()
      with ledger.phase("checkpoint", stage.name):
        checkpoint.save(saver, state, host, valid)
    if stopping and not last:
      log.end()
      checkpoint.close(saver)
      raise Interrupted(f"{stage.name} saved at step {step} of {stage.steps}")
  log.end()
  checkpoint.close(saver)
  return state


def compile_step(
  setup: Setup, stage: Stage, state: TrainState, frozen: Any, ledger: Ledger
) -> dict[str, flops.Count]:
  """Compiles the programs of a step, before the first step.

  Returns:
    The FLOPs of its programs, for `advance`: "given", which makes the controls,
    and the steps by their pattern's name ("" if there is one pattern). Empty
    without a ledger.
  """
  batch = sources.batch(setup.corpus.train, 0, stage.batch_size)
  batch = sharding.rows(setup.mesh, batch)
  ready = (0, state.curriculum, frozen, batch)
  controls = stage.controls(*ready)
  compiled = functools.partial(metering.compiled, ledger, arm=stage.name)
  longest = {role.scope: role.length - 1 for _, role in stage.roles}
  longest |= {role: setup.roles[role].length - 1 for role in "CD"}
  counts = {"given": compiled("given", stage.controls, *ready)}
  for name, step in (stage.programs or {"": stage.step}).items():
    estimate = None if name else closed_form.step_flops(setup, stage.name)
    counts[name] = compiled(
      f"step {name}".strip(), step, state, frozen, batch, controls,
      loops=longest, closed_form=estimate, sections=stage.sections,
    )  # fmt: skip
  return counts if ledger.path is not None else {}


def advance(
  shared: Shared,
  stage: Stage,
  state: TrainState,
  frozen: Any,
  stream: Iterator[Any],
  steps: range,
  counts: dict[str, flops.Count],
) -> tuple[TrainState, list[dict[str, Any]]]:
  """Runs `steps`, at least one, and fewer if the run must stop.

  The host runs ahead of the device and waits for it once, at the end, so that
  all charged work is done.

  Returns:
    The state, and the metrics of each step.
  """
  found, played = [], []
  with shared.ledger.phase("step", stage.name) as spend:
    for step in steps:
      batch = sharding.rows(shared.setup.mesh, next(stream))
      controls = stage.controls(step, state.curriculum, frozen, batch)
      name = (
        stage.draw_pattern(step, level(state)) if stage.draw_pattern else ""
      )
      play = stage.programs[name] if name else stage.step
      state, metrics = play(state, frozen, batch, controls)
      found.append(metrics)
      played.append(name)
      # With several processes, one cannot stop within a window on its own.
      if processes.count() == 1 and shared.run.stop():
        break
    jax.block_until_ready(metrics)
    executed = _executed(counts, found, played)
    spend(step=step + 1, steps=len(found), **executed)
  return state, found


def level(state: TrainState) -> int:
  """The level of the curriculum. It waits for the device."""
  return int(state.curriculum.schedule.level)


def _executed(counts, found, played) -> dict[str, Any]:
  """The work of a window's steps, from the counts of their programs."""
  parts = []
  for name in dict.fromkeys(played):
    own = [m for m, by in zip(found, played, strict=True) if by == name]
    loops = metering.loops_of(own)
    parts += [(counts[x], loops, len(own)) for x in ("given", name) if counts]
  return metering.work(parts)


def _spent(ledger: Ledger, arm: str, pue: float) -> dict[str, float]:
  """FLOPs and joules of an arm so far, with the base; {} without a ledger."""
  if ledger.path is None:
    return {}
  use, executed = ledger.spent("base", arm)
  draws = joules(use, ledger.opening, pue)
  found = {"flops": executed}
  return found if draws is None else found | {"joules": float(np.median(draws))}


def _held_out(setup, stage, state, frozen):
  """Plays held-out rows with the present controls, without learning."""
  step, size = int(state.step), stage.batch_size
  batch = sources.batch(setup.corpus.valid, step * size, size)
  batch = sharding.rows(setup.mesh, batch)
  state, metrics = stage.observe(state, frozen, batch)
  return state, {k: float(v) for k, v in jax.device_get(metrics).items()}


def _validate(shared: Shared, stage: Stage, state, frozen) -> dict[str, Any]:
  """The arm's greedy codes on the validation split, judged."""
  judge, setup = shared.judge, shared.setup
  config, corpus = setup.config, setup.corpus
  key, params = jax.random.key(config.seed), stage.bind(state.params, frozen)
  metrics, _ = code_judge.judge_split(
    lambda batch: stage.write(params, frozen, judge.place(batch), key),
    *judge.of(params),
    stage.saved,
    corpus.valid,
    rows=config.eval.rows,
    batch_size=config.eval.batch_size,
    entropy_bits=corpus.entropy_bits,
  )
  return metrics
