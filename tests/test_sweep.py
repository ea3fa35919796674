"""sweep.py: what is run, how often, on which cores, and after a signal."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rsrc_jax import runs, sweep
from rsrc_jax.runtime import configs, places

ROOT = Path(__file__).resolve().parents[1]
TINY = str(ROOT / "configs" / "tiny.py")
# ml_collections loads a config file in a way that Python is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

# A run that needs no jax: python FAKE WORKDIR; it notes its cores and starts.
FAKE = """
import json, os, pathlib, signal, sys, time
folder, wait, code = pathlib.Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
folder.mkdir(parents=True, exist_ok=True)
with (folder / "starts").open("a") as file:
  file.write(f"{sorted(os.sched_getaffinity(0))}\\n")
def save(*_):
  (folder / "saved").touch()
  sys.exit(3)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, lambda *_: sys.exit(9))
(folder / "ready").touch()
time.sleep(wait)
print("what was wrong")
if int(code):
  sys.exit(int(code))
(folder / "summary.json").write_text("{}")
"""


def fake(folder, name, wait=0.0, code=0):
  command = [sys.executable, "-c", FAKE, str(folder / name), str(wait)]
  return sweep.Job(name, [*command, str(code)], folder / name)


def test_every_job_runs_once_and_its_status_is_known(tmp_path, capfd):
  jobs = [fake(tmp_path, f"r{i}", code=2 * (i == 1)) for i in range(3)]
  status = sweep.run(jobs, at_a_time=2)
  assert status == {"r0": 0, "r1": 2, "r2": 0}
  starts = [(job.workdir / "starts").read_text() for job in jobs]
  assert all(x.count("\n") == 1 and x.count(",") == 0 for x in starts)
  assert (tmp_path / "r0" / "output.log").read_text() == "what was wrong\n"
  with pytest.raises(SystemExit, match="r1 failed with 2: what was wrong"):
    sweep.check(jobs, status)
  sweep.check(jobs[:1], status)
  assert "what was wrong" not in capfd.readouterr().out
  # One at a time has the terminal and all cores.
  assert sweep.run([fake(tmp_path, "alone")]) == {"alone": 0}
  assert "what was wrong" in capfd.readouterr().out
  cores = str(sorted(os.sched_getaffinity(0)))
  assert (tmp_path / "alone" / "starts").read_text() == f"{cores}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_runs_and_nothing_is_started_after(
  tmp_path, number
):
  script = tmp_path / "driver.py"
  script.write_text(
    "import pathlib, sys\n"
    f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
    "import test_sweep\n"
    "from rsrc_jax import sweep\n"
    f"folder = pathlib.Path({str(tmp_path)!r})\n"
    "jobs = [test_sweep.fake(folder, f'r{i}', wait=60) for i in range(3)]\n"
    "sweep.check(jobs, sweep.run(jobs, at_a_time=2))\n"
  )
  driver = subprocess.Popen(
    [sys.executable, script], stderr=subprocess.PIPE, text=True
  )
  until = time.time() + 60
  ready = [tmp_path / f"r{i}" / "ready" for i in range(2)]
  while not all(x.exists() for x in ready):
    assert time.time() < until and driver.poll() is None
    time.sleep(0.05)
  driver.send_signal(number)
  _, said = driver.communicate(timeout=60)
  assert driver.returncode == 1
  assert said.splitlines()[-4:] == [
    "r0 was interrupted", "r1 was interrupted", "r2 was not started",
    "The same command resumes them.",
  ]  # fmt: skip
  assert (tmp_path / "r0" / "saved").exists()
  assert not (tmp_path / "r2").exists()


def flags_of(job):
  return [x for x in job.command if x.startswith("--config")]


def test_a_plan_names_runs_by_all_of_their_settings(tmp_path):
  plan = lambda **how: sweep.plan(TINY, tmp_path, **how)
  [alone] = plan()
  assert alone.name == "tiny-0" and flags_of(alone) == [f"--config={TINY}"]
  seeds = plan(seeds=(0, 1))
  assert [x.name for x in seeds] == ["tiny-0", "tiny-1"]
  assert seeds[0].workdir == alone.workdir != seeds[1].workdir
  some = plan(seeds=(0,), settings=["--config.only=code"])
  assert some[0].workdir != alone.workdir
  assert plan(settings=["--config.log_every=7"])[0].workdir == alone.workdir
  # Values are those that the flags of ./tools/run give.
  variants = [
    {"name": "plain"},
    {"name": "low", "loss.weights.C": 1, "eval.budgets": (2, 3), "seed": 5},
  ]
  jobs = plan(seeds=(0, 1), variants=variants)
  assert [x.name for x in jobs] == ["plain-0", "plain-1", "low-5"]
  config = configs.from_flags(flags_of(jobs[2]))
  assert config.loss.weights.C == 1.0 and config.eval.budgets == (2, 3)
  assert variants[0] == {"name": "plain"}
  for how, message in (
    ({"variants": [{}, {"steps": 3}]}, "two runs are called tiny-0"),
    ({"settings": ["--config.stepps=3"]}, "stepps"),
    ({"settings": ["--config.steps=1.5"]}, "1.5"),
    ({"settings": ["word"]}, "unknown argument 'word'"),
  ):
    with pytest.raises(ValueError, match=message):
      plan(**how)


def test_the_command_is_idempotent_and_copies_summaries(
  tmp_path, monkeypatch, capsys
):
  started = []

  def run(jobs, at_a_time):
    for job in jobs:
      started.append(job.name)
      job.workdir.mkdir(parents=True)
      text = json.dumps({"name": job.name})
      (job.workdir / "summary.json").write_text(text)
    return {job.name: 0 for job in jobs}

  config = tmp_path / "two.py"
  config.write_text(
    "from rsrc_jax.runtime.configs import load\n"
    f"def get_config(): return load({TINY!r})\n"
    "def get_sweep():\n"
    "  yield {'name': 'a'}\n  yield {'name': 'b', 'steps': 3}\n"
  )
  monkeypatch.setattr(places, "home", lambda: tmp_path)
  monkeypatch.setattr(sweep, "run", run)
  command = ["sweep", f"--config={config}", "--seeds=0,1", "--into=claim"]
  monkeypatch.setattr(sys, "argv", [*command, "--variants=b"])
  sweep.main()
  assert started == ["b-0", "b-1"]
  monkeypatch.setattr(sys, "argv", command)
  sweep.main()
  sweep.main()
  assert started == ["b-0", "b-1", "a-0", "a-1"]
  assert capsys.readouterr().out.splitlines()[-1].startswith("4 runs have end")
  results = tmp_path / "experiments" / "claim" / "results"
  assert json.loads((results / "b-1.json").read_text()) == {"name": "b-1"}
  folder = tmp_path / "runs" / "claim"
  assert runs.find(folder, "b-1").name.startswith("b-1-")
  with pytest.raises(ValueError, match=r"one ended run called c-1, .* none"):
    runs.find(folder, "c-1")
  monkeypatch.setattr(sys, "argv", [*command, "--", "--config.steps=4"])
  sweep.main()
  assert started[4:] == ["a-0", "a-1"]  # b's own steps are as they were
  with pytest.raises(ValueError, match=r"one ended run called a-1, .* a-1-"):
    runs.find(folder, "a-1")


def test_the_script_for_slurm(tmp_path):
  hostile = sweep.Job("x", ["echo", "two words", "it's", "$HOME"], tmp_path)
  text = sweep.sbatch([fake(tmp_path, "a"), hostile])
  assert "#SBATCH --array=0-1 --requeue" in text
  # Without a cluster: srun runs what it is given, scontrol notes it.
  for name, body in (
    ("srun", 'shift; exec "$@"'), ("scontrol", f'echo "$@" >>{tmp_path}/said'),
    ("sleep", ":"),
  ):  # fmt: skip
    (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
    (tmp_path / name).chmod(0o755)
  script = tmp_path / "script.sh"

  def task(number, text, **more):
    script.write_text(text)
    env = {
      "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/nowhere",
      "SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_JOB_ID": "7",
    }  # fmt: skip
    return subprocess.run(
      ["bash", script], env=env | more, capture_output=True, text=True
    )

  done = task(1, text)
  assert (done.returncode, done.stdout) == (0, "two words it's $HOME\n")
  assert not (tmp_path / "said").exists()
  saved = sweep.sbatch([fake(tmp_path, "a", code=3)])
  assert task(0, saved).returncode == 3
  assert (tmp_path / "said").read_text() == "requeue 7_0\n"
  assert task(0, saved, SLURM_RESTART_COUNT="20").returncode == 3
  failed = sweep.sbatch([fake(tmp_path, "a", code=2)])
  assert task(0, failed).returncode == 2
  assert (tmp_path / "said").read_text() == "requeue 7_0\n"
