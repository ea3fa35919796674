"""The sizes that CONTRIBUTING.md promises, measured."""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "rsrc_jax").rglob("*.py"))
LINES, MEDIAN, FUNCTION = 400, 180, 100


def lines(path: Path) -> int:
  return path.read_text().count("\n")


def test_files_are_short_but_for_those_that_are_named():
  named = (ROOT / "CONTRIBUTING.md").read_text()
  long = [str(x.relative_to(ROOT)) for x in FILES if lines(x) > LINES]
  assert [x for x in long if x not in named] == []
  assert statistics.median(map(lines, FILES)) <= MEDIAN


def test_functions_are_short():
  long = [
    f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
    for folder in ("rsrc_jax", "experiments", "benchmarks", "tools", "configs")
    for path in sorted((ROOT / folder).rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    and node.end_lineno - node.lineno >= FUNCTION
  ]
  assert long == []


def test_every_folder_says_what_lives_there():
  for folder in sorted({x.parent for x in FILES} - {ROOT / "rsrc_jax"}):
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert said and len(said.splitlines()) >= 2, folder
