"""The command line of sweeps, without a run of its own."""

import json
import os
import subprocess
import sys

import pytest
from helpers import fake_runs

from rsrc_jax import runs
from rsrc_jax.runtime import configs, places, procs, provenance
from rsrc_jax.sweep import cli, drive, files, plan, slurm, state, status

TINY = str(fake_runs.ROOT / "configs" / "tiny.py")
# ml_collections loads a config file in a way that Python is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
  """sweep(words) -> what is printed; runs are done at once, in `started`."""
  started = []

  def driven(of, executor, folder, how):
    for run in of:
      if state.done(run):
        continue
      started.append(run.name)
      values = provenance.settings(configs.from_flags(run.argv))
      files.write(run.workdir / "config.json", values)
      files.write(
        run.workdir / "summary.json", {"name": run.name, "seconds": 60}
      )
      lines = [
        {"phase": x, "split": "train", "step": 12, "steps_per_second": 2.0}
        for x in ("base", "code")
      ]
      text = "".join(json.dumps(x) + "\n" for x in lines)
      (run.workdir / "metrics.jsonl").write_text(text)
    return {run.name: state.of(run) for run in of}

  def call(*words):
    monkeypatch.setattr(sys, "argv", ["sweep", *words])
    cli.main()
    return capsys.readouterr().out

  monkeypatch.setattr(places, "home", lambda: tmp_path)
  monkeypatch.setattr(drive, "drive", driven)
  call.started = started
  return call


@pytest.fixture
def config(tmp_path):
  path = tmp_path / "two.py"
  path.write_text(
    "from rsrc_jax.runtime.configs import load\n"
    f"def get_config(): return load({TINY!r})\n"
    "def get_sweep():\n"
    "  yield {'name': 'a'}\n  yield {'name': 'b', 'steps': 3}\n"
  )
  return f"--config={path}"


def test_the_command_can_be_repeated_and_keeps_summaries(
  sweep, config, tmp_path
):
  command = ("run", config, "--seeds=0,1", "--into=claim")
  sweep(*command, "--variants=b")
  assert sweep.started == ["b-0", "b-1"]
  sweep(*command)
  assert sweep.started == ["b-0", "b-1", "a-0", "a-1"]
  said = sweep(*command[1:])  # without a word it is `run`
  assert said.splitlines()[-1] == "4 runs have ended, 0 of them now."
  results = tmp_path / "experiments" / "claim" / "results"
  assert json.loads((results / "b-1.json").read_text())["name"] == "b-1"
  folder = tmp_path / "runs" / "claim"
  assert runs.find(folder, "b-1").name.startswith("b-1-")
  with pytest.raises(ValueError, match=r"one ended run called c-1, .* none"):
    runs.find(folder, "c-1")
  # One run by its name; further seeds; other settings are another sweep.
  sweep(*command[:2], "--seeds=0,1,2", "--into=claim", "--variants=a-2")
  assert sweep.started[4:] == ["a-2"]
  with pytest.raises(SystemExit, match="has another sweep, whose a-0"):
    sweep(*command, "--", "--config.kl=0.5")
  with pytest.raises(SystemExit, match="--variants=c is none of a, b"):
    sweep(*command, "--variants=c")


def test_what_is_looked_at_is_found_by_folder_or_by_config(
  sweep, config, tmp_path
):
  with pytest.raises(SystemExit, match=r"has no plan\.json"):
    sweep("status", config)
  sweep("run", config)
  for words in ((config,), ("two",), (str(tmp_path / "runs" / "two"),)):
    assert "2 runs: 2 done. No driver" in sweep("status", *words)
  with pytest.raises(SystemExit, match="which sweep"):
    sweep("status")
  with pytest.raises(SystemExit, match=r"no run 'c-0', but a-0, b-0\."):
    sweep("logs", "two", "c-0")
  with pytest.raises(SystemExit, match="a-0 was not started"):
    sweep("logs", "two", "a-0")
  with pytest.raises(SystemExit, match="b-0 was not started"):
    sweep("logs", config, "b-0")
  assert "nothing to stop" in sweep("cancel", "two")
  assert "a-0: is done" in sweep("cancel", config, "a-0")
  said = sweep("collect", "two")
  assert "No scores" in said and (tmp_path / "runs/two/table.csv").is_file()


