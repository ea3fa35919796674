"""The loop of recursive models end to end, on 4x4 Sudoku."""

import json
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.policy import obeys
from helpers.runs import Signals, environment

from rsrc_jax.recursive import arms, dead_compute, loop, puzzles, report
from rsrc_jax.runtime import run_log
from rsrc_jax.runtime.configs import load


def tiny(root, **changes):
  """configs/trm.py, shrunk."""
  config = load(root / "configs" / "trm.py")
  config.data.update({"side": 4, "train": 12, "heldout": 4})
  config.model.update({"width": 16, "hidden": 16, "cell_hidden": 16})
  config.batch_size, config.log_every = 8, 2
  config.eval.update(
    {"every": 4, "rows": 4, "batch_size": 4, "causal_rows": 3, "samples": 1}
  )
  config.checkpoint.every = 4
  for arm in config.arms.values():
    arm.steps, arm.supersteps = 6, 3
  config.arms.trm.model.update({"cycles": 2, "inner": 2})
  config.update_from_flattened_dict(changes)
  return config


@pytest.fixture(scope="module")
def run(tmp_path_factory, pytestconfig):
  """A whole run of the two ends of the arms: its config, folder, summary."""
  config = tiny(pytestconfig.rootpath, only="trm,final_target")
  folder = tmp_path_factory.mktemp("run")
  return config, folder, loop.train(config, folder)


def test_a_run_leaves_its_numbers_and_pictures(run):
  config, folder, summary = run
  assert set(summary["arms"]) == {"trm", "final_target"}
  path, tables = report.show(summary, folder)
  page = path.read_text()
  obeys(page)
  assert page.count("<figure>") == 5 + 2 and len(tables) == 1
  assert (folder / "figures" / "board_trm.png").exists()
  again = loop.train(config, folder)  # what is done is not done again
  assert again == json.loads((folder / "summary.json").read_text())


def test_the_ledger_of_passes_is_the_formula(run):
  _config, _, summary = run
  for name, arm in summary["arms"].items():
    calls = {"trm": 2 * 3}.get(name, 3)
    assert arm["calls_per_superstep"] == calls
    assert arm["passes_inference"] == 3 * calls
    assert arm["passes_training"] == 6 * 8 * calls
    assert arm["passes_with_gradient"] == 6 * 8 * 3
    # The walk over the program, beside the formula: heads are left out.
    walked = summary["ledger"]["programs"][name]["walker"]
    assert 1.0 < walked * 6 / arm["flops_training"] < 1.25
  # Without halting an item stays its S supersteps, once the slots are spread.
  assert summary["arms"]["final_target"]["finished"] == 8 * 6 // 3


def test_what_is_measured_fits_together(run):
  _, folder, summary = run
  for name, arm in summary["arms"].items():
    stored = np.load(folder / f"examined-{name}.npz")
    exact = stored["exact"].mean(1)
    np.testing.assert_allclose(arm["exact"], exact)
    gains = [g["mean"] for g in arm["gain"]]
    np.testing.assert_allclose(
      np.cumsum(gains), exact[1:] - exact[0], atol=1e-6
    )
    everything = np.diff(stored["log_prob"], axis=0).mean(1) / 16
    np.testing.assert_allclose(arm["advantage"], everything, atol=1e-5)
    # w = 1 is the superstep itself; one step less of it is w = 0.
    np.testing.assert_allclose(arm["guided_nll"][2], arm["nats"][1:], rtol=1e-4)
    np.testing.assert_allclose(
      arm["guided_nll"][0], arm["nats"][:-1], rtol=1e-4
    )
    assert len(arm["calls"]["kl"][0]) == arm["calls_per_superstep"]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_bitwise(run, pytestconfig, tmp_path):
  config, _, summary = run
  config = tiny(pytestconfig.rootpath, only="trm")
  log = Signals(tmp_path, signal.SIGTERM, at=4)
  with pytest.raises(loop.Interrupted, match="trm saved at step 5 of 6"):
    loop.train(config, tmp_path, log=log)
  found = loop.train(config, tmp_path)["arms"]["trm"]
  expected = summary["arms"]["trm"]
  for name in (
    "exact",
    "log_prob",
    "kl",
    "passes_training",
    "finished",
    "calls",
  ):
    assert found[name] == expected[name], name
  for one, other in zip(found["curve"], expected["curve"], strict=True):
    assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_step_compiles_once(pytestconfig):
  config = tiny(pytestconfig.rootpath)
  data = puzzles.load(**config.data, seed=0)
  for name in ("trm", "dis_random"):
    arm = arms.arm_of(config, name, data)
    state = arm.init(jax.random.key(0))
    for step in range(3):
      state, _ = arm.step(state, arms.items_of(config, data, step))
    assert arm.step._cache_size() == 1


