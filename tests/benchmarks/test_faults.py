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

from benchmarks import faults, faults_damage, faults_runs
from rsrc_jax.runtime import checkpoint, checksums


def test_damaged_checkpoints_are_never_read_wrong(tmp_path):
  trial = faults_damage.damage(tmp_path)
  found = [trial(random.Random(number)) for number in range(12)]
  assert {x["outcome"] for x in found} <= {"survived", "refused"}, found
  assert "the one before" in {x["note"] for x in found}


def test_a_judge_of_damage_sees_what_is_read_wrong(tmp_path, monkeypatch):
  """Digests that accept everything: orbax alone lets changed bits pass."""
  monkeypatch.setattr(checksums, "check", lambda *_: None)
  trial = faults_damage.damage(tmp_path)
  whole = tmp_path / "whole"
  shutil.rmtree(whole / "6" / "state")
  shutil.copytree(whole / "4" / "state", whole / "6" / "state")
  monkeypatch.setattr(faults_damage, "hurt", lambda *_: "")
  assert trial(random.Random(0))["outcome"] == "lost"


def ended(folder):
  """What a run leaves that `differences` reads."""
  saver = faults_damage.opened(folder / "checkpoints" / "code")
  for step in (4, 8):
    checkpoint.save(saver, faults_damage.state(step), {}, {"nll_bits": 1.0})
  checkpoint.close(saver)
  summary = {"seed": 0, "seconds": 3.0, "arms": [{"nll": 1.0, "joules": 2.0}]}
  (folder / "summary.json").write_text(json.dumps(summary))
  for name in ("metrics.jsonl", "samples.jsonl"):
    (folder / name).write_text('{"loss": NaN, "flops": 1}\n{"loss": 0.5}\n')
  (folder / "report.html").touch()


def test_differences_are_seen(tmp_path):
  whole, other = tmp_path / "whole", tmp_path / "other"
  ended(whole)
  shutil.copytree(whole, other)
  for name in ("summary.json", "metrics.jsonl"):  # costs may differ
    text = (other / name).read_text()
    text = text.replace('"seconds": 3', '"seconds": 4').replace(": 1}", ": 2}")
    (other / name).write_text(text)
  assert faults_runs.differences(other, whole) == []
  (other / "samples.jsonl").write_text('{"loss": NaN}\n{"loss": 0.75}\n')
  (other / "report.html").unlink()
  shutil.rmtree(other / "checkpoints" / "code" / "8")
  expected = ["no report", "samples.jsonl", "state of code"]
  assert faults_runs.differences(other, whole) == expected
  (other / "summary.json").unlink()
  assert faults_runs.differences(other, whole) == ["no summary"]


def test_bits_are_compared_and_not_values():
  nan = np.float32(np.nan)
  assert faults_runs.bytes_of(nan) == faults_runs.bytes_of(nan)
  assert faults_runs.bytes_of(np.float32(0)) != faults_runs.bytes_of(
    np.float32(-0.0)
  )


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
  trials = faults.read(faults.RESULTS)
  assert {x["part"] for x in trials} <= set(faults.PARTS)
  assert [x for x in trials if x["outcome"] == "lost"] == []
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
