"""Every shipped training step against the table of contracts."""

import json

import jax
import pytest
from helpers import programs

TABLE = json.loads(programs.TABLE.read_text())


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(x, marks=() if x in programs.QUICK else pytest.mark.slow)
    for x in programs.CASES
  ],
)
def test_a_step_is_what_the_table_says(name):
  """Another jax compiles otherwise: of it, what no compiler should change."""
  stored = TABLE["steps"][name]
  said = programs.differences(name, stored)
  if TABLE["jax"] != jax.__version__:
    said = [x for x in said if "peak_bytes" not in x and "collectives" not in x]
  assert not said


def test_every_step_compiles_once_and_updates_its_state_in_place():
  assert set(TABLE["steps"]) == set(programs.CASES)
  for row in TABLE["steps"].values():
    assert row["programs"] == 1
    # What a step writes anew without reading it is no input of the program.
    assert row["updated_in_place"] > 0.7 * row["state_arrays"]


def test_a_difference_is_named():
  row = {"programs": 2, "peak_bytes": 100}
  found = {"programs": 1, "peak_bytes": 104}
  assert programs.compare("x", row, found) == [
    "x.programs: 2 in the table, 1 now"
  ]
  assert programs.compare("x", {"peak_bytes": 100}, {"peak_bytes": 106})
