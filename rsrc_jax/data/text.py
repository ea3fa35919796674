"""The data kind "text": sentences of real text, in a vocabulary of its own.

How files become sentences is in `sentences` and `prose`.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rsrc_jax.data import prose, sentences, sources, tokenizer


def make(
  *,
  seed: int = 0,
  cache_dir: str = ".cache",
  path: str | None = None,
  vocab_size: int = 1024,
  vocab: tokenizer.Vocabulary | None = None,
  max_tokens: int = 24,
  min_tokens: int = 8,
  heldout: float = 0.1,
  asks: bool = False,
) -> sources.Corpus:
  """Sentences of real text in a vocabulary made from the training split.

  Args:
    seed: which documents are held out.
    cache_dir: the folder in which the vocabulary is kept.
    path: a .txt, .md or .py file, a folder of them, or nothing for the
      docstrings of Python's standard library.
    vocab_size: V, the control tags included.
    vocab: a vocabulary that exists already. None is made then.
    max_tokens: S. Longer sentences are left out, none is cut, and so are
      sentences with a letter that `vocab` lacks.
    min_tokens: shorter sentences are left out.
    heldout: the fraction of documents in valid, and again in test.
    asks: whether the vocabulary has tokenizer.CONTROL_TAGS.

  Returns:
    Corpus with splits of [n, S] ids that share no document and no 13 words in
    a row.

  Raises:
    FileNotFoundError: there is nothing at `path`.
    ValueError: a field is out of range, a file can't be read, or there is too
      little text.
  """
  path = path or None
  if not 1 <= min_tokens <= max_tokens:
    raise ValueError(
      f"config.data.min_tokens={min_tokens}: give 1 to "
      f"config.data.max_tokens={max_tokens}."
    )
  splits = sentences.split(
    sentences.documents(path), heldout=heldout, seed=seed
  )
  _check_sizes(
    path,
    splits,
    "give more prose (a sentence begins with a capital, ends in . ! or ?, and "
    f"has {prose.SHORTEST} to {prose.LONGEST} characters), or check "
    f"config.data.heldout={heldout}",
  )
  if vocab is None:
    model, _ = tokenizer.cached_sentencepiece(
      splits.train, vocab_size=vocab_size, cache_dir=cache_dir, asks=asks
    )
    vocab = tokenizer.from_sentencepiece(model, asks)
  # A checkpoint's tokenizer may have no piece for a letter, but "unknown".
  fit = lambda split: [
    ids
    for sentence in split
    if min_tokens <= len(ids := vocab.encode(sentence)) <= max_tokens
    and vocab.text[ids].all()
  ]
  fitting = [fit(split) for split in splits]
  _check_sizes(
    path,
    fitting,
    f"give more text, raise config.data.max_tokens={max_tokens} or lower "
    f"config.data.min_tokens={min_tokens}",
  )
  train, valid, test = (sources.padded(rows, max_tokens) for rows in fitting)
  ood = fit(_other_sentences(splits.train))
  return sources.Corpus(
    name="text",
    vocab=vocab,
    train=train,
    valid=valid,
    test=test,
    entropy_bits=None,
    slots=None,
    digest=sources.digest(train, valid, test),
    ood=sources.padded(ood, max_tokens) if len(ood) >= sources.LEAST else None,
    ood_name=f"docstrings of numpy.lib {np.__version__}",
  )


def _other_sentences(train: list[str]) -> list[str]:
  """Sentences of another kind of text, none of which overlaps with `train`.

  They are docstrings of NumPy, which is installed wherever this runs.
  """
  folder = Path(importlib.util.find_spec("numpy").origin).parent / "lib"
  return sentences.others(sentences.documents(str(folder)), train)


def _check_sizes(path: str | None, splits: Sequence, remedy: str) -> None:
  """Raises ValueError where train, valid or test has too few sentences."""
  train, valid, test = (len(split) for split in splits)
  if min(train, valid, test) < sources.LEAST:
    raise ValueError(
      f"config.data.path={path!r} gives {train} sentences to train, {valid} to "
      f"validate and {test} to test, and {sources.LEAST} of each are needed: "
      f"{remedy}."
    )
