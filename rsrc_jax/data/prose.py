"""Clean prose: the paragraphs and the sentences of a text with markup in it."""

import re

SHORTEST, LONGEST = 20, 300  # of a sentence, in characters
BLOCK = 2000  # a paragraph longer than this is cut at the end of a sentence

_BLANK = re.compile(r"\n\s*\n")
_FENCE = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.M | re.S)
_ENDS = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"')”’]))\s+|(?<=[。！？।])\s*")
_COMPLETE = re.compile(r"[.!?…。！？।][\"')”’]?$")
_ABBREVIATED = re.compile(r"\b(?:e\.g|i\.e|vs|cf|Dr|Mr|Mrs|Ms|St|Fig|[A-Z])\.$")
_RULER = re.compile(r"\s*[^\w\s]{3,}[^\w]*")  # underlines, borders of tables
_MARKED = re.compile(r"\s*(?:\.\. |[:@|#<>]|\[[^]]*\]:)")
_BULLET = re.compile(r"\s*(?:[-*+•]|(\d+)[.)])\s+")
# Markup inside a sentence; captured groups are kept.
_LINK = re.compile(r"!?\[([^]]*)\]\([^)]*\)|:[\w:]+:`~?([^`<]*)[^`]*`")
_EMPHASIS = re.compile(r"`+|(?<!\w)(?:\*\*?|__?)(?=\w)|(?<=\w)\*\*?(?!\w)")
# What no sentence of prose contains: code, paths, rules, control characters.
_CODE = re.compile(
  r"[<>{}\[\]|\\=_*#@^~$`\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]"
  r"|--|::|//|\s\.\w|\w\w\.[^\W\d]|\w\("
)


def paragraphs(text: str, *, markup: bool) -> list[str]:
  """Blocks between blank lines, without the fenced code of a markup text.

  A block of more than BLOCK characters, such as a file without blank lines, is
  cut at the next end of a sentence.
  """
  found = []
  for block in _BLANK.split(_FENCE.sub("\n\n", text) if markup else text):
    start = 0
    for end in _ENDS.finditer(block):
      if end.start() - start >= BLOCK:
        found.append(block[start : end.start()])
        start = end.end()
    found.append(block[start:])
  return [block for block in found if block.strip()]


def sentences(text: str, *, markup: bool) -> list[str]:
  """The sentences of a text that are clean prose, in order.

  A sentence does not begin with a small letter, ends with a full stop or the
  like, has SHORTEST to LONGEST characters, of which three in four are letters
  or spaces, and holds no code. Links, roles and emphasis keep their words.

  Args:
    text: a docstring or a paragraph.
    markup: whether lines and indents may be reStructuredText or Markdown;
      doctests, literal blocks, headings, tables, directives and fields are
      then left out, and each list item is a block.

  Returns:
    Sentences with single spaces.
  """
  found = []
  for block in _blocks(text) if markup else [text]:
    plain = _LINK.sub(r"\1\2", " ".join(block.split()))
    for sentence in _cut(_EMPHASIS.sub("", plain)):
      letters = sum(c.isalpha() or c.isspace() for c in sentence)
      if (
        SHORTEST <= len(sentence) <= LONGEST
        and letters >= 0.75 * len(sentence)
        and not sentence[0].islower()
        and _COMPLETE.search(sentence)
        and not _CODE.search(sentence)
      ):
        found.append(sentence)
  return found


def _blocks(text: str) -> list[str]:
  """Runs of lines of continuous text, without lines of markup."""
  blocks = [[]]
  literal = None  # the indent that ends a literal block or a directive
  doctest = False  # until a blank line
  last = 0  # indent of the line before
  for line in text.split("\n"):
    words = line.strip()
    indent = len(line) - len(line.lstrip())
    doctest = bool(words) and (doctest or words.startswith(">>>"))
    if not words or doctest:
      blocks.append([])
    elif literal is not None and indent > literal:
      continue
    elif _RULER.fullmatch(line):
      blocks[-1] = []  # the heading above it
    elif _MARKED.match(line):
      blocks.append([])
      literal = indent if words.startswith("..") else None
    else:
      if _begins(line, blocks[-1]) or indent < last or indent >= last + 4:
        blocks.append([])
        line = _BULLET.sub("", line, count=1)
      blocks[-1].append(line)
      literal = indent if words.endswith("::") else None
      last = indent
  return [" ".join(block) for block in blocks if block]


def _begins(line: str, block: list[str]) -> bool:
  """Whether a line begins a list item, not only with a number."""
  bullet = _BULLET.match(line)
  if bullet is None or bullet[1] is None or not block:
    return bullet is not None
  return _COMPLETE.search(block[-1]) is not None


def _cut(text: str) -> list[str]:
  """Sentences of a paragraph, not split at abbreviations."""
  found = [""]
  for piece in _ENDS.split(text):
    if found[-1] and not _ABBREVIATED.search(found[-1]):
      found.append(piece)
    else:
      found[-1] = f"{found[-1]} {piece}".strip()
  return found
