"""Every table of the project is whole on a terminal of eighty columns."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rsrc_jax.accounting import compare, summaries
from rsrc_jax.metrics import published
from rsrc_jax.output import tables
from rsrc_jax.recursive import report as recursive
from rsrc_jax.report import (
  curve_table,
  heldout_table,
  reward_table,
  rsrc_table,
  run_files,
)
from rsrc_jax.sweep import tables as of_sweeps

STORED = Path(__file__).resolve().parents[2] / "experiments"
LONG = "an_arm_with_a_name_that_is_longer_than_half_of_a_terminal_is_wide"


def printed(table, width=80):
  console = Console(file=io.StringIO(), width=width)
  tables.show(table, console)
  return console.file.getvalue()


def whole(table, width=80):
  """Shows a table; every cell is there, uncut, and no line is too long."""
  text = printed(table, width)
  assert "…" not in text
  assert max(map(cell_len, text.split("\n"))) <= width
  bare = re.sub(r"\s", "", text)
  for column in table.columns:
    for cell in column.cells:
      words = (cell.plain if isinstance(cell, Text) else str(cell)).split()
      for word in words:  # a long word may be folded, and is whole then
        if column.justify == "right":
          assert re.search(rf"(^|\s){re.escape(word)}(\s|$)", text), word
        else:
          assert word in bare or cell_len(word) > 16, word
  return text


def summaries_of(*patterns):
  return [x for p in patterns for x in sorted(STORED.glob(p))[:2]]


@pytest.mark.parametrize(
  "path",
  summaries_of(
    "cdv_tiny/results/*.json", "qa/results/qa-*.json", "ccv/results/*.json",
    "cc/results/*.json", "cdv_text/results/*.json",
  ),
  ids=lambda x: x.stem,
)  # fmt: skip
def test_tables_of_stored_runs(path):
  summary = json.loads(path.read_text())
  arms = run_files.of(summary=summary).arms
  whole(heldout_table.table(summary, arms))
  whole(heldout_table.ood_table(summary, arms))
  if summary.get("rsrc"):
    whole(rsrc_table.rsrc_table(summary, arms))


def test_tables_of_rewards_and_of_the_curve():
  parts = {"verifier": 0.5, "reader": 0.1, "shaping": 0.3, "price": -0.1,
           "bonus": 0.2}  # fmt: skip
  names = ("code", "surprising", LONG)
  row = {"bits_conveyed": -24.567, "mean_tokens": 16.0, "exact": 0.0123,
         "edit_similarity": 0.9, "novel_fraction": 1.0, "channel_bits": 110.5,
         "bits_per_token": -4.56, "bits_per_channel_bit": -0.65}  # fmt: skip
  summary = {
    "reward_shares": dict.fromkeys(names, parts),
    "dead_groups": dict.fromkeys(names, 0.25),
    "curve": [row | {"arm": x, "budget": k} for x in names for k in (16, None)],
  }
  run = run_files.of(summary=summary)
  for table in (curve_table.table(run), reward_table.table(run)):
    whole(table)
    whole(table, 40)
  # Without a name that is too long, the curve is in one piece.
  for block in ("reward_shares", "dead_groups"):
    del summary[block][LONG]
  summary["curve"] = summary["curve"][:4]
  table = curve_table.table(run_files.of(summary=summary))
  assert len(tables.parts(table, 80)) == 1


def test_tables_of_stored_recursive_runs():
  [path] = summaries_of("dead_compute/results/dead_compute-0.json")
  whole(recursive.table(json.loads(path.read_text())))


def test_a_comparison_of_stored_runs():
  paths = str(STORED / "cdv_tiny" / "results" / "default-*.json")
  a, b = (summaries.read(f"{paths}:{x}") for x in ("code", "english_rl"))
  result = compare.compare(a, b, "k", 1.0)
  whole(compare.table(a, b, "k", 1.0, result))
  long = [x._replace(arm=LONG) for x in b]
  for run, other in zip(long, b, strict=True):
    arms = other.summary["rsrc"]["arms"]
    arms[LONG] = arms["english_rl"]
    assert run.summary["rsrc"]["arms"] is arms
  whole(compare.table(a, long, "k", 1.0, result))


def test_the_published_tables():
  whole(published.check("v1")[0])
  whole(published.rankings())


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_wide_table_is_given_in_parts_that_all_name_the_row(width):
  table = Table(title="Title", caption="Caption")
  table.add_column("arm", no_wrap=True)
  for i in range(12):
    table.add_column(f"score number {i}", justify="right")
  table.add_column("what was said")
  for name in ("code", LONG):
    numbers = [f"{i}.{i}234567" for i in range(12)]
    table.add_row(name, *numbers, "several words of text " * 6)
  text = whole(table, width)
  assert text.count("Title") == text.count("Caption") == 1
  assert sum(x.lstrip("│ ").startswith("code ") for x in text.split("\n")) == (
    len(tables.parts(table, width))
  )


def test_a_cell_is_text_and_neither_markup_nor_an_escape():
  table = Table()
  table.add_column("[red]head", justify="right")
  table.add_row("\x1b[2J[bold]x[/bold]")
  text = printed(table)
  assert "\x1b" not in text and r"\u001b[2J[bold]x[/bold]" in text
  assert "[red]head" in text


@pytest.mark.parametrize("width", [30, 80])
def test_tables_of_sweeps(width):
  head = ("run", "state", "seconds", "changes", "last line")
  rows = [
    ("a-0", "failed", 12.5, "steps=4 width=" + "8" * 50, "error: \x1b[31m no"),
    (LONG, "done", None, "", "漢字 " * 30),
  ]
  text = of_sweeps.aligned(head, rows, width)
  assert max(map(cell_len, text.split("\n"))) <= width
  assert "…" not in text and "\x1b" not in text
  bare = "".join(text.split())
  for part in ("failed", "12.5", "steps=4", "error:", "漢字漢字"):
    assert part in bare
  assert bare.count("8") >= 50 and bare.count("漢字") == 30
