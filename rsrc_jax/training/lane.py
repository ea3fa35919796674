"""One stage of one run, between windows of training steps.

A lane is restored from its last checkpoint (`open_lane`), steps (`advance`, or
together.py for several lanes), and after each window logs, validates and saves
what is due (`settle`). It owns everything that is not shared between seeds.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from rsrc_jax.accounting import flops, metering
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.accounting.totals import joules
from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge
from rsrc_jax.metrics import dead_groups
from rsrc_jax.runtime import (
  checkpoint,
  failures,
  finite,
  processes,
  run_dir,
  run_log,
  sharding,
)
from rsrc_jax.stages import closed_form
from rsrc_jax.stages.stage import Stage
from rsrc_jax.types import Given, Metrics, Params, TrainState

Counts = dict[str, flops.Count]  # by program; "given" makes the controls


class Shared(NamedTuple):
  """The objects that all stages of a run use."""

  setup: Setup
  judge: code_judge.CodeJudge
  ledger: Ledger
  run: run_dir.Run  # its folders, its log, and requests to stop


class Lane(NamedTuple):
  """A stage of a run after `step` steps."""

  shared: Shared
  stage: Stage
  title: str  # of the progress display
  frozen: dict[str, Params]  # stage.frozen_of
  saver: checkpoint.Saver
  stream: Iterator[Any]  # batches, from the step on
  saved: dict[str, Any]  # the host's state of the checkpoint it began with
  state: TrainState
  step: int
  window: list[Metrics]  # of the steps that are not logged yet

  @property
  def done(self) -> bool:
    """Whether all steps are made, or its curriculum has ended it before."""
    made = self.step >= self.stage.steps
    return made or self.stage.at_its_plateau(self.state)


def open_lane(
  shared: Shared,
  stage: Stage,
  params: Params,
  frozen: dict[str, Params],
  title: str,
) -> Lane:
  """The stage at its last checkpoint, or at its beginning.

  params: initial ones. frozen: see stage.frozen_of.
  """
  setup, config = shared.setup, shared.setup.config
  saver = checkpoint.open_saver(
    shared.run.workdir / "checkpoints" / stage.name,
    keep_last=config.checkpoint.keep_last,
    keep_best=config.checkpoint.keep_best,
    metric="nll_bits",
  )
  place = lambda tree: sharding.put(tree, sharding.shardings(setup.mesh, tree))
  state, frozen = place(stage.init(params)), place(frozen)
  stream = sources.batches(
    rows_of(setup, stage), batch_size=stage.batch_size, seed=stage.data_seed
  )
  window, host = [], {}
  if (found := checkpoint.restore(saver, state)) is not None:
    state, host = found
    stream.set_state(host["iterator"])
    window = host["window"]
    shared.ledger.carry(host.get("ledger"))
  return Lane(
    shared, stage, title, frozen, saver, stream, host, state, int(state.step),
    window,
  )  # fmt: skip


def begin(lane: Lane) -> None:
  """Opens the ledger and the log for the steps that follow."""
  shared, stage = lane.shared, lane.stage
  shared.ledger.resume(stage.name, lane.saved.get("ledger"))
  shared.run.log.start(
    stage.name, lane.title, lane.step, stage.steps,
    lane.saved.get("unwritten", ()),
  )  # fmt: skip


def close(lane: Lane) -> None:
  """Ends its display, and waits for its checkpoints."""
  lane.shared.run.log.end()
  checkpoint.close(lane.saver)


def compile_step(lane: Lane) -> Counts:
  """Compiles the programs of a step, before the first step.

  Returns:
    The FLOPs of its programs, for `advance`: "given", which makes the controls,
    and the steps by their pattern's name ("" if there is one pattern). Empty
    without a ledger.
  """
  stage, ledger = lane.stage, lane.shared.ledger
  setup, counts = lane.shared.setup, {}
  args = (lane.state, lane.frozen, first_batch(lane))
  controls = stage.controls(*args)
  counts["given"] = metering.compiled(
    ledger, "given", stage.controls, *args, arm=stage.name
  )
  for name, step in (stage.programs or {"": stage.step}).items():
    counts[name] = metering.compiled(
      ledger, f"step {name}".strip(), step, *args, controls, arm=stage.name,
      loops=longest_loops(lane), sections=stage.sections,
      closed_form=None if name else closed_form.step_flops(setup, stage.name),
    )  # fmt: skip
  return counts if ledger.path is not None else {}


def first_batch(lane: Lane) -> Any:
  """A batch of the stage's shapes, for tracing."""
  setup = lane.shared.setup
  rows = rows_of(setup, lane.stage)
  batch = sources.batch(rows, 0, lane.stage.batch_size)
  return sharding.rows(setup.mesh, batch)


