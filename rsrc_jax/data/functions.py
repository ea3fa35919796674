"""Short Python functions: the other text that comes with every installation.

A function is a whole `def` of a module or a class, as ast.unparse writes it:
without its docstring and comments, from the left margin, one space an indent,
since a space more is a token more. Nothing is imported or run. What is kept
parses to the same tree as the function that was read.

The unit of a split is a file (locked.read).
"""

import ast
import re
import warnings

from rsrc_jax.data import left_out

# Characters of a function. One that is longer than LINES lines is not written
# out at all.
SHORTEST, LONGEST, LINES = 40, 400, 40
FUNCTIONS = "functions"  # the kind of a row of the table
NO_BODY = "nothing but a docstring, pass or ..."
SHORT = f"shorter than {SHORTEST} characters"
LONG = f"longer than {LONGEST} characters or {LINES} lines"
OTHER = "not the same with one space an indent"

_INDENT = re.compile(r"^(?: {4})+", re.M)
_DEF = (ast.FunctionDef, ast.AsyncFunctionDef)


def of_source(text: str, left: left_out.Tally | None = None) -> list[str]:
  """The short functions of a Python source, in their order.

  Functions in functions are in the text of the outer ones. left: counts the
  functions that are left out, by name.

  Raises:
    SyntaxError: it is not Python. RecursionError and others: see ast.parse.
  """
  left, found = {} if left is None else left, []
  for node in _outermost(parsed(text)):
    written, fault = _written(node)
    if fault:
      left_out.add(left, FUNCTIONS, fault, node.name)
    else:
      found.append(written)
  return found


def parsed(text: str) -> ast.Module:
  """The tree of a Python source, without warnings of what is odd in it."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return ast.parse(text)


def parses(text: str) -> ast.Module | None:
  """Its tree where it is Python that says something; None where it is not."""
  try:
    tree = parsed(text)
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None
  return tree if tree.body else None


def defines(text: str) -> bool:
  """Whether a text is Python and nothing but one whole function."""
  tree = parses(text)
  return tree is not None and len(tree.body) == 1 and _is_def(tree.body[0])


def _is_def(node: ast.AST) -> bool:
  return isinstance(node, _DEF)


def _outermost(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
  """The functions that are in no other function, as they stand in the file."""
  found = []
  for node in ast.iter_child_nodes(tree):
    if _is_def(node):
      found.append(node)
    elif not isinstance(node, ast.expr):  # no expression holds a def
      found += _outermost(node)
  return found


def _written(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, str]:
  """A function as its text, and why it is left out, or ""."""
  if ast.get_docstring(node, clean=False) is not None:
    node.body = node.body[1:]
  if all(map(_says_nothing, node.body)):
    return "", NO_BODY
  if node.end_lineno - node.body[0].lineno >= LINES:
    return "", LONG
  full = ast.unparse(node)
  text = _INDENT.sub(lambda found: " " * (len(found[0]) // 4), full)
  if len(text) > LONGEST:
    return "", LONG
  if len(text) < SHORTEST:
    return "", SHORT
  tree = parses(text)
  same = tree is not None and ast.dump(tree) == ast.dump(parsed(full))
  return text, "" if same else OTHER


def _says_nothing(node: ast.stmt) -> bool:
  """Whether a statement is `pass` or `...`."""
  dots = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
  return isinstance(node, ast.Pass) or (dots and node.value.value is ...)
