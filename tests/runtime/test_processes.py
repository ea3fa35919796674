"""Two processes with two devices each against one with one device."""

import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from helpers.runs import (
  Runs,
  assert_same_run,
  command,
  environment,
  final_state,
  numbers,
  shrunk,
)

from rsrc_jax import train
from rsrc_jax.runtime import checkpoint, processes, run_log, sharding
from rsrc_jax.types import TrainState

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.processes
CHANGES = {"only": "code", "mesh.data": -1}
PHASES = ("base", "code")
PATIENCE = 900  # seconds; a hang is a failure too


def free_port() -> str:
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return str(s.getsockname()[1])


def start(
  workdir: Path, books: bool = False, end: tuple[str, ...] = ()
) -> list[subprocess.Popen]:
  """Both processes of a shrunk run; its ledger compiles and takes time.

  end: where the second process ends itself (see helpers/ended_run.py).
  """
  port = free_port()
  return [
    subprocess.Popen(
      [*command(workdir, end=end if i else (), **CHANGES),
       f"--config.ledger.enabled={books}", f"--coordinator=localhost:{port}",
       "--processes=2", f"--process={i}"],
      cwd=ROOT, env=environment(devices=2), text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    for i in range(2)
  ]  # fmt: skip


def finish(children) -> list[tuple[int, str, str]]:
  """Exit code, output and errors of each."""
  said = [child.communicate(timeout=PATIENCE) for child in children]
  return [(c.returncode, *x) for c, x in zip(children, said, strict=True)]


class Story(NamedTuple):
  """A run of two processes that ended well."""

  workdir: Path
  ends: list[tuple[int, str, str]]


class Restarted(NamedTuple):
  """A run of two processes of which one was killed, and which went on."""

  killed: Path  # the folder as the killed process left it
  deaths: list[tuple[int, str, str]]
  workdir: Path


def whole(workdir: Path) -> Story:
  ends = finish(start(workdir, books=True))
  assert [code for code, *_ in ends] == [0, 0], ends
  return Story(workdir, ends)


def restarted(folder: Path, point: str) -> Restarted:
  """The second process is killed at a point; both are started again."""
  workdir = folder / "run"
  deaths = finish(start(workdir, books=True, end=("KILL", point)))
  shutil.copytree(workdir, folder / "killed")
  return Restarted(folder / "killed", deaths, whole(workdir).workdir)


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
  """Nobody was killed."""
  return whole(tmp_path_factory.mktemp("story") / "run")


@pytest.fixture(scope="module")
def late(tmp_path_factory) -> Restarted:
  """Killed in the last stage."""
  return restarted(tmp_path_factory.mktemp("late"), "code:4")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
  """What two workers say, and the folder of the checkpoint that they wrote."""
  folder, port = tmp_path_factory.mktemp("spoken"), free_port()
  worker = ROOT / "tests" / "helpers" / "worker.py"
  children = [
    subprocess.Popen(
      [sys.executable, str(worker), port, str(i), str(folder)],
      env=environment(devices=2), text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    for i in range(2)
  ]  # fmt: skip
  ends = finish(children)
  assert [code for code, *_ in ends] == [0, 0], ends
  return [json.loads(x[1].splitlines()[-1]) for x in ends], folder


def assert_close_run(a: Path, b: Path) -> None:
  """The same numbers but for the order in which devices add."""
  (lines, summary, _), (others, other, _) = numbers(a), numbers(b)
  lines, others = ([x for x in y if x["phase"] in PHASES]
                   for y in (lines, others))  # fmt: skip
  assert len(lines) == len(others) > 0
  for x, y in zip(lines, others, strict=True):
    assert x.keys() == y.keys()
    for name, value in x.items():
      if not isinstance(value, str):
        value = pytest.approx(value, rel=1e-4, abs=1e-5)
      assert y[name] == value, name
  a, b = (s["heldout"]["code"]["nll_bits"] for s in (summary, other))
  assert a == pytest.approx(b, rel=1e-4)


def test_two_processes_learn_what_one_does(story, tiny_runs):
  assert_close_run(story.workdir, tiny_runs.whole)


def test_one_process_writes(story):
  workdir, ends = story.workdir, story.ends
  assert "report.html" in ends[0][1]
  # Gloo says so in the middle of its own lines.
  said = [x for x in ends[1][1].splitlines() if "peer ranks" not in x]
  assert said == []
  assert "step 0 of" not in ends[1][2]
  lines = run_log.read_jsonl(workdir / "metrics.jsonl")
  where = [(x["phase"], x["step"], x["split"]) for x in lines]
  assert len(where) == len(set(where)) > 3
  opened = run_log.read_jsonl(workdir / "ledger.jsonl")[0]
  assert opened["machine"]["name"].startswith("2 x ")
  summary = json.loads((workdir / "summary.json").read_text())
  assert summary["made_with"]["processes"] == 2
  assert len(summary["made_with"]["devices"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("point", ["base:4", "code:4"])
def test_a_killed_process_ends_the_job(point, late, tmp_path):
  """In the base and in the last stage, and the job goes on to its end."""
  story = late if point == "code:4" else restarted(tmp_path, point)
  ends = story.deaths
  assert ends[1][0] == -signal.SIGKILL
  assert ends[0][0] not in (0, 2, 3)
  said = ends[0][2]
  assert "start them again" in said or "another task died" in said
  assert_same_run(story.workdir, late.workdir, phases=PHASES)


def test_what_two_wrote_is_read_elsewhere(story, tmp_path):
  """A stage's checkpoint of two processes, on one with eight devices."""
  changes = {**CHANGES, "mesh.data": 8, "ledger.enabled": False}
  runs = Runs.of(shrunk(**changes), tmp_path)
  (stage,) = (x for x in runs.stages if x.name == "code")
  params = jax.eval_shape(runs.setup.policy.init, jax.random.key(0))
  like = jax.eval_shape(stage.init, params)
  where = sharding.shardings(runs.setup.mesh, like)
  like = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), like, where
  )
  workdir = tmp_path / "run"
  shutil.copytree(story.workdir, workdir)
  saver = checkpoint.open_saver(
    workdir / "checkpoints" / "code", keep_last=2, keep_best=1, metric="x"
  )
  state, host = checkpoint.restore(saver, like)
  checkpoint.close(saver)
  assert int(state.step) == 8 and "iterator" in host
  stored = final_state(workdir, "code")
  found = jax.tree_util.tree_leaves_with_path(state)
  assert len(found) == len(stored)
  for path, leaf in found:
    assert len(leaf.sharding.device_set) == 8
    np.testing.assert_array_equal(leaf, stored[jax.tree_util.keystr(path)])


@pytest.mark.slow
def test_a_job_that_lost_a_process_goes_on_exactly(story, late):
  assert_same_run(story.workdir, late.workdir, phases=PHASES)


@pytest.mark.slow
def test_what_two_wrote_goes_on_elsewhere(late, tmp_path):
  """Checkpoints of two processes with four devices, on one with eight."""
  workdir = tmp_path / "run"
  shutil.copytree(late.killed, workdir)
  changes = {"mesh.data": 8, "ledger.enabled": True}
  train.train(shrunk(**{**CHANGES, **changes}), workdir)
  assert_close_run(workdir, late.workdir)


@pytest.mark.slow
def test_a_signal_to_one_stops_both(tmp_path):
  ends = finish(start(tmp_path / "run", end=("TERM", "base:4")))
  assert [code for code, *_ in ends] == [3, 3], ends
  assert "saved at step" in ends[0][2]


def test_each_holds_its_own_rows(spoken):
  said, _ = spoken
  assert said[0]["rows"] == [0, 4] and said[1]["rows"] == [8, 12]
  for one in said:
    assert one["total"] == 120.0
    assert one["whole"] == np.arange(16.0).reshape(8, 2).tolist()


def test_what_one_says_all_hear(spoken):
  for one in spoken[0]:
    assert one["one_says_yes"] and not one["none_says_yes"]


def test_processes_that_differ_are_refused(spoken):
  for one in spoken[0]:
    assert "processes [1] have another config" in one["refused"]


def test_the_others_write_to_a_folder_that_goes(spoken):
  said, folder = spoken
  assert said[0]["log_dir"] == str(folder / "run")
  assert not Path(said[1]["log_dir"]).exists()


@pytest.mark.parametrize("sizes", [dict(data=1), dict(data=1, tensor=8),
                                   dict(data=2, fsdp=2, tensor=2)])  # fmt: skip
def test_a_checkpoint_of_two_is_read_by_one(spoken, sizes):
  mesh = sharding.make_mesh(**sizes)
  params = {"embed": np.zeros((8, 4), np.float32)}
  like = TrainState(np.int32(0), params, (), (), (), np.uint32(0))
  like = sharding.put(like, sharding.shardings(mesh, like))
  saver = checkpoint.open_saver(
    spoken[1] / "saved", keep_last=2, keep_best=1, metric="x"
  )
  state, host = checkpoint.restore(saver, like)
  checkpoint.close(saver)
  assert host == {"said": "by all"}
  assert int(state.step) == 7 and int(state.seed) == 3
  expected = np.arange(32.0).reshape(8, 4)
  np.testing.assert_array_equal(state.params["embed"], expected)
  assert len(state.params["embed"].sharding.device_set) == mesh.size


@pytest.mark.parametrize(
  "given, message",
  [
    (("localhost:1", None, None), "all three"),
    ((None, 2, 0), "all three"),
    (("localhost:1", 2, 2), "0 to 1"),
  ],
)
def test_half_an_address_is_refused(given, message):
  with pytest.raises(ValueError, match=message):
    processes.join(*given)


@pytest.mark.parametrize(
  "environment, expected",
  [
    ({}, False),
    ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "4"}, False),
    ({"SLURM_STEP_NUM_TASKS": "4"}, True),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, True),
  ],
)
def test_a_launcher_is_recognised(environment, expected):
  assert processes.launched(environment) == expected


def test_one_process_has_nobody_to_ask():
  assert processes.count() == 1 and processes.first()
  assert processes.any_of(True) and not processes.any_of(False)
  processes.check_same("config", "anything")
  tree = {"x": jax.numpy.arange(3), "y": [2.0]}
  assert processes.fetch(tree)["x"].tolist() == [0, 1, 2]
