"""Seeds as an axis: one program for all lanes, each as by itself."""

import jax
import numpy as np
import pytest
from helpers.runs import shrunk

from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.accounting.split_meter import SplitMeter
from rsrc_jax.build.setup import initial_params, make_setup
from rsrc_jax.runtime import run_dir, run_log
from rsrc_jax.stages import plan
from rsrc_jax.stages.stage import frozen_of
from rsrc_jax.train import open_meter
from rsrc_jax.training import lane, together

STEPS = 50


def lanes(folder, seeds, names, **changes):
  """[S][A] lanes at their beginning, without a ledger."""
  configs = [shrunk(seed=seed, steps=STEPS, **changes) for seed in seeds]
  return grid_of(folder, configs, names)


def grid_of(folder, configs, names):
  grid = []
  for config in configs:
    own = folder / str(config.seed)
    own.mkdir(parents=True)
    setup = make_setup(config, folder)
    meter = SplitMeter(open_meter(), 1).of(0)
    log = run_log.Log(own, quiet=True)
    run = run_dir.Run(own, own, log, stop=lambda: False)
    shared = lane.Shared(setup, None, Ledger(None, meter), run)
    params = initial_params(setup)
    stages = {x.name: x for x in plan.make_stages(setup)}
    grid.append(
      [
        lane.open_lane(
          shared, stages[name], params,
          frozen_of(stages[name], {"base": params, "reader": params}), name,
        )
        for name in names
      ]
    )  # fmt: skip
  return grid


def losses(window):
  return np.array([float(m["loss"]) for m in window])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The lanes of two seeds and two arms, each run by itself."""
  folder = tmp_path_factory.mktemp("alone")
  grid = lanes(folder, (3, 4), ("english_rl", "code"))
  return [[lane.advance(x, STEPS, {}) for x in row] for row in grid]


def assert_as_alone(grid, alone, steps=STEPS):
  for ours, theirs in zip(grid, alone, strict=True):
    for x, y in zip(ours, theirs, strict=True):
      assert x.step == y.step == steps
      a, b = losses(x.window), losses(y.window)
      assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
      # The data iterator of each is where it would be alone.
      assert x.stream.get_state() == y.stream.get_state()
      for u, v in zip(
        jax.tree.leaves(x.state), jax.tree.leaves(y.state), strict=True
      ):
        assert u.shape == v.shape and u.dtype == v.dtype
        assert u.sharding.is_equivalent_to(v.sharding, u.ndim)


@pytest.mark.slow
def test_two_seeds_and_two_arms_are_one_program_and_end_as_alone(
  alone, tmp_path
):
  grid = lanes(tmp_path, (3, 4), ("english_rl", "code"))
  together.check_alike(grid)
  program = together.compile_grid(grid, None)
  grid, work = together.advance(grid, program, 20)
  assert work == {"flops": {}, "recompute": 0.0}  # no ledger
  grid, _ = together.advance(grid, program, STEPS)
  assert_as_alone(grid, alone)
  # Seeds and arms differ: the axis is none of copies.
  found = [losses(x.window) for row in grid for x in row]
  for i, x in enumerate(found):
    assert all(np.abs(x - y).max() > 1e-3 for y in found[:i])


def test_two_seeds_of_a_small_step_end_as_alone(tmp_path):
  """The same for D alone, which compiles in a fraction of the time."""
  start = lambda name: lanes(tmp_path / name, (3, 4), ("lead",), only="lead")
  alone = [[lane.advance(x, 6, {}) for x in row] for row in start("alone")]
  grid = start("joined")
  grid, _ = together.advance(grid, together.compile_grid(grid, None), 6)
  assert_as_alone(grid, alone, 6)
  one, two = (losses(row[0].window) for row in grid)
  assert np.abs(one - two).max() > 1e-3


@pytest.mark.slow
def test_arms_of_differing_weights_end_as_alone(tmp_path):
  """One vmapped program of arms that learn with different weights."""

  def start(folder):
    config = shrunk(seed=3, steps=STEPS, only="", log_every=50)
    half = (("loss.lesson_weights.D", 0.5), ("curriculum.steps", 7))
    config.arms = {
      "lead": {"pattern": "extract", "write": "lead", "overrides": ()},
      "half": {"pattern": "extract", "write": "lead", "overrides": half},
    }
    return grid_of(folder, [config], ("lead", "half"))

  alone = [
    [lane.advance(x, 6, {}) for x in row] for row in start(tmp_path / "a")
  ]
  grid = start(tmp_path / "b")
  assert together.groups([x.stage for x in grid[0]]) == [[0, 1]]
  grid, _ = together.advance(grid, together.compile_grid(grid, None), 6)
  assert_as_alone(grid, alone, 6)
  one, two = (losses(x.window) for x in grid[0])
  # Each has its own weight; AdamW moves both alike.
  np.testing.assert_allclose(one, 2 * two, rtol=1e-4)


@pytest.mark.slow
def test_seeds_over_devices_end_as_alone(alone, tmp_path):
  grid = lanes(tmp_path, (3, 4), ("english_rl", "code"))
  mesh = together.mesh_of(2)
  assert mesh.shape == {"seeds": 2}
  program = together.compile_grid(grid, mesh)
  grid, _ = together.advance(grid, program, STEPS)
  assert_as_alone(grid, alone)


def test_the_mesh_divides_the_seeds():
  assert jax.device_count() == 8
  sizes = [together.mesh_of(n).size for n in (1, 5, 6, 7, 8, 11, 12)]
  assert sizes == [1, 5, 6, 7, 8, 1, 6]


def test_a_constant_of_the_data_is_found(tmp_path):
  """tfidf counts words in the training split: its seeds share no program."""
  grid = lanes(
    tmp_path, (3, 4), ("lead",), **{"only": "lead", "arms.lead.write": "tfidf"}
  )
  with pytest.raises(
    ValueError, match=r"lead is another program.*loop"
  ) as said:
    together.check_alike(grid)
  assert "\n" not in str(said.value)


def test_stages_are_grouped_by_their_step(tmp_path):
  setup = make_setup(shrunk(only=""), tmp_path)
  stages = plan.make_stages(setup)
  names = [[stages[i].name for i in group] for group in together.groups(stages)]
  assert names == [
    ["base"], ["code", "english_rl"], ["lead", "sft", "surprising"],
  ]  # fmt: skip
