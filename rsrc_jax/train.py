"""The experiment: one base, and several arms with equal data and steps.

train(config, workdir) builds a run and runs it. run(setup, stages, workdir)
runs stages that are already built, so that an outer loop or a test can run them
repeatedly and share their compiled programs. Stages run in turn, the base and
then every arm. Each has its own checkpoints, and finished stages are not run
again.
"""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
from rich.console import Console

from rsrc_jax import runs
from rsrc_jax.accounting import account, energy, energy_sources, metering
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.build import identity
from rsrc_jax.build.setup import Setup, make_setup, prepare
from rsrc_jax.evaluation import code_judge, heldout, service
from rsrc_jax.metrics import reward_record
from rsrc_jax.output import files
from rsrc_jax.runtime import (
  cache,
  corpus_log,
  processes,
  provenance,
  run_dir,
  run_log,
  sharding,
)
from rsrc_jax.runtime.signals import Interrupted
from rsrc_jax.stages import plan
from rsrc_jax.stages.stage import UNTRAINED, Stage, arms_of, frozen_of
from rsrc_jax.training import lane
from rsrc_jax.training.lane import Shared
from rsrc_jax.types import Params, TrainState


class Trained(NamedTuple):
  """The results of the stages of a run, by stage."""

  params: dict[str, Params]  # the policy's, "untrained" among them
  carries: dict[str, Any]  # of their patterns
  stored_bits: dict[str, dict[str, int]]  # account.state_bits
  plateaus: dict[str, list[dict]]  # Stage.plateaus
  verdicts: dict[str, dict[str, Any]]  # of those that have one: Stage.verdict


class Tested(NamedTuple):
  """What is measured after training."""

  summary: dict[str, Any]  # of the arms on the test split
  measured: Any  # heldout.evaluate_arms
  peers: Any  # service.peers


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
    ValueError: a setting or a corpus cannot work, or the workdir can't be
      written; before any compilation.
    Interrupted: SIGTERM or Ctrl-C arrived, and the run was saved.
    FloatingPointError: the loss is not finite.
    OSError: a file can't be written any more; what could be saved is saved.
  """
  meter = open_meter()
  since = meter.read()
  run_dir.check_writable(Path(workdir))
  prepared = prepare(config)  # refuses before anything is waited for
  console = Console(stderr=True, quiet=not processes.first())
  with run_log.waiting("reading the corpus", log.console if log else console):
    setup = make_setup(
      config, cache.tokenizers(workdir), corpus_log.folder(workdir),
      prepared=prepared,
    )  # fmt: skip
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
    stages: from plan.make_stages, or an outer loop's own.
    workdir: the run directory, as in `train`.
    stop: called between windows of steps; if it returns True, the run is saved
      and stops. None: SIGTERM and Ctrl-C stop it.
    log: shows progress.
    params: initial parameters of the base; None: from the config.
    meter: from open_meter; it is closed with the run.
    since: the meter's reading before the setup, which is charged as `data`.

  Raises:
    Interrupted: `stop` returned True, and the run was saved.
    ValueError: the workdir holds a run of another config or on other data,
      another process writes it, or the reader can't be V.
  """
  workdir, config = Path(workdir), setup.config
  meter = meter or open_meter()
  processes.check_same("config", config.to_json_best_effort(sort_keys=True))
  processes.check_same("corpus", setup.corpus.digest)
  found = identity.of(setup)
  processes.check_same("tokenizer or model", _alike(found))
  made = provenance.environment()  # now, since the tree may change during a run
  if (done := run_dir.summary_of(config, workdir, found)) is not None:
    return done
  with run_dir.open_run(config, workdir, log, stop, found) as opened:
    shared = share(setup, opened, meter, since)
    with contextlib.closing(shared.ledger):
      own = [charged(stage, shared) for stage in stages]
      trained = train_stages(shared, own, params)
      tested = evaluate(shared, own, trained, meter)
    return finish(shared, own, trained, tested, made)


def _alike(found: dict[str, str]) -> str:
  """What all processes must have read; a corpus is compared by itself."""
  return repr(sorted(x for x in found.items() if "data.path" not in x[0]))


def share(
  setup: Setup,
  opened: run_dir.Run,
  meter: energy.Meter,
  since: energy.Use | None,
) -> Shared:
  """What all stages of a run use. Its ledger is to be closed."""
  corpus_log.record(setup.corpus, opened.log_dir, opened.log)
  path = (
    opened.log_dir / "ledger.jsonl" if setup.config.ledger.enabled else None
  )
  ledger = Ledger(path, meter, since=since)
  return Shared(setup, code_judge.charged(setup, ledger), ledger, opened)


