"""What scripts differ in: ends of sentences, letters, marks, widths, words.

The standard library's unicodedata has categories and widths, but not the
property Sentence_Terminal, which is a table here.
"""

import re
import unicodedata

# Sentence_Terminal of PropList.txt, as first-last in hexadecimal.
UNICODE = "14.0.0"
SENTENCE_TERMINAL = """
  21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362
  1367-1368 166E 1735-1736 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F
  1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 2E53-2E54 3002
  A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F
  AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59
  10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF
  11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642
  1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8
  16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88
"""
# Ends that the property lacks, or has in later versions only: the shads of
# Tibetan, the khans of Khmer, the ellipsis.
MORE_TERMINALS = "F0D-F12 17D4-17D5 2026"
# Greek asks with a semicolon. Thai and Lao have no mark: a line is a sentence.
_GREEK = "\u0370-\u03ff\u1f00-\u1fff"
_UNMARKED = "\u0e00-\u0eff"
CLOSERS = "\"')”’»›」』】〕》〉）］"  # what may follow an end
MOST_CLOSERS = 3


def _characters(table: str) -> str:
  """The characters of a table of first-last in hexadecimal."""
  found = []
  for part in table.split():
    first, _, last = part.partition("-")
    found += map(chr, range(int(first, 16), int(last or first, 16) + 1))
  return "".join(found)


TERMINALS = _characters(f"{SENTENCE_TERMINAL} {MORE_TERMINALS}")
# After these a sentence ends at a space alone: they are in numbers and names.
_SPACED = "".join(
  c for c in TERMINALS if c < "\u0100" or "\u2000" <= c < "\u2e80" or c == "﹒"
)
_OTHERS = "".join(c for c in TERMINALS if c not in _SPACED)

_QUESTION = rf"(?<=[{_GREEK}])[\u0300-\u036f]{{0,2}};"  # with loose accents
# Ends of sentences with the space behind them. Runs of terminals are entered at
# their first character alone and never given back, so that time is linear.
_T, _S, _O, _C = map(re.escape, (TERMINALS, _SPACED, _OTHERS, CLOSERS))
ENDS = re.compile(
  rf"(?<![{_T}])(?:"
  rf"[{_T}]++[{_C}]{{0,{MOST_CLOSERS}}}+\s+"
  rf"|[{_S}]*+[{_O}][{_T}]*+[{_C}]{{0,{MOST_CLOSERS}}}+(?!\d)\s*)"
  rf"|{_QUESTION}[{_C}]{{0,{MOST_CLOSERS}}}+\s+"
)
_COMPLETE = re.compile(
  rf"(?:[{_T}]|{_QUESTION})[{_C}]{{0,{MOST_CLOSERS}}}|[{_UNMARKED}]"
)
UNMARKED = re.compile(rf"[{_UNMARKED}]")
UNMARKED_LINE = re.compile(rf"(?<=[{_UNMARKED}])[ \t\r]*\n")

# Spaces that no script calls one: between Tibetan syllables, Ethiopic words and
# words of Khmer, Burmese and Thai.
_SPACES = "\u0f0b\u0f0c\u1361\u200b"


def is_complete(text: str) -> bool:
  """Whether a text ends as a sentence does; closing quotes may follow."""
  least = max(0, len(text) - MOST_CLOSERS - 3)
  return any(
    _COMPLETE.fullmatch(text, i) is not None for i in range(least, len(text))
  )


def begins_small(text: str) -> bool:
  """Whether it begins with a small letter, in a script that has capitals.

  Georgian has small letters, but begins sentences with them.
  """
  first = text[:1]
  return first.islower() and first.title() != first


def letters(text: str) -> int:
  """How many characters are letters, marks on them, or between words."""
  return len(text) - len(text.translate(_NO_LETTERS))


def width(text: str) -> int:
  """Its length, where Chinese, Japanese and Korean characters count twice.

  They say about as much as two letters do.
  """
  if text.isascii():
    return len(text)
  return len(text) + sum(map(_is_wide, text))


def words(text: str) -> tuple[str, ...]:
  """The words of a text, without case and punctuation.

  Marks belong to the word, composed or not. Each character of Chinese and
  Japanese is a word. In Thai, Lao, Khmer and Burmese, where only a dictionary
  tells words apart, a word is what stands between spaces.
  """
  text = text.casefold()
  if text.isascii():
    return tuple(_ASCII_WORD.findall(text))
  return tuple(unicodedata.normalize("NFC", text).translate(_WORDS).split())


_ASCII_WORD = re.compile(r"\w+", re.ASCII)


def _is_wide(c: str) -> bool:
  return unicodedata.east_asian_width(c) in "WF"


def _is_mark(c: str) -> bool:
  return unicodedata.category(c)[0] == "M"


class _NoLetters(dict):
  """For str.translate: only what is neither letter, mark nor space is kept."""

  def __missing__(self, code: int) -> int | None:
    c = chr(code)
    counted = c.isalpha() or c.isspace() or c in _SPACES or _is_mark(c)
    self[code] = None if counted or unicodedata.category(c) == "Cf" else code
    return self[code]


class _Words(dict):
  """For str.translate: word characters stay, others become spaces.

  Format characters, such as joiners and marks of direction, go.
  """

  def __missing__(self, code: int) -> int | str | None:
    c, kept = chr(code), code
    if c in _SPACES:
      kept = " "
    elif unicodedata.category(c) == "Cf":
      kept = None
    elif c.isalnum() and _is_wide(c) and not "\uac00" <= c <= "\ud7a3":
      kept = f" {c} "  # but a Korean word has spaces around it
    elif not (c.isalnum() or c == "_" or _is_mark(c)):
      kept = " "
    self[code] = kept
    return kept


_NO_LETTERS, _WORDS = _NoLetters(), _Words()