@pytest.mark.slow
def test_it_learns_four_by_four(pytestconfig, tmp_path):
  config = tiny(pytestconfig.rootpath, only="final_target")
  config.arms.final_target.steps = 150
  config.model.update({"width": 32, "hidden": 48, "cell_hidden": 32})
  config.batch_size, config.eval.every, config.checkpoint.every = 16, 150, 150
  config.data.train = 20
  loop.train(config, tmp_path)
  lines = run_log.read_jsonl(tmp_path / "metrics.jsonl")
  seen = [x for x in lines if x["split"] == "train"]
  assert seen[-1]["nll"] < 0.75 * seen[0]["nll"]
  assert seen[-1]["cell"] > 0.4  # chance is a quarter


def test_a_superstep_that_is_left_out_passes_its_state_on(pytestconfig):
  config = tiny(pytestconfig.rootpath)
  data = puzzles.load(**config.data, seed=0)
  arm = arms.arm_of(config, "trm", data)  # no embedding of the step
  params = arm.init(jax.random.key(1)).params
  items = puzzles.items(data.test, data.test_identity)
  read = jax.jit(dead_compute.make(arm.model, 3))
  whole = read(params, items, jnp.int32(dead_compute.NOBODY))
  without = read(params, items, jnp.int32(0))
  np.testing.assert_array_equal(without.said[1], whole.said[0])
  np.testing.assert_array_equal(without.said[2:], whole.said[1:3])
  np.testing.assert_allclose(without.steps.kl[0], 0.0, atol=1e-6)


def test_stopping_rules_by_hand():
  S, n = 3, 2
  exact = np.asarray([[0, 0], [0, 1], [1, 1], [1, 0]], bool)
  kl = np.asarray([[0.5, 0.05], [0.05, 0.0], [0.0, 0.0]])
  field = np.zeros((S, n))
  statistics = dead_compute.steps.Steps(*[field + 9.0] * 10)._replace(kl=kl)
  readouts = dead_compute.Readouts(
    exact=exact, cell=None, log_prob=None, steps=statistics, above=None,
    own_margin=field + 9.0, halt=np.asarray([[-1, 1], [1, 1], [1, 1]]),
    guided_nll=None, guided_exact=None, said=None,
  )  # fmt: skip
  found = dead_compute.stops(readouts)
  assert found["kl"][0] == {"threshold": 0.1, "steps": 1.5, "exact": 1.0}
  assert found["head"][0]["steps"] == 1.5
  assert found["varentropy"][0] == {
    "threshold": 4.0,
    "steps": 3.0,
    "exact": 0.5,
  }
  assert found["all"][0] == {"threshold": None, "steps": 3.0, "exact": 0.5}


@pytest.mark.parametrize(
  ("changes", "message"),
  (
    ({"only": "nobody"}, "'nobody' is none of the arms"),
    ({"arms.trm.targets": "sideways"}, "config.arms.trm.targets='sideways'"),
    ({"arms.trm.targets": "random_linear"}, "the halting head learns"),
    ({"arms.trm.supersteps": 0}, "config.arms.trm.supersteps=0"),
    ({"data.name": "chess"}, "config.data.name='chess'"),
    ({"data.heldout": 0}, "heldout=0"),
    ({"data.hard": True}, "asks for config.data.side=9"),
    ({"model.core": "x"}, "core='x'"),
  ),
)
def test_what_can_not_work_is_said_before_a_compile(
  changes, message, pytestconfig, tmp_path
):
  config = tiny(pytestconfig.rootpath, **changes)
  with pytest.raises(ValueError, match=message):
    loop.train(config, tmp_path)
  assert not (tmp_path / "ledger.jsonl").exists()


def test_a_loop_that_is_not_there_is_named(pytestconfig, tmp_path):
  command = [
    sys.executable, "-m", "rsrc_jax.main", "--config=configs/trm.py",
    "--config.loop=sideways", f"--workdir={tmp_path / 'run'}",
  ]  # fmt: skip
  root = pytestconfig.rootpath
  found = subprocess.run(
    command, cwd=root, env=environment(), capture_output=True, text=True
  )
  assert found.returncode == 2
  assert "config.loop='sideways': No module named 'sideways'" in found.stderr
