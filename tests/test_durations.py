"""The table of what tests cost: read as it is written, and what is over."""

import durations


def measured(cpu):
  """Of one quick test and one slow one."""
  return {
    "tests": {
      "tests/a/test_x.py::test_one[p::q]": {"cpu": cpu, "slow": False},
      "tests/a/test_x.py::test_two": {"cpu": 7.0, "slow": True},
      "tests/a/test_y.py::test_one": {"cpu": 1.0, "slow": False},
    },
    "begun": [5.0, 5.0],
  }


def test_a_table_is_read_as_it_was_written(tmp_path):
  path = tmp_path / "durations.md"
  path.write_text(durations.table(measured(20.0), {}))
  assert durations.known(path) == {
    "tests/a/test_x.py": (20.0, 7.0), "tests/a/test_y.py": (1.0, 0.0),
  }  # fmt: skip
  assert "- over: nothing" in path.read_text()
  assert "quick suite: 31 of a budget of 1080" in path.read_text()


def test_what_grew_and_what_is_over_is_named():
  before = {"tests/a/test_x.py": (20.0, 7.0)}
  grown = durations.table(measured(51.0), before)
  assert "- over: `tests/a/test_x.py` (+31)" in grown
  whole = durations.table(measured(2_000.0), before)
  assert "- over: **the quick suite, by 931**, `tests/a/test_x.py`" in whole


def test_the_stored_table_knows_its_modules():
  """Those that were there when it was measured, and are still."""
  root = durations.TABLE.parent.parent
  missing = [name for name in durations.known() if not (root / name).exists()]
  assert not missing, f"./tools/test --durations-table: {missing} are gone"
