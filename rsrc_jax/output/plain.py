"""Text from outside, made harmless where it is shown or written.

Corpora, samples, names of arms and of files, and messages of other programs may
hold escapes that steer a terminal, marks that turn the direction of text, and
formulas that a spreadsheet would run.
"""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

UNUSUAL = re.compile(r"[^ -~]")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def plain(text: Any, keep: str = "") -> str:
  """One line of what can be printed; all else by its number, as \\u001b.

  Controls, surrogates, marks of direction, spaces other than U+0020 and what
  Unicode has not assigned are not printable.

  Args:
    text: any value.
    keep: characters that stay, such as a newline.
  """

  def shown(found: re.Match) -> str:
    c = found[0]
    return c if c.isprintable() or c in keep else _number(c)

  return UNUSUAL.sub(shown, str(text))


def lines(text: Any) -> str:
  """The same of a text of several lines."""
  return plain(text, "\n")


def _number(c: str) -> str:
  return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"


def complain(problem: Any) -> None:
  """Prints "error: ..." where errors go."""
  print(lines(f"error: {problem}"), file=sys.stderr)


def json_text(value: Any, indent: int | None = None) -> str:
  """JSON that every reader takes, and that no terminal obeys.

  Numbers that are not finite are null. What is not printable is escaped, which
  reads back as the same text.
  """
  text = json.dumps(
    finite(value), indent=indent, ensure_ascii=False, allow_nan=False
  )
  return UNUSUAL.sub(_escaped, text)


def _escaped(found: re.Match) -> str:
  # Outside of strings JSON has only spaces and newlines, and inside none.
  c = found[0]
  return c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1]


def finite(value: Any) -> Any:
  """A value of dicts, lists and numbers with null for what is not finite."""
  if isinstance(value, Mapping):
    return {k: finite(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [finite(x) for x in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def csv_text(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
  """A CSV file: a head, and a line a row; a missing value is empty.

  A text that a spreadsheet would take for a formula gets an apostrophe in
  front. Numbers stay as they are.
  """
  stream = io.StringIO()
  writer = csv.writer(stream, lineterminator="\n")
  writer.writerow(map(cell, names))
  for row in rows:
    writer.writerow([cell(row.get(name)) for name in names])
  return stream.getvalue()


def cell(value: Any) -> Any:
  """A cell of a CSV file that is data for every spreadsheet."""
  if value is None or isinstance(value, int | float):
    return value
  text = str(value)
  return "'" * text.startswith(FORMULA) + plain(text)
