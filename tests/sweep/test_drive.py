"""Driving a sweep: what is started, how often, and what ends with what."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import fake_runs
from helpers.fake_runs import driven, made, processes, starts, wait_for

from rsrc_jax.runtime import procs
from rsrc_jax.sweep import drive, files, owner, plan, state

pytestmark = [
  pytest.mark.processes,
  # ml_collections loads a config file in a way that Python is giving up.
  pytest.mark.filterwarnings("ignore:the load_module"),
]


@pytest.fixture
def play(tmp_path, monkeypatch):
  """play(count, slots, ...) -> a plan of fakes, and how they have ended."""

  def go(count=3, slots=2, executor=(), again=(), **asked):
    of = made(tmp_path, count)
    monkeypatch.setattr(plan, "processes", processes(of, **asked))
    return of, driven(of, slots, executor=executor, **dict(again))

  return go


def words(found):
  return {name: x.word for name, x in found.items()}


def test_every_run_starts_once_on_cores_of_its_own(play):
  of, found = play(4, slots=2, executor={"cores": [0]}, wait=0.1)
  assert set(words(found).values()) == {"done"}
  _, again = play(4)
  assert words(again) == words(found)
  for run in of.runs:
    [(number, _, cores, threads)] = starts(run)
    assert (number, cores, threads) == (1, [0], 1)
    [record] = state.attempts(run)
    assert record["code"] == 0 and record["last"] == "what was wrong"
    assert Path(record["log"]).read_text() == "what was wrong\n"
    assert record["environment"]["OMP_NUM_THREADS"] == "1"
    assert record["seconds"] >= 0.1 and record["peak_bytes"] > 1 << 20
    described = json.loads((run.workdir / "sweep.json").read_text())
    assert described["id"] == run.id and described["changes"] == run.changes
  parts = [x for x in of.runs[0].workdir.rglob(".*.part")]
  assert parts == []


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="of two cores")
def test_runs_at_a_time_share_no_core(play):
  of, _ = play(2, slots=2, wait=0.3)
  [one], [two] = (starts(x) for x in of.runs)
  assert not set(one[2]) & set(two[2])


def test_a_failed_run_is_retried_and_a_refused_one_is_not(play):
  of, found = play(
    4, r0={"codes": [1, 0]}, r1={"codes": [2]},
    r2={"codes": [1], "says": "other words {}"}, r3={"codes": [1]},
    again={"retries": 3},
  )  # fmt: skip
  assert words(found) == {
    "r0-0": "done", "r1-0": "failed", "r2-0": "failed", "r3-0": "failed"
  }  # fmt: skip
  # r2 says something else each time; r3 ends twice with the same line.
  assert [len(starts(x)) for x in of.runs] == [2, 1, 4, 2]
  assert found["r1-0"].last == "what was wrong"
  said = drive.unfinished(found)
  assert "r2-0 failed: other words 4" in said and "--again" in said
  # The same command leaves them; --again starts them with their past forgotten.
  before = {x.id: len(state.attempts(x)) for x in of.runs}
  play(4)
  assert {x.id: len(state.attempts(x)) for x in of.runs} == before
  _, found = play(4, again={"since": before})
  assert set(words(found).values()) == {"done"}


def test_a_run_that_ends_itself_saved_goes_on_while_it_makes_progress(play):
  of, found = play(1, codes=[3, 137, 143, 0], step=5)
  assert words(found) == {"r0-0": "done"} and len(starts(of.runs[0])) == 4
  commands = {tuple(x["command"]) for x in state.attempts(of.runs[0])}
  assert len(commands) == 1  # of a later attempt as of the first


def test_a_run_without_a_summary_has_failed(play, tmp_path, monkeypatch):
  of = made(tmp_path, 1)
  nothing = plan.Process("r0-0", (sys.executable, "-S", "-c", ""), of.runs[:1])
  monkeypatch.setattr(plan, "processes", lambda runs, _: [nothing] * len(runs))
  found = driven(of, retries=0)["r0-0"]
  assert (found.word, found.last) == (
    "failed", "ended with 0 and left no summary.json"
  )  # fmt: skip
  gone = plan.Process("r0-0", ("/no/such/program",), of.runs[:1])
  monkeypatch.setattr(plan, "processes", lambda runs, _: [gone] * len(runs))
  found = driven(of, since={of.runs[0].id: 1}, retries=0)["r0-0"]
  assert found.attempt["code"] == 127 and "no/such" in found.last


def test_a_folder_with_another_finished_run_is_refused(play, tmp_path):
  [run] = made(tmp_path, 1).runs
  run.workdir.mkdir()
  (run.workdir / "config.json").write_text('{"seed": 3}')
  (run.workdir / "summary.json").write_text("{}")
  with pytest.raises(ValueError, match="holds a finished run with the id"):
    play(1)


HOSTILE = ["it's \"q\"", "a=b&c;$HOME `x`", "größer ⏎", "-2 1e-3 (3,)", "",
           "--config.seed=3\ny"]  # fmt: skip


def test_values_arrive_as_they_are(tmp_path, monkeypatch):
  of = made(tmp_path, variants=[
    {"name": f"v{i}", "text": text} for i, text in enumerate(HOSTILE)
  ])  # fmt: skip
  show = "import json, sys; print(json.dumps(sys.argv[1:]))"

  def echo(runs, _=""):
    return [plan.Process(x.name, (sys.executable, "-S", "-c", show, *x.argv),
                         (x,)) for x in runs]  # fmt: skip

  monkeypatch.setattr(plan, "processes", echo)
  driven(of, retries=0)
  for run, text in zip(of.runs, HOSTILE, strict=True):
    [record] = state.attempts(run)
    arrived = json.loads(Path(record["log"]).read_text())
    assert arrived == [f"--config={tmp_path}/fake.py", f"--config.text={text}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_runs_once_and_nothing_starts_after(
  tmp_path, number
):
  of = made(tmp_path)
  driver = fake_runs.start(tmp_path, wait=60)
  wait_for(lambda: all((x.workdir / "ready").exists() for x in of.runs[:2]))
  driver.send_signal(number)
  said, _ = driver.communicate(timeout=60)
  assert driver.returncode == 1
  assert said.splitlines()[-4:] == [
    "r0-0 interrupted: ended with 3", "r1-0 interrupted: ended with 3",
    "r2-0 planned", "The same command goes on.",
  ]  # fmt: skip
  assert (of.runs[0].workdir / "saved").exists()
  assert not of.runs[2].workdir.exists()
  assert files.read(owner.path(tmp_path))["ended"]


def pids(of):
  """Of the runs, of what they have started, and of the processes around."""
  found = []
  for run in of.runs:
    for record in state.attempts(run):
      found.append(record["wrapper"]["pid"])
    found += [x[1] for x in starts(run)]
    found.append(int((run.workdir / "child").read_text()))
  return found


def test_a_killed_driver_leaves_no_process_and_the_next_goes_on(tmp_path, play):
  of = made(tmp_path, 2)
  driver = fake_runs.start(tmp_path, 2, wait=60, child=True)
  wait_for(lambda: all((x.workdir / "ready").exists() for x in of.runs))
  every = pids(of)
  driver.kill()
  driver.communicate()
  wait_for(lambda: not any(alive(x) for x in every))
  for run in of.runs:
    assert (run.workdir / "saved").exists()
    [record] = state.attempts(run)
    assert record["code"] == 3 and record["stopped"]
    assert state.of(run).word == "interrupted"
  _, found = play(2)
  assert set(words(found).values()) == {"done"}
  assert [len(starts(x)) for x in of.runs] == [2, 2]


def alive(pid):
  found = procs.stat(pid)
  return found is not None and found.state not in "ZX"


def test_what_still_saves_is_waited_for_and_not_started_twice(tmp_path, play):
  """The driver is killed; its run is deaf, and is there until `grace` ends."""
  of = made(tmp_path, 1)
  driver = fake_runs.start(
    tmp_path, 1, executor={"grace": 1.5}, wait=60, deaf=True
  )
  [run] = of.runs
  wait_for((run.workdir / "ready").exists)
  driver.kill()
  driver.communicate()
  assert state.of(run).word == "running"
  _, found = play(1)
  assert words(found) == {"r0-0": "done"}
  first, second = state.attempts(run)
  assert first["code"] == 137 and second["started"] > first["ended"]


def test_killing_the_process_around_a_run_kills_the_run(tmp_path, play):
  of = made(tmp_path, 1)
  driver = fake_runs.start(tmp_path, 1, wait=60, child=True)
  [run] = of.runs
  wait_for((run.workdir / "ready").exists)
  wrapper, *others = pids(of)
  os.kill(wrapper, signal.SIGKILL)
  # It is started again, and what the first has started is gone.
  wait_for(lambda: len(starts(run)) == 2)
  assert not any(alive(x) for x in others)
  driver.terminate()
  driver.communicate(timeout=60)
  assert [x.get("code") for x in state.attempts(run)] == [None, 3]


def test_a_second_driver_is_refused_and_a_dead_one_replaced(tmp_path, play):
  of = made(tmp_path, 1)
  driver = fake_runs.start(tmp_path, 1, wait=60)
  wait_for((of.runs[0].workdir / "ready").exists)
  with pytest.raises(ValueError, match=f"process {driver.pid} on") as error:
    play(1)
  assert "\n" not in str(error.value)
  driver.terminate()
  driver.communicate(timeout=60)
  me = procs.me()
  now = files.read(owner.path(tmp_path))
  for stale in (
    {**now, **me, "start": me["start"] - 1, "ended": False},
    {**now, **me, "boot": "another", "ended": False},
    {**now, "host": "elsewhere", "ended": False,
     "renewed": now["renewed"] - 2 * owner.LEASE},
  ):  # fmt: skip
    assert not owner.living(stale)
    files.write(owner.path(tmp_path), stale)
    assert owner.same(owner.take(tmp_path), me)
  far = {**now, "host": "elsewhere", "ended": False}
  files.write(owner.path(tmp_path), far)
  with pytest.raises(ValueError, match="on elsewhere"):
    owner.take(tmp_path)
  with pytest.raises(owner.Lost):
    owner.check(tmp_path, me)


def test_two_drivers_that_start_at_once_start_each_run_once(tmp_path):
  of = made(tmp_path, 3)
  both = [fake_runs.start(tmp_path, 3, wait=0.2) for _ in range(2)]
  said = [x.communicate(timeout=60)[0] for x in both]
  assert sorted(x.returncode for x in both)[0] == 0, said
  assert [len(starts(x)) for x in of.runs] == [1, 1, 1]


FULL = """
import errno, os
from rsrc_jax.sweep import files
whole, left = os.fsync, [{left}]
def full(where):
  left[0] -= 1
  if left[0] < 0:
    raise OSError(errno.ENOSPC, "No space left on device")
  whole(where)
