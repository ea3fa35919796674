"""Sentences for the reader alone: none of them is in a split of the policy.

Data that are made (the kind "facts") are made again, from another seed. Of all
others a share of the training rows is held back, and the policy is trained
without them.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from rsrc_jax.data import sources

BLOCKS = 64  # runs of neighbouring rows, of which some are held back
HELD_OUT = 0.1  # share of the draw that the reader is measured on
CHILD = 1  # of a run's seed: the seed of the draw


class Draw(NamedTuple):
  """Rows of the reader's own, as the splits of sources.Corpus."""

  train: Any  # [n, S]
  test: Any  # [m, S], which it is measured on


def draw(
  corpus: sources.Corpus, share: float, seed: int
) -> tuple[sources.Corpus, Draw]:
  """The corpus without the reader's rows, and these.

  Rows are drawn anew by Corpus.redraw, or held back in runs of neighbours:
  text stands in the order of its documents, so that few of them are on both
  sides. Rows that are equal to one of the policy's, or to one before, are left
  out.

  Args:
    corpus: of the run.
    share: how many rows, as a share of corpus.train; config.reader.share.
    seed: of the run.

  Raises:
    ValueError: the reader or the policy would have fewer than sources.LEAST
      rows.
  """
  count = round(share * len(corpus.train.ids))
  if corpus.redraw is not None:
    child = np.random.SeedSequence((seed, CHILD)).generate_state(1)
    rows = corpus.redraw(count, int(child[0]))
  else:
    mine = _blocks(len(corpus.train.ids), share, seed)
    rows, left = (
      jax.tree.map(lambda x, keep=keep: x[keep], corpus.train)
      for keep in (mine, ~mine)
    )
    digest = sources.digest(left, corpus.valid, corpus.test)
    corpus = corpus._replace(train=left, digest=digest)
  rows = _new(rows, corpus)
  size = max(round(HELD_OUT * len(rows.ids)), sources.LEAST)
  cut = len(rows.ids) - size
  if min(cut, len(corpus.train.ids)) < sources.LEAST:
    raise ValueError(
      f"config.reader.share={share} leaves {len(corpus.train.ids)} rows to "
      f"train the policy and {len(rows.ids)} for the reader, which needs "
      f"{2 * sources.LEAST}, and the policy {sources.LEAST}: give another "
      "share, or more data, or set config.verifier.reader=0."
    )
  part = lambda a, b: jax.tree.map(lambda x: x[a:b], rows)
  return corpus, Draw(part(0, cut), part(cut, None))


def _blocks(count: int, share: float, seed: int) -> np.ndarray:
  """Which of `count` rows are held back: whole runs of neighbours. [n] bool"""
  rng = np.random.default_rng((seed, CHILD))
  number = max(round(share * BLOCKS), 1)
  chosen = rng.permutation(BLOCKS)[:number]
  return np.isin(np.arange(count) * BLOCKS // max(count, 1), chosen)


def _new(rows: Any, corpus: sources.Corpus) -> Any:
  """The rows that are in no split of the corpus, each of them once."""
  splits = (corpus.train, corpus.valid, corpus.test, *corpus.shifts.values())
  seen = set()
  for split in (*splits, *([] if corpus.ood is None else [corpus.ood])):
    seen.update(_texts(split))
  keep = []
  for number, text in enumerate(_texts(rows)):
    if text not in seen:
      seen.add(text)
      keep.append(number)
  return jax.tree.map(lambda x: x[np.array(keep, int)], rows)


def _texts(split: Any) -> list[bytes]:
  """What a row says, whatever the width of its split."""
  return [
    np.ascontiguousarray(ids[mask], "<i4").tobytes()
    for ids, mask in zip(split.ids, split.mask, strict=True)
  ]
