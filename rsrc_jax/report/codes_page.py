"""The codes of a run as a page that loads nothing from outside itself."""

import errno
import os
from pathlib import Path
from typing import Any

from rsrc_jax.output import files
from rsrc_jax.output.plain import plain
from rsrc_jax.report import html
from rsrc_jax.report.codes import (
  LEVELS,
  NEVER,
  NOTHING,
  UNRECORDED,
  Cell,
  Sheet,
  Token,
  about_columns,
  label_of,
  left_out,
  level,
  recorded,
)

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


def write(run: Path, arms: dict[str, list[Sheet]], path: Path) -> Path:
  """Writes the page; -> its path.

  Raises:
    ValueError: it can't be written there.
  """
  try:
    if not path.parent.is_dir():  # or a wrong path would make folders
      raise NotADirectoryError(errno.ENOENT, os.strerror(errno.ENOENT))
    files.write_text(path, page(run.resolve().name, arms))
  except OSError as error:
    raise ValueError(
      f"{path} can't be written ({error.strerror}): give another place by "
      "--html=PATH."
    ) from None
  return path


def page(name: str, arms: dict[str, list[Sheet]]) -> str:
  """The whole document."""
  body = "".join(
    html.section(plain(arm), "".join(map(_html, sheets)))
    for arm, sheets in arms.items()
  )
  top = html.header("codes of a run", name) + _html_legend(arms)
  return html.document(f"{name} · codes", top + body, STYLE)


def _html(sheet: Sheet) -> str:
  """A table under its title."""
  at = ["row", *[sheet.steps] * bool(sheet.steps)]
  head = "".join(f'<th scope="col" class="at">{_text(x)}</th>' for x in at)
  head += "".join(
    f'<th scope="col">{_text(label_of(name))}</th>' for name in sheet.columns
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
  left = f"<p><small>{_text(left_out(sheet))}</small></p>" if sheet.left else ""
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
  look, title = "t", []
  if token.bits is not None:
    number = level(token.bits)
    never = number == len(LEVELS)
    look += " never" if never else f" b{number}"
    title.append("may not be written" if never else f"{token.bits:.2f} bits")
  piece = _text(token.piece)
  if token.injected:
    title.append("injected")
    piece = f"<u>{piece}</u>"
  shown = f' title="{", ".join(title)}"' if title else ""
  return f'<span class="{look}"{shown}>{piece}</span>'


def _html_legend(arms: dict[str, list[Sheet]]) -> str:
  surprisal, injected = recorded(arms)
  scale = "".join(
    f' <span class="t b{i}">{_text(label)}</span>'
    for i, (_, label, _) in enumerate(LEVELS)
  )
  scale += f' <span class="t never">{_text(NEVER[0])}</span>'
  colour = (
    "Colour: the surprisal of a token in bits, -log2 of its probability, of c "
    "under C given s and of d under D given c:"
  )
  lines = [_text(about_columns(arms))]
  lines.append(f"{colour}{scale}" if surprisal else _text(UNRECORDED))
  if injected:
    mark = '<span class="t"><u>underlined</u></span>'
    lines.append(f"{mark} an id that was injected")
  body = "".join(f'<p class="legend">{x}</p>' for x in lines)
  return f"<section>{body}</section>\n"


def _text(value: Any) -> str:
  return html.text(plain(value))
