"""Seeds of one config in one process: each leaves the run of a seed alone."""

import contextlib
import itertools
import json
import time

import jax
import numpy as np
import pytest
from helpers.runs import assert_same_run, final_state, numbers, shrunk

from rsrc_jax import population, runs, train
from rsrc_jax.runtime import run_log, signals

SEEDS = (0, 1)
STAGES = ("base", "english_rl", "code")


def configs(**changes):
  return [shrunk(seed=seed, **changes) for seed in SEEDS]


@pytest.mark.parametrize(
  "how, changes, said",
  [
    ("both", {}, "--together='both' is none of auto, loop"),
    ("vmap", {"steps": 9}, "config.steps is 8 and 9"),
    ("vmap", {"mesh.data": 2}, "config.mesh is"),
    ("loop", {"loop": "rsrc_jax.recursive.loop"}, "config.loop="),
  ],
)
def test_what_cannot_be_joined_is_named(tmp_path, how, changes, said):
  of = [shrunk(seed=0), shrunk(seed=1, **changes)]
  with pytest.raises(ValueError) as error:
    population.train(of, [tmp_path / "0", tmp_path / "1"], how=how)
  assert said.replace("config.mesh is", "config.mesh") in str(error.value)
  assert "\n" not in str(error.value)
  assert not list(tmp_path.iterdir())


def test_an_arm_that_ends_at_its_plateau_is_for_a_loop(tmp_path, monkeypatch):
  of = configs(**{"curriculum.window": 3, "optimizer.decay": 0.0})
  for config in of:
    config.arms.code.until = "plateau"
  with pytest.raises(ValueError) as error:
    population.train(of, [tmp_path / "0", tmp_path / "1"], how="vmap")
  said = str(error.value)
  assert "config.arms.code.until='plateau'" in said and "\n" not in said
  assert "--together=loop" in said and not list(tmp_path.iterdir())
  # Where an accelerator would take them together by itself, it does not.
  monkeypatch.setattr(population.cards, "backend", lambda: "gpu")
  assert population._chosen("auto", of) == "loop"
  assert population._chosen("auto", configs()) == "vmap"


def test_devices_are_for_shard_map(tmp_path):
  of = configs(**{"mesh.data": 2})
  with pytest.raises(ValueError, match="--together=shard_map"):
    population.train(of, [tmp_path / "0", tmp_path / "1"], how="vmap")


@pytest.mark.slow
def test_a_loop_gives_the_bits_of_single_runs(tmp_path):
  folders = [tmp_path / str(seed) for seed in SEEDS]
  population.train(configs(), folders, how="loop")
  train.train(shrunk(seed=1), tmp_path / "alone")
  assert_same_run(folders[1], tmp_path / "alone")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """Two seeds in one program, uninterrupted; and the seconds they took."""
  folder = tmp_path_factory.mktemp("together")
  folders = [folder / str(seed) for seed in SEEDS]
  begun = time.perf_counter()
  population.train(configs(), folders, how="vmap")
  return folders, time.perf_counter() - begun


@pytest.mark.slow
def test_each_seed_has_its_own_run_directory(whole):
  folders, seconds = whole
  paid = []
  for seed, folder in zip(SEEDS, folders, strict=True):
    run = runs.open(folder)
    assert run.config.seed == seed
    assert set(run.summary["heldout"]["arms"]) == {"english_rl", "code"}
    for name in STAGES:
      assert int(run.state(name).step) == run.stages[name].steps
    lines = run_log.read_jsonl(folder / "metrics.jsonl")
    for name in STAGES:
      steps = [
        x["step"] for x in lines if x["phase"] == name and x["split"] == "train"
      ]
      assert steps == [3, 6] if name == "base" else [3, 6, 8]
    ledger = run.summary["ledger"]
    assert ledger["programs"]["code"]["lanes"] == 4
    assert ledger["phases"]["code"]["update"]["flops"] > 0
    paid.append(ledger["wall_seconds"])
  # Nothing is paid twice, and nearly everything by somebody.
  assert 0.8 * seconds < sum(paid) <= seconds
  assert max(paid) < 2 * min(paid)


@pytest.mark.slow
def test_the_flops_of_a_seed_are_those_of_a_run_alone(whole, tmp_path):
  train.train(shrunk(seed=1), tmp_path / "alone")
  sums = []
  for folder in (whole[0][1], tmp_path / "alone"):
    found = json.loads((folder / "summary.json").read_text())["ledger"]
    sums.append(
      {
        (arm, name): entry["flops"]
        for arm in STAGES
        for name, entry in found["phases"][arm].items()
        if name in ("C", "D", "update", "prefill")
      }
    )
  assert sums[0] == pytest.approx(sums[1], rel=1e-6)


def stopping_at(monkeypatch, stop):
  """Signals that ask the population to end at the `stop`-th question."""
  asked = itertools.count(1)

  @contextlib.contextmanager
  def requests():
    yield lambda: next(asked) >= stop

  monkeypatch.setattr(signals, "stop_requests", requests)


@pytest.mark.slow
def test_a_stopped_population_goes_on_bitwise(whole, tmp_path, monkeypatch):
  folders = [tmp_path / str(seed) for seed in SEEDS]
  for stop in (1, 2):
    with monkeypatch.context() as patch:
      stopping_at(patch, stop)
      with pytest.raises(train.Interrupted, match="saved at step"):
        population.train(configs(), folders, how="vmap")
  population.train(configs(), folders, how="vmap")
  for ours, theirs in zip(folders, whole[0], strict=True):
    assert numbers(ours)[1:] == numbers(theirs)[1:]
    for name in STAGES:
      x, y = final_state(ours, name), final_state(theirs, name)
      for key in x:
        np.testing.assert_array_equal(np.asarray(x[key]), np.asarray(y[key]))


@pytest.mark.slow
def test_a_seed_goes_on_alone_and_a_lane_behind_catches_up(
  tmp_path, monkeypatch
):
  """One seed is taken further by itself; the other then follows it."""
  folders = [tmp_path / str(seed) for seed in SEEDS]
  with monkeypatch.context() as patch:
    stopping_at(patch, 1)
    with pytest.raises(train.Interrupted, match="base saved at step 3 of 6"):
      population.train(configs(), folders, how="vmap")
  train.train(shrunk(seed=0), folders[0])
  done = (folders[0] / "summary.json").read_bytes()
  population.train(configs(), folders, how="vmap")
  assert (folders[0] / "summary.json").read_bytes() == done
  assert (folders[1] / "summary.json").exists()
  assert jax.tree.leaves(final_state(folders[1], "code"))
