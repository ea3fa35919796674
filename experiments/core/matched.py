"""A code in as many ids as English has words: RL over a fixed random subset.

The subset is drawn by the run's seed from all ids of codes, words among them,
which are free symbols here. In all else the arm is one of `write="force"`: what
of the subset is hidden from a source follows config.curriculum.hidden, and with
0 it is plain RL over the subset. English words as free symbols, in any order
and whether or not they stand in s, are `write="words"`, which hides none.
"""

import numpy as np

from rsrc_jax.build import writers
from rsrc_jax.build.setup import Setup

_SUBSET = 6  # tells this draw from others by the same seed


def ids(setup: Setup) -> np.ndarray:
  """[V] bool: the ids of the code, as many as English has words."""
  vocab = setup.corpus.vocab
  rng = np.random.default_rng((setup.config.seed, _SUBSET))
  drawn = rng.permutation(np.flatnonzero(vocab.code))[: symbols(setup)]
  return np.isin(np.arange(vocab.size), drawn)


def symbols(setup: Setup) -> int:
  """How many words a code may hold."""
  vocab = setup.corpus.vocab
  return int((vocab.code & vocab.text).sum())


def _make(setup, config, name):
  del name
  if count := config.augment.get("withheld", 0):
    raise ValueError(
      f"config.augment.withheld={count}: the alphabet of write=matched.py is "
      "drawn from all ids of codes; set it to 0 for this arm."
    )
  own, code = ids(setup), setup.corpus.vocab.code
  return writers.as_policy(
    setup, config,
    writers.make_controls(setup, config, "force", withheld=code & ~own),
    writers.make_limits(setup, config, "words", words=own),
  )  # fmt: skip


WRITER = writers.Writer(_make, english=False, words=False, symbols=symbols)
