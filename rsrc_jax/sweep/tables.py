"""Tables of text: columns that are as wide as their values."""

from collections.abc import Sequence
from typing import Any


def aligned(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Lines of a table; numbers stand to the right.

  The last column is not padded: it may be a long line of text.
  """
  text = [[_shown(x) for x in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(head, *text, strict=True)]
  right = [
    all(isinstance(row[i], int | float | None) for row in rows)
    for i in range(len(head))
  ]
  lines = []
  for row in (head, *text):
    cells = [
      x.rjust(width) if to_right else x.ljust(width)
      for x, width, to_right in zip(row, widths, right, strict=True)
    ]
    lines.append("  ".join(cells).rstrip())
  return "\n".join(lines)


def _shown(value: Any) -> str:
  if value is None:
    return "-"
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def changes(values: dict[str, Any]) -> str:
  """The settings that a run or a variant changes."""
  return " ".join(f"{k}={v}" for k, v in values.items() if k != "seed")
