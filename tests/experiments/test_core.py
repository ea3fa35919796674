"""The registered experiment: its arms, and its verdicts on made-up results."""

import json

import numpy as np
import pytest

from experiments.core import explore, explore_table, sweep, table
from experiments.core import slack as slack_sweep
from rsrc_jax.build import setup

REGISTERED = json.loads((sweep.HERE / "registration.json").read_text())
SWITCHES = {
  "no_gate": {"patterns.cdv.gate.bonus"},
  "no_injection": {"augment.inject", "patterns.cdv.gate"},
}


def test_arms_differ_from_the_full_method_in_named_switches():
  config = sweep.get_config()
  setup.prepare(config)
  assert config.patterns.cdv.gate.beyond_bound is False
  own = lambda arm: dict(config.arms[f"{arm}_k3"].overrides)
  both = {"budgets", "loss.entropy_bonus.C"}
  assert set(own("full")) == both
  assert set(own("no_gate")) == both | SWITCHES["no_gate"]
  assert set(own("no_injection")) == both | SWITCHES["no_injection"]
  plain = both | SWITCHES["no_injection"] | {"curriculum.hidden"}
  assert set(own("plain")) == set(own("english_rl")) == plain
  for arm in sweep.ARMS:
    for k in REGISTERED["budgets"]:
      assert dict(config.arms[f"{arm}_k{k}"].overrides)["budgets"] == (k,)


@pytest.mark.parametrize("of", [explore, slack_sweep])
def test_the_other_sweeps_pass_the_checks_of_a_config(of):
  config = of.get_config()
  setup.prepare(config)
  seeds = [x["seed"] for x in of.get_sweep()]
  assert seeds == REGISTERED["seeds"][: len(seeds)]


def test_every_arm_has_as_many_trials():
  arms = sweep.get_config("tune").arms
  for arm in sweep.ARMS:
    assert sum(x.rsplit("_", 1)[0] == arm for x in arms) == len(sweep.BONUSES)


def made_up(seed, add, bonus=0.2):
  """A run whose bits are 4 log2 of the tokens, and what `add` adds."""
  rng, curve = np.random.default_rng(seed), []
  for arm in sweep.ARMS:
    noise = 0.01 * rng.normal()
    for k in (2, 4):
      bits = 4 * np.log2(k) + add.get(arm, 0.0) + noise
      curve.append({
        "arm": f"{arm}_k{k}", "budget": None, "mean_tokens": float(k),
        "bits_conveyed": bits, "edit_similarity": bits / 10, "exact": 0.0,
        "bits_per_channel_bit": bits / 30,
      })  # fmt: skip
  arms = {x["arm"]: {"hidden": 0.4, "use_rate": 0.1} for x in curve}
  spread = {x: bonus for x in arms if x.startswith("full")}
  return {"seed": seed, "curve": curve, "doses": arms, "bonus_spread": spread}


SMALL = REGISTERED | {"seeds": [0, 1, 2], "budgets": [2, 4]}


def test_an_area_by_hand():
  # 4 at two tokens, 8 at four, straight between: 6 in the mean.
  run = made_up(0, {})
  noise = run["curve"][0]["bits_conveyed"] - 4
  assert table.area(run, "full", "bits_conveyed", [2, 4]) == pytest.approx(
    6 + noise
  )
  # An arm whose codes end at two tokens keeps its value.
  run["curve"][1]["mean_tokens"], run["curve"][1]["bits_conveyed"] = 2.0, 4.0
  run["curve"][0]["bits_conveyed"] = 4.0
  assert table.area(run, "full", "bits_conveyed", [2, 4]) == pytest.approx(4)