def charged(stage: Stage, shared: Shared) -> Stage:
  """The stage with its `write` and `observe` charged to it."""
  decoding = metering.decoding("C", shared.setup.config.budget)
  charge = functools.partial(metering.charged, shared.ledger)
  return stage._replace(
    write=stage.write and charge("C", stage.write, decoding, stage.name),
    observe=stage.observe
    and charge(
      "V", stage.observe, metering.held_loops, stage.name, stage.sections
    ),
    verdict=stage.verdict and functools.partial(stage.verdict, charge),
  )


def evaluate(
  shared: Shared, stages: list[Stage], trained: Trained, meter: energy.Meter
) -> Tested:
  """Measures the trained stages on the test split; the meter is open."""
  shared.run.log.note("Evaluating on the test split.")
  summary, measured = heldout.evaluate_arms(
    shared.setup, arms_of(stages), trained.params, trained.carries,
    shared.judge, shared.run.log_dir, shared.ledger, shared.run.log.note,
  )  # fmt: skip
  summary |= {"plateaus": trained.plateaus}
  return Tested(summary, measured, service.peers(shared.setup, meter))


def finish(
  shared: Shared,
  stages: list[Stage],
  trained: Trained,
  tested: Tested,
  made: dict[str, Any],
) -> dict[str, Any]:
  """Writes the summary of a run whose ledger is closed, and returns it.

  made: provenance.environment at its start.
  """
  config, ledger, opened = shared.setup.config, shared.ledger, shared.run
  ledger.check()
  summary = tested.summary | trained.verdicts
  summary |= {"made_with": provenance.made_with(made)}
  # Of the run directory, which has the windows of former starts too.
  path = opened.workdir / "metrics.jsonl"
  lines = run_log.read_jsonl(path) if path.exists() else []
  summary |= reward_record.record(lines, [x.name for x in arms_of(stages)])
  if ledger.path is not None:
    facts = {
      x.name: account.Facts(x.english, x.reads_base, x.charged)
      for x in arms_of(stages)
    }
    summary |= account.account(
      config.ledger, facts, tested.measured, trained.stored_bits, tested.peers,
      ledger,
    )  # fmt: skip
    summary["trajectory"] = account.trajectory(lines)
    opened.log.totals(account.scalars(summary))
  files.write_json(opened.log_dir / "summary.json", summary)
  return summary


# Training.


def train_stages(
  shared: Shared, stages: list[Stage], params: Params | None
) -> Trained:
  """Trains all stages in turn. params: see `run`."""
  with shared.ledger.phase("compile") as spend:
    if params is None:
      with run_log.waiting("making parameters", shared.run.log.console):
        params = jax.block_until_ready(runs.initial_params(shared.setup))
    untrained = spend(params)
  trained = nothing_trained(untrained)
  for number, stage in enumerate(stages, 1):
    begin = trained.params[stage.start]
    frozen = frozen_of(stage, trained.params)
    title = f"{stage.name} ({number}/{len(stages)})"
    state = run_stage(shared, stage, begin, frozen, title)
    keep(shared, trained, stage, state, frozen)
  return trained


def nothing_trained(untrained: Params) -> Trained:
  """The results before the first stage."""
  return Trained({UNTRAINED: untrained}, {}, {}, {}, {})


def keep(
  shared: Shared, trained: Trained, stage: Stage, state: TrainState, frozen
) -> None:
  """Adds a stage's final state to the results, and what it is found to be.

  Raises:
    ValueError: it can't be used. What was measured is in its file all the same.
  """
  trained.params[stage.name] = stage.bind(state.params, frozen)
  trained.carries[stage.name] = state.carry
  trained.stored_bits[stage.name] = account.state_bits(state)
  if stage.plateaus is not None:
    trained.plateaus[stage.name] = stage.plateaus(state)
  if stage.verdict is None:
    return
  with shared.ledger.phase("evaluation", stage.name):
    found = stage.verdict(trained.params[stage.name])
  trained.verdicts[stage.name] = found
  files.write_json(shared.run.log_dir / f"{stage.name}.json", found)
  if not found["accepted"]:
    raise ValueError(found["said"])
  shared.run.log.note(found["said"])


def run_stage(
  shared: Shared,
  stage: Stage,
  params: Params,
  frozen: dict[str, Params],
  title: str,
) -> TrainState:
  """Trains one stage to its end, from its last checkpoint if there is one.

  params: initial ones. frozen: see stage.frozen_of.

  Raises:
    Interrupted: it must stop, and was saved.
  """
  now = lane.open_lane(shared, stage, params, frozen, title)
  if not now.done:
    lane.begin(now)
    counts = lane.compile_step(now)
    shared.run.log.compiled(now.step)
  while not now.done:
    now = lane.advance(now, lane.boundary(now), counts)
    stopping = processes.any_of(shared.run.stop())
    now = lane.settle(now, stopping=stopping)
    if stopping and not now.done:
      lane.close(now)
      raise Interrupted(
        f"{stage.name} saved at step {now.step} of {stage.steps}"
      )
  lane.close(now)
  return now.state
