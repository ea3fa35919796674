"""The reader's stage: when there is one, what it trains on, how it goes on."""

import contextlib
import json

import jax
import numpy as np
import pytest
from helpers.runs import Killed, Runs, assert_same_run, final_state, shrunk

from rsrc_jax import runs
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.build.setup import initial_params, make_setup, prepare
from rsrc_jax.data import sources
from rsrc_jax.rl import reader_battery
from rsrc_jax.runtime import run_dir, run_log, sharding
from rsrc_jax.stages import plan
from rsrc_jax.stages import reader as reader_stage
from rsrc_jax.stages.stage import UNTRAINED, arms_of, frozen_of
from rsrc_jax.train import keep, nothing_trained, open_meter
from rsrc_jax.training import lane
from rsrc_jax.training.lane import Shared

HEARD = {
  "verifier.reader": 0.5, "only": "code", "reader.steps": 6,
  "reader.batch_size": 8, "reader.share": 1.0,
}  # fmt: skip


def config(**changes):
  found = shrunk(**HEARD | changes)
  found.reader.optimizer.warmup = 2
  return found


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
  return make_setup(config(), tmp_path_factory.mktemp("cache"))


def names(setup, **changes):
  made = setup._replace(config=config(**changes))
  return [x.name for x in plan.make_stages(made)]


def test_it_is_trained_first_and_only_where_a_v_weighs_it(setup):
  assert names(setup) == ["reader", "base", "code"]
  nobody = {"verifier.reader": 0.0}
  assert names(setup, **nobody) == ["base", "code"]
  assert names(setup, only="lead") == ["base", "lead"]  # a rule has no V
  weighs = (("verifier.reader", 0.1),)
  one = nobody | {"arms.english_rl.overrides": weighs}
  assert names(setup, **one) == ["base", "code"]
  both = one | {"only": "code,english_rl"}
  assert names(setup, **both) == ["reader", "base", "code", "english_rl"]
  stages = plan.make_stages(setup._replace(config=config(**both)))
  assert [x.name for x in stages if x.hears] == ["english_rl"]
  assert [x.name for x in arms_of(stages)] == ["code", "english_rl"]
  assert stages[-1].charged == ("reader", "base", "english_rl")
  assert stages[-2].charged == ("base", "code")


def test_arms_that_are_not_run_have_the_same_data_too(tmp_path):
  """On text, where a share of the rows is held back, runs stay comparable."""
  text = tmp_path / "text.txt"
  lines = (f"The {x} book was sent to the {y} town." for x in range(30)
           for y in "abcdefgh")  # fmt: skip
  text.write_text("\n\n".join(lines))
  own = {
    "data": {"source": "text", "path": str(text), "vocab_size": 310,
             "max_tokens": 24, "min_tokens": 2, "heldout": 0.2},
    "reader.share": 0.5,
  }  # fmt: skip

  def made(**changes):
    found = config(**{k: v for k, v in own.items() if k != "data"} | changes)
    found.data = own["data"]
    return make_setup(found, tmp_path / "cache")

  whole = made(**{"verifier.reader": 0.0})
  heard, other = made(), made(only="lead")
  assert whole.reader is None
  assert heard.corpus.digest == other.corpus.digest != whole.corpus.digest
  rows = lambda *splits: sorted(
    x[m].tobytes() for s in splits for x, m in zip(s.ids, s.mask, strict=True)
  )
  own_rows = rows(*heard.reader)
  assert sorted(own_rows + rows(heard.corpus.train)) == rows(whole.corpus.train)
  assert rows(heard.corpus.test) == rows(whole.corpus.test)


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"reader.steps": 0}, "config.reader.steps=0 must be at least 1: config"),
    ({"reader.least": 0.01}, "config.reader.least=0.01 must be above config.r"),
    ({"reader.batch_size": 1}, "config.reader.batch_size=1 must be a whole"),
    (
      {"verifier.reader": 0.0, "reader.steps": 0,
       "arms.code.overrides": (("verifier.reader", 0.5),)},
      "config.arms.code.overrides: config.reader.steps=0",
    ),
  ],
)  # fmt: skip
def test_settings_without_a_reader_are_refused_before_any_data(changes, said):
  with pytest.raises(ValueError) as error:
    prepare(config(**changes))
  assert said in str(error.value) and "\n" not in str(error.value)


def test_a_config_without_its_block_and_an_arm_with_its_name(setup):
  found = config()
  del found.reader
  with pytest.raises(ValueError, match=r"config\.reader=.* must be a block"):
    prepare(found)
  found = config(only="reader")
  found.arms.reader = found.arms.code
  with pytest.raises(ValueError, match=r"config\.arms\.reader: a run has"):
    plan.make_stages(setup._replace(config=found))
  with pytest.raises(ValueError, match="make it again with make_setup"):
    plan.make_stages(setup._replace(reader=None))


