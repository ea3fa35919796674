"""Stored experiments draw what is stored beside them."""

import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory):
  """The map drawn twice, in a copy of the experiments' stored results."""
  folder = tmp_path_factory.mktemp("copy") / "experiments"
  shutil.copytree(ROOT / "experiments", folder)
  stored = {p.name: p.read_bytes() for p in (folder / "rsrc_map").iterdir()}
  runs = []
  for _ in range(2):
    for name in stored:
      if name.startswith(("survival_map", "compute", "table")):
        (folder / "rsrc_map" / name).unlink(missing_ok=True)
    script = runpy.run_path(str(folder / "rsrc_map" / "plot.py"))
    script["main"]()
    drawn = (folder / "rsrc_map").iterdir()
    runs.append({p.name: p.read_bytes() for p in drawn if p.is_file()})
  return stored, runs


def test_a_map_is_the_same_bytes_twice(redrawn):
  _, (first, second) = redrawn
  assert first == second
  for ending in ("png", "svg", "csv", "json"):
    assert first[f"survival_map.{ending}"]


def test_the_stored_map_follows_from_the_stored_summaries(redrawn):
  stored, (drawn, _) = redrawn
  for name in stored:
    # A picture's compression is the machine's: the numbers are in the others.
    if name.endswith((".svg", ".csv", ".json", "table.md")):
      assert drawn[name] == stored[name], name
