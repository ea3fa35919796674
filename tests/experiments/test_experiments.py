"""Stored experiments draw what is stored beside them."""

import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
  """draw() -> stored and redrawn files, in a copy of the stored results."""
  folder = tmp_path_factory.mktemp("copy") / "experiments"
  shutil.copytree(ROOT / "experiments", folder)
  stored = {p.name: p.read_bytes() for p in (folder / "rsrc_map").iterdir()}

  def redraw():
    for name in stored:
      if name.startswith(("survival_map", "compute", "table")):
        (folder / "rsrc_map" / name).unlink(missing_ok=True)
    script = runpy.run_path(str(folder / "rsrc_map" / "plot.py"))
    script["main"]()
    drawn = (folder / "rsrc_map").iterdir()
    return {p.name: p.read_bytes() for p in drawn if p.is_file()}

  return stored, redraw


@pytest.fixture(scope="module")
def redrawn(draw):
  """What is stored, and what one drawing makes of it."""
  stored, redraw = draw
  return stored, redraw()


@pytest.mark.slow
def test_a_map_is_the_same_bytes_twice(draw, redrawn):
  _, first = redrawn
  assert first == draw[1]()
  for ending in ("png", "svg", "csv", "json"):
    assert first[f"survival_map.{ending}"]


def test_the_stored_map_follows_from_the_stored_summaries(redrawn):
  stored, drawn = redrawn
  for name in stored:
    # A picture's compression is the machine's: the numbers are in the others.
    if name.endswith((".svg", ".csv", ".json", "table.md")):
      assert drawn[name] == stored[name], name