@contextlib.contextmanager
def opened(setup, workdir):
  with run_dir.open_run(setup.config, workdir, stop=lambda: False) as run:
    run = run._replace(log=run_log.Log(workdir, quiet=True))
    ledger = Ledger(workdir / "ledger.jsonl", open_meter())
    yield Shared(setup, None, ledger, run)
    ledger.close()


def trained(setup, stage, untrained, workdir, until):
  """The lane of the stage at a step, saved there."""
  with opened(setup, workdir) as shared:
    frozen = frozen_of(stage, {UNTRAINED: untrained})
    now = lane.open_lane(shared, stage, untrained, frozen, "reader")
    lane.begin(now)
    counts = lane.compile_step(now)
    while now.step < until:
      now = lane.advance(now, min(lane.boundary(now), until), counts)
      now = lane.settle(now, stopping=now.step == until)
    lane.close(now)
    return now


def test_it_learns_its_own_sentences_goes_on_bitwise_and_is_charged(
  setup, tmp_path
):
  stage, untrained = reader_stage.make(setup), initial_params(setup)
  begun = stage.init(untrained)
  for a, b in zip(
    *map(jax.tree.leaves, (untrained, begun.params)), strict=True
  ):
    a, b = np.asarray(a), np.asarray(b)
    assert (a == a.ravel()[0]).all() or not (a == b).any()
  whole = trained(setup, stage, untrained, tmp_path / "whole", 6)
  seen = {x.tobytes() for x in setup.reader.train.ids}
  assert {x.tobytes() for x in next(whole.stream).source.ids} <= seen
  assert not seen & {x.tobytes() for x in setup.corpus.train.ids}
  for until in (2, 6):
    trained(setup, stage, untrained, tmp_path / "again", until)
  a, b = (final_state(tmp_path / x, "reader") for x in ("whole", "again"))
  jax.tree.map(np.testing.assert_array_equal, a, b)

  # Six steps are too few: the run ends here, before the base.
  found = nothing_trained(untrained)
  with opened(setup, tmp_path / "whole") as shared:
    charged = stage._replace(verdict=lambda p: stage.verdict(lambda s, f: f, p))
    with pytest.raises(ValueError, match="not above its floor") as error:
      keep(shared, found, charged, whole.state, whole.frozen)
  stored = json.loads((tmp_path / "whole" / "reader.json").read_text())
  assert stored["said"] == str(error.value) and not stored["accepted"]
  assert set(stored["attacks"]) == {*reader_battery.SAYS}
  assert stored["attacks"]["empty"] == pytest.approx(0, abs=1e-6)
  lines = (tmp_path / "whole" / "ledger.jsonl").read_text().splitlines()
  steps = [
    x for x in map(json.loads, lines)
    if x["kind"] == "phase" and x["phase"] == "step"
  ]  # fmt: skip
  assert {x["arm"] for x in steps} == {"reader"}
  assert sum(x["steps"] for x in steps) == 6
  assert sum(x["flops"]["update"] for x in steps) > 6e6


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
  """Runs whose reader is accepted, whatever its six steps have taught it."""
  found = Runs.of(config(), tmp_path_factory.mktemp("runs"))
  first, *rest = found.stages

  def accept(charge, params):
    return first.verdict(charge, params) | {"accepted": True}

  found.stages = [first._replace(verdict=accept), *rest]
  return found


@pytest.mark.slow
def test_a_whole_run_hears_it_and_never_changes_it(whole_runs, tmp_path):
  whole = whole_runs.whole
  summary = json.loads((whole / "summary.json").read_text())
  assert summary["reader"]["steps"] == 6 and summary["reader"]["accepted"]
  phases = summary["ledger"]["phases"]
  assert phases["reader"]["update"]["flops"] > 0
  assert phases["reader"]["evaluation"]["flops"] > 0
  spent = sum(
    x["flops"] for name in ("reader", "base", "code")
    for phase, x in phases[name].items() if phase not in ("test", "service")
  )  # fmt: skip
  flops = summary["rsrc"]["arms"]["code"]["training_flops"]
  assert flops == pytest.approx(spent, rel=1e-6)
  assert "reader" not in summary["heldout"]["arms"]
  # What the arm hears is what the stage has saved, and steps leave its bits.
  run = runs.open(whole)
  frozen = run.frozen("code")
  saved = jax.tree.map(np.array, run.params("reader"))
  code = whole_runs.stages[-1]
  state = code.init(run.base)
  batch = sources.batch(run.setup.corpus.train, 0, code.batch_size)
  for _ in range(2):
    batch = sharding.rows(run.setup.mesh, batch)
    controls = code.controls(state, frozen, batch)
    state, metrics = code.step(state, frozen, batch, controls)
  assert metrics["gradient_norm"] > 0
  jax.tree.map(np.testing.assert_array_equal, saved, frozen["reader"])
  # Killed while it is trained, and in the arm that hears it.
  for kill in (2, 9):
    with pytest.raises(Killed):
      whole_runs.run(tmp_path / "again", kill=kill)
  whole_runs.run(tmp_path / "again")
  assert_same_run(whole, tmp_path / "again", ("reader", "base", "code"))
