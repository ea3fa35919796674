"""Between text and ids, with the vocabulary and the splits of a setup."""

from collections.abc import Sequence

import numpy as np

from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources
from rsrc_jax.types import Batch, Tokens

SPLITS = ("train", "valid", "test")


def batch_of(
  setup: Setup, texts: str | Sequence[str], rows: int | None = None
) -> Batch:
  """Sources as a batch, of a split or of one's own texts.

  Args:
    setup: from make_setup.
    texts: "train", "valid" or "test": the first `rows` of that split; or a list
      of texts, which are encoded and padded to the length S of the splits.
    rows: B; by default 8 of a split, and all of a list.

  Returns:
    Batch with source [B, S].

  Raises:
    ValueError: no such split, or a text that is empty, too long, or has words
      that the vocabulary lacks.
  """
  if isinstance(texts, str):
    if texts not in SPLITS:
      raise ValueError(
        f"texts={texts!r} is none of {', '.join(SPLITS)}; give one's own texts "
        "as a list."
      )
    split = getattr(setup.corpus, texts)
    return sources.batch(split, 0, min(rows or 8, len(split.ids)))
  texts = list(texts)[:rows]
  if not texts:
    raise ValueError("texts=[]: give at least one text.")
  vocab, longest = setup.corpus.vocab, setup.corpus.train.ids.shape[-1]
  encoded = [vocab.encode(text) for text in texts]
  for text, ids in zip(texts, encoded, strict=True):
    if not 1 <= len(ids) <= longest:
      raise ValueError(
        f"{text!r} has {len(ids)} tokens; the model reads 1 to {longest}."
      )
    foreign = [i for i in ids if not vocab.text[i]]
    if foreign:
      known = vocab.pieces(np.flatnonzero(vocab.text)[:5].tolist())
      raise ValueError(
        f"{text!r} has words that the vocabulary lacks; it knows "
        f"{', '.join(known)} and others."
      )
  padded = sources.padded(encoded, longest)
  return sources.batch(padded, 0, len(texts))


def decode(setup: Setup, tokens: Tokens) -> list:
  """The text of each row of tokens: [B, T] -> B strings, [T] -> one.

  Leading axes become nested lists: [B, G, T] -> B lists of G strings.
  """
  return _each(tokens, setup.corpus.vocab.decode)


def pieces(setup: Setup, tokens: Tokens) -> list:
  """The same token by token: [B, T] -> B lists of printable pieces."""
  return _each(tokens, setup.corpus.vocab.pieces)


def _each(tokens: Tokens, spell) -> list:
  ids, mask = np.asarray(tokens.ids), np.asarray(tokens.mask)
  if ids.ndim == 1:
    return spell(ids[mask].tolist())
  return [_each(Tokens(*row), spell) for row in zip(ids, mask, strict=True)]
