"""Tables of results and of costs, from what finished runs have left."""

import csv
import json
import math
import shutil

import pytest
from helpers import fake_runs

from rsrc_jax.metrics import statistics
from rsrc_jax.runtime import inputs, provenance
from rsrc_jax.sweep import collect, cost, files, grid, plan, state

# ml_collections loads a config file in a way that Python is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


def end(of, run, score, *, git="abc+", seconds=10.0, cores=(0,), metrics=()):
  """Writes what a finished run leaves."""
  config = of.settings | run.changes
  summary = {
    "seed": run.seed, "seconds": seconds, "made_with": {"git": git},
    "report": {"headline": "code"},
    "heldout": {"arms": {"code": {"bits_conveyed": score, "nll_bits": None},
                         "sft": {"bits_conveyed": -score, "good": True}}},
    "ledger": {"phases": {"code": {"C": {"joules": {"median": 2.0}},
                                   "D": {"joules": {"median": 3.0}}}}},
  }  # fmt: skip
  files.write(run.workdir / "config.json", config)
  files.write(run.workdir / "summary.json", summary)
  attempt = {"number": 1, "code": 0, "cores": cores, "driver": {}}
  files.write(state.path(run, 1), attempt)
  lines = [json.dumps({"split": "train", **x}) for x in metrics]
  (run.workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def of(tmp_path):
  """Two variants with three seeds; of the second one run is not done."""
  runs = grid.product(
    [{"name": "a"}, {"name": "b", "rate": 0.25}], grid.seeds(3)
  )
  found = fake_runs.made(tmp_path, variants=runs)
  for run, score in zip(found.runs[:5], (1.0, 2.0, 6.0, 4.0, 8.0), strict=True):
    end(found, run, score)
  return found


def test_rows_are_in_the_order_of_the_plan(of, tmp_path):
  found = collect.collect(of)
  assert [x["run"] for x in found.rows] == ["a-0", "a-1", "a-2", "b-0", "b-1"]
  assert found.rows[3] == {
    "run": "b-0", "variant": "b", "seed": 0, "id": of.runs[3].id, "rate": 0.25,
    "bits_conveyed": 4.0, "seconds": 10.0, "joules": 5.0, "attempts": 1,
    "revision": "abc+",
  }  # fmt: skip
  assert found.rows[0]["rate"] == 0.5  # the config's own
  assert found.missing == ["b-2"] and found.revisions == ["abc+"]
  # 1, 2, 6: mean 3; the interval is that of the statistics page.
  a, b = found.groups
  mean, half = statistics.seed_interval([1.0, 2.0, 6.0])
  assert (a["variant"], a["seeds"]) == ("a", 3)
  assert (a["bits_conveyed"], a["bits_conveyed +-"]) == (mean, half)
  assert (b["seeds"], b["bits_conveyed"]) == (2, 6.0)
  # t of one degree of freedom, 12.706, times 4 / 2.
  assert b["bits_conveyed +-"] == pytest.approx(12.706 * 2, rel=1e-4)


def test_collecting_twice_gives_the_same_bytes(of, tmp_path):
  names = ("table.csv", "table.json", "groups.csv")

  def written():
    collect.write(tmp_path, collect.collect(of))
    return [(tmp_path / name).read_bytes() for name in names]

  first = written()
  assert written() == first
  rows = list(csv.DictReader(first[0].decode().splitlines()))
  assert [float(x["bits_conveyed"]) for x in rows] == [1, 2, 6, 4, 8]
  assert json.loads(first[1])["missing"] == ["b-2"]


def test_scores_are_chosen_by_pattern_and_numbers_alone_count(of):
  found = collect.collect(of, "heldout.arms.*.bits*,heldout.arms.sft.good,seed")
  assert found.scores == [
    "heldout.arms.code.bits_conveyed", "heldout.arms.sft.bits_conveyed", "seed"
  ]  # fmt: skip
  path = of.runs[0].workdir / "summary.json"
  summary = files.read(path)
  summary["heldout"]["arms"]["code"]["bits_conveyed"] = math.nan
  path.write_text(json.dumps(summary))
  found = collect.collect(of)
  assert "bits_conveyed" not in found.rows[0]
  assert found.groups[0]["bits_conveyed"] == 4.0
  assert collect.collect(of, "none.such").scores == []


def test_mixed_revisions_and_missing_runs_are_said(of):
  end(of, of.runs[1], 2.0, git="def")
  end(of, of.runs[2], 2.0, git=None)
  text = collect.shown(collect.collect(of))
  assert "Mixed revisions: None, abc+, def." in text
  assert "Missing, 1 runs: b-2." in text
  row = next(x for x in text.splitlines() if x.startswith("a-0"))
  assert row.split() == ["a-0", "0.5", "1", "10", "5", "1", "abc+"]


def costs(of, folder):
  found = cost.of(of, [folder])
  return [found[x.id] for x in of.runs]


def test_a_cost_is_that_of_finished_runs_of_any_seed(of, tmp_path):
  end(of, of.runs[0], 1.0, seconds=40.0)
  a, *_, b = costs(of, tmp_path)
  # 40, 10 and 10 seconds; the run that isn't done has two of another seed.
  assert (a.seconds, a.cores, a.basis[:15]) == (10.0, 1, "3 finished runs")
  assert (b.seconds, b.basis[:15]) == (10.0, "2 finished runs")
  text = cost.table(of, cost.of(of, [tmp_path]), {x.id for x in of.runs[:5]}, 2)
  row = next(x for x in text.splitlines() if x.startswith("b "))
  # One run is left: ten seconds on one core.
  assert row.split()[:5] == ["b", "3", "2", "0.1667", f"{10 / 3600:.4g}"]
  assert "6 runs, 5 done. 1 of the 1 left take 0.00278 core-hours" in text
  shutil.rmtree(of.runs[0].workdir.parent)
  assert costs(of, tmp_path) == [None] * 6
  text = cost.table(of, cost.of(of, [tmp_path]), set(), 2)
  assert "not measured" in text and "Nothing was measured for 6" in text


STEPPED = """
import ml_collections
def get_config():
  return ml_collections.ConfigDict(
    {"seed": 0, "steps": 100, "log_every": 5, "width": 4,
     "pretrain": {"steps": 50, "warmup_from": 20},
     "arms": {"code": {"kind": ""}, "other": {"steps": 30}}})
"""


def test_steps_of_a_run_of_the_same_shape_are_scaled(tmp_path):
  config = tmp_path / "stepped.py"
  config.write_text(STEPPED)
  made = lambda **of: plan.plan(config, tmp_path / "runs", variants=[of])
  want = made()
  short = cost.short(want, want.runs[0])
  # 20 of 50 steps are 5 of 12.
  assert short == {
    "steps": 12, "pretrain.steps": 12, "pretrain.warmup_from": 5,
    "arms.other.steps": 12, "log_every": 4,
  }  # fmt: skip
  had = made(**short)
  assert cost.key(had.settings | had.runs[0].changes, shape=True) == cost.key(
    want.settings, shape=True
  )
  [run] = had.runs
  rates = {"base": 2.0, "code": 4.0, "other": 6.0}
  line = lambda name, step: {
    "phase": name, "step": step, "steps_per_second": rates[name] * step / 12
  }  # fmt: skip
  end(had, run, 1.0, seconds=100.0, cores=(0, 1), metrics=[
    line(name, step) for name in rates for step in (4, 12)
  ])  # fmt: skip
  [found] = costs(want, tmp_path)
  # The last rates count: 38 steps at 2, 88 at 4 and 18 at 6 a second.
  assert found.seconds == pytest.approx(100 + 38 / 2 + 88 / 4 + 18 / 6)
  assert found.cores == 2 and "12 steps" in found.basis
  other = made(width=8)
  assert costs(other, tmp_path) == [None]
  assert cost.unmeasured(other, cost.of(other, [tmp_path])) == other.runs


def began_with(run, **digests):
  files.write(run.workdir / "inputs.json", digests)


def test_runs_on_different_files_are_not_one_table(of):
  """A text that was edited between two runs of one sweep."""
  name = "config.data.path/x.txt"
  for run in of.runs[:5]:
    began_with(run, **{name: "a" * 64, "corpus": run.id})  # seeds split it
  found = collect.collect(of)
  assert found.mixed == [] and "Mixed files" not in collect.shown(found)
  began_with(of.runs[1], **{name: "b" * 64})
  found = collect.collect(of)
  assert found.mixed == ["config.data.path"]
  assert "Mixed files: config.data.path; see inp" in collect.shown(found)
  began_with(of.runs[1], **{name: "a" * 64, "config.data.path/y.txt": "b"})
  assert collect.collect(of).mixed == ["config.data.path"]


def test_a_sweep_does_not_go_on_with_other_files(of, tmp_path):
  run, other = of.runs[:2]
  (tmp_path / "text.txt").write_text("a")
  for one in (run, other):
    stored = of.settings | one.changes
    stored |= {"data": {"source": "text", "path": str(tmp_path / "text.txt")}}
    began_with(one, **inputs.of_settings(stored), corpus=one.id)
    files.write(one.workdir / "config.json", stored)
  named = lambda x: x._replace(id=provenance.stored_identity(x.workdir))
  both = [named(run), named(other)]
  state.check_inputs([*both, *of.runs[2:]])
  (tmp_path / "text.txt").write_text("b")
  with pytest.raises(
    ValueError, match=r"another config\.data\.path .digest"
  ) as e:
    state.check_inputs(both)
  assert "to go on with this sweep, or give another --workdir." in str(e.value)
  assert "\n" not in str(e.value)
