"""Sentences of facts from a seeded grammar whose entropy is known exactly.

A sentence has 12 tokens: a fixed frame with eight content slots of eight
equally likely words each, which is 24 bits. Every slot has words of its own, so
an extract also shows which slots it kept. This favours English. k content words
of a sentence, kept in order, carry at most 3 k + log2 C(8, k) bits, which is
14.8 for k = 3. A code of tokens of s may also use the words of the
frame, repeat words and order them freely. There are 234,005 such codes of
at most three tokens: 17.8 bits.
"""

import math
from collections.abc import Sequence

import numpy as np

from rsrc_jax.data import tokenizer

SLOTS = {
  "giver": "peter anna david maria simon clara martin julia",
  "verb": "sent sold lent gave showed mailed offered owed",
  "number": "two three four five six seven eight nine",
  "colour": "red blue green brown black white yellow grey",
  "object": "chairs books lamps boats clocks drums coats bowls",
  "taker": "george helen oscar nina victor ellen walter iris",
  "city": "rome paris oslo cairo lima tokyo berlin delhi",
  "day": "monday tuesday wednesday thursday friday saturday sunday easter",
}
FRAME = [
  "giver",
  "verb",
  "number",
  "colour",
  "object",
  "to",
  "taker",
  "in",
  "city",
  "on",
  "day",
  ".",
]
# The words in other slots than in FRAME: out of distribution.
SWAPPED = {
  "giver": "taker", "taker": "giver", "number": "colour", "colour": "number",
}  # fmt: skip
OOD = [SWAPPED.get(name, name) for name in FRAME]
# One more clause of known words: out of distribution by length.
LONGER = [*FRAME[:-1], "to", "taker", "in", "city", "."]
# The phrases of FRAME in another order: every slot has another position.
SECOND = [
  "in", "city", "on", "day", "to", "taker",
  "giver", "verb", "number", "colour", "object", ".",
]  # fmt: skip
# The question word of each slot, which is a blank: no sentence contains it.
QUESTIONS = {
  "giver": "who",
  "verb": "how",
  "number": "many",
  "colour": "which",
  "object": "what",
  "taker": "whom",
  "city": "where",
  "day": "when",
}
# Slots that can be left out, along with their preposition.
OPTIONAL = ("city", "day")
SYMBOLS = "ικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ∀∃∇∂∫∏∑√∞∈∉⊂⊕⊗⇒⇔≈≤≥⌬∅"
BLANKS = (*QUESTIONS.values(), *SYMBOLS)


def positions(frame: Sequence[str]) -> tuple[int, ...]:
  """The positions of a frame's content slots."""
  return tuple(i for i, name in enumerate(frame) if name in SLOTS)


POSITIONS = positions(FRAME)
LENGTH = len(FRAME)
ENTROPY_BITS = float(
  sum(math.log2(len(words.split())) for words in SLOTS.values())
)
# The entropy where two slots never hold equal indices: 56 of 64 pairs are left.
WITHHELD_BITS = ENTROPY_BITS + math.log2(7 / 8)


def vocabulary(size: int, asks: bool = False) -> tokenizer.Vocabulary:
  """Specials, the grammar's words, and blank symbols up to `size`.

  Args:
    size: V.
    asks: whether the last of the V ids are tokenizer.CONTROL_TAGS. Codes may
      then not contain question words, so that a question is never mistaken for
      a part of a code.

  Raises:
    ValueError: V is too small for the words, or larger than the blanks fill.
  """
  words = [w for choices in SLOTS.values() for w in choices.split()]
  words += [w for w in FRAME if w not in SLOTS]
  least = (
    len(words) + len(tokenizer.SPECIALS) + asks * len(tokenizer.CONTROL_TAGS)
  )
  blanks = size - least
  if not 0 <= blanks <= len(BLANKS):
    raise ValueError(
      f"config.data.vocab_size={size}: the grammar takes "
      f"{least} to {least + len(BLANKS)}."
    )
  vocab = tokenizer.from_words(words, list(BLANKS[:blanks]), asks)
  pairs = questions(vocab) if asks else None
  if pairs is None:
    return vocab
  code = vocab.code & ~np.isin(np.arange(size), [q for q, _ in pairs])
  return vocab._replace(code=code)