os.fsync = full
"""


@pytest.mark.parametrize("left", [0, 4, 8])
def test_a_full_disk_ends_everything_in_one_line(tmp_path, play, left):
  """The disk of the driver is full once it has written some files."""
  driver = fake_runs.start(
    tmp_path, 3, before=FULL.format(left=left), r0={"wait": 30}
  )
  said, _ = driver.communicate(timeout=60)
  assert driver.returncode == 1
  assert said.splitlines()[-1].endswith(
    "No space left on device: free some space"
  )
  of = made(tmp_path)
  for run in of.runs:
    assert state.of(run).word != "running"
    assert all(not alive(x[1]) for x in starts(run))
  assert not list(tmp_path.rglob(".*.part"))
  # With space again, every attempt is started once.
  _, found = play(3)
  assert set(words(found).values()) == {"done"}
  for run in of.runs:
    numbers = [x[0] for x in starts(run)]
    assert len(numbers) == len(set(numbers))


def test_a_run_that_holds_too_much_is_killed(play):
  bound = 64 << 20
  of, found = play(
    2, executor={"memory": bound}, r0={"bytes": 2 * bound, "wait": 60},
    again={"retries": 0},
  )  # fmt: skip
  assert words(found) == {"r0-0": "failed", "r1-0": "done"}
  assert "--memory allows 64" in found["r0-0"].last
  assert state.attempts(of.runs[0])[0]["seconds"] < 30


def test_a_cancelled_run_is_stopped_and_stays_so(tmp_path, play):
  of = made(tmp_path, 2)
  state.cancel(of.runs[1])
  driver = fake_runs.start(tmp_path, 2, wait=60)
  wait_for((of.runs[0].workdir / "ready").exists)
  command = [sys.executable, "-m", "rsrc_jax.sweep", "cancel"]
  files.write(tmp_path / "plan.json", {
    "config": "", "settings": of.settings, "runs": [
      x._asdict() | {"workdir": x.workdir.name} for x in of.runs
    ],
  })  # fmt: skip
  subprocess.run([*command, str(tmp_path), "r0-0"], check=True, timeout=60)
  said, _ = driver.communicate(timeout=60)
  assert "r0-0 cancelled" in said and "r1-0 cancelled" in said
  assert (
    len(starts(of.runs[0])) == 1
    and not (of.runs[1].workdir / "starts").exists()
  )
  for run in of.runs:
    state.cancel(run, False)
  assert set(words(play(2)[1]).values()) == {"done"}


SHARED = """
import json, pathlib, sys
for folder, config in json.loads(sys.argv[1])[:2]:
  folder = pathlib.Path(folder)
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "summary.json").write_text("{}")
print("two at a time")
sys.exit(3)
"""


def test_runs_of_one_process_are_each_claimed_and_told(tmp_path, monkeypatch):
  """Of three, a process ends two and is stopped; the next ends the third."""
  of = made(tmp_path, 3)

  def joined(runs, together):
    assert together == "loop"
    what = [(str(x.workdir), of.settings | x.changes) for x in runs]
    command = (sys.executable, "-S", "-c", SHARED, json.dumps(what))
    return [plan.Process("r", command, tuple(runs))] if runs else []

  monkeypatch.setattr(plan, "processes", joined)
  found = driven(of, together="loop")
  assert set(words(found).values()) == {"done"}
  records = [state.attempts(x) for x in of.runs]
  assert [len(x) for x in records] == [1, 1, 2]
  first = {x[0]["log"] for x in records}
  assert first == {str(state.path(of.runs[0], 1).with_suffix(".log"))}
  assert Path(first.pop()).read_text() == "two at a time\n"
  assert [x["code"] for x in records[2]] == [3, 3]
