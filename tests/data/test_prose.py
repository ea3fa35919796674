"""What counts as a sentence of prose, and what as markup around it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.data import prose, scripts

DOCSTRING = """Return the sum of two numbers, as a child does.

The order does not matter. See :func:`sum` for a *more careful*
way, e.g. The one of ``Shewchuk``.

    >>> add(1, 2)
    The answer is three here.

Example of a literal block::

    This Is Not A Sentence But Code.

    Nor Is This One After A Blank Line.

A heading with a full stop.
---------------------------

- The first item stands alone.
- The second item runs on
  over two lines of text.

The year that the book is set in is the number
1984. A list starts in no such line.

.. note:: The text of a directive is left out.
   And so is what is under it.

:param a: The text of a field is left out.
| The row of a table | is left out. |
lower case does not begin a sentence.
No full stop ends this heading
"""

MARKDOWN = """# A heading is no sentence.

Some **bold words** and a [link to it](http://x.y/z) are kept.

```python
Code in fences is left out.

Even After A Blank Line.
```

1. The first of the list is kept.
2. The second of the list is kept.

> A quotation is left out here.

<b>Markup of the web is left out.</b>
"""


def test_docstring_keeps_its_prose():
  assert prose.sentences(DOCSTRING, markup=True) == [
    "Return the sum of two numbers, as a child does.",
    "The order does not matter.",
    "See sum for a more careful way, e.g. The one of Shewchuk.",
    "The first item stands alone.",
    "The second item runs on over two lines of text.",
    "The year that the book is set in is the number 1984.",
    "A list starts in no such line.",
  ]


def test_markdown_keeps_its_prose():
  blocks = prose.paragraphs(MARKDOWN, markup=True)
  found = [s for block in blocks for s in prose.sentences(block, markup=True)]
  assert found == [
    "Some bold words and a link to it are kept.",
    "The first of the list is kept.",
    "The second of the list is kept.",
  ]


def test_plain_text_has_indents_but_no_markup():
  text = "    It was a dark\nnight in the city. - The rain\n  fell. It fell."
  assert prose.sentences(text, markup=False) == [
    "It was a dark night in the city.",
  ]
  assert prose.paragraphs("One.\n \nTwo.\n\n\n", markup=False) == [
    "One.",
    "Two.",
  ]


@pytest.mark.parametrize(
  "text",
  [
    "Call foo(x) to see the result of it.",
    "Set self.value before the first call.",
    "The name is in the snake_case of code.",
    "Too short here.",
    "The numbers are 1234567890 1234567890 12.",
    "A backslash \\n is no part of the prose.",
    "A lone surrogate \ud800 can't be encoded.",
    "Words " * 60 + "are too many.",
  ],
)
def test_code_is_not_prose(text):
  assert prose.sentences(text, markup=False) == []


def test_a_bullet_inside_a_line_stays():
  text = """Three parts have been read.

    The rope was 10 - 20 metres long in the test.
    The bridge was closed in 1969. Later trams used it.
    Two values, 'b + r' by name, are kept in the end.
      - We met Tom - the old baker - at noon.
"""
  assert prose.sentences(text, markup=True) == [
    "Three parts have been read.",
    "The rope was 10 - 20 metres long in the test.",
    "The bridge was closed in 1969.",
    "Later trams used it.",
    "Two values, 'b + r' by name, are kept in the end.",
    "We met Tom - the old baker - at noon.",
  ]


def test_ticks_in_a_line_open_no_fence():
  text = "```x``` is the first word of this.\n\nThe second is kept as well."
  assert "The second is kept as well." in prose.paragraphs(text, markup=True)


@pytest.mark.parametrize(
  "text, fault",
  [
    ("Too short.", prose.SHORT),
    ("Words " * 60 + "are too many.", prose.LONG),
    ("The numbers are 1234567890 1234567890 12.", prose.FEW_LETTERS),
    ("the first letter here is a small one.", prose.SMALL),
    ("No full stop is at the end of this", prose.NO_END),
    ("Set self.value before the first call.", prose.CODE),
    ("This one is a sentence like any other.", ""),
  ],
)
def test_each_candidate_has_its_fault(text, fault):
  assert list(prose.judged(text, markup=False)) == [(text, fault)]


def test_other_scripts():
  chinese = "他把三张红色的椅子送给了住在罗马的乔治和海伦。" * 2
  assert prose.sentences(chinese, markup=False) == [chinese[:23]] * 2


def test_text_without_blank_lines_is_cut_at_ends_of_sentences():
  sentence = "The rain fell on the roofs of the city."
  text = "\n".join([sentence] * 500)
  blocks = prose.paragraphs(text, markup=False)
  assert len(blocks) > 5
  assert max(map(len, blocks)) <= prose.BLOCK + len(sentence)
  assert "\n".join(blocks) == text


@settings(deadline=None)
@given(st.text(), st.booleans())
def test_any_text_gives_clean_sentences(text, markup):
  for block in prose.paragraphs(text, markup=markup):
    for sentence in prose.sentences(block, markup=markup):
      assert scripts.width(sentence) >= prose.SHORTEST
      assert len(sentence) <= prose.LONGEST
      assert sentence == " ".join(sentence.split())
      sentence.encode()
