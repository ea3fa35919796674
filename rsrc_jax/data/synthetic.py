"""Sentences of facts from a seeded grammar whose entropy is known exactly.

Eight content slots of eight equally likely words in a fixed frame: 24 bits a
sentence, 12 tokens. Every slot has words of its own, so that an extract says
which slots it kept: kind to English. What k content words of a sentence, kept
in order, can carry is at most 3 k + log2 C(8, k) bits: 14.8 for k = 3. With
frame words, repetition and any order, which C may use when it is held to the
tokens of s, there are 234,005 codes of at most three tokens: 17.8 bits.
"""

import math

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
# The same words where they never stand in FRAME: out of distribution.
SWAPPED = {
  "giver": "taker", "taker": "giver", "number": "colour", "colour": "number",
}  # fmt: skip
STRANGE = [SWAPPED.get(name, name) for name in FRAME]
BLANKS = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ∀∃∇∂∫∏∑√∞∈∉⊂⊕⊗⇒⇔≈≤≥⌬∅"
POSITIONS = tuple(i for i, name in enumerate(FRAME) if name in SLOTS)
LENGTH = len(FRAME)
ENTROPY_BITS = float(
  sum(math.log2(len(words.split())) for words in SLOTS.values())
)


def vocabulary(size: int) -> tokenizer.Vocabulary:
  """Specials, the grammar's words, and blank symbols up to `size`."""
  words = [w for choices in SLOTS.values() for w in choices.split()]
  words += [w for w in FRAME if w not in SLOTS]
  blanks = size - len(words) - len(tokenizer.SPECIALS)
  if not 0 <= blanks <= len(BLANKS):
    least = len(words) + len(tokenizer.SPECIALS)
    raise ValueError(
      f"data.vocab_size={size}: the grammar takes "
      f"{least} to {least + len(BLANKS)}."
    )
  return tokenizer.from_words(words, list(BLANKS[:blanks]))


def sentences(
  vocab: tokenizer.Vocabulary,
  count: int,
  seed: int,
  frame: list[str] | None = None,
) -> np.ndarray:
  """`count` distinct sentences, [count, 12] int32, uniform over the grammar.

  frame: FRAME, or STRANGE.
  """
  rng = np.random.default_rng(seed)
  frame = [
    vocab.encode(SLOTS[name]) if name in SLOTS else vocab.encode(name)
    for name in frame or FRAME
  ]
  total = math.prod(len(choices) for choices in frame)
  if count > total // 4:
    raise ValueError(
      f"data.sentences={count}: at most {total // 4}, a quarter of the grammar."
    )
  facts = rng.choice(total, size=count, replace=False, shuffle=True)
  columns = []
  for choices in frame:
    facts, digit = np.divmod(facts, len(choices))
    columns.append(np.asarray(choices, np.int32)[digit])
  return np.stack(columns, -1)