def test_a_plan_starts_nothing_and_partial_tables_are_asked_for(
  sweep, config, tmp_path
):
  for words in (("plan", config), ("run", "--plan", config)):
    said = sweep(*words, "--seeds=0,1")
    assert "4 runs, 0 done. Nothing was measured for 4" in said
  assert not (tmp_path / "runs").exists() and not sweep.started
  sweep("run", config, "--variants=a")
  with pytest.raises(SystemExit, match="1 runs are missing; --partial"):
    sweep("collect", "two")
  assert "Missing, 1 runs: b-0." in sweep("collect", "two", "--partial")


def test_a_plan_measures_one_short_run_of_each_shape(sweep, config, tmp_path):
  words = ("plan", config, "--seeds=0,1", "--measure")
  said = sweep(*words)
  # a and b differ in steps alone: one shape, of which one run is made.
  assert sweep.started == ["a-0"]
  [short] = (tmp_path / "runs" / "two" / "measured").iterdir()
  made = files.read(short / "config.json")
  assert made["steps"] == made["pretrain.steps"] == 12
  assert made["log_every"] == 4 and made["seed"] == 0
  # The minute that it took, then 488 and 1488 steps at two a second.
  rows = {}
  for line in filter(str.strip, said.splitlines()[1:]):
    rows.setdefault(line.split()[0], line.split())  # of its first part
  assert float(rows["a"][3]) == pytest.approx((60 + 1976 / 2) / 60, rel=1e-3)
  assert float(rows["b"][3]) == pytest.approx((60 + 479 / 2) / 60, rel=1e-3)
  assert "the rates of 1 finished run of 12 steps" in " ".join(said.split())
  sweep(*words)
  assert sweep.started == ["a-0"]  # it is known now


@pytest.mark.parametrize(
  "words, said",
  [
    (["run"], "give --config"),
    (["run", "--config=tiny", "--jobs=0"], "--jobs is at least 1"),
    (["run", "--config=tyni"], "the nearest are tiny"),
    (["status", "x", "--config.steps=3"], "unknown argument"),
  ],
)
def test_a_wrong_command_is_one_line(sweep, words, said):
  with pytest.raises(SystemExit, match=said) as error:
    sweep(*words)
  assert str(error.value).startswith("error: ")
  assert "\n" not in str(error.value)


def test_sizes_of_memory():
  assert cli._bytes("4G") == 4 << 30 and cli._bytes("0.5m") == 1 << 19
  assert cli._bytes("123") == 123


def test_a_status_has_the_last_line_at_once(tmp_path):
  of = fake_runs.made(tmp_path, 3)
  failed, running, _ = of.runs
  me = {"driver": {}, "wrapper": procs.me(), "started": 0.0}
  for run, record in (
    (failed, {"code": 1, "last": "KeyError: 'x'", "seconds": 3.2}),
    (running, {"log": str(running.workdir / "log")}),
  ):
    files.write(state.path(run, 1), {"number": 1, **me, **record})
  (running.workdir / "log").write_text("compiling\n\n")
  line = '{"phase": "code", "step": 7.0}\n'
  (running.workdir / "metrics.jsonl").write_text(line)
  head, first, second, last = status.table(tmp_path, of).splitlines()
  assert head.split()[:3] == ["run", "state", "attempts"]
  assert first.split() == ["r0-0", "failed", "1", "3", "KeyError:", "'x'"]
  assert second.split()[:3] == ["r1-0", "running", "1"]
  assert second.endswith("code 7  compiling")
  assert last == (
    "3 runs: 1 planned, 1 running, 1 failed. No driver: ./tools/sweep run "
    "goes on."
  )


def test_the_script_for_slurm(tmp_path):
  process = lambda *command: plan.Process("x", command, ())
  hostile = process("echo", "two words", "it's", "$HOME")
  text = slurm.sbatch([process("true"), hostile])
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
  saved = slurm.sbatch([process("bash", "-c", "exit 3")])
  assert task(0, saved).returncode == 3
  assert (tmp_path / "said").read_text() == "requeue 7_0\n"
  assert task(0, saved, SLURM_RESTART_COUNT="20").returncode == 3
  failed = slurm.sbatch([process("bash", "-c", "exit 2")])
  assert task(0, failed).returncode == 2
  assert (tmp_path / "said").read_text() == "requeue 7_0\n"
