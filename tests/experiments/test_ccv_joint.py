"""The experiment of joint rewriting: its arms, its table on made-up runs."""

import numpy as np
import pytest
from helpers.runs import ROOT

from experiments.ccv_joint import sweep, table
from rsrc_jax.build import checks
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.sweep import plan

# ml_collections loads a config file in a way that Python is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")
BITS = {"again_1": 15.0, "same_greedy": 15.0, "same_second": 13.0,
        "chain_1": 16.0, "same_best": 18.0, "parent": 12.0,
        "alone_again": 11.0}  # fmt: skip


def made_up(seed, bits=BITS, tokens=3.0, arms=("one", "joint"), **doses):
  """A run in which each code's bits differ from their mean by little."""
  rng = np.random.default_rng(seed)
  scores = {}
  for name in table.CODES:
    mean = bits.get(name, 10.0) + 0.01 * rng.normal()
    scores |= {f"{name}_bits": mean, f"{name}_exact": 0.25}
    scores |= {f"{name}_edit": 0.75, f"{name}_tokens": tokens}
  scores |= {"codes_read": 3.5, "again_shorter": 0.5, "chain_shorter": 0.25}
  doses = {"R_codes": 3.0, "R_shorter": 0.125, "R_word": 0.875} | doses
  curve = [
    {"arm": arm, "budget": k, "bits_conveyed": 12.0}
    for arm in ("go_on", *arms) for k in (None, 2, 3, 4, 6)
  ]  # fmt: skip
  return {
    "seed": seed, "steps": 600, "curve": curve,
    "examined": {x: dict(scores) for x in arms},
    "doses": {x: dict(doses) for x in arms},
  }  # fmt: skip


def verdicts(runs):
  said = table.small(runs)
  return [table.verdict(row, said) for row in table.rows(runs)]


def test_verdicts_follow_effects_over_seeds():
  runs = [made_up(x) for x in sweep.SEEDS]
  assert verdicts(runs) == [
    "can't tell", "yes", "no, the contrary", "yes", "yes"
  ]  # fmt: skip
  found = table.rows(runs)
  np.testing.assert_allclose([x.each.mean() for x in found],
                             [0, 2, -2, 3, 4], atol=0.05)  # fmt: skip
  for row in found:  # Holm's p is no less than the plain one
    assert table._p(row.each) <= row.adjusted <= 1
  # Seeds that differ more than the effect: nothing is told.
  far = [made_up(x, BITS | {"parent": 12.0 + 9 * i})
         for i, x in enumerate(sweep.SEEDS)]  # fmt: skip
  assert verdicts(far)[3] == "can't tell"


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"R_codes": 1.9}, "R_codes"),
    ({"R_word": 0.4}, "R_word"),
    ({"R_word": None}, "R_word"),
    ({"tokens": 0.5}, "again_1_tokens"),
  ],
)
def test_too_small_a_dose_tests_nothing(changes, said):
  runs = [made_up(x, **changes) for x in sweep.SEEDS]
  assert set(verdicts(runs)) == {f"not tested ({said})"}
  assert f"**not tested ({said})**" in table.table(runs)


def row(text, *start):
  """The cells of the first row that begins with these."""
  for line in text.splitlines():
    cells = [x.strip() for x in line.strip("|").split("|")]
    if cells[: len(start)] == [*start]:
      return cells
  raise AssertionError(start)


def test_the_table_has_codes_doses_and_curves():
  text = table.table([made_up(x) for x in sweep.SEEDS])
  assert "Preliminary" not in text
  assert row(text, "`chain_1`")[2].startswith("16.0")
  assert row(text, "`chain_1`")[3:] == [
    "0.250 ± 0.000", "0.750 ± 0.000", "3.00 ± 0.00"
  ]  # fmt: skip
  cells = {label: row(text, label)[1:] for label in table.DOSES.values()}
  assert cells[table.DOSES["R_codes"]] == ["3.00 ± 0.00"] * 2
  assert cells[table.DOSES["codes_read"]] == ["3.50 ± 0.00"] * 2
  assert cells[table.DOSES["R_word"]] == ["0.88 ± 0.00"] * 2
  assert row(text, "go_on")[1:] == ["12.00 ± 0.00"] * 5
  assert text.count("`alone_again`") == 1  # of the arm that reads several


def test_what_is_missing_is_said():
  assert table.table([]).startswith("not run")
  assert table.table([made_up(30)]).startswith("not run")
  two = table.table([made_up(x) for x in sweep.SEEDS[:2]])
  assert "**Preliminary**: seeds [32] are not run" in two
  # The arm that reads several codes was not run, or not examined.
  runs = [made_up(x, arms=("one",)) for x in sweep.SEEDS]
  assert verdicts(runs) == ["not run"] * 5
  text = table.table(runs)
  assert row(text, "joint")[2:] == ["not run"] * 4
  assert row(text, table.DOSES["R_codes"])[1] == "not run"
  runs[1]["examined"]["joint"] = {}
  assert verdicts(runs) == ["not run"] * 5


def test_arms_differ_in_how_many_codes_are_read():
  config = sweep.get_config()
  checks.check(config)
  own = {x: dict(config.arms[x].overrides) for x in config.arms}
  assert own["joint"] == own["one"] | {"patterns.ccv.joint": sweep.JOINT}
  assert own["one"] == own["go_on"] == dict(sweep.LENGTHS)
  assert own["early"] == own["go_on"] | dict(sweep.EARLY)
  assert [config.arms[x].start for x in ("go_on", "one", "joint")] == (
    ["early"] * 3
  )
  joint = arm_config(config, "joint")
  # The loop of the default: V's word alone, and a price on both roles.
  assert joint.verifier.to_dict() == {"slots": 0, "edit": 1, "reader": 0}
  assert joint.shaping.gain == 0 and joint.loss.entropy_per_code
  assert joint.patterns.ccv.length_price == sweep.PRICE
  assert joint.patterns.ccv.fresh.length_price == sweep.PRICE
  assert joint.patterns.ccv.joint <= joint.patterns.ccv.fresh.group
  with pytest.raises(ValueError, match=r"ccv\.joint=6 must be at most 5"):
    config.arms.joint.overrides = (
      *sweep.LENGTHS, ("patterns.ccv.joint", 6)
    )  # fmt: skip
    checks.check(config)
  checks.check(sweep.get_config("quick"))


def test_a_run_a_seed():
  path = ROOT / "experiments" / "ccv_joint" / "sweep.py"
  runs = plan.plan(str(path), ROOT / "runs").runs
  assert [x.name for x in runs] == [f"ccv_joint-{x}" for x in sweep.SEEDS]
  quick = plan.plan(f"{path}:quick", ROOT / "runs").runs
  assert [x.name for x in quick] == ["quick-30"]
