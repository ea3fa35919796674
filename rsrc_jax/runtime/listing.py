"""The shipped configs as a list: what each is, costs and should give.

All of it stands in the first lines of their files, which are read, not run.
"""

import ast
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from rsrc_jax.runtime import places

WIDTH = 80


class Shipped(NamedTuple):
  """What a config says of itself."""

  name: str
  title: str  # the first line
  commands: tuple[str, ...]
  cost: str
  expect: str


def shipped(folder: Path | None = None) -> list[Shipped]:
  """All configs of a folder, by name; by default the shipped ones."""
  folder = places.configs() if folder is None else folder
  return [_read(path) for path in sorted(folder.glob("*.py"))]


def table() -> str:
  """The list for a terminal of 80 columns."""
  parts = [f"{_start()} --config=NAME runs one of these:"]
  for one in shipped():
    lines = [one.name, *_filled(one.title)]
    lines += _filled(f"Cost: {one.cost}") + _filled(f"Expect: {one.expect}")
    parts.append("\n".join(lines))
  return "\n\n".join(parts)


def _start() -> str:
  return places.command()


def _filled(text: str) -> list[str]:
  return textwrap.wrap(
    text, WIDTH, initial_indent="  ", subsequent_indent="    ",
    break_on_hyphens=False,
  )  # fmt: skip


def _read(path: Path) -> Shipped:
  said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
  commands = re.findall(r"^  (\S.*)$", said, re.M)
  part = lambda name: " ".join(
    "".join(
      re.findall(rf"(?ms)^{name}: (.+?)(?=\n\n|\nExpect: |\Z)", said)
    ).split()
  )
  title = said.partition("\n")[0]
  return Shipped(
    path.stem, title, tuple(commands), part("Cost"), part("Expect")
  )
