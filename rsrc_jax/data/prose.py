"""Clean prose: the paragraphs and the sentences of a text with markup in it.

No pattern here takes more than linear time, on any line: a repeat is possessive
or bounded, or stops at what the pattern begins with.
"""

import re
from collections.abc import Iterator

from rsrc_jax.data import scripts

# Of a sentence: at least so many columns (scripts.width), at most so many
# characters.
SHORTEST, LONGEST = 20, 300
BLOCK = 2000  # a paragraph longer than this is cut at the end of a sentence

# Why a candidate is no sentence of prose, in the order in which it is asked.
SHORT = f"shorter than {SHORTEST} characters"
LONG = f"longer than {LONGEST} characters"
FEW_LETTERS = "fewer than 3 in 4 characters are letters"
SMALL = "begins with a small letter"
NO_END = "no full stop or the like at its end"
CODE = "code, markup or a path in it"

_BLANK = re.compile(r"\n\s*\n")
_FENCE = re.compile(r"^(```(?![^\n]*`)|~~~).*?(?:^\1|\Z)", re.M | re.S)
_ABBREVIATED = re.compile(r"\b(?:e\.g|i\.e|vs|cf|Dr|Mr|Mrs|Ms|St|Fig)\.\Z")
_RULER = re.compile(r"\s*[^\w\s]{3}\W*")  # underlines, borders of tables
_MARKED = re.compile(r"\s*(?:\.\. |[:@|#<>]|\[[^]]*\]:)")
_BULLET = re.compile(r"\s*(?:[-*+•]|(\d+)[.)])\s+")  # of a line: match alone
# Markup inside a sentence; captured groups are kept.
_LINK = re.compile(
  r"!?\[([^\[\]]*)\]\([^()]*(?:\([^()]*\)[^()]*)?\)"
  r"|:[\w:]{1,60}:`~?([^`<]*+)(?:<[^`]*+)?`"
)
# Beside characters that are not ASCII stars are emphasis: their scripts may
# write no spaces, and their words may end with a mark.
_EMPHASIS = re.compile(
  r"`+|(?<!\w)(?:\*\*?|__?)(?=\w)|(?<=\w)\*\*?(?!\w)"
  r"|(?<=[^\x00-\x7f])\*\*?|\*\*?(?=[^\x00-\x7f])"
)
# What no sentence of prose contains: code, paths, rules, control characters.
# Scripts from Thai on need no space before a bracket or after a full stop.
_CODE = re.compile(
  r"[<>{}\[\]|\\=_*#@^~$`\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]"
  r"|--|::|//|\s\.\w|\w\w\.(?![\u0e00-\U0010ffff])[^\W\d]"
  r"|(?![\u0e00-\U0010ffff])\w\("
)


def paragraphs(text: str, *, markup: bool) -> list[str]:
  """Blocks between blank lines, without the fenced code of a markup text.

  A block of more than BLOCK characters, such as a file without blank lines, is
  cut at the next end of a sentence.
  """
  found = []
  for block in _BLANK.split(_FENCE.sub("\n\n", text) if markup else text):
    start = 0
    for end in scripts.ENDS.finditer(block):
      if _last(end) - start >= BLOCK:
        found.append(block[start : _last(end)])
        start = end.end()
    found.append(block[start:])
  return [block for block in found if block.strip()]


def sentences(text: str, *, markup: bool) -> list[str]:
  """The sentences of a text that are clean prose, in order.

  A sentence does not begin with a small letter, in scripts that have capitals.
  It ends with a full stop or the like, has SHORTEST columns to LONGEST
  characters, of which three in four are letters or spaces, and holds no code.
  Links, roles and emphasis keep their words.

  Args:
    text: a docstring or a paragraph.
    markup: whether lines and indents may be reStructuredText or Markdown;
      doctests, literal blocks, headings, tables, directives and fields are
      then left out, and each list item is a block.

  Returns:
    Sentences with single spaces.
  """
  return [x for x, fault in judged(text, markup=markup) if not fault]


def judged(text: str, *, markup: bool) -> Iterator[tuple[str, str]]:
  """Candidates with the reason why each is no sentence; "" where it is one."""
  for block in _blocks(text) if markup else [text]:
    for part in scripts.UNMARKED_LINE.split(block):
      plain = _LINK.sub(r"\1\2", " ".join(part.split()))
      for candidate in _cut(_EMPHASIS.sub("", plain)):
        yield candidate, _fault(candidate)


def _fault(sentence: str) -> str:
  """Why a candidate is no sentence of prose, or ""."""
  if len(sentence) > LONGEST:
    return LONG
  if scripts.width(sentence) < SHORTEST:
    return SHORT
  if scripts.letters(sentence) < 0.75 * len(sentence):
    return FEW_LETTERS
  if scripts.begins_small(sentence):
    return SMALL
  if not scripts.is_complete(sentence):
    return NO_END
  return CODE if _CODE.search(sentence) else ""


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
      bullet = _BULLET.match(line)
      begins = bullet is not None and _is_item(bullet, blocks[-1])
      if begins or indent < last or indent >= last + 4:
        blocks.append([])
        line = line[bullet.end() :] if bullet else line
      blocks[-1].append(line)
      literal = indent if words.endswith("::") else None
      last = indent
  return ["\n".join(block) for block in blocks if block]


def _is_item(bullet: re.Match, block: list[str]) -> bool:
  """Whether a bullet begins a list item, and is not a number in a sentence."""
  return not (bullet[1] and block) or scripts.is_complete(block[-1].rstrip())


def _cut(text: str) -> Iterator[str]:
  """Candidates of a paragraph with single spaces, not cut at abbreviations."""
  start = 0
  for end in scripts.ENDS.finditer(text):
    last = _last(end)
    if end[0].rstrip() != "." or not _is_abbreviated(text, last):
      yield text[start:last]
      start = end.end()
  rest = text[start:]
  if len(rest) > LONGEST and scripts.UNMARKED.match(rest, len(rest) - 1):
    yield from _phrases(rest)
  elif rest:
    yield rest


def _last(end: re.Match) -> int:
  """Where the sentence ends whose end is found, without the space behind it."""
  return end.start() + len(end[0].rstrip())


def _is_abbreviated(text: str, last: int) -> bool:
  """Whether the full stop before `last` is of an abbreviation or an initial."""
  if text[last - 2 : last - 1].isupper() and (
    last == 2 or not (text[last - 3].isalnum() or text[last - 3] == "_")
  ):
    return True
  return _ABBREVIATED.search(text, max(0, last - 6), last) is not None


def _phrases(text: str) -> Iterator[str]:
  """A long text of Thai or Lao, which mark no end, cut at its spaces."""
  held = []
  for phrase in text.split(" "):
    held.append(phrase)
    if sum(map(len, held)) >= SHORTEST:
      yield " ".join(held)
      held = []
  if held:
    yield " ".join(held)