def rows_of(setup: Setup, stage: Stage) -> Any:
  """What a stage trains on, [n, S]."""
  return setup.corpus.train if stage.rows is None else stage.rows


def longest_loops(lane: Lane) -> dict[str, int]:
  """How often each decoding loop of a step can run at most, by section."""
  longest = {role.scope: role.length - 1 for _, role in lane.stage.roles}
  roles = lane.shared.setup.roles
  return longest | {role: roles[role].length - 1 for role in "CD"}


def boundary(lane: Lane) -> int:
  """The step at which something other than a step is next due."""
  config, stage = lane.shared.setup.config, lane.stage
  every = [config.log_every, config.eval.every, config.checkpoint.every]
  every += [stage.observe_every] if stage.observe else []
  every += [stage.ends_every] if stage.ends_every else []
  return min(stage.steps, *((lane.step // n + 1) * n for n in every))


def advance(lane: Lane, until: int, counts: Counts) -> Lane:
  """Steps up to `until`, at least once, and less if the run must stop.

  The host runs ahead of the device and waits for it once, at the end, so that
  all charged work is done.
  """
  shared, stage, state = lane.shared, lane.stage, lane.state
  found, played = [], []
  with shared.ledger.phase("step", stage.name) as spend:
    for step in range(lane.step, until):
      batch = sharding.rows(shared.setup.mesh, next(lane.stream))
      controls = stage.controls(state, lane.frozen, batch)
      name = (
        stage.draw_pattern(step, level(controls)) if stage.draw_pattern else ""
      )
      play = stage.programs[name] if name else stage.step
      state, metrics = play(state, lane.frozen, batch, controls)
      found.append(metrics)
      played.append(name)
      # With several processes, one cannot stop within a window on its own.
      if processes.count() == 1 and shared.run.stop():
        break
    jax.block_until_ready(metrics)
    spend(step=step + 1, steps=len(found), **executed(counts, found, played))
  return moved(lane, state, found)


def moved(lane: Lane, state: TrainState, found: list[Metrics]) -> Lane:
  """The lane after steps of which these are the metrics."""
  return lane._replace(
    state=state, step=lane.step + len(found), window=lane.window + found
  )


def level(given: Given) -> int:
  """The level of the curriculum at a step. It waits for the device."""
  return int(given.curriculum.schedule.level)


def executed(
  counts: Counts, found: list[Metrics], played: list[str]
) -> dict[str, Any]:
  """The work of a window's steps, from the counts of their programs."""
  parts = []
  for name in dict.fromkeys(played):
    own = [m for m, by in zip(found, played, strict=True) if by == name]
    loops = metering.loops_of(own)
    parts += [(counts[x], loops, len(own)) for x in ("given", name) if counts]
  return metering.work(parts)


def settle(lane: Lane, *, stopping: bool = False) -> Lane:
  """Logs, validates and saves what is due after a window.

  stopping: saves in any case.

  Raises:
    FloatingPointError: a loss or a parameter is not finite. Nothing of it was
      logged or saved.
    OSError: a file can't be written; the lane was saved if that could be.
  """
  lane, valid = _settled(lane)
  saved = lane.done or stopping
  saved |= lane.step % lane.shared.setup.config.checkpoint.every == 0
  error = lane.shared.run.log.failed or lane.shared.ledger.failed
  alone = processes.count() == 1  # several would have to agree on it
  if saved or (error and alone):
    try:
      lane = _saved(lane, valid)
    except OSError as other:
      raise (error or other) from None
    if error:
      error.add_note(f"{lane.stage.name} is saved at step {lane.step}.")
  if error:
    raise error
  return lane


def _settled(lane: Lane) -> tuple[Lane, dict[str, Any]]:
  """The lane, its window logged where that is due, and its validation."""
  shared, stage, step = lane.shared, lane.stage, lane.step
  config, log, ledger = shared.setup.config, shared.run.log, shared.ledger
  with ledger.phase("idle", stage.name):
    finite.check_steps(lane.title, step, lane.window, **_remedy(lane))
  spent = lambda: _spent(ledger, stage.charged, config.ledger.pue)
  if stage.observe and step % stage.observe_every == 0:
    state, held = held_out(lane)
    lane = lane._replace(state=state)
    log.held(step, held)
  if lane.done or step % config.log_every == 0:
    with ledger.phase("idle", stage.name):
      window = run_log.flush_window(log, step, lane.window, spent())
    lane = lane._replace(window=window)
    warn_of_dead_groups(lane)
  valid = {}
  if stage.write and (lane.done or step % config.eval.every == 0):
    with ledger.phase("evaluation", stage.name):
      valid = _validate(lane)
    log.valid(step, valid | spent())
  return lane, valid


def warn_of_dead_groups(lane: Lane) -> None:
  """Says, once a role, that most of its groups teach nothing any more."""
  log, name = lane.shared.run.log, lane.stage.name
  block = lane.shared.setup.config.arms.get(name) or {}
  for stretch in log.watch.new:
    log.note(dead_groups.warning(name, block.get("pattern") or "NAME", stretch))


def held_out(lane: Lane) -> tuple[TrainState, dict[str, float]]:
  """Plays held-out rows with the present controls, without learning."""
  setup, size = lane.shared.setup, lane.stage.batch_size
  batch = sources.batch(setup.corpus.valid, lane.step * size, size)
  batch = sharding.rows(setup.mesh, batch)
  state, metrics = lane.stage.observe(lane.state, lane.frozen, batch)
  return state, {k: float(v) for k, v in jax.device_get(metrics).items()}


def _saved(lane: Lane, valid: dict[str, Any]) -> Lane:
  """The lane, saved; its window is on the host now."""
  ledger, log = lane.shared.ledger, lane.shared.run.log
  window = [{k: float(v) for k, v in m.items()} for m in lane.window]
  host = {"iterator": lane.stream.get_state(), "window": window}
  host |= {"ledger": ledger.position(), "unwritten": log.unwritten}
  with (
    ledger.phase("checkpoint", lane.stage.name),
    failures.writing(lane.saver.directory),
  ):
    params = lane.state.params
    finite.check_params(lane.title, lane.step, params, **_remedy(lane))
    checkpoint.save(lane.saver, lane.state, host, valid)
  return lane._replace(window=window)


def _remedy(lane: Lane) -> dict[str, Any]:
  """For the message where something is not finite."""
  own = {"base": "pretrain.", "reader": "reader."}.get(lane.stage.name, "")
  block = f"config.{own}optimizer"
  return {"saved": checkpoint.newest(lane.saver), "block": block}


def _spent(
  ledger: Ledger, stages: tuple[str, ...], pue: float
) -> dict[str, float]:
  """FLOPs and joules of some stages so far; {} without a ledger."""
  if ledger.path is None:
    return {}
  use, executed = ledger.spent(*stages)
  draws = joules(use, ledger.opening, pue)
  found = {"flops": executed}
  return found if draws is None else found | {"joules": float(np.median(draws))}


def _validate(lane: Lane) -> dict[str, Any]:
  """The arm's greedy codes on the validation split, judged."""
  judge, setup, stage = lane.shared.judge, lane.shared.setup, lane.stage
  config, corpus, frozen = setup.config, setup.corpus, lane.frozen
  key = jax.random.key(config.seed)
  params = stage.bind(lane.state.params, frozen)
  write: Callable = lambda batch: stage.write(
    params, frozen, judge.place(batch), key
  )
  metrics, _ = code_judge.judge_split(
    write,
    *judge.of(params),
    stage.saved,
    corpus.valid,
    rows=config.eval.rows,
    batch_size=config.eval.batch_size,
    entropy_bits=corpus.entropy_bits,
  )
  return metrics
