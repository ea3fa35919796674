"""Where sources come from: split once by content, then streamed by grain."""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import grain
import numpy as np

from rsrc_jax.data import prose, sentences, synthetic, tokenizer
from rsrc_jax.types import Batch, QASources, Tokens

LEAST = 32  # sentences in a split of real text


class Corpus(NamedTuple):
  """Splits of one source of text, encoded and padded on the right."""

  name: str
  vocab: tokenizer.Vocabulary
  train: Tokens | QASources  # [n, S] numpy
  valid: Tokens
  test: Tokens
  entropy_bits: float | None  # of a source, where it is known exactly
  slots: tuple[int, ...] | None  # positions of the facts, where there are any
  digest: str  # sha256 of the encoded splits
  ood: Tokens | None  # [n, S] of another distribution, never trained on
  ood_name: str  # what they are
  # (question's id, position of its answer) a slot; None: nothing to ask about.
  questions: tuple[tuple[int, int], ...] | None = None
  # Never trained on either, by what is new in them; {} where there are none.
  shifts: Mapping[str, Tokens] = MappingProxyType({})  # [n, S'] each
  shift_slots: Mapping[str, tuple[int, ...]] = MappingProxyType({})
  # What the questions are about, and the ids that can answer them, [Q, V].
  facts: tuple[str, ...] = ()
  answers: np.ndarray | None = None


def facts(
  *,
  vocab_size: int,
  sentences: int,
  heldout: int,
  seed: int,
  asks: bool = False,
  withheld: str | None = None,
  omit: float = 0.0,
) -> Corpus:
  """Facts of the synthetic grammar; all splits disjoint.

  Args:
    vocab_size: V, asks included.
    sentences: of all three splits.
    heldout: sentences of valid, of test, and of each shift.
    seed: which ones.
    asks: whether the vocabulary has tokenizer.ASKS.
    withheld: "object,city": sentences that pair these slots in one of eight
      ways are in no split and no shift but "combinations".
    omit: share of the sentences that do not say where, and, apart from that,
      of those that do not say when. Facts then have no fixed positions, and
      the entropy is that of independent draws.

  Returns:
    Corpus with the shifts "longer" (four more tokens, two more slots),
    "second_grammar" (the phrases in another order) and, where some were
    withheld, "combinations".

  Raises:
    ValueError: a field is out of range.
  """
  vocab = synthetic.vocabulary(vocab_size, asks)
  apart = synthetic.pair(withheld)
  ids = synthetic.sentences(vocab, sentences, seed, withheld=apart)
  if not 0.0 <= omit < 1.0 or (omit and apart):
    raise ValueError(
      f"config.data.omit={omit}: 0 to less than 1, and 0 where "
      f"config.data.withheld={withheld!r} names a pair."
    )
  rows = _whole(ids)
  if omit:
    rows = Tokens(*synthetic.leave_out(ids, omit, seed))
  if heldout < 1 or 2 * heldout >= len(rows.ids):
    raise ValueError(
      f"config.data.heldout={heldout} must be at least 1 and leave something "
      f"of config.data.sentences={sentences} to train on."
    )
  # Distinct draws of a uniform grammar: any cut is a split by content.
  cuts = ((0, heldout), (heldout, 2 * heldout), (2 * heldout, None))
  test, valid, train = (Tokens(*(x[a:b] for x in rows)) for a, b in cuts)
  return Corpus(
    "facts",
    vocab,
    train,
    valid,
    test,
    synthetic.WITHHELD_BITS if apart else synthetic.entropy_left(omit),
    None if omit else synthetic.POSITIONS,
    digest(train, valid, test),
    _whole(synthetic.sentences(vocab, heldout, seed, synthetic.STRANGE)),
    "the same words in other slots",
    synthetic.questions(vocab),
    *_shifts(vocab, heldout, seed, apart),
    tuple(synthetic.QUESTIONS),
    synthetic.words(vocab),
  )


def _shifts(
  vocab: tokenizer.Vocabulary,
  count: int,
  seed: int,
  apart: tuple[str, str] | None,
) -> tuple[dict[str, Tokens], dict[str, tuple[int, ...]]]:
  """`count` sentences of each shift, and where their content stands.

  One thing is new in each: only "combinations" has what was withheld.
  """
  frames = {"longer": synthetic.LONGER, "second_grammar": synthetic.SECOND}
  if apart:
    frames = {"combinations": synthetic.FRAME, **frames}
  drawn = {
    name: _whole(
      synthetic.sentences(
        vocab, count, seed, frame, apart, only_withheld=name == "combinations"
      )
    )
    for name, frame in frames.items()
  }
  return drawn, {name: synthetic.positions(x) for name, x in frames.items()}