def test_verdicts_follow_effects_and_doses():
  add = {"full": 2.0, "no_gate": 2.0, "no_injection": 1.0, "plain": 1.5}
  runs = [made_up(seed, add) for seed in range(3)]
  words = lambda runs: {
    row.name: table.verdict(row, 0.05)
    for row in table.rows(runs, SMALL)
    if row.metric == "bits_conveyed"
  }
  assert words(runs) == {
    "plain_english": "yes", "full_english": "yes", "full_plain": "yes",
    "gate": "can't tell", "injection": "yes", "forcing": "no, the contrary",
  }  # fmt: skip
  # Holm's p is never below the plain one, and fourteen times it at most.
  for row in table.rows(runs, SMALL):
    assert row.interval.p <= row.adjusted <= min(14 * row.interval.p, 1) + 1e-12
  # A bonus that paid too little does not test the gate.
  paid = words([made_up(seed, add, bonus=0.05) for seed in range(3)])
  assert paid["gate"] == "not tested (bonus)"
  assert paid["full_plain"] == paid["injection"] == "yes"


def slack_run(seed, gain, bonus):
  use = lambda add: {
    "use": {"bits_listed": 12.0 + add, "use_rate": 0.5, "swap_bits": 2 * add}
  }
  noise = 0.01 * np.random.default_rng(seed).normal()
  evals = {"asked": use(gain + noise), "asked_unpaid": use(0.0)}
  return {"seed": seed, "evals": evals, "doses": {},
          "bonus_spread": {"asked": bonus}}  # fmt: skip


def test_the_gate_is_tested_where_it_pays():
  runs = [made_up(seed, {}) for seed in range(3)]
  slack = lambda bonus: [slack_run(seed, 1.0, bonus) for seed in range(3)]
  found = {
    x.metric: x
    for x in table.rows(runs, SMALL, slack(0.2))
    if x.name == "slack"
  }
  assert found["bits_listed"].mean == pytest.approx(1.0, abs=0.02)
  assert found["carried"].mean == pytest.approx(1.0, abs=0.02)
  assert table.verdict(found["carried"], 0.05) == "yes"
  text = table.table(runs, SMALL, slack(0.05))
  assert "**not tested (bonus)**" in text and "| asked | 13.0" in text
  assert "Slack (slack.py): not run." in table.table(runs, SMALL)


def test_the_best_english_is_the_larger_seed_by_seed():
  runs = [made_up(0, {"extract": 1.0}), made_up(1, {"english_rl": 1.0})]
  found = table.areas(runs, "bits_conveyed", SMALL)
  np.testing.assert_allclose(found["best_english"], 7.0, atol=0.1)


def test_what_is_missing_is_said():
  assert table.table([], SMALL).startswith("not run")
  levels = {"full_k2": [{"by": "plateau"}, {"by": "timer"}], "plain_k2": None}
  told = [made_up(x, {}) | {"plateaus": levels} for x in range(3)]
  assert "Of 6 levels 3 ended at a plateau" in table.table(told, SMALL)
  text = table.table([made_up(x, {}) for x in range(2)], SMALL)
  assert "**Preliminary**: seeds [2] are not run" in text
  assert "Preliminary" not in table.table(
    [made_up(x, {}) for x in range(3)], SMALL
  )


def test_exploratory_arms_are_held_against_the_grid_of_their_seeds():
  line = lambda arm, bits: {
    "arm": arm, "budget": None, "mean_tokens": 3.0, "bits_conveyed": bits,
    "edit_similarity": 0.5, "exact": 0.0, "bits_per_channel_bit": 0.7,
  }  # fmt: skip
  runs = [
    {"seed": seed, "curve": [line(x, 10.0 + seed) for x in explore.arms()],
     "doses": {"banned": {"ban": 0.5}}}
    for seed in (20, 21)
  ]  # fmt: skip
  grid = [
    {"seed": seed, "curve": [line(f"{x}_k3", 7.0 + seed) for x in sweep.ARMS]}
    for seed in (20, 21, 22)
  ]
  assert set(explore_table.AGAINST) == set(explore.arms())
  text = explore_table.text(runs, grid)
  assert "| bits conveyed: x2 - plain | +3.00 [" in text
  assert explore_table.text([], grid).startswith("not run")
