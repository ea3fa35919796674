"""Several seeds of one config in one process, as one program or in turn.

  ./tools/sweep run --config=configs/tiny.py --seeds=0,1,2 --together=vmap

  loop       one seed after another, each as by itself (bitwise on CPU)
  vmap       a step of all seeds is one program, on one device
  shard_map  the same, with the seeds cut over the devices
  auto       loop on a CPU, as fast there and bitwise; vmap on an accelerator

A run directory is that of the seed by itself, with its own checkpoints, metrics
and ledger: either way of running may go on with the other's. In a program for
all, arms that share their training step and differ in their constraints, their
curriculum or the numbers of rl/numbers.py are taken together too.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from rich.console import Console

from rsrc_jax import runs
from rsrc_jax import train as single
from rsrc_jax.accounting import energy
from rsrc_jax.accounting.ledger import NOTHING
from rsrc_jax.accounting.split_meter import SplitMeter
from rsrc_jax.build import identity, overrides
from rsrc_jax.build.setup import Setup, make_setup
from rsrc_jax.output.plain import lines, plain
from rsrc_jax.runtime import (
  cache,
  cards,
  configs,
  corpus_log,
  failures,
  named,
  old_configs,
  processes,
  provenance,
  run_dir,
  run_log,
  signals,
)
from rsrc_jax.runtime.signals import Interrupted
from rsrc_jax.stages import plan
from rsrc_jax.stages.stage import Stage, frozen_of
from rsrc_jax.sweep import plan as sweep_plan
from rsrc_jax.sweep import state
from rsrc_jax.training import lane as one
from rsrc_jax.training import together
from rsrc_jax.training.lane import Lane, Shared
from rsrc_jax.training.together import Grid

HOW = sweep_plan.TOGETHER


class Member(NamedTuple):
  """A run of the population."""

  number: int  # of its meter
  shared: Shared
  stages: list[Stage]  # charged to its ledger
  trained: single.Trained
  made: dict[str, Any]  # provenance.environment


def train(
  of: Sequence[ml_collections.ConfigDict],
  workdirs: Sequence[str | Path],
  *,
  how: str = "auto",
) -> list[dict[str, Any]]:
  """Runs or resumes the experiment of each config, and returns the summaries.

  Args:
    of: configs that differ in `seed` alone.
    workdirs: their run directories, as in rsrc_jax.train.train.
    how: one of HOW.

  Raises:
    ValueError: a setting cannot work, or the seeds have no program in common.
    Interrupted: SIGTERM or Ctrl-C arrived, and all runs were saved.
    FloatingPointError: the loss of a seed is not finite.
  """
  how = _chosen(how, of)
  workdirs = [Path(x) for x in workdirs]
  if how == "loop":
    return [
      single.train(config, workdir)
      for config, workdir in zip(of, workdirs, strict=True)
    ]
  for workdir in workdirs:
    run_dir.check_writable(workdir)
  done = [_ended(*x) for x in zip(of, workdirs, strict=True)]
  left = [i for i, summary in enumerate(done) if summary is None]
  made = _together([of[i] for i in left], [workdirs[i] for i in left], how)
  for i, summary in zip(left, made, strict=True):
    done[i] = summary
  return done


def _ended(
  config: ml_collections.ConfigDict, workdir: Path
) -> dict[str, Any] | None:
  """The summary of a run that has ended; its data is read to compare it."""
  found = None
  if (workdir / "summary.json").exists():
    kept = corpus_log.folder(workdir)
    found = identity.of(make_setup(config, cache.tokenizers(workdir), kept))
  return run_dir.summary_of(config, workdir, found)


def _chosen(how: str, of: Sequence[ml_collections.ConfigDict]) -> str:
  """The way of running.

  Raises:
    ValueError: these configs can't be run in this way.
  """
  if how not in HOW:
    raise ValueError(f"--together={how!r} is none of {', '.join(HOW)}.")
  early = _ends_early(of[0])
  if how == "auto":
    how = "loop" if early or cards.backend() == "cpu" else "vmap"
  for config in of:
    if (path := named.loop_path(config)) != "rsrc_jax.train":
      raise ValueError(
        f"config.loop={path!r}: only runs of rsrc_jax.train share a process."
      )
  if how == "loop":
    return how
  first, *rest = [old_configs.flat(x.to_dict()) for x in of]
  for other in rest:
    for name in {**first, **other}:
      if name != "seed" and first.get(name) != other.get(name):
        raise ValueError(
          f"config.{name} is {first.get(name)!r} and {other.get(name)!r}: the "
          "runs of one program differ in config.seed alone. Run them with "
          "--together=loop."
        )
  if early:
    raise ValueError(
      f"{early} ends each seed at a step of its own, so that seeds have no "
      "program in common: run them with --together=loop."
    )
  if processes.count() > 1 or set(of[0].mesh.to_dict().values()) != {1}:
    raise ValueError(
      f"--together={how} needs one process and config.mesh of 1 x 1 x 1, and "
      f"this is {processes.count()} with {of[0].mesh.to_dict()}: take "
      "--together=shard_map for several devices, or --together=loop."
    )
  return how


def _ends_early(config: ml_collections.ConfigDict) -> str:
  """The setting by which a stage may end before its steps; "" without one."""
  if "arms" not in config:
    return ""
  if patience := config.pretrain.get("patience", 0):
    return f"config.pretrain.patience={patience}"
  names = overrides.running(config.only, config.arms)
  ends = (x for x in names if config.arms[x].get("until") == "plateau")
  return next((f"config.arms.{x}.until='plateau'" for x in ends), "")


def _together(of, workdirs, how: str) -> list[dict[str, Any]]:
  """Trains all members stage by stage, and evaluates one after another."""
  if not of:
    return []
  meter = SplitMeter(single.open_meter(), len(of))
  with contextlib.ExitStack() as outer, signals.stop_requests() as stop:
    outer.callback(meter.close)
    setups = []
    for number, (config, workdir) in enumerate(zip(of, workdirs, strict=True)):
      what = f"reading the corpus of seed {config.seed}"
      with meter.only(number), run_log.waiting(what, Console(stderr=True)):
        kept = corpus_log.folder(workdir)
        setups.append(make_setup(config, cache.tokenizers(workdir), kept))
    with contextlib.ExitStack() as ledgers:
      members = []
      for number, (setup, workdir) in enumerate(
        zip(setups, workdirs, strict=True)
      ):
        with meter.only(number):
          log = run_log.Log(workdir, quiet=number > 0)
          found = identity.of(setup)
          opened = outer.enter_context(
            run_dir.open_run(setup.config, workdir, log, stop, found)
          )
          members.append(_member(number, setup, opened, meter))
          ledgers.enter_context(contextlib.closing(members[-1].shared.ledger))
      mesh = together.mesh_of(len(of)) if how == "shard_map" else None
      for group in together.groups(members[0].stages):
        _train_group(members, group, meter, mesh)
      tested = []
      for member in members:
        with meter.only(member.number):
          tested.append(_evaluated(member, meter))
    return [
      single.finish(m.shared, m.stages, m.trained, found, m.made)
      for m, found in zip(members, tested, strict=True)
    ]


def _member(
  number: int, setup: Setup, opened: run_dir.Run, meter: SplitMeter
) -> Member:
  """A run, open, with its initial parameters."""
  # What its meter has read so far is the building of its setup.
  shared = single.share(setup, opened, meter.of(number), NOTHING)
  stages = [single.charged(x, shared) for x in plan.make_stages(setup)]
  with (
    shared.ledger.phase("compile") as spend,
    run_log.waiting("making parameters", opened.log.console),
  ):
    untrained = spend(runs.initial_params(setup))
  trained = single.nothing_trained(untrained)
  return Member(number, shared, stages, trained, provenance.environment())


def _evaluated(member: Member, meter: SplitMeter) -> single.Tested:
  return single.evaluate(
    member.shared, member.stages, member.trained, meter.of(member.number)
  )


def _train_group(
  members: list[Member], group: list[int], meter: SplitMeter, mesh
) -> None:
  """Trains the stages `group` of all members to their end."""
  grid = [
    [_open(x, number, meter, shown=number == group[0]) for number in group]
    for x in members
  ]
  grid = _level(grid, meter)
  if not grid[0][0].done:
    grid = _run(grid, meter, mesh)
  for member, row in zip(members, grid, strict=True):
    with meter.only(member.number):
      for lane in row:
        one.close(lane)
        single.keep(
          member.shared, member.trained, lane.stage, lane.state, lane.frozen
        )


def _open(
  member: Member, number: int, meter: SplitMeter, *, shown: bool
) -> Lane:
  """The lane of a stage, with a log of its own beside those of other arms.

  shown: it is the arm of its group whose progress the first seed shows.
  """
  stage, trained = member.stages[number], member.trained.params
  begin, frozen = trained[stage.start], frozen_of(stage, trained)
  run = member.shared.run
  seed, of = member.shared.setup.config.seed, len(member.stages)
  title = f"{stage.name} ({number + 1}/{of}), seed {seed}"
  quiet = run.log.console.quiet or not shown
  shared = member.shared._replace(
    run=run._replace(log=run_log.Log(run.log_dir, quiet=quiet))
  )
  with meter.only(member.number):
    lane = one.open_lane(shared, stage, begin, frozen, title)
    if not lane.done:
      one.begin(lane)
  return lane


def _level(grid: Grid, meter: SplitMeter) -> Grid:
  """All lanes at one step: those behind, after a kill, go on alone."""
  top = max(lane.step for row in grid for lane in row)

  def lifted(lane: Lane) -> Lane:
    counts = one.compile_step(lane) if lane.step < top else {}
    while lane.step < top:
      lane = one.advance(lane, min(one.boundary(lane), top), counts)
      stopping = lane.shared.run.stop()
      lane = one.settle(lane, stopping=stopping)
      if stopping:
        raise _interrupted([[lane]])
    return lane

  found = []
  for number, row in enumerate(grid):
    with meter.only(number):
      found.append([lifted(lane) for lane in row])
  return found


def _run(grid: Grid, meter: SplitMeter, mesh) -> Grid:
  """Runs lanes that are at one step to their end."""
  lanes = sum(map(len, grid))
  with meter.joint() as spent:
    together.check_alike(grid)
    program = together.compile_grid(grid, mesh)
  _charge(grid, "compile", energy.times(spent[0], 1 / lanes), meter, {})
  for lane in (lane for row in grid for lane in row):
    ledger = lane.shared.ledger
    ledger.program(lane.stage.name, name="step", **program.facts)
    lane.shared.run.log.compiled(lane.step)
  while not grid[0][0].done:
    before = grid[0][0].step
    with meter.joint() as spent:
      grid, work = together.advance(grid, program, one.boundary(grid[0][0]))
    steps = {"step": grid[0][0].step, "steps": grid[0][0].step - before}
    part = energy.times(spent[0], 1 / lanes)
    _charge(grid, "step", part, meter, steps | work)
    stopping, settled = grid[0][0].shared.run.stop(), []
    for number, row in enumerate(grid):
      with meter.only(number):
        settled.append([one.settle(x, stopping=stopping) for x in row])
    grid = settled
    if stopping and not grid[0][0].done:
      raise _interrupted(grid)
  return grid


def _charge(
  grid: Grid, phase: str, part: energy.Use, meter: SplitMeter, facts: dict
) -> None:
  """Charges every lane for its part of joint work."""
  for number, row in enumerate(grid):
    for lane in row:
      with lane.shared.ledger.phase(phase, lane.stage.name) as spend:
        meter.give(number, part)
        spend(**facts)


def _interrupted(grid: Grid) -> Interrupted:
  """What to raise once all lanes are saved and closed."""
  for row in grid:
    for lane in row:
      one.close(lane)
  names = ", ".join(lane.stage.name for lane in grid[0])
  return Interrupted(
    f"{names} saved at step {grid[0][0].step} of {grid[0][0].stage.steps}"
  )


def main() -> None:
  """The process that `./tools/sweep --together` starts for the seeds it got."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--together", default="auto", choices=HOW)
  flags.add_argument("--seeds", required=True, help="0,1,2")
  flags.add_argument(
    "--runs", type=Path, required=True, help="of their folders"
  )
  flags.add_argument("--variant", required=True, help="what they are called")
  asked, argv = flags.parse_known_args()
  console = Console(stderr=True, soft_wrap=True, markup=False)
  cache.keep_programs()
  try:
    of = [
      configs.from_flags([*argv, f"--config.seed={int(seed)}"])
      for seed in asked.seeds.split(",")
    ]
    workdirs = [sweep_plan.folder(asked.runs, asked.variant, x) for x in of]
    summaries = train(of, workdirs, how=asked.together)
  except Interrupted as stopped:
    console.print(f"Stopped: {stopped}. The same command goes on.")
    sys.exit(state.SAVED)
  except Exception as error:
    if (said := failures.line(error, asked.runs)) is None:
      raise
    console.print(lines(f"error: {said}"), style="bold red")
    sys.exit(failures.code(error))
  for summary, workdir in zip(summaries, workdirs, strict=True):
    single.show(summary, workdir)
    print(f"report: {plain(workdir / 'report.html')}")


if __name__ == "__main__":
  main()
