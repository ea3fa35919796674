"""The table of asked_ids: what is said of use, and of what its bonus paid."""

import pytest
from helpers.runs import ROOT

from experiments.asked_ids import table
from rsrc_jax.ops import rewards
from rsrc_jax.runtime import configs
from rsrc_jax.sweep import plan

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


def summary(seed, swap_bits=5.0, spread=0.2):
  use = dict.fromkeys(table.USE, 0.5) | {"swap_bits": swap_bits}
  fresh = {f"{x}_{y}": 0.25 for x in table.SCOPES for y in table.FRESH}
  arms = {x: {"use": use, "fresh": fresh} for x in table.ARMS}
  arms["asked_unpaid"] = {"use": use | {"use_rate": 0.25 + 0.01 * seed}}
  found = {"seed": seed, "steps": 400, "evals": arms}
  if spread is not None:
    found["bonus_spread"] = dict.fromkeys(table.ARMS, spread)
  return found


def row(text, start):
  line = next(x for x in text.splitlines() if x.startswith(f"| {start} |"))
  return line.strip("| ").split(" | ")


@pytest.mark.parametrize(
  "swap_bits, use_is", [(5.0, "kept"), (0.9, "junk"), (-2.0, "junk")]
)
@pytest.mark.parametrize(
  "spread, said",
  [(0.2, "tested"), (0.05, "not tested"), (None, "not recorded")],
)
def test_labels(swap_bits, use_is, spread, said):
  text = table.table([summary(x, swap_bits, spread) for x in range(3)])
  cells = row(text, table.ARMS["asked"])
  assert cells[-3] == use_is and cells[-1] == said
  # .5 - (.25 + .01 seed) over three seeds, as the pairs differ.
  cells = row(text, "codes that use any: asked - asked_unpaid")
  assert cells[1] == "+0.24 [+0.22, +0.26]"
  assert cells[-1] == ("**yes**" if said == "tested" else f"**{said}**")
  cells = row(text, "codes that use any: asked - forced")
  assert cells[1].endswith("0.00 [+0.00, +0.00]")


def test_nobody_who_uses_any_and_nothing_run():
  one = summary(0)
  one["evals"]["asked"]["use"]["use_rate"] = 0.0
  assert row(table.table([one]), table.ARMS["forced"])[-3] == "-"
  assert table.table([]).startswith("not run: ")
  # An arm that was not run is left open.
  del one["evals"]["multiply"]
  assert row(table.table([one]), table.ARMS["multiply"])[1:9] == ["-"] * 8


def test_arms_differ_in_what_is_offered():
  config = configs.load(ROOT / "configs" / "asked_ids.py")
  gate, safe = config.patterns.cdv.gate, rewards.largest_bonus(
    price=config.patterns.cdv.length_price, listed=config.augment.inject,
    budget=config.budget,
  )  # fmt: skip
  assert gate.bonus == pytest.approx(safe) and not gate.beyond_bound
  assert set(config.arms) == set(table.ARMS)
  beyond = {
    name: dict(arm.overrides).get("patterns.cdv.gate.beyond_bound", False)
    for name, arm in config.arms.items()
  }
  assert [x for x, y in beyond.items() if y] == ["asked_more"]
  path = ROOT / "experiments" / "asked_ids" / "sweep.py"
  runs = plan.plan(str(path), ROOT / "runs").runs
  assert [x.name for x in runs] == [f"asked_ids-{x}" for x in range(3)]
