"""The steps of several lanes as one program: seeds as an axis, and arms.

Lanes are laid out as [S, A, ...]: S seeds, and A arms that have the same step
and differ in what it is given alone, which is arrays (types.Given): in their
constraints, their curriculum and their numbers (rl/numbers.py). The program is
the vmap of one lane's step over both axes. With a mesh, each of its
devices holds S / devices seeds and nothing passes between devices.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rsrc_jax.accounting import flops, metering
from rsrc_jax.runtime import sharding
from rsrc_jax.stages import closed_form
from rsrc_jax.stages.stage import Stage
from rsrc_jax.training import lane as lanes_of
from rsrc_jax.training.lane import Counts, Lane

SEEDS = "seeds"  # the axis of the mesh
Grid = list[list[Lane]]  # [S][A]


class Together(NamedTuple):
  """The program of a grid of lanes, and what it costs."""

  step: Callable  # states, frozen, batches -> states, metrics; all stacked
  stack: Callable  # Grid -> states [S, A, ...], frozen [S, ...]
  counts: Counts  # of one lane
  facts: dict[str, Any]  # of the program, for the ledgers


def groups(stages: Sequence[Stage]) -> list[list[int]]:
  """Indices of the stages that can share a program, in an order of training.

  They have one step, one order of the data and one stage to start from.
  """
  alike = lambda x: (id(x.step), x.start, x.steps, x.batch_size, x.data_seed)
  found = {}
  for number, stage in enumerate(stages):
    found.setdefault(alike(stage), []).append(number)
  # A stage comes after the one that it starts from, and so do those like it.
  return sorted(found.values(), key=min)


def mesh_of(seeds: int) -> Mesh:
  """As many devices as divide the seeds, on one axis."""
  devices = jax.devices()
  count = max(n for n in range(1, len(devices) + 1) if seeds % n == 0)
  return Mesh(np.array(devices[:count]), (SEEDS,), axis_types=(AxisType.Auto,))


def check_alike(grid: Grid) -> None:
  """Checks that the step of every seed is the same program.

  A seed, its state and its data are arguments of the program. What else a stage
  or a pattern took from its setup is a constant in it.

  Raises:
    ValueError: it differs between two seeds, or patterns are mixed.
  """
  for number, lane in enumerate(grid[0]):
    if lane.stage.programs:
      raise ValueError(
        f"config.arms.{lane.stage.name}.phases draws a pattern for each seed "
        "and step, so that seeds have no program in common: run them with "
        "--together=loop."
      )
    digests = [_digest(row[number]) for row in grid]
    for row, digest in zip(grid, digests, strict=True):
      if digest != digests[0]:
        seeds = (x[number].shared.setup.config.seed for x in (grid[0], row))
        raise ValueError(
          f"the step of {lane.stage.name} is another program for the seeds "
          f"{' and '.join(map(str, seeds))}: something of their data is a "
          "constant in it. Run them with --together=loop."
        )


def compile_grid(grid: Grid, mesh: Mesh | None) -> Together:
  """The compiled program of a grid whose lanes are at the same step."""
  stages = [lane.stage for lane in grid[0]]
  step = _unjitted(stages[0].step)

  def of_seed(states, frozen, batch):
    """[A, ...] states, and what the arms share."""
    own = [
      jax.tree.map(lambda x, a=a: x[a], states) for a in range(len(stages))
    ]
    given = [
      stage.controls(state, frozen, batch)
      for stage, state in zip(stages, own, strict=True)
    ]
    controls = jax.tree.map(lambda *x: jnp.stack(x), *given)
    return jax.vmap(step, (0, None, None, 0))(states, frozen, batch, controls)

  run = jax.vmap(of_seed)
  if mesh is not None:
    run = jax.shard_map(
      run, mesh=mesh, in_specs=P(SEEDS), out_specs=P(SEEDS), check_vma=False
    )
  run = jax.jit(run, donate_argnums=0)
  stack = _stacker(mesh)
  args = (*stack(grid), batches([lanes_of.first_batch(x[0]) for x in grid]))
  executable = run.lower(*args).compile()
  one, counts = grid[0][0], _counts(grid[0][0])
  facts = {}
  if counts:
    setup, name = one.shared.setup, one.stage.name
    facts = metering.figures(
      counts[""], executable, lanes_of.longest_loops(one),
      closed_form.step_flops(setup, name), lanes=len(grid) * len(stages),
    )  # fmt: skip
  return Together(executable, stack, counts, facts)


def advance(
  grid: Grid, program: Together, until: int
) -> tuple[Grid, dict[str, Any]]:
  """Steps all lanes up to `until`. -> the lanes, and what one has executed.

  Lanes have one loop in common, so that each is charged for the longest.
  """
  steps = range(grid[0][0].step, until)
  states, frozen = program.stack(grid)
  found = []
  for _ in steps:
    drawn = batches([next(row[0].stream) for row in grid])
    states, metrics = program.step(states, frozen, drawn)
    found.append(metrics)
  for first, *others in grid:  # the arms of a seed all draw the same
    for lane in others:
      lane.stream.set_state(first.stream.get_state())
  # [steps] of [S, A], at once, on the host.
  found = jax.device_get(found)
  own = [
    [[_at(m, s, a) for m in found] for a in range(len(row))]
    for s, row in enumerate(grid)
  ]
  longest = [{k: np.max(v) for k, v in m.items()} for m in found]
  work = lanes_of.executed(program.counts, longest, [""] * len(found))
  return [
    [
      lanes_of.moved(lane, _place(lane, _at(states, s, a)), own[s][a])
      for a, lane in enumerate(row)
    ]
    for s, row in enumerate(grid)
  ], work


def batches(drawn: list[Any]) -> Any:
  """The batch of each seed, stacked."""
  return jax.tree.map(lambda *x: np.stack(x), *drawn)


def _stacker(mesh: Mesh | None) -> Callable:
  """stack(grid) -> states [S, A, ...], frozen [S, ...], on their devices."""
  where = NamedSharding(mesh, P(SEEDS)) if mesh is not None else None
  put = lambda tree: tree if where is None else jax.device_put(tree, where)
  over = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)

  @jax.jit
  def stacked(states, frozen):
    return over([over(row) for row in states]), over(frozen)

  def stack(grid: Grid):
    states = [[lane.state for lane in row] for row in grid]
    states, frozen = stacked(states, [row[0].frozen for row in grid])
    return put(states), put(frozen)

  return stack


def _at(tree: Any, seed: int, arm: int) -> Any:
  return jax.tree.map(lambda x: x[seed, arm], tree)


def _place(lane: Lane, state: Any) -> Any:
  """A state on the lane's own mesh again."""
  return sharding.put(state, sharding.shardings(lane.shared.setup.mesh, state))


def _unjitted(step: Callable) -> Callable:
  """The function inside jax.jit, without its placement on a mesh."""
  return getattr(step, "__wrapped__", step)


def _digest(lane: Lane) -> str:
  """sha256 of the text of a lane's step, its constants included."""
  stage = lane.stage

  def step(state, frozen, batch):
    controls = stage.controls(state, frozen, batch)
    return _unjitted(stage.step)(state, frozen, batch, controls)

  args = (lane.state, lane.frozen, lanes_of.first_batch(lane))
  text = jax.jit(step).lower(*args).as_text()
  return hashlib.sha256(text.encode()).hexdigest()


def _counts(lane: Lane) -> Counts:
  """The FLOPs of one lane's programs; see lane.compile_step."""
  if lane.shared.ledger.path is None:
    return {}
  stage = lane.stage
  scopes = metering.scopes_of(stage.sections)
  args = (lane.state, lane.frozen, lanes_of.first_batch(lane))
  controls = jax.eval_shape(stage.controls, *args)
  return {
    "given": flops.count(stage.controls.trace(*args).jaxpr, scopes),
    "": flops.count(stage.step.trace(*args, controls).jaxpr, scopes),
  }
