"""The curve of lengths: the rows of summary.json, and a table of them."""

from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from rsrc_jax.report import style
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.heldout_table import open_table
from rsrc_jax.report.numbers import number
from rsrc_jax.report.run_files import Run

FREE = "free"  # how a length is shown that nobody asked for


class Column(NamedTuple):
  """A column of the curve and one line on what it means."""

  key: str  # of a row of summary["curve"]
  label: str
  digits: int
  percent: bool
  about: str


COLUMNS = (
  Column("mean_tokens", "tokens", 2, False, "mean length of the code"),
  Column("bits_conveyed", "bits", 2, False, "bits conveyed a source"),
  Column("exact", "exact", 0, True, "sources of which d is a copy"),
  Column("edit_similarity", "edit", 3, False,
    "edit similarity of s and the free-running d"),
  Column("bits_per_token", "bits/ token", 2, False,
    "bits conveyed / tokens of the code"),
  Column("channel_bits", "bits sent", 1, False,
    "tokens × log2 of the arm's own alphabet: words for an arm that writes "
    "words alone, all ids of codes for the others; ends are not charged"),
  Column("bits_per_channel_bit", "bits/ bit sent", 2, False,
    "bits conveyed / bits sent"),
  Column("novel_fraction", "novel", 0, True,
    "tokens of the code that its source does not contain"),
)  # fmt: skip


def rows(summary: dict, arms: Arms) -> list[dict]:
  """The rows by arm, the headline first; budgets ascending, then free ones."""
  found = [x for x in summary.get("curve") or () if isinstance(x, dict)]
  order = style.ordered({str(x.get("arm")) for x in found}, arms.looks)
  place = {name: i for i, name in enumerate(order)}
  budget = lambda x: number(x.get("budget"))
  return sorted(
    found,
    key=lambda x: (
      str(x.get("arm")) != arms.headline, place[str(x.get("arm"))],
      budget(x) is None, budget(x) or 0.0,
    ),
  )  # fmt: skip


def asked(row: dict) -> str:
  """The budget of a row as it is shown."""
  budget = number(row.get("budget"))
  return FREE if budget is None else f"{budget:.0f}"


def shown(value: Any, column: Column) -> str:
  """A number of a row as it is shown; a dash where there is none."""
  value = number(value)
  if value is None:
    return "—"
  if column.percent:
    digits = column.digits + (0 < value < 0.0995)  # .6 % is not 1 %
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"
  return f"{value:.{column.digits}f}".replace("-", "−")


def about(run: Run) -> str:
  """How the lengths came about, in a sentence."""
  if any(asked(x) == FREE for x in run.summary.get("curve") or ()):
    return "k: the budget that C is told; free: it is told none, and ends."
  if run.config.get("budgets"):
    return "k: the budget that C is told."
  return "k: the first k tokens of each code; C is told no budget."


def table(run: Run) -> Table | None:
  """The curve for a terminal; None where the run has none."""
  found = rows(run.summary, run.arms)
  if not found:
    return None
  result = open_table("Curve: what codes are worth by length", about(run))
  # In one column, which all parts of a table that is too wide begin with.
  result.add_column("arm, k", no_wrap=True)
  for column in COLUMNS:
    result.add_column(column.label.replace(" ", "\n"), justify="right")
  for i, row in enumerate(found):
    arm = str(row.get("arm"))
    last = i + 1 == len(found) or str(found[i + 1].get("arm")) != arm
    label = style.arm(arm, run.arms.looks).label
    cells = [shown(row.get(x.key), x) for x in COLUMNS]
    look = "bold" if arm == run.arms.headline else ""
    result.add_row(
      Text(f"{label}, {asked(row)}"), *cells, style=look, end_section=last
    )
  return result
