"""Tables that are whole on a terminal of any width.

A table that is too wide is shown in parts, one below the other, that all begin
with its first column. Only text of several words is broken into lines, between
words; a number never is.
"""

import shutil
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rsrc_jax.output.plain import plain

KEPT = "\n\u00a0"  # in cells: lines, and the space between number and unit
FLOOR = 16  # cells that a column of text gets at least, if it needs them


def show(table: Table, console: Console | None = None, end: str = "\n") -> None:
  """Prints a table for the terminal as it is."""
  console = console or Console()
  made = parts(table, console.width)
  for number, part in enumerate(made, 1):
    console.print(part, end=end if number == len(made) else "\n\n")
  if len(made) > 1 and table.caption:  # over the last part it would be narrow
    console.print(_note(table.caption), style="italic dim", end=end)


def screen() -> int:
  """The width of the terminal; 80 where there is none, as rich has it."""
  return shutil.get_terminal_size((80, 24)).columns


def parts(table: Table, width: int) -> list[Table]:
  """The table, or several that together show it.

  Columns to the right, and those that may not wrap, are as wide as their widest
  cell. The others wrap. No cell is cut.

  Args:
    table: its cells are strings or Text.
    width: in cells of the terminal.
  """
  columns = [list(map(_text, x.cells)) for x in table.columns]
  heads = [_text(x.header) for x in table.columns]
  widest = [max(map(_wide, x), default=1) for x in columns]
  rigid = [x.no_wrap or x.justify == "right" for x in table.columns]
  rigid[0] = rigid[0] and widest[0] <= width // 2
  needs = []
  for i, head in enumerate(heads):
    words = max(map(cell_len, head.plain.split()), default=0)
    most = max(widest[i], _wide(head))
    needs.append(max(widest[i], words) if rigid[i] else min(most, FLOOR))
  # Between columns: padding on both sides, and the line of the box.
  gap = table.padding[1] + table.padding[3] + (table.box is not None)
  frame = 2 * (table.box is not None and table.show_edge)
  frame -= table.box is not None  # nothing stands behind the last column
  for i in range(1, len(needs)):
    if needs[0] + needs[i] + 2 * gap > width - frame:  # alone, it is too wide
      rigid[i], needs[i] = False, FLOOR
  groups = grouped([x + gap for x in needs], width - frame)
  made = [_part(table, group, rigid) for group in groups]
  for part in made[1:]:
    part.title = None
  for part in made * (len(made) > 1):
    part.caption = None
  return made


def grouped(widths: Sequence[int], width: int) -> list[list[int]]:
  """Columns by part, as few parts as fit; the first one is in all.

  Args:
    widths: of the columns, with what is between them.
    width: that a part may have.
  """
  groups, used = [[0]], widths[0]
  for i, wide in enumerate(widths[1:], 1):
    if used + wide > width and len(groups[-1]) > 1:
      groups.append([0])
      used = widths[0]
    groups[-1].append(i)
    used += wide
  return groups


def _part(table: Table, group: list[int], rigid: list[bool]) -> Table:
  """Some columns of a table."""
  made = Table(
    title=_note(table.title), caption=_note(table.caption), box=table.box,
    padding=table.padding, pad_edge=table.pad_edge, show_edge=table.show_edge,
    title_justify=table.title_justify, caption_justify=table.caption_justify,
  )  # fmt: skip
  for i in group:
    column, head = table.columns[i], _text(table.columns[i].header)
    cells = max((_wide(_text(x)) for x in column.cells), default=0)
    if rigid[i] and _wide(head) > cells:
      head = Text("\n".join(head.plain.split()), head.style)
    made.add_column(
      head, justify=column.justify, no_wrap=rigid[i], overflow="fold",
      style=column.style, header_style=column.header_style,
    )  # fmt: skip
  cells = [list(table.columns[i].cells) for i in group]
  for row, values in zip(table.rows, zip(*cells, strict=True), strict=True):
    made.add_row(
      *map(_text, values), style=row.style, end_section=row.end_section
    )
  return made


def _text(cell: Any) -> Text:
  """A cell as harmless text, never as markup, in its own style."""
  text = cell if isinstance(cell, Text) else Text(str(cell))
  harmless = plain(text.plain, KEPT)
  return text if harmless == text.plain else Text(harmless, text.style)


def _note(text: Any) -> Any:
  """A title or caption; a string is the package's own."""
  return _text(text) if isinstance(text, Text) else text


def _wide(text: Text) -> int:
  """The longest line, in cells of the terminal."""
  return max(map(cell_len, text.plain.split("\n")))
