"""Pieces as strings that can be read and told apart.

A space is "▁", as SentencePiece has it, a newline "⏎", a tab "⇥". What can't be
printed is "<U+200D>", a byte of a character "<0xE9>". So the pieces of a text,
joined, spell the text.
"""

from collections.abc import Callable, Iterable, Mapping

VISIBLE = {" ": "\u2581", "\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}
UNREADABLE = "\ufffd"  # what a decoder writes for a part of a character


def text(said: str) -> str:
  """A text with its spaces, newlines and unprintable characters shown."""
  return "".join(map(_shown, said))


def _shown(letter: str) -> str:
  if letter in VISIBLE:
    return VISIBLE[letter]
  if "\udc80" <= letter <= "\udcff":  # a byte: see errors="surrogateescape"
    return f"<0x{ord(letter) - 0xDC00:02X}>"
  if letter.isprintable() and letter not in VISIBLE.values():
    return letter
  return f"<U+{ord(letter):04X}>"


def names(
  tokens: Mapping[int, str],
  verbatim: Iterable[int],
  decode: Callable[[list[int]], str],
  size: int,
) -> tuple[list[str], frozenset[int]]:
  """How each id is shown; all strings differ, and none is empty.

  Args:
    tokens: id -> its token in the tokenizer's own spelling.
    verbatim: ids that are shown in that spelling: specials and bytes.
    decode: ids -> text.
    size: V.

  Returns:
    V strings, and the ids whose pieces are whole characters of text.
  """
  verbatim, found, seen, whole = {*verbatim}, [], set(), set()
  ordinary = [i for i in sorted(tokens) if i not in verbatim]
  # A decoder may drop the space of a first word: each piece is decoded behind
  # another one.
  anchor = next((i for i in ordinary if decode([i]).isalnum()), None)
  before = [] if anchor is None else [anchor]
  start = decode(before) if before else ""
  for i in range(size):
    name = tokens.get(i, "")
    if i in tokens and i not in verbatim:
      said = decode([*before, i]).removeprefix(start)
      if UNREADABLE in said:
        said = _bytes(name)
      else:
        whole.add(i)
      name = text(said) or name
    if not name or name in seen:
      name += f"\u27e8{i}\u27e9"
    seen.add(name)
    found.append(name)
  return found, frozenset(whole)


def _bytes(name: str) -> str:
  """A byte-level piece whose bytes are no whole characters, as text."""
  try:
    return bytes(BYTES[x] for x in name).decode("utf-8", "surrogateescape")
  except KeyError:
    return name


def _byte_letters() -> dict[str, int]:
  """The letter of each byte in byte-level pieces, as GPT-2 has it.

  Printable bytes of Latin-1 are themselves, the others follow from U+0100.
  """
  kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
  rest = [x for x in range(256) if x not in kept]
  letters = {chr(x): x for x in kept}
  return letters | {chr(0x100 + n): x for n, x in enumerate(rest)}


BYTES = _byte_letters()
