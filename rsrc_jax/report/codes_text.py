"""The codes of a finished run, token by token: in the terminal and as a page.

  ./.venv/bin/python tools/show_codes.py RUN [--arm=code,qa] [--rows=8]

s, c, d, rewrites, memories by round, questions and answers side by side. Tokens
are coloured by surprisal; ids that were injected are underlined. Without colour
(NO_COLOR, a pipe) a number and stars say the same. Reads RUN/samples.jsonl and
RUN/shown.jsonl alone, writes RUN/codes.html (--html=PATH), and needs no jax.
"""

import argparse
import math
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rsrc_jax.output import tables
from rsrc_jax.output.plain import complain, plain
from rsrc_jax.report.codes import (
  LEVELS,
  NEVER,
  NOTHING,
  ROWS,
  UNRECORDED,
  Cell,
  Sheet,
  Token,
  about_columns,
  label_of,
  left_out,
  level,
  load,
  recorded,
)
from rsrc_jax.report.codes_page import write


def main(arguments: list[str] | None = None) -> int:
  """The command line."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("run", type=Path, metavar="RUN", help="a run directory")
  flags.add_argument(
    "--arm", action="append", default=[], help="names, comma-separated"
  )
  flags.add_argument(
    "--rows", type=int, default=ROWS, help=f"sources an arm; {ROWS} by default"
  )
  flags.add_argument("--html", type=Path, help="RUN/codes.html by default")
  given = flags.parse_args(arguments)
  wanted = [x for part in given.arm for x in part.split(",") if x]
  try:
    arms = load(given.run, wanted, given.rows)
    path = write(given.run, arms, given.html or given.run / "codes.html")
  except ValueError as error:
    complain(error)
    return 2
  # A piece may hold what the terminal's encoding does not.
  sys.stdout.reconfigure(errors="backslashreplace")
  show(arms, Console(highlight=False))
  print(plain(path))
  return 0


def show(arms: dict[str, list[Sheet]], console: Console) -> None:
  """Prints all arms, in words where the console knows no colours."""
  bare = console.no_color or console.color_system is None
  for line in _legend(arms, bare):
    console.print(line)
  for name, sheets in arms.items():
    title = Text(plain(name), "bold")
    if title.cell_len + 4 > console.width:  # a rule would cut it
      console.print(title)
      title = ""
    console.print(Rule(title, align="left"))
    for sheet in sheets:
      console.print(Text(plain(sheet.title), "bold"))
      tables.show(_table(sheet, bare), console)
      if sheet.left:
        console.print(Text(left_out(sheet)), style="dim")


def _legend(arms: dict[str, list[Sheet]], bare: bool) -> list[Text]:
  surprisal, injected = recorded(arms)
  lines = [Text(about_columns(arms))]
  if not surprisal:
    lines.append(Text(UNRECORDED))
  elif bare:
    lines.append(
      Text(
        "token:N  its surprisal in bits, -log2 p, rounded: c under C given s, "
        "d under D given c; :inf  its role may not write it"
      )
    )
  else:
    line = Text("surprisal in bits, c under C given s, d under D given c: ")
    for label, look in (*(x[1:] for x in LEVELS), NEVER):
      line.append(f" {label} ", look)
      line.append(" ")
    lines.append(line)
  if injected:
    mark = "*token*" if bare else "token"
    line = Text("")
    line.append(mark, "underline")
    lines.append(line + Text("  an id that was injected"))
  return lines


def _table(sheet: Sheet, bare: bool) -> Table:
  table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
  table.add_column("row", no_wrap=True)
  if sheet.steps:
    table.add_column(sheet.steps, no_wrap=True)
  for name in sheet.columns:
    table.add_column(Text(label_of(name)), overflow="fold")
  for title, rows in sheet.entries:
    for i, row in enumerate(rows):
      first = [Text(title if not i else "")]
      first += [Text(str(i + 1))] * bool(sheet.steps)
      table.add_row(
        *first, *(_cell(x, bare) for x in row),
        end_section=bool(sheet.steps) and i == len(rows) - 1,
      )  # fmt: skip
  return table


def _cell(cell: Cell, bare: bool) -> Text:
  if cell is None:
    return Text("")
  if not cell:
    return Text(NOTHING)
  line = Text()
  for i, token in enumerate(cell):
    line.append(" " * (i > 0))
    line.append_text(_spelled(token, bare))
  return line


def _spelled(token: Token, bare: bool) -> Text:
  """A token in its colour, or with the number that the colour stands for."""
  piece, look = plain(token.piece), ""
  if bare:
    piece = f"*{piece}*" if token.injected else piece
    if token.bits is not None:
      number = "inf" if math.isinf(token.bits) else f"{token.bits:.0f}"
      piece += f":{number}"
  elif token.bits is not None:
    look = (*(x[2] for x in LEVELS), NEVER[1])[level(token.bits)]
  return Text(piece, f"{look} underline" if token.injected else look)


if __name__ == "__main__":
  sys.exit(main())