def questions(
  vocab: tokenizer.Vocabulary,
) -> tuple[tuple[int, int], ...] | None:
  """(id of the question, position of its answer in FRAME) of each slot.

  None if the vocabulary is too small for all question words.
  """
  ids = vocab.encode(" ".join(QUESTIONS.values()))
  if tokenizer.UNKNOWN in ids:
    return None
  return tuple(zip(ids, map(FRAME.index, QUESTIONS), strict=True))


def words(vocab: tokenizer.Vocabulary) -> np.ndarray:
  """[Q, V] bool: the ids that can answer each question."""
  ids = np.arange(vocab.size)
  return np.stack([np.isin(ids, vocab.encode(SLOTS[x])) for x in QUESTIONS])


def leave_out(
  ids: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Drops each OPTIONAL phrase from a share of the sentences.

  Args:
    ids: [n, 12] int32, sentences of FRAME.
    share: of the sentences without a phrase, drawn for each phrase.
    seed: of the draw.

  Returns:
    ids [m, 12] int32 and mask [m, 12] bool, padded on the right. Of equal
    sentences only the first is kept.
  """
  keep = np.ones(ids.shape, bool)
  rng = np.random.default_rng((seed, 1))
  for phrase in OPTIONAL:
    gone = rng.random(len(ids)) < share
    keep[:, [FRAME.index(phrase) - 1, FRAME.index(phrase)]] &= ~gone[:, None]
  order = np.argsort(~keep, -1, kind="stable")
  keep = np.take_along_axis(keep, order, -1)
  ids = np.where(keep, np.take_along_axis(ids, order, -1), 0)
  _, first = np.unique(ids, axis=0, return_index=True)
  first.sort()
  return ids[first], keep[first]


def entropy_left(share: float) -> float:
  """Entropy in bits, where `share` of the OPTIONAL phrases are left out."""
  ways = [x * -math.log2(x) for x in (share, 1 - share) if x > 0]
  word = math.log2(len(SLOTS["city"].split())) * (1 - share)
  always = ENTROPY_BITS - 3 * len(OPTIONAL)
  return always + len(OPTIONAL) * (word + sum(ways))


def pair(names: str | None) -> tuple[str, str] | None:
  """Two slots as config.data.withheld names them: "object,city"; "" is None.

  Raises:
    ValueError: the names are not two of SLOTS.
  """
  if not names:
    return None
  found = tuple(name.strip() for name in names.split(","))
  if len(set(found)) != 2 or len(found) != 2 or not set(found) <= set(SLOTS):
    raise ValueError(
      f"config.data.withheld={names!r}: name two of {', '.join(SLOTS)}, with a "
      "comma between, or nothing."
    )
  return found


def sentences(
  vocab: tokenizer.Vocabulary,
  count: int,
  seed: int,
  frame: list[str] | None = None,
  withheld: tuple[str, str] | None = None,
  only_withheld: bool = False,
) -> np.ndarray:
  """Distinct sentences, all equally likely.

  Args:
    vocab: of `vocabulary`.
    count: how many.
    seed: of the draw.
    frame: FRAME, or another.
    withheld: two slots. Sentences in which both hold the word of the same index
      in SLOTS, one in eight, are left out. Where a slot occurs twice in the
      frame, its first position counts.
    only_withheld: draw those sentences, and no others.

  Returns:
    [count, len(frame)] int32.

  Raises:
    ValueError: `count` is more than a quarter of the grammar.
  """
  rng = np.random.default_rng(seed)
  frame = frame or FRAME
  choices = [
    vocab.encode(SLOTS[name]) if name in SLOTS else vocab.encode(name)
    for name in frame
  ]
  sizes, place = [len(column) for column in choices], None
  if withheld:
    # The second word is drawn as a distance from the first; 0 is withheld.
    place, other = (frame.index(name) for name in reversed(withheld))
    sizes[place] = 1 if only_withheld else sizes[place] - 1
  total = math.prod(sizes)
  if count > total // 4:
    raise ValueError(
      f"config.data.sentences={count}: at most {total // 4}, a quarter of the "
      "grammar."
    )
  facts = rng.choice(total, size=count, replace=False, shuffle=True)
  digits = []
  for size in sizes:
    facts, digit = np.divmod(facts, size)
    digits.append(digit)
  if withheld:
    digits[place] += digits[other] + (not only_withheld)
    digits[place] %= len(choices[place])
  columns = zip(choices, digits, strict=True)
  return np.stack([np.asarray(ids, np.int32)[i] for ids, i in columns], -1)
