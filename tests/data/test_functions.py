"""Functions of Python sources: which are taken, and how they are written."""

import ast

from rsrc_jax.data import functions, left_out, locked, text

SOURCE = '''
"""A module."""
import os

X = lambda x: x

@cache
def first(a: int, *, b=1):
    """Says nothing."""
    # A comment.
    for x in range(a):
        if x:
            b += x   # another
    return (b)

class K:
    def method(self):
        "Its docstring."
        def inner():
            return self.value + 1
        return inner() if self else "four    spaces"

    async def other(self, there):
        return await self.method(there, there)

    def nothing(self):
        """Only this."""

    def dots(self): ...

if X:
    def short(): return 1
    def long():
        return "LONG"
'''.replace("LONG", "l" * 400)


def test_functions_of_a_source():
  left = {}
  found = functions.of_source(SOURCE, left)
  assert found == [
    "@cache\ndef first(a: int, *, b=1):\n for x in range(a):\n  if x:\n"
    "   b += x\n return b",
    "def method(self):\n\n def inner():\n  return self.value + 1\n"
    " return inner() if self else 'four    spaces'",
    "async def other(self, there):\n return await self.method(there, there)",
  ]
  assert all(map(functions.defines, found))
  rows = {row.reason: (row.count, row.kind) for row in left_out.table(left)}
  assert rows == {
    functions.NO_BODY: (2, "functions"),
    functions.SHORT: (1, "functions"),
    functions.LONG: (1, "functions"),
  }


def test_what_an_indent_would_change_is_left_out(monkeypatch):
  """A string over several lines, as some Pythons write an f-string."""
  node = ast.parse("def f(x):\n    return g(x, x, x, x, x, x, x, x)").body[0]
  written, fault = functions._written(node)
  assert not fault and written.count("\n ") == 1
  lines = 'def f(x):\n    return """\n    so many words of it"""'
  monkeypatch.setattr(functions.ast, "unparse", lambda _: lines)
  assert functions._written(node)[1] == functions.OTHER


def test_what_is_python():
  assert functions.parses("x = 1") and not functions.defines("x = 1")
  assert functions.defines("def f(): pass")
  assert not functions.defines("def f(): pass\nf()")
  for wrong in ("", "  ", "# only this", "def f(:", "\0", "(" * 300, "\ud800"):
    assert functions.parses(wrong) is None, wrong


def test_files_that_are_no_python_are_counted(tmp_path):
  (tmp_path / "bad.py").write_text("print 'x'\n")
  (tmp_path / "odd.py").write_bytes(b"\xff\xfe")
  (tmp_path / "good.py").write_text(SOURCE)
  files = [(x.name, x) for x in sorted(tmp_path.iterdir())]
  stored = locked._functions(locked.Found([], files, {}, {}))
  ((name, kept),) = stored["cuts"]
  assert name == "good.py" and len(kept) == 3
  (wrong,) = (x for x in stored["left"] if x.kind == left_out.FILES)
  assert wrong.count == 2 and wrong.examples == ("bad.py", "odd.py")
  assert locked.word("functions") == locked.FUNCTIONS


def test_functions_of_numpy_are_the_other_kind():
  found = text._other_functions([])
  assert len(found) > 200 and all(map(functions.defines, found))
