"""Grids of the experiments: what they run, and what is stored of the runs."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import ROOT, SHRUNK, environment

from rsrc_jax.runtime import configs, provenance
from rsrc_jax.sweep import files, plan

EXPERIMENTS = ROOT / "experiments"
# ml_collections loads a config file in a way that Python is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


def planned(name, **how):
  return plan.plan(f"{EXPERIMENTS}/{name}", Path("runs"), **how).runs


def test_the_ablations_are_named_and_train_the_code_alone():
  runs = planned("cdv_tiny/sweep.py", seeds=(0, 1))
  names = [x.variant for x in runs[::2]]
  assert names == [
    "default", "unforced", "mean_only", "expert_iteration",
    "d_by_likelihood", "d_by_grpo", "lessons_4", "shaped", "shaping_alone",
  ]  # fmt: skip
  assert [x.changes.get("only") for x in runs[::2]] == [None, *["code"] * 8]


@pytest.mark.parametrize(
  "name, depth, loops, reinject",
  [("4x1", 4, 1, False), ("2x2", 2, 2, False), ("1x4", 1, 4, False),
   ("1x1", 1, 1, False), ("1x4_reinject", 1, 4, True)],
)  # fmt: skip
def test_policies_are_those_of_the_config(name, depth, loops, reinject):
  """Folders of runs that were made before are found: the ids are the same."""
  config = configs.load(ROOT / "configs" / "recursive_policy.py")
  config.model.update({"depth": depth, "loops": loops, "reinject": reinject})
  which = ":reinject" if reinject else ""
  runs = {x.name: x for x in planned(f"policy_recursion/sweep.py{which}")}
  assert runs[f"{name}-0"].id == provenance.identity(config)
  assert len(runs) == (1 if reinject else 4)


def test_a_tier_has_its_budgets_and_seeds():
  registered = json.loads(
    (EXPERIMENTS / "random_vocabulary" / "registration.json").read_text()
  )
  runs = planned("random_vocabulary/sweep.py:facts")
  budgets, seeds = registered["budgets"], registered["seeds"]
  assert [x.name for x in runs] == [
    f"facts-k{k}-{seed}" for k in budgets for seed in seeds
  ]
  # Seeds of a budget are one group, though their injected ids differ.
  assert len({x.group for x in runs}) == len(budgets)
  last = configs.from_flags(runs[-1].argv)
  base = configs.load(ROOT / "configs" / "random_vocabulary.py")
  assert (last.seed, last.budget) == (seeds[-1], budgets[-1])
  assert last.eval.budgets == (budgets[-1],)
  assert last.augment.seed == base.augment.seed + seeds[-1]
  assert "B4" not in last.only.split(",") and "F" in last.only.split(",")
  assert configs.from_flags(runs[len(seeds)].argv).only == ""  # three tokens


@pytest.mark.parametrize(
  "tier", ["append", "cold", "use", "text", "large", "smollm2", "facts-quick"]
)
def test_every_tier_can_be_planned(tier):
  runs = planned(f"random_vocabulary/sweep.py:{tier}")
  assert all(x.name.startswith(tier.removesuffix("-quick")) for x in runs)
  whole = tier.removesuffix("-quick")
  if whole != tier:
    long = {x.id for x in planned(f"random_vocabulary/sweep.py:{whole}")}
    assert not long & {x.id for x in runs}


def test_what_was_measured_is_stored_once(tmp_path, monkeypatch, capsys):
  from experiments.random_vocabulary import measure

  found = []
  run = type("Run", (), {"summary": {"seed": 3}})
  monkeypatch.setattr(measure.runs, "open", lambda workdir: run)
  monkeypatch.setattr(
    measure.measure_arms, "measure", lambda x: found.append(x) or {"a": 1}
  )
  for _ in range(2):
    measure.measured("use-k4-3", tmp_path, tmp_path / "results")
  assert found == [run] and "stored already" in capsys.readouterr().out
  read = lambda name: json.loads(
    gzip.decompress((tmp_path / "results" / f"{name}.json.gz").read_bytes())
  )
  assert read("use-k4-3") == {"a": 1} and read("use-k4-3-run") == {"seed": 3}


@pytest.mark.slow
@pytest.mark.processes
def test_a_policy_is_trained_and_its_loops_are_read(tmp_path):
  """A shrunk run gives all that the stored results have, in their form."""
  fields = {**SHRUNK, "only": "code", "steps": 4}
  flags = [f"--config.{k}={v}" for k, v in fields.items()
           if k != "model.depth"]  # fmt: skip
  script = str(EXPERIMENTS / "policy_recursion" / "measure.py")
  for command in (
    ["-m", "rsrc_jax.sweep", "run", f"--workdir={tmp_path}/sweep",
     f"--config={EXPERIMENTS}/policy_recursion/sweep.py", "--variants=1x4",
     *flags],
    [script, f"--sweeps={tmp_path}/sweep", f"--results={tmp_path}"],
  ):  # fmt: skip
    subprocess.run(
      [sys.executable, *command], check=True, env=environment(1), timeout=900
    )
  found = files.read(tmp_path / "1x4-0.json")
  stored = files.read(EXPERIMENTS / "policy_recursion/results/1x4-0.json")
  assert common(form(found), form(stored)) == form(stored)


def common(found, stored):
  """What `stored` has of `found`: today's runs measure more."""
  if not isinstance(found, dict) or not isinstance(stored, dict):
    return found
  return {k: common(v, stored[k]) for k, v in found.items() if k in stored}


def form(tree):
  """Keys of dicts, lengths of lists: what is measured once a seed is left."""
  if isinstance(tree, dict):
    free = ("trajectory", "made_with")
    return {k: form(v) for k, v in tree.items() if k not in free}
  return type(tree) in (int, float) or type(tree).__name__
