"""Tables of text: columns that are as wide as their values."""

import textwrap
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len

from rsrc_jax.output.plain import plain
from rsrc_jax.output.tables import grouped, screen

GAP = 2
LEAST = 16  # cells that a column of text gets at least, if it needs them


def aligned(
  head: Sequence[str], rows: Sequence[Sequence[Any]], width: int = 0
) -> str:
  """Lines of a table; numbers stand to the right.

  A table that is wider than the terminal is given in parts, which all have the
  first column; long texts are broken into lines.

  Args:
    head: names of the columns.
    rows: values by column.
    width: in cells; 0: of the terminal.
  """
  width = width or screen()
  right = [
    all(isinstance(row[i], int | float | None) for row in rows)
    for i in range(len(head))
  ]
  text = [[_shown(x) for x in row] for row in (head, *rows)]
  widths = [max(map(cell_len, column)) for column in zip(*text, strict=True)]
  widths[0] = min(widths[0], width // 2)
  room = width - widths[0] - GAP
  # Text of the last column takes what is left, if that is enough to read.
  needs = [min(x, room) for x in widths]
  if not right[-1]:
    needs[-1] = min(needs[-1], LEAST)
  parts = []
  for group in grouped([x + GAP for x in needs], width + GAP):
    own = [needs[i] for i in group]
    if group[-1] == len(head) - 1:
      left = width - sum(own[:-1]) - GAP * (len(own) - 1)
      own[-1] = min(widths[-1], left)
    sides = [right[i] for i in group]
    parts.append(_part([[row[i] for i in group] for row in text], own, sides))
  return "\n\n".join(parts)


def _part(text: list[list[str]], widths: list[int], right: list[bool]) -> str:
  """Rows of cells as lines; a cell that is too long takes several."""
  lines = []
  for row in text:
    cells = [_broken(x, n) for x, n in zip(row, widths, strict=True)]
    for i in range(max(map(len, cells))):
      line = ""
      for cell, width, to_right in zip(cells, widths, right, strict=True):
        shown = cell[i] if i < len(cell) else ""
        pad = " " * (width - cell_len(shown))
        line += (pad + shown if to_right else shown + pad) + " " * GAP
      lines.append(line.rstrip())
  return "\n".join(lines)


def _broken(text: str, width: int) -> list[str]:
  """A text as lines of at most `width` cells, between words where it can be."""
  if cell_len(text) <= width:
    return [text]
  if text.isascii():
    return textwrap.wrap(text, width, break_on_hyphens=False)
  found = [""]
  for c in text:
    if cell_len(found[-1] + c) > width:
      found.append("")
    found[-1] += c
  return found


def _shown(value: Any) -> str:
  if value is None:
    return "-"
  return f"{value:.4g}" if isinstance(value, float) else plain(value)


def changes(values: dict[str, Any]) -> str:
  """The settings that a run or a variant changes."""
  return " ".join(f"{k}={v}" for k, v in values.items() if k != "seed")
