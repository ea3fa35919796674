"""Counted n-grams over token ids, with interpolated Kneser-Ney smoothing.

A yardstick for a trained language model: one that is worse than counting has
not learnt its language. The estimator is that of Kneser and Ney (1995,
"Improved backing-off for m-gram language modeling") as Chen and Goodman (1999,
"An empirical study of smoothing techniques for language modeling") interpolate
it, with one discount an order, n1 / (n1 + 2 n2). The last level below one token
is uniform, so that every id has some probability.

Sentences begin with start marks and end with an end id, which is predicted like
any other.
"""

from typing import NamedTuple

import numpy as np

MIDDLE = 0.5  # the discount where the counts of counts say nothing


class Level(NamedTuple):
  """Counts of the k-grams of one k, each table sorted by its keys."""

  keys: np.ndarray  # [g] int64: the k-grams
  counts: np.ndarray  # [g] how often each was seen, or of how many kinds before
  contexts: np.ndarray  # [c] int64: their first k - 1 tokens
  totals: np.ndarray  # [c] sum of the counts behind a context
  kinds: np.ndarray  # [c] how many different tokens follow it
  discount: float


class Ngram(NamedTuple):
  """A counted model of `order` tokens."""

  order: int
  known: np.ndarray  # [u] the ids of training, sorted
  levels: tuple[Level, ...]  # of 1, 2, ... `order` tokens
  support: int  # how many ids can be predicted, the end among them
  end: int


def fit(
  ids: np.ndarray, mask: np.ndarray, *, order: int, support: int, end: int
) -> Ngram:
  """Counts the n-grams of sentences.

  Args:
    ids: [n, S] token ids, padded on the right.
    mask: [n, S] bool, which of them are there.
    order: n, the tokens of a gram; at least 1.
    support: how many ids a text can have at all, the end among them.
    end: the id that ends each sentence.

  Raises:
    ValueError: there is no sentence, or the order is below 1.
  """
  if order < 1 or not len(ids):
    raise ValueError(f"order={order} and {len(ids)} sentences: give one each.")
  known = np.unique(np.append(ids[mask], end))
  grams, _ = _grams(known, ids, mask, order, end)
  base = len(known) + 2
  levels = []
  raw = [
    np.unique(_key(grams[:, order - k :], base), return_counts=True)
    for k in range(1, order + 1)
  ]
  for k, (keys, seen) in enumerate(raw, 1):
    counts = seen
    if k < order:
      # In how many kinds of contexts it was seen. The same k-grams come out,
      # since each has something before it. Behind a start mark there is but one
      # context, so that those keep their counts.
      _, before = np.unique(raw[k][0] % base**k, return_counts=True)
      starts = keys // base ** (k - 1) == base - 1
      counts = np.where(starts, seen, before)
    levels.append(_level(keys, counts, base))
  return Ngram(order, known, tuple(levels), support, end)


def bits(model: Ngram, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """-log2 p of each token and of the end. [n, S] -> [n, S + 1], 0 at pads."""
  grams, there = _grams(model.known, ids, mask, model.order, model.end)
  found = np.zeros(there.shape)
  found[there] = -np.log2(probability(model, grams))
  return found


def probability(model: Ngram, grams: np.ndarray) -> np.ndarray:
  """p of the last token of each gram given those before it.

  Args:
    model: of `fit`.
    grams: [m, order] int64, places in `model.known`; `len(known)` is an id that
      training lacks, one more the mark before a sentence.

  Returns:
    [m] float64. Over all ids of the support it sums to 1.
  """
  base, p = len(model.known) + 2, np.full(len(grams), 1.0 / model.support)
  for k, level in enumerate(model.levels, 1):
    key = _key(grams[:, model.order - k :], base)
    place, seen = _find(level.contexts, key // base)
    total = np.where(seen, level.totals[place], 1)
    kinds = level.kinds[place]
    gram, there = _find(level.keys, key)
    count = np.where(there, level.counts[gram], 0)
    own = np.maximum(count - level.discount, 0) / total
    rest = level.discount * kinds / total
    p = np.where(seen, own + rest * p, p)
  return p


def _grams(known, ids, mask, order, end) -> tuple[np.ndarray, np.ndarray]:
  """Every window of `order` places, [m, order], and where it ends, [n, S + 1].

  There is one for each token and for the end of a sentence.
  """
  rows, lengths = len(ids), mask.sum(-1)
  whole = np.full((rows, ids.shape[1] + 1), end)
  whole[:, :-1] = np.where(mask, ids, end)
  there = np.arange(whole.shape[1]) <= lengths[:, None]
  place = np.searchsorted(known, whole)
  place = np.minimum(place, len(known) - 1)
  place = np.where(known[place] == whole, place, len(known))
  begun = np.full((rows, order - 1), len(known) + 1)
  padded = np.concatenate([begun, place], 1).astype(np.int64)
  windows = np.lib.stride_tricks.sliding_window_view(padded, order, 1)
  return windows[there], there


def _key(grams: np.ndarray, base: int) -> np.ndarray:
  """[m, k] places below `base` -> [m] int64, in the same order."""
  if base ** grams.shape[1] >= 2**63:
    raise ValueError(
      f"{grams.shape[1]}-grams of {base} ids have no 64-bit key: lower the "
      "order."
    )
  found = np.zeros(len(grams), np.int64)
  for column in grams.T:
    found = found * base + column
  return found


def _level(keys: np.ndarray, counts: np.ndarray, base: int) -> Level:
  contexts, first, kinds = np.unique(
    keys // base, return_index=True, return_counts=True
  )
  once, twice = (int(np.sum(counts == n)) for n in (1, 2))
  discount = once / (once + 2 * twice) if once else MIDDLE
  totals = np.add.reduceat(counts, first)
  return Level(keys, counts, contexts, totals, kinds, discount)


def _find(table: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Where each key stands in a sorted table, and whether it is there at all."""
  place = np.minimum(np.searchsorted(table, keys), len(table) - 1)
  return place, table[place] == keys
