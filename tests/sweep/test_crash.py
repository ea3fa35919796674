"""A sweep of real runs that is killed, against one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers.fake_runs import ROOT, wait_for

from rsrc_jax.sweep import collect, files, machine, state, stored

CONFIG = """
from rsrc_jax.runtime.configs import load
from rsrc_jax.sweep.grid import product, seeds

def get_config():
  config = load({trm!r})
  config.only = "final_target"
  config.data.update({{"side": 4, "train": 12, "heldout": 4}})
  config.model.update({{"width": 16, "hidden": 16, "cell_hidden": 16}})
  config.batch_size, config.log_every = 8, 2
  config.eval.update({{
    "every": 4, "rows": 4, "batch_size": 4, "causal_rows": 3, "samples": 1
  }})
  config.checkpoint.every = 4
  config.arms.final_target.steps = 8
  config.arms.final_target.supersteps = 3
  return config

def get_sweep():
  return product({{"explore": (0.1, 0.2)}}, seeds(6))
"""


def command(config, folder):
  return [
    sys.executable, "-m", "rsrc_jax.sweep", "run", f"--config={config}",
    f"--workdir={folder}", "--jobs=2", "--grace=60",
  ]  # fmt: skip


def plain(tree):
  """A summary without what it took, and on what."""
  if isinstance(tree, dict):
    gone = ("seconds", "joules", "attempts", "ledger", "made_with", "revision")
    return {k: plain(v) for k, v in tree.items() if k not in gone}
  return [plain(x) for x in tree] if isinstance(tree, list) else tree


def table(folder):
  """Its rows and groups, and the whole summaries behind them."""
  of = stored.load(folder)
  found = collect.collect(of, "arms.*.*,seed")
  read = lambda run: json.loads((run.workdir / "summary.json").read_text())
  summaries = [plain(read(run)) for run in of.runs]
  return plain([found.rows, found.groups, found.missing, summaries])


def ends(of):
  """The exit code of every attempt, by run; None where it has none."""
  codes = lambda run: [x.get("code") for x in state.attempts(run)]
  return {run.name: codes(run) for run in of.runs}


def processes(of):
  """All that live of the sessions around the runs."""
  return [
    pid
    for run in of.runs
    for record in state.attempts(run)
    if "wrapper" in record
    for pid in machine.session(record["wrapper"]["pid"])
  ]


def kill_a_run(of, rng, killed, *, training):
  """Kills -9 a running run that wasn't killed yet, at some moment of it.

  training: not before it has made steps.
  """

  def candidates():
    found = {run.name: (run, state.of(run)) for run in of.runs}
    return [
      (name, run, x.attempt["wrapper"]["pid"])
      for name, (run, x) in found.items()
      if x.word == "running" and "wrapper" in x.attempt
      and name not in killed and (files.step(run.workdir) or not training)
    ]  # fmt: skip

  while True:
    name, run, around = wait_for(candidates, 300)[0]
    time.sleep(rng.uniform(0, 1 if training else 10))
    inside = [x for x in machine.session(around) if x != around]
    if inside and state.of(run).word == "running":
      os.kill(inside[0], signal.SIGKILL)
      return name


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:the load_module")
def test_a_killed_sweep_gives_the_table_of_one_left_alone(tmp_path):
  config, whole, cut = (tmp_path / x for x in ("mini.py", "whole", "cut"))
  config.write_text(CONFIG.format(trm=str(ROOT / "configs" / "trm.py")))
  rng = random.Random(7)
  subprocess.run(command(config, whole), check=True, timeout=900)
  driver = subprocess.Popen(command(config, cut))
  wait_for((cut / "plan.json").is_file)
  of, killed = stored.load(cut), []
  for training in (True, False):
    killed.append(kill_a_run(of, rng, killed, training=training))
  wait_for(lambda: len(collect.finished(of)) >= 4, 300)
  time.sleep(rng.uniform(0, 6))
  driver.kill()
  driver.wait()
  wait_for(lambda: not processes(of), 120)
  before, done = ends(of), {x.name for x in collect.finished(of)}
  assert len(done) < 12
  subprocess.run(command(config, cut), check=True, timeout=900)

  assert table(cut) == table(whole)
  after = ends(of)
  # A run can be done, and be told to stop while it draws its report.
  for name, codes in after.items():
    assert codes[-1] == 0 or name in done, (name, codes)
    assert 0 not in codes[:-1], (name, codes)
  # Nothing finished was started again, and each death cost one attempt.
  assert {x: after[x] for x in done} == {x: before[x] for x in done}
  assert all(137 in after[name] for name in killed)
  assert sum(map(len, after.values())) <= 12 + 2 + 2
  assert ends(stored.load(whole)) == {name: [0] for name in after}
  assert not processes(of)
