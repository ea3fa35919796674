"""What of a text was left out, and why: a tally that becomes a table."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

FILES, SENTENCES = "files", "sentences"
NAMED = 20  # files of one reason that are named
SHOWN = 80  # characters of an example


class LeftOut(NamedTuple):
  """A row of the table: what is of one kind and was left out for one reason."""

  kind: str  # FILES or SENTENCES
  reason: str
  count: int
  examples: tuple[str, ...]  # one sentence, or at most NAMED files


# (kind, reason) -> (how many, examples), in the order of what was met first.
Tally = dict[tuple[str, str], tuple[int, list[str]]]


def add(
  tally: Tally, kind: str, reason: str, example: str, count: int = 1
) -> None:
  """Counts something that is left out."""
  known, examples = tally.get((kind, reason), (0, []))
  if len(examples) < (NAMED if kind == FILES else 1):
    examples = [*examples, safe(example)]
  tally[kind, reason] = known + count, examples


def table(tally: Tally) -> tuple[LeftOut, ...]:
  """The rows: files before sentences, the most frequent reason first."""
  rows = [
    LeftOut(kind, reason, count, tuple(examples))
    for (kind, reason), (count, examples) in tally.items()
  ]
  return tuple(sorted(rows, key=lambda row: (row.kind, -row.count)))


def tally_of(rows: Iterable[Iterable]) -> Tally:
  """The tally of a table, also of one that JSON has made lists of."""
  return {
    (kind, reason): (count, list(examples))
    for kind, reason, count, examples in rows
  }


def json_of(rows: Iterable[LeftOut]) -> list[Mapping]:
  """The table as JSON."""
  return [row._asdict() for row in rows]


def said(rows: Iterable[LeftOut], kind: str = "", most: int = 3) -> str:
  """The first rows of a kind in words, for a message of one line; or ""."""
  found = [row for row in rows if not kind or row.kind == kind]
  return "; ".join(
    f"{row.count} {row.kind}: {row.reason}, such as {row.examples[0]!r}"
    for row in found[:most]
  )


def safe(text: str) -> str:
  """A text for a terminal: short, control and format characters spelled out."""
  shown = text[:SHOWN] + ("…" if len(text) > SHOWN else "")
  return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
