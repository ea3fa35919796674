"""The codes of a run, read from its files: tables of tokens.

RUN/samples.jsonl has s, c and d of the test split, RUN/shown.jsonl what a
pattern shows of its own work: rewrites, memories by round, questions and
answers. Reads nothing else, and needs no jax.
"""

import json
import math
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.output.plain import plain

ROWS = 8  # sources of an arm, by default
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
UNRECORDED = (
  "No surprisal is recorded: this run is older than this tool. Run it again to "
  "have its tokens coloured."
)
NEVER = ("never: its role may not write it", "#ffffff on #52606d")
# What a field is called above its column, and what it is.
COLUMNS = {
  "source": ("s", "the source"),
  "cc": ("cc", "the memory that C and D read with s and c"),
  "old": ("old", "c of the arm that this one began with"),
  "once": ("c", "the code, nothing forced"),
  "code": ("c", "the code, nothing forced"),
  "injected": ("injected", "ids that stand in the prompt of C"),
  "asked": (
    "c, controlled",
    "the code under them, nothing relaxed",
  ),
  "again": ("greedy rewrite", "old, rewritten greedily, pass after pass"),
  "chain": (
    "best of group",
    "the best of a group, if it beats its parent",
  ),
  "decoded": ("d", "what D reads in c"),
  "question": ("question", "the question to A"),
  "answer": ("answer", "what A answers, greedily, after reading c"),
  "right": ("right", "the right answer"),
}
# Fields of shown.jsonl whose tokens may be those of samples.jsonl.
ALIKE = {"code": "code", "once": "code", "decoded": "decoded"}
NUMBERED = re.compile(r"(.+)_(\d+)")


class Token(NamedTuple):
  """A piece, and what is known of it."""

  piece: str
  bits: float | None = None  # inf: may not be written; None: not recorded
  injected: bool = False


Cell = list[Token] | None  # None: this row has no such field


class Sheet(NamedTuple):
  """A table: its sources one after the other, each one row or several."""

  title: str
  steps: str  # what the rows of one source are called; "" where it is one
  columns: tuple[str, ...]  # names of fields
  entries: list[tuple[str, list[list[Cell]]]]  # source -> rows of cells
  left: int  # sources that are not shown


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
  found = [_of_samples(samples, rows)] if samples else []
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
  return found + [_of_shown(kind, x, known, rows) for kind, x in kinds.items()]


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


def _of_samples(lines: list[dict], rows: int) -> Sheet:
  """s, c and d of the test split, and codes written under injected ids."""
  injected = any("injected_pieces" in x for x in lines)
  columns = ("source", "code", *("injected", "asked") * injected, "decoded")
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


def _of_shown(
  kind: str, lines: list[tuple[int, dict]], known: dict[int, dict], rows: int
) -> Sheet:
  """What a pattern shows of itself.

  Rounds (a list of lists) and passes (again_1, again_2...) go downwards, the
  other fields stand in the first row alone.
  """
  names = {}  # fields without their numbers, in the order of the file
  steps = ""
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


def _read(path: Path, whole: Callable[[dict], bool]) -> list[dict]:
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


def _all_tokens(arms: dict[str, list[Sheet]]) -> Iterable[Token]:
  for sheets in arms.values():
    for sheet in sheets:
      for _, rows in sheet.entries:
        yield from (t for row in rows for cell in row for t in cell or ())


def recorded(arms: dict[str, list[Sheet]]) -> tuple[bool, bool]:
  """Whether any surprisal is recorded, and whether any id was injected."""
  every = list(_all_tokens(arms))
  return any(t.bits is not None for t in every), any(t.injected for t in every)


def about_columns(arms: dict[str, list[Sheet]]) -> str:
  """What the columns of all tables are, one after the other."""
  there = {x for sheets in arms.values() for s in sheets for x in s.columns}
  found = {": ".join(COLUMNS[x]): True for x in COLUMNS if x in there}
  return " · ".join(found)


def left_out(sheet: Sheet) -> str:
  """How many sources are not shown, and the flag that shows them."""
  return f"{sheet.left} more: --rows={sheet.left + len(sheet.entries)}"


def label_of(name: str) -> str:
  """The title of a column."""
  return COLUMNS[name][0] if name in COLUMNS else plain(name)
