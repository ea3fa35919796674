"""The table of a run's RSRC (ours), for the page and for a terminal.

From the block "rsrc" of summary.json, which older runs lack.
"""

from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from rsrc_jax.report import survival_map, survival_points
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.numbers import Quantiles, count, short, spread
from rsrc_jax.report.rsrc_sentences import rsrc_sentences


class Column(NamedTuple):
  """A column of the table of arms: what is read, and one line on it."""

  key: str  # of survival_points.COLUMNS
  label: str
  about: str


COLUMNS = (
  Column("bits_saved", "bits saved",
    "bits of s − bits of c − bits that mend d, a sample, under a verifier that "
    "knows the alphabet alone; signed"),
  Column("k", "k", "capability: bits saved, 0 where they are negative"),
  Column("bits_saved_frozen", "bits, frozen model",
    "the same where the frozen language model prices s and what mends d"),
  Column("joules", "J a sample", "energy of C and D"),
  Column("training_joules", "training, J",
    "everything that was spent on the arm, and on the base that it shares"),
  Column("rsrc_i", "RSRC_i (ours)", "k / J a sample, bit/J"),
  Column("rsrc_t", "RSRC_t(n) (ours)",
    "n (k − k of the untrained) / training, bit/J; ∞ where nothing was "
    "trained"),
  Column("rsrc_life", "RSRC_life(n) (ours)",
    "n k / (training + n × J a sample), bit/J"),
  Column("log10_eta_i", "decades from Landauer",
    "log10 of RSRC_i (ours) × kT ln 2 at 300 K: a scale, not a proof"),
  Column("break_even_samples", "break-even samples",
    "N at which N k covers the bits of weights, tables and dictionaries"),
  Column("m_star_joules", "m*",
    "readings of c, in place of s, after which writing it has paid, in joules"),
)  # fmt: skip
Cell = tuple[str, str]  # the number, and its interval to stand below it
Row = tuple[str, str, str, list[Cell]]  # group, name, label, cells
KINDS = ("headline", "code", "english", "untrained", "compressor")


def rsrc_rows(summary: dict, arms: Arms) -> list[Row]:
  """The table of arms and baselines, by COLUMNS; the headline comes first.

  The group of a row is its kind, and "headline" of that arm.
  """
  points = {p["name"]: p for p in survival_map.marks(summary, arms)}
  rank = {kind: i for i, kind in enumerate(KINDS)}
  looks = list(arms.looks)  # the others stay in the order of the file
  group = {
    name: "headline" if name == arms.headline else p["kind"]
    for name, p in points.items()
  }
  place = lambda n: looks.index(n) if n in looks else len(looks)
  names = sorted(
    points, key=lambda n: (rank.get(group[n], len(rank)), place(n))
  )
  return [
    (
      group[name],
      name,
      points[name]["label"],
      [cell(points[name], column.key) for column in COLUMNS],
    )
    for name in names
  ]


def rsrc_table(summary: dict, arms: Arms) -> Table:
  """The same for a terminal, medians only, over the sentences."""
  shown = {
    "bits_saved": "bits\nsaved",
    "bits_saved_frozen": "frozen\nmodel",
    "joules": "J a\nsample",
    "rsrc_i": "RSRC_i",
    "rsrc_t": "RSRC_t(n)",
    "rsrc_life": "RSRC_life",
    "m_star_joules": "m*",
  }
  n = (summary.get("rsrc") or {}).get("samples_served")
  table = Table(
    title=f"RSRC (ours), bit/J, n = {count(n)} samples served",
    caption=Text("\n".join(rsrc_sentences(summary, arms))),
    box=box.SIMPLE_HEAD,
    padding=(0, 1, 0, 0),
    show_edge=False,
    title_justify="left",
    caption_justify="left",
  )
  table.add_column("arm", no_wrap=True)
  for label in shown.values():
    table.add_column(label, justify="right", no_wrap=True)
  rows = rsrc_rows(summary, arms)
  for i, (group, _, label, cells) in enumerate(rows):
    last = i + 1 == len(rows) or rows[i + 1][0] != group
    found = {c.key: cell[0] for c, cell in zip(COLUMNS, cells, strict=True)}
    look = {"headline": "bold", "compressor": "dim"}.get(group, "")
    table.add_row(
      Text(label), *(found[key] for key in shown), style=look, end_section=last
    )
  return table


def cell(point: dict, key: str) -> Cell:
  """Median and interval of a mark, where it has one."""
  value = point[key]
  if key not in survival_points.INTERVALS or value is None:
    return short(value), ""
  text = spread(Quantiles(value, point[f"{key}_p5"], point[f"{key}_p95"]))
  return short(value), text[text.index("[") :] if "[" in text else ""