def text(
  *,
  path: str | None = None,
  vocab_size: int = 1024,
  vocab: tokenizer.Vocabulary | None = None,
  max_tokens: int = 24,
  min_tokens: int = 8,
  heldout: float = 0.1,
  seed: int = 0,
  cache_dir: str = ".cache",
  asks: bool = False,
) -> Corpus:
  """Sentences of real text in a vocabulary made from the training split.

  Args:
    path: a .txt, .md or .py file, a folder of them, or None for the docstrings
      of Python's standard library.
    vocab_size: V, asks included.
    vocab: one that is there already: none is made.
    max_tokens: S; longer sentences are left out, none is cut.
    min_tokens: shorter sentences are left out.
    heldout: the fraction of documents in valid, and again in test.
    seed: which documents are held out.
    cache_dir: where the vocabulary is kept.
    asks: whether the vocabulary has tokenizer.ASKS.

  Returns:
    Corpus with splits that share no document and no 13 words in a row.

  Raises:
    FileNotFoundError: there is nothing at `path`.
    ValueError: a field is out of range, a file can't be read, or there is too
      little text.
  """
  if not 1 <= min_tokens <= max_tokens:
    raise ValueError(
      f"data.min_tokens={min_tokens}: give 1 to data.max_tokens={max_tokens}."
    )
  splits = sentences.split(
    sentences.documents(path), heldout=heldout, seed=seed
  )
  _check_sizes(
    path,
    splits,
    "give more prose (a sentence begins with a capital, ends in . ! or ?, and "
    f"has {prose.SHORTEST} to {prose.LONGEST} characters), or check "
    f"data.heldout={heldout}",
  )
  if vocab is None:
    model, _ = tokenizer.cached_sentencepiece(
      splits.train, vocab_size=vocab_size, cache_dir=cache_dir, asks=asks
    )
    vocab = tokenizer.from_sentencepiece(model, asks)
  fit = lambda split: [
    ids
    for sentence in split
    if min_tokens <= len(ids := vocab.encode(sentence)) <= max_tokens
  ]
  fitting = [fit(split) for split in splits]
  _check_sizes(
    path,
    fitting,
    f"give more text, raise data.max_tokens={max_tokens} or lower "
    f"data.min_tokens={min_tokens}",
  )
  train, valid, test = (padded(rows, max_tokens) for rows in fitting)
  # A corpus of another kind that is always at hand, as numpy is.
  folder = Path(importlib.util.find_spec("numpy").origin).parent / "lib"
  ood = fit(sentences.others(sentences.documents(str(folder)), splits.train))
  return Corpus(
    "text",
    vocab,
    train,
    valid,
    test,
    None,
    None,
    digest(train, valid, test),
    padded(ood, max_tokens) if len(ood) >= LEAST else None,
    f"docstrings of numpy.lib {np.__version__}",
  )


def _check_sizes(path: str | None, splits: Sequence, remedy: str) -> None:
  """Raises ValueError where train, valid or test has too few sentences."""
  train, valid, test = (len(split) for split in splits)
  if min(train, valid, test) < LEAST:
    raise ValueError(
      f"data.path={path!r} gives {train} sentences to train, {valid} to "
      f"validate and {test} to test, and {LEAST} of each are needed: {remedy}."
    )


def _whole(ids: np.ndarray) -> Tokens:
  """Rows without pads."""
  return Tokens(ids, np.ones(ids.shape, bool))


def padded(rows: list[list[int]], length: int) -> Tokens:
  """Rows of ids as [n, length], padded on the right."""
  mask = np.arange(length) < np.array([[len(row)] for row in rows])
  ids = np.full(mask.shape, tokenizer.PAD, np.int32)
  ids[mask] = np.concatenate(rows)
  return Tokens(ids, mask)


def digest(*splits: Tokens | QASources) -> str:
  """sha256 over ids and masks, so that a run can say what it read."""
  h = hashlib.sha256()
  for split in splits:
    own = (split.question, split.answer) if isinstance(split, QASources) else ()
    for text in (split, *own):
      h.update(np.ascontiguousarray(text.ids, "<i4").tobytes())
      h.update(np.ascontiguousarray(text.mask, "?").tobytes())
  return h.hexdigest()


def batches(split: Tokens | QASources, *, batch_size: int, seed: int) -> Any:
  """An endless grain iterator of Batch, reshuffled every epoch.

  Its get_state() and set_state() are exact: they go into the checkpoint.
  """
  rows = grain.MapDataset.range(len(split.ids)).seed(seed).shuffle().repeat()
  gather = lambda rows: _rows(split, rows.astype(np.int32))
  stream = rows.batch(batch_size, drop_remainder=True).map(gather)
  return iter(stream.to_iter_dataset())


def batch(split: Tokens | QASources, start: int, size: int) -> Batch:
  """`size` rows of a split in order, wrapping around: fixed shapes."""
  return _rows(
    split, (start + np.arange(size, dtype=np.int32)) % len(split.ids)
  )


def _rows(split: Tokens | QASources, rows: np.ndarray) -> Batch:
  take = lambda text: Tokens(text.ids[rows], text.mask[rows])
  if isinstance(split, QASources):
    own = (take(split.question), take(split.answer))
    return Batch(take(split), rows, *own)
  return Batch(take(split), rows)
