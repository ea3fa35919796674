"""A data kind of a user: one file, named by its path in config.data.source.

Sums of two digits, read as words. Each row brings its sum along, as `extra`.
"""

from typing import Any, NamedTuple

import numpy as np

from rsrc_jax.data import sources, tokenizer

DIGITS = (
  "zero", "one", "two", "three", "four",
  "five", "six", "seven", "eight", "nine",
)  # fmt: skip


class Sums(NamedTuple):
  """A split: sources and what comes with each."""

  ids: np.ndarray  # [n, 3] int32
  mask: np.ndarray
  extra: Any  # {"sum": [n] int32}


def make(*, seed, cache_dir, heldout) -> sources.Corpus:
  """heldout: rows of valid, and of test, of the 100 that there are."""
  del cache_dir
  vocab = tokenizer.from_words([*DIGITS, "plus"], [str(i) for i in range(40)])
  pairs = np.random.default_rng(seed).permutation(100)
  rows = [f"{DIGITS[x // 10]} plus {DIGITS[x % 10]}" for x in pairs]
  text = sources.padded([vocab.encode(row) for row in rows], 3)
  sums = (pairs // 10 + pairs % 10).astype(np.int32)
  cut = lambda a, b: Sums(text.ids[a:b], text.mask[a:b], {"sum": sums[a:b]})
  test, valid = cut(0, heldout), cut(heldout, 2 * heldout)
  train = cut(2 * heldout, None)
  return sources.Corpus(
    name="sums",
    vocab=vocab,
    train=train,
    valid=valid,
    test=test,
    entropy_bits=None,
    slots=(0, 2),
    digest=sources.digest(train, valid, test),
    ood=None,
    ood_name="",
  )
