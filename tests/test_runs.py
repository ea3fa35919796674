"""runs.py: what an ended run gives back, and what it says where it can't."""

import json

import jax
import numpy as np
import pytest
from helpers.runs import ROOT, ended, shrunk

from rsrc_jax import runs
from rsrc_jax.build import texts
from rsrc_jax.build.setup import make_setup
from rsrc_jax.runtime import old_configs, provenance
from rsrc_jax.runtime.configs import load
from rsrc_jax.stages import plan


@pytest.fixture(scope="module")
def there(tmp_path_factory):
  """-> the folder of a run of two arms, and what its base began with."""
  workdir = tmp_path_factory.mktemp("run")
  return workdir, ended(workdir, shrunk())


def assert_moved(params, untrained, by):
  moved = jax.tree.map(lambda x: x + by, untrained)
  jax.tree.map(np.testing.assert_array_equal, params, moved)


def in_one_line(call, message, *parts):
  with pytest.raises(ValueError, match=message) as error:
    call(*parts)
  assert "\n" not in str(error.value)


def test_every_stage_s_parameters_come_back(there):
  workdir, untrained = there
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
  run = runs.open(workdir)
  assert list(run.stages) == ["base", "english_rl", "code"]
  assert run.config.eval.budgets == (1, 2, 3) and run.config.only
  assert_moved(run.untrained, untrained, 0)
  for name, by in (("base", 2), ("english_rl", 4), ("code", 6)):
    assert_moved(run.params(name), untrained, by)
    assert_moved(run.merged(name), untrained, by)
  assert_moved(run.params("code", best=True), untrained, 3)
  assert int(run.state("code", best=True).step) == 4
  assert run.carry("code") == ()
  frozen = run.frozen("code")
  assert set(frozen) == {"base", "reader"}
  assert_moved(frozen["base"], untrained, 2)
  assert frozen["reader"] == {}  # no arm's V weighs one
  assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


def test_codes_of_an_arm_and_what_its_d_reads(there):
  """Five rows of one device and of a mesh of four, which they don't divide."""
  workdir, _ = there
  run = runs.open(workdir)
  batch = texts.batch_of(run.setup, "test", 5)
  codes = run.codes("code", batch)
  d = run.read("code", codes)
  assert codes.ids.shape == (5, 3) and d.ids.shape == (5, 13)
  wanted = run.stages["code"].write(
    run.params("code"), run.frozen("code"), batch, jax.random.key(0)
  )
  np.testing.assert_array_equal(codes.ids, wanted.ids)
  scores = run.scores("code", batch, codes)
  right = (d.ids[:, :12] == batch.source.ids) & d.mask[:, :12]
  np.testing.assert_allclose(scores["token_accuracy"], right.mean(-1))
  assert scores["nll_bits"].shape == (5,) and (scores["nll_bits"] > 0).all()
  config = runs.read_config(workdir)
  config.mesh.data = 4
  wide = runs.open(workdir, config)
  np.testing.assert_array_equal(wide.codes("code", batch).ids, codes.ids)
  np.testing.assert_array_equal(wide.read("code", codes).ids, d.ids)
  in_one_line(
    run.codes, "base writes no codes, but english_rl, code.", "base", batch
  )


def test_what_is_not_there_is_said_in_one_line(there, tmp_path):
  workdir, _ = there
  in_one_line(runs.open, "holds no run: it has no config.json", tmp_path)
  run = runs.open(workdir)
  for ask in (run.params, run.merged, run.carry, run.frozen):
    in_one_line(ask, "no arm 'cod', but base, english_rl, code", "cod")
  best = lambda: run.params("base", best=True)
  in_one_line(best, "no checkpoint of base has a validation nll_bits")
  ended(tmp_path, shrunk(only="code"), steps=4)
  half = runs.open(tmp_path)
  in_one_line(half.params, "code is at step 4 of 8; run its config", "code")
  assert int(half.state("code", best=True).step) == 4
  (tmp_path / "checkpoints" / "code").rename(tmp_path / "elsewhere")
  in_one_line(half.params, "code is at step 0 of 8", "code")
  trm = load(ROOT / "configs" / "trm.py")
  provenance.record(trm, tmp_path)
  in_one_line(runs.open, "a run of config.loop=", tmp_path)


def test_a_run_begins_with_another_s_arm(there, tmp_path):
  workdir, untrained = there
  begin = lambda **changes: runs.initial_params(
    make_setup(shrunk(**changes), tmp_path)
  )
  assert_moved(begin(init=f"{workdir}:code", seed=1), untrained, 6)
  assert_moved(begin(init=f"{workdir}:base"), untrained, 2)
  assert_moved(begin(), untrained, 0)
  for init, message in (
    ("code", "give RUN:ARM"),
    (":code", "give RUN:ARM"),
    (f"{tmp_path}:code", "holds no run"),
    (f"{workdir}:cod", "no arm 'cod'"),
  ):
    in_one_line(lambda init=init: begin(init=init), message)
  here = {"init": f"{workdir}:code"}
  in_one_line(
    lambda: begin(**here, **{"model.width": 32}),
    r"is \(1, 16\) there and \(1, 32\) here",
  )
  other = make_setup(shrunk(**here), tmp_path)
  renamed = other.corpus.vocab._replace(pieces=lambda ids: list(map(str, ids)))
  other = other._replace(corpus=other.corpus._replace(vocab=renamed))
  in_one_line(runs.initial_params, "id 0 is .* there and '0' here", other)


def old(workdir):
  """Makes the stored config that of a revision before settings went."""
  path = workdir / "config.json"
  stored = json.loads(path.read_text())
  for name in old_configs.ADDED:
    stored.pop(name, None)
  stored |= {"rarity_bonus": {"C": 0.0, "D": 0.0}, "subsets": 1}
  stored["verifier"] |= {"gain": stored.pop("shaping")["gain"], "ratio": 0.0}
  stored["patterns"]["cdv"]["gate"] = None
  path.write_text(json.dumps(stored))
  return stored


def test_a_run_of_an_older_revision_opens_and_goes_on(tmp_path):
  untrained = ended(tmp_path, shrunk(only="code"))
  stored = old(tmp_path)
  run = runs.open(tmp_path)
  assert_moved(run.params("code"), untrained, 4)
  assert "rarity_bonus" not in run.config and run.config.init == ""
  provenance.check(shrunk(only="code"), tmp_path)
  stored["rarity_bonus"]["D"] = 0.5
  (tmp_path / "config.json").write_text(json.dumps(stored))
  message = r"rarity_bonus.D=0.5, a setting that was removed"
  in_one_line(runs.open, message, tmp_path)
  in_one_line(provenance.check, message, shrunk(only="code"), tmp_path)


def test_arms_of_an_altered_config_are_made(there):
  """Rules write codes for the trained ones to be held against."""
  workdir, _ = there
  config = runs.read_config(workdir)
  config.arms.tfidf = {
    "pattern": "extract", "write": "tfidf", "start": "base", "overrides": ()
  }  # fmt: skip
  config.only = "code,tfidf"
  run = runs.open(workdir, config)
  assert list(run.stages) == ["base", "code", "tfidf"]
  assert [x.name for x in plan.make_stages(run.setup)] == list(run.stages)
  in_one_line(run.params, "tfidf is at step 0 of 8", "tfidf")
