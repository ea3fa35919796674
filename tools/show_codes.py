"""The codes of a finished run, token by token: in the terminal and as a page.

  ./.venv/bin/python tools/show_codes.py RUN [--arm=code,qa] [--rows=8]

s, c, d, rewrites, memories by round, questions and answers side by side. Tokens
are coloured by surprisal; ids that were injected are underlined. Without colour
(NO_COLOR, a pipe) a number and stars say the same. Reads RUN/samples.jsonl and
RUN/shown.jsonl alone, writes RUN/codes.html (--html=PATH), and needs no jax.
"""

import argparse
import json
import math
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rsrc_jax.report import html  # noqa: E402

ROWS = 8  # of an arm, unless told
NOTHING = "—"
# Up to so many bits, exclusive: what it is called, and its looks in a terminal,
# legible on any background. Lighter to darker: the order needs no hue.
LEVELS = (
  (1.0, "< 1", ""),
  (2.0, "1 to 2", "#1f2933 on #fff3c4"),
  (4.0, "2 to 4", "#1f2933 on #fcd17a"),
  (8.0, "4 to 8", "#1f2933 on #f0883e"),
  (math.inf, "8 and more", "#ffffff on #b4301c"),
)
NEVER = ("never: its role may not write it", "#ffffff on #52606d")
# What a field is called above its column, and what it is.
COLUMNS = {
  "source": ("s", "the source"),
  "cc": ("cc", "the memory that C and D read beside s and c"),
  "old": ("old", "c of the arm that this one began with"),
  "once": ("c", "the code, nothing forced"),
  "code": ("c", "the code, nothing forced"),
  "injected": ("injected", "ids that C is asked to use"),
  "asked": ("c, asked", "the code while they are asked for, nothing relaxed"),
  "again": ("again", "old, rewritten greedily, pass after pass"),
  "chain": ("chain", "the best rewrite of a group, where it beats its parent"),
  "decoded": ("d", "what D reads in c"),
  "question": ("question", "what A is asked"),
  "answer": ("answer", "what A says, greedily, after reading c"),
  "right": ("right", "what is right to say"),
}
# Fields of shown.jsonl whose tokens may be those of samples.jsonl.
ALIKE = {"code": "code", "once": "code", "decoded": "decoded"}
NUMBERED = re.compile(r"(.+)_(\d+)")
STYLE = """
.codes{min-width:720px;margin-bottom:14px}
.codes th,.codes td{text-align:left;padding:5px 14px 5px 0;overflow-wrap:normal}
.codes tbody tr+tr>*{border-top:0}
.codes tbody tr.first>*{border-top:1px solid var(--line)}
.codes .at{color:var(--soft);white-space:nowrap;padding-right:14px}
.t{display:inline-block;margin:1px 0;padding:0 3px;border-radius:4px;
font:13.5px/1.5 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;
white-space:pre-wrap;overflow-wrap:anywhere}
.t u{text-decoration:underline;text-decoration-thickness:2px;
text-underline-offset:3px}
.b0{box-shadow:inset 0 0 0 1px var(--line)}
.b1{background:#fff3c4;color:#1f2933}.b2{background:#fcd17a;color:#1f2933}
.b3{background:#f0883e;color:#1f2933}.b4{background:#b4301c;color:#fff}
.never{background:#52606d;color:#fff}
@media (prefers-color-scheme:dark){
:root{color-scheme:dark;--ink:#e4e7eb;--soft:#a9b4c0;--faint:#8a96a3;
--line:#3a4653;--paper:#1b222a}
body{background:#11161c}thead th{border-bottom-color:#616e7c}
.b1{background:#453b12;color:#fff3c4}.b2{background:#76520f;color:#fff3dc}
.b3{background:#b4570f;color:#fff}.b4{background:#ff8a73;color:#1f0a06}
.never{background:#8a96a3;color:#11161c}}
@media print{.t{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


class Token(NamedTuple):
  """A piece, and what is known of it."""

  piece: str
  bits: float | None = None  # inf: may not be written; None: not recorded
  injected: bool = False


Cell = list[Token] | None  # None: of this row nothing is said


class Sheet(NamedTuple):
  """A table: its sources one after the other, each one row or several."""

  title: str
  steps: str  # what the rows of one source are called; "" where it is one
  columns: tuple[str, ...]  # names of fields
  entries: list[tuple[str, list[list[Cell]]]]  # source -> rows of cells
  left: int  # sources that are not shown


def main(arguments: list[str] | None = None) -> int:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("run", type=Path, metavar="RUN", help="a run directory")
  flags.add_argument(
    "--arm", action="append", default=[], help="names, comma-separated"
  )
  flags.add_argument(
    "--rows", type=int, default=ROWS, help=f"sources an arm; {ROWS} if not said"
  )
  flags.add_argument("--html", type=Path, help="RUN/codes.html if not said")
  asked = flags.parse_args(arguments)
  wanted = [x for part in asked.arm for x in part.split(",") if x]
  try:
    arms = load(asked.run, wanted, asked.rows)
    path = write(asked.run, arms, asked.html or asked.run / "codes.html")
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  # A piece may hold what the terminal's encoding does not.
  sys.stdout.reconfigure(errors="backslashreplace")
  show(arms, Console(highlight=False))
  print(path)
  return 0


def load(run: Path, wanted: list[str], rows: int) -> dict[str, list[Sheet]]:
  """The tables of each arm, in the order of samples.jsonl.

  Args:
    run: a run directory.
    wanted: arms; none of them: all.
    rows: sources of each table.

  Raises:
    ValueError: no finished run, a line that is none, an unknown arm.
  """
  if rows < 1:
    raise ValueError(f"--rows={rows}: at least 1.")
  path = run / "samples.jsonl"
  if not path.is_file():
    raise ValueError(
      f"{path} is missing: a run writes it when it ends. Give the workdir of a "
      "finished run, or go on with this one by the command that started it."
    )
  samples = _read(path, _is_sample)
  shown = run / "shown.jsonl"
  shown = _read(shown, _is_shown) if shown.is_file() else []
  names = list(dict.fromkeys(x["arm"] for x in [*samples, *shown]))
  if unknown := [x for x in wanted if x not in names]:
    raise ValueError(
      f"--arm={unknown[0]}: {run} has no such arm; it has "
      f"{', '.join(map(plain, names)) or 'none at all'}."
    )
  of = lambda lines, name: [x for x in lines if x["arm"] == name]
  return {
    name: sheets(of(samples, name), of(shown, name), rows)
    for name in names
    if not wanted or name in wanted
  }


def sheets(samples: list[dict], shown: list[dict], rows: int) -> list[Sheet]:
  """The tables of one arm, from its lines of the two files."""
  found = [_samples(samples, rows)] if samples else []
  known = {x["row"]: x for x in samples}
  kinds = {}  # of a mixed arm, "qa.answer" is the field answer of qa
  for line in shown:
    fields = {k: v for k, v in line.items() if k not in ("arm", "index")}
    parts = {}
    for name, value in fields.items():
      kind, _, field = name.rpartition(".")
      parts.setdefault(kind, {})[field] = value
    for kind, part in parts.items():
      kinds.setdefault(kind, []).append((line["index"], part))
  return found + [_shown(kind, x, known, rows) for kind, x in kinds.items()]


def tokens(line: dict, name: str) -> list[Token]:
  """A field of samples.jsonl with the surprisal of its tokens, if known."""
  pieces = line[f"{name}_pieces"]
  bits = line.get(f"{name}_surprisal")
  if bits is None:
    return [Token(x) for x in pieces]
  return [
    Token(x, math.inf if b is None else b)
    for x, b in zip(pieces, bits, strict=True)
  ]


def level(bits: float) -> int:
  """Which of LEVELS; their number for what may not be written."""
  if math.isinf(bits):
    return len(LEVELS)
  return sum(bits >= above for above, *_ in LEVELS)


def plain(text: str) -> str:
  """What may be printed: a control character would steer the terminal."""
  return "".join(
    c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(text)
  )


def show(arms: dict[str, list[Sheet]], console: Console) -> None:
  """Prints all arms, in words where the console knows no colours."""
  bare = console.no_color or console.color_system is None
  for line in _legend(arms, bare):
    console.print(line)
  for name, parts in arms.items():
    console.print(Rule(Text(plain(name), "bold"), align="left"))
    for sheet in parts:
      console.print(Text(plain(sheet.title), "bold"))
      console.print(_table(sheet, bare))
      if sheet.left:
        console.print(Text(_left(sheet)), style="dim")


def write(run: Path, arms: dict[str, list[Sheet]], path: Path) -> Path:
  """Writes the page; -> its path.

  Raises:
    ValueError: it can't be written there.
  """
  try:
    path.write_text(page(run.resolve().name, arms), encoding="utf-8")
  except OSError as error:
    raise ValueError(
      f"{path} can't be written ({error.strerror}): give another place by "
      "--html=PATH."
    ) from None
  return path


def page(name: str, arms: dict[str, list[Sheet]]) -> str:
  """The whole document; it asks for nothing outside itself."""
  css = (ROOT / "rsrc_jax" / "report" / "page.css").read_text(encoding="utf-8")
  body = "".join(
    html.section(plain(arm), "".join(map(_html, parts)))
    for arm, parts in arms.items()
  )
  name = _text(name)
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{name} · codes</title><style>{css}{STYLE}</style></head>\n<body>"
    '<main><header><p class="over">rsrc-jax · codes of a run</p>'
    f"<h1>{name}</h1></header>\n{_html_legend(arms)}{body}</main></body>"
    "</html>\n"
  )


def _samples(lines: list[dict], rows: int) -> Sheet:
  """s, c and d of the test split; what was asked for, where something was."""
  asked = any("injected_pieces" in x for x in lines)
  columns = ("source", "code", *("injected", "asked") * asked, "decoded")
  entries = []
  for line in lines[:rows]:
    cells = {x: tokens(line, x) for x in ("source", "code", "decoded")}
    if "injected_pieces" in line:
      cells["injected"] = [
        Token(x, injected=True) for x in line["injected_pieces"]
      ]
      cells["asked"] = [
        Token(x, injected=mark)
        for x, mark in zip(
          line["asked_code_pieces"], line["asked_code_injected"], strict=True
        )
      ]
    entries.append((str(line["row"]), [[cells.get(x) for x in columns]]))
  left = len(lines) - len(entries)
  return Sheet("held-out sources", "", columns, entries, left)


def _shown(
  kind: str, lines: list[tuple[int, dict]], known: dict[int, dict], rows: int
) -> Sheet:
  """What a pattern shows of itself.

  Rounds (a list of lists) and passes (again_1, again_2...) go downwards, the
  other fields stand in the first row alone.
  """
  names, steps = (
    {},
    "",
  )  # fields without their numbers, in the order of the file
  for _, fields in lines:
    for name, value in fields.items():
      names[_numbered(name)[0]] = True
      if _nested(value):
        steps = "round"
      elif _numbered(name)[1]:
        steps = steps or "pass"
  order = [*COLUMNS, *names].index
  columns = tuple(sorted(names, key=order))
  entries = []
  for index, fields in lines[:rows]:
    cells = {}  # (name, row) -> cell
    for name, value in fields.items():
      name, number = _numbered(name)
      parts = value if _nested(value) else [value]
      for i, pieces in enumerate(parts):
        cells[name, max(number - 1, 0) + i] = _alike(
          name, pieces, fields, known.get(index, {})
        )
    count = 1 + max(row for _, row in cells)
    entries.append(
      (str(index), [[cells.get((x, i)) for x in columns] for i in range(count)])
    )
  title = f"what {kind} shows of itself" if kind else "what it shows of itself"
  return Sheet(title, steps, columns, entries, len(lines) - len(entries))


def _alike(name: str, pieces: list[str], fields: dict, line: dict) -> Cell:
  """Tokens, with their surprisal where samples.jsonl has the very same ones."""
  same = ALIKE.get(name)
  if (
    same
    and fields.get("source") == line.get("source_pieces")
    and pieces == line.get(f"{same}_pieces")
  ):
    return tokens(line, same)
  return [Token(x) for x in pieces]


def _numbered(name: str) -> tuple[str, int]:
  """again_2 -> again, 2; 0 for a name without a number."""
  found = NUMBERED.fullmatch(name)
  return (found[1], int(found[2])) if found else (name, 0)


def _nested(value: list) -> bool:
  return bool(value) and isinstance(value[0], list)


def _read(path: Path, whole) -> list[dict]:
  """Lines of JSON, all of them `whole`.

  Raises:
    ValueError: one is not, or there is none.
  """
  # Not splitlines(): a piece may hold what Unicode calls a newline.
  text = path.read_bytes().decode("utf-8", "surrogateescape")
  lines = []
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    try:
      value = json.loads(line)
    except ValueError:
      value = None
    if not (isinstance(value, dict) and whole(value)):
      raise ValueError(
        f"{path}, line {number} is not a whole line of a run: it was cut short "
        "or edited. Copy the file anew, or take that line out: "
        f"sed -i {number}d {shlex.quote(str(path))}"
      )
    lines.append(value)
  if not lines:
    raise ValueError(
      f"{path} is empty: nothing was sampled. Set config.eval.samples to at "
      "least 1 and run it again."
    )
  return lines


def _is_sample(line: dict) -> bool:
  pieces = {k: v for k, v in line.items() if k.endswith("_pieces")}
  needed = {"source_pieces", "code_pieces", "decoded_pieces"}
  if "injected_pieces" in line:
    needed |= {"asked_code_pieces"}
    marks = line.get("asked_code_injected")
    if not _each(marks, bool) or len(marks) != len(
      line.get("asked_code_pieces") or ()
    ):
      return False
  bits = [(x, line.get(f"{x}_surprisal")) for x in ("code", "decoded")]
  return (
    isinstance(line.get("arm"), str)
    and type(line.get("row")) is int
    and needed <= set(pieces)
    and all(_each(x, str) for x in pieces.values())
    and all(
      x is None
      or (
        _each(x, float, int, type(None))
        and len(x) == len(pieces[f"{name}_pieces"])
      )
      for name, x in bits
    )
  )


def _is_shown(line: dict) -> bool:
  fields = [v for k, v in line.items() if k not in ("arm", "index")]
  return (
    isinstance(line.get("arm"), str)
    and type(line.get("index")) is int
    and bool(fields)
    and all(
      _each(x, str) or (_each(x, list) and all(_each(y, str) for y in x))
      for x in fields
    )
  )


def _each(values: Any, *types: type) -> bool:
  return isinstance(values, list) and all(type(x) in types for x in values)


def _every(arms: dict[str, list[Sheet]]) -> Iterable[Token]:
  for parts in arms.values():
    for sheet in parts:
      for _, rows in sheet.entries:
        yield from (t for row in rows for cell in row for t in cell or ())


def _said(arms) -> tuple[bool, bool]:
  """Whether any surprisal is recorded, and whether any id was injected."""
  every = list(_every(arms))
  return any(t.bits is not None for t in every), any(t.injected for t in every)


UNRECORDED = (
  "No surprisal is recorded: this run is older than this tool. Run it anew to "
  "have its tokens coloured."
)


def _legend(arms, bare: bool) -> list[Text]:
  surprisal, injected = _said(arms)
  lines = [Text(_about(arms))]
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


def _about(arms: dict[str, list[Sheet]]) -> str:
  """What the columns of all tables are, one after the other."""
  there = {x for parts in arms.values() for s in parts for x in s.columns}
  found = {": ".join(COLUMNS[x]): True for x in COLUMNS if x in there}
  return " · ".join(found)


def _left(sheet: Sheet) -> str:
  return f"{sheet.left} more: --rows={sheet.left + len(sheet.entries)}"


def _table(sheet: Sheet, bare: bool) -> Table:
  table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
  table.add_column("row", no_wrap=True)
  if sheet.steps:
    table.add_column(sheet.steps, no_wrap=True)
  for name in sheet.columns:
    table.add_column(Text(_label(name)), overflow="fold")
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


def _label(name: str) -> str:
  return COLUMNS[name][0] if name in COLUMNS else plain(name)


def _html(sheet: Sheet) -> str:
  """A table under its title."""
  at = ["row", *[sheet.steps] * bool(sheet.steps)]
  head = "".join(f'<th scope="col" class="at">{_text(x)}</th>' for x in at)
  head += "".join(
    f'<th scope="col">{_text(_label(name))}</th>' for name in sheet.columns
  )
  body = ""
  for title, rows in sheet.entries:
    for i, row in enumerate(rows):
      cells = ""
      if not i:
        span = f' rowspan="{len(rows)}"' * (len(rows) > 1)
        cells += f'<th scope="row" class="at"{span}>{_text(title)}</th>'
      if sheet.steps:
        cells += f'<td class="at">{i + 1}</td>'
      cells += "".join(
        _html_cell(rows, i, column) for column in range(len(row))
      )
      first = ' class="first"' * (not i)
      body += f"<tr{first}>{cells}</tr>\n"
  left = f"<p><small>{_text(_left(sheet))}</small></p>" if sheet.left else ""
  return (
    f"<h3>{_text(sheet.title)}</h3>"
    f'<div class="wide"><table class="codes"><thead><tr>{head}</tr></thead>'
    f"<tbody>{body}</tbody></table></div>{left}\n"
  )


def _html_cell(rows: list[list[Cell]], i: int, column: int) -> str:
  """A cell, as high as what stands in the first row of its source alone."""
  others = [row[column] for row in rows[1:]]
  alone = bool(others) and all(x is None for x in others)
  if alone and i:
    return ""
  span = f' rowspan="{len(rows)}"' * alone
  cell = rows[i][column]
  inside = "" if cell is None else " ".join(map(_html_token, cell)) or NOTHING
  return f"<td{span}>{inside}</td>"


def _html_token(token: Token) -> str:
  look, said = "t", []
  if token.bits is not None:
    number = level(token.bits)
    never = number == len(LEVELS)
    look += " never" if never else f" b{number}"
    said.append("may not be written" if never else f"{token.bits:.2f} bits")
  piece = _text(token.piece)
  if token.injected:
    said.append("injected")
    piece = f"<u>{piece}</u>"
  title = f' title="{", ".join(said)}"' if said else ""
  return f'<span class="{look}"{title}>{piece}</span>'


def _html_legend(arms) -> str:
  surprisal, injected = _said(arms)
  scale = "".join(
    f' <span class="t b{i}">{_text(label)}</span>'
    for i, (_, label, _) in enumerate(LEVELS)
  )
  scale += f' <span class="t never">{_text(NEVER[0])}</span>'
  about = (
    "Colour: the surprisal of a token in bits, -log2 of its probability, of c "
    "under C given s and of d under D given c:"
  )
  lines = [_text(_about(arms))]
  lines.append(f"{about}{scale}" if surprisal else _text(UNRECORDED))
  if injected:
    mark = '<span class="t"><u>underlined</u></span>'
    lines.append(f"{mark} an id that was injected")
  body = "".join(f'<p class="legend">{x}</p>' for x in lines)
  return f"<section>{body}</section>\n"


def _text(value: Any) -> str:
  return html.text(plain(value))


if __name__ == "__main__":
  sys.exit(main())
