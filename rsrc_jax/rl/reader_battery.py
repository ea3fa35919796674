"""Decodes that say nothing of s, written to be paid by the reader all the same.

A reader that scores one of them above its word for an empty d, which is 0, pays
for something other than s, and is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rsrc_jax.types import Tokens

TRUE = "s"  # the name of s itself among the decodes
FREQUENT = 8  # ids of the attack that repeats the most frequent ones
# What each attack says, for the line that names it.
SAYS = {
  "empty": "an empty d",
  "other": "the sentence of another source",
  "frequent": "the most frequent tokens, repeated",
  "repeated": "one token, repeated",
  "permutation": "random ids of the vocabulary",
  "tags": "the tags of prompts",
  "glued": "half of one other sentence and half of a second",
  "concatenated": "other sentences one behind the other",
  "interleaved": "two other sentences, token by token",
  "replaced": "s with all its facts replaced",
}


def attacks(
  s: Tokens,
  length: int,
  *,
  counts: np.ndarray,
  tags: list[int],
  slots: tuple[int, ...] | None,
  seed: int,
) -> dict[str, Tokens]:
  """The decodes by name, each of `length` slots; s itself is among them.

  Args:
    s: sources [n, S], as NumPy arrays; n at least 8.
    length: the most tokens of a decode, T.
    counts: how often each id stands in the corpus, [V].
    tags: ids of the prompts' tags and separators.
    slots: positions of the facts in s; None: there are none, and no attack
      "replaced".
    seed: of what is random in them.
  """
  rows = [ids[mask].tolist() for ids, mask in zip(*s, strict=True)]
  n, rng = len(rows), np.random.default_rng(seed)
  # Sources far away: neighbours of text stand in one document.
  far = lambda parts: rows[n // parts :] + rows[: n // parts]
  a, b = far(2), far(4)
  words = np.flatnonzero(counts)
  frequent = np.argsort(-counts, kind="stable")[: min(FREQUENT, len(words))]
  half = lambda x: x[: len(x) // 2]
  rest = lambda x: x[len(x) // 2 :]
  found = {
    TRUE: rows,
    "empty": [[]] * n,
    "other": a,
    "frequent": [np.resize(frequent, length)] * n,
    "repeated": [np.resize(x, length) for x in rng.choice(words, n)],
    "permutation": [rng.permutation(len(counts))[:length] for _ in rows],
    "tags": [np.resize(tags, length)] * n,
    "glued": [half(x) + rest(y) for x, y in zip(a, b, strict=True)],
    "concatenated": [_joined(rows, r + n // 2, length) for r in range(n)],
    "interleaved": [
      [z for pair in zip(x, y, strict=False) for z in pair]
      for x, y in zip(a, b, strict=True)
    ],
  }
  if slots is not None:
    found["replaced"] = _replaced(np.asarray(s.ids), slots).tolist()
  return {name: _padded(texts, length) for name, texts in found.items()}


def measure(
  score: Callable[[Tokens, Tokens], np.ndarray],
  s: Tokens,
  played: Mapping[str, Tokens],
  size: int,
) -> dict[str, float]:
  """The reader's mean word for each decode, by name.

  Args:
    score: (s [B, S], decoded [B, A, 1, T]) -> words [B, A].
    s: sources [n, S].
    played: A decodes [n, T], of `attacks`.
    size: B, the rows of a call. The last call wraps around; its repeated rows
      are dropped.
  """
  n, found = len(s.ids), []
  decoded = Tokens(
    *(np.stack(x, 1)[:, :, None] for x in zip(*played.values(), strict=True))
  )
  for start in range(0, n, size):
    at = np.arange(start, start + size) % n
    pick = lambda x, at=at: Tokens(*(part[at] for part in x))
    found.append(np.asarray(score(pick(s), pick(decoded)), np.float64))
  means = np.concatenate(found)[:n].mean(0)
  return {k: float(x) for k, x in zip(played, means, strict=True)}


def judged(
  words: Mapping[str, float], *, least: float, tolerance: float, who: str
) -> tuple[bool, str]:
  """Whether a reader with these mean words can be V, and why, in one line.

  least: what s itself must be worth. tolerance: what an attack may be, at most.
  who: the reader, as the subject of the line.
  """
  true, fools = words[TRUE], {k: x for k, x in words.items() if k != TRUE}
  more = (
    "raise config.reader.steps or config.reader.share, or set "
    "config.verifier.reader=0"
  )
  if not true >= least:
    return False, (
      f"{who} is not above its floor: its word for s itself is {true:.3f}, and "
      f"config.reader.least={least}: {more}."
    )
  name = max(fools, key=lambda x: np.nan_to_num(fools[x], nan=np.inf))
  if not fools[name] <= tolerance:
    return False, (
      f"{who} is fooled by {SAYS[name]} (attack {name!r}): its mean word for "
      f"that is {fools[name]:+.3f}, above config.reader.tolerance={tolerance}: "
      f"{more}."
    )
  return True, (
    f"{who} is heard: its word is {true:.3f} for s itself, and at most "
    f"{fools[name]:+.3f} for {len(fools)} decodes that say nothing of s "
    f"({SAYS[name]})."
  )


def _joined(rows: list[list[int]], first: int, length: int) -> list[int]:
  """Rows one behind the other, beginning with one, until they fill a decode."""
  found = []
  for number in range(first, first + len(rows) // 2 - 1):
    if len(found) >= length:
      break
    found += rows[number % len(rows)]
  return found


def _replaced(ids: np.ndarray, slots: tuple[int, ...]) -> np.ndarray:
  """Each fact replaced by that of another row, where it is another fact."""
  new = ids.copy()
  for slot in slots:
    column = ids[:, slot]
    for shift in range(1, len(ids)):
      same = new[:, slot] == column
      if not same.any():
        break
      new[same, slot] = np.roll(column, shift)[same]
  return new


def _padded(texts: list[Any], length: int) -> Tokens:
  """Lists of ids -> Tokens [n, length] int32, cut and padded on the right."""
  ids = np.zeros((len(texts), length), np.int32)
  mask = np.zeros(ids.shape, bool)
  for row, text in enumerate(texts):
    text = list(text)[:length]
    ids[row, : len(text)], mask[row, : len(text)] = text, True
  return Tokens(ids, mask)
