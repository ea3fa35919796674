"""benchmarks/faults.py: a few trials of every part, and its table."""

import argparse
import json
import random
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers.runs import Killed, assert_same_run

from benchmarks import faults, faults_inside
from rsrc_jax.runtime import run_log
from rsrc_jax.training import lane


def test_damaged_checkpoints_are_never_read_wrong(tmp_path):
  trial = faults_inside.damage(tmp_path)
  found = [trial(random.Random(number)) for number in range(12)]
  assert {x["outcome"] for x in found} <= {"survived", "refused"}, found
  assert "the one before" in {x["note"] for x in found}


def test_a_judge_of_damage_sees_what_is_read_wrong(tmp_path, monkeypatch):
  """Digests that accept everything: orbax alone lets changed bits pass."""
  monkeypatch.setattr(
    faults_inside.checkpoint.digests, "check", lambda *_: None
  )
  trial = faults_inside.damage(tmp_path)
  whole = tmp_path / "whole"
  shutil.rmtree(whole / "6" / "state")
  shutil.copytree(whole / "4" / "state", whole / "6" / "state")
  monkeypatch.setattr(faults_inside, "hurt", lambda *_: "")
  assert trial(random.Random(0))["outcome"] == "lost"


@pytest.mark.parametrize("of", ["loss", "parameters"])
def test_nan_is_never_saved(tiny_runs, tmp_path, monkeypatch, of):
  """Between two lines of the log, after a step with a checkpoint."""
  advance = faults_inside.poisoned("code", 4, of)
  monkeypatch.setattr(lane, "advance", advance)
  at = {"loss": "the loss is nan at step 4", "parameters": "after step 4"}[of]
  with pytest.raises(FloatingPointError, match=at) as error:
    tiny_runs.run(tmp_path, log_every=6)
  assert "code (3/3)" in str(error.value) and "\n" not in str(error.value)
  assert not any(
    x.name.isdigit() for x in (tmp_path / "checkpoints/code").iterdir()
  )
  assert faults_inside.not_finite(tmp_path) == []
  assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
  monkeypatch.undo()
  tiny_runs.run(tmp_path)
  # It had logged other windows than the run that was left alone.
  found = faults.differences(tmp_path, tiny_runs.whole)
  assert found == ["no report", "metrics.jsonl"]


def test_a_clock_that_jumps_back_changes_no_number(
  tiny_runs, tmp_path, monkeypatch
):
  """While it runs, and while it is down."""
  real = faults_inside.REAL_TIME
  with pytest.raises(Killed):
    tiny_runs.run(tmp_path, kill=3)
  monkeypatch.setattr("time.time", lambda: real() - 3600)
  with pytest.raises(Killed):
    tiny_runs.run(tmp_path, kill=3)
  monkeypatch.setattr("time.time", lambda: real() - 7200)
  tiny_runs.run(tmp_path)
  monkeypatch.undo()
  assert_same_run(tmp_path, tiny_runs.whole)
  assert faults_inside.negative(tmp_path) == []
  lines = run_log.read_jsonl(tmp_path / "ledger.jsonl")
  lost = [x["at_most_seconds"] for x in lines if x["kind"] == "lost"]
  assert lost == [0.0, 0.0]


def test_differences_are_seen(tiny_runs, tmp_path):
  whole = tiny_runs.whole
  for name in ("checkpoints", "metrics.jsonl", "samples.jsonl"):
    copy = shutil.copytree if (whole / name).is_dir() else shutil.copy
    copy(whole / name, tmp_path / name)
  assert faults.differences(tmp_path, whole) == ["no summary"]
  summary = json.loads((whole / "summary.json").read_text())
  (tmp_path / "summary.json").write_text(json.dumps(summary | {"seconds": 0}))
  (tmp_path / "report.html").touch()
  assert faults.differences(tmp_path, whole) == []
  (tmp_path / "summary.json").write_text(json.dumps(summary | {"params": 0}))
  folder = tmp_path / "checkpoints" / "code"
  newest = max(folder.iterdir(), key=lambda x: int(x.name))
  shutil.rmtree(newest)
  found = faults.differences(tmp_path, whole)
  assert found == ["summary.json", "state of code"]


def test_bits_are_compared_and_not_values():
  nan = np.float32(np.nan)
  assert faults.bytes_of(nan) == faults.bytes_of(nan)
  assert faults.bytes_of(np.float32(0)) != faults.bytes_of(np.float32(-0.0))


def test_the_table_counts_trials(tmp_path):
  kill = {
    "part": "kill", "form": "default", "life": 0, "seconds": 2.0,
    "restart": 5.0, "moment": "report",
  }  # fmt: skip
  trials = [
    kill | {"outcome": "survived"},
    kill | {"outcome": "lost", "seconds": 4.0},
    {"part": "nan", "form": "x", "outcome": "refused", "seconds": 1.0,
     "note": "kept"},
  ]  # fmt: skip
  path = tmp_path / "results"
  path.write_text("".join(json.dumps(x) + "\n" for x in trials) + '{"cut')
  assert faults.read(path) == trials
  text = faults.table(faults.read(path), argparse.Namespace(seed=0))
  assert "| kill | default | 2 | 1 | 0 | 1 | 3.00 |" in text
  assert "| nan | x | 1 | 0 | 1 | 0 | 1.00 |" in text
  assert "fell on 1 lives" in text and "report (2)" in text
  assert jax.__version__ in text


def test_the_stored_campaign_lost_nothing():
  """The files beside it are those of a whole campaign."""
  trials = faults.read(faults.RESULTS)
  for part, wanted in faults.PARTS.items():
    mine = [x for x in trials if x["part"] == part]
    assert len(mine) >= wanted, part
    assert [x for x in mine if x["outcome"] == "lost"] == []
  (seed,) = {x["seed"] for x in trials}
  told = lambda text: [x for x in text.splitlines() if "Python" not in x]
  table = faults.table(trials, argparse.Namespace(seed=seed))
  assert told(faults.TABLE.read_text()) == told(table)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("part, trials", [
  ("kill", 10), ("damage", 50), ("disk", 5), ("clock", 4), ("nan", 4),
])  # fmt: skip
def test_a_small_campaign_loses_nothing(tmp_path, part, trials):
  if part == "disk" and subprocess.run(["unshare", "-rm", "true"]).returncode:
    pytest.skip("no mount namespace here")
  results = tmp_path / "results.jsonl"
  subprocess.run(
    [sys.executable, faults.HERE / "faults.py", f"--parts={part}", "--seed=1",
     f"--trials={trials}", f"--results={results}"],
    check=True, timeout=900,
  )  # fmt: skip
  found = faults.read(results)
  assert len(found) == trials
  assert [x for x in found if x["outcome"] == "lost"] == []
