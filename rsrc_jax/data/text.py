"""The data kind "text": sentences of real text, in a vocabulary of its own.

How files become sentences is in `sentences` and `prose`; what is read where
config.data.path is a word, in `locked` and `functions`.
"""

import functools
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsrc_jax import rules
from rsrc_jax.data import (
  kept_text,
  left_out,
  locked,
  prose,
  sentences,
  sources,
  tokenizer,
)
from rsrc_jax.data.kept_text import Text

MOST_SYMBOLS = 2**23  # a vocabulary is at most 2**24 ids: models.architecture
NO_SYMBOLS = (
  "0 with a pretrained vocabulary: codes may hold every id of its table that "
  "is a whole piece of text as it is, and the table can't grow"
)
FEW = 1_000  # sentences to train on, below which a run warns
SAME = 0.9  # share of repeated sentences at which a text is said to be one line


def _lengths(settings, run):
  """The rule of the lengths of a sentence."""
  del run
  least, most = settings.get("min_tokens", 8), settings.get("max_tokens", 24)
  return (
    ("min_tokens", f"1 to {rules.HERE}.max_tokens={most}")
    if least > most
    else None
  )


def _symbols(settings, run):
  """The rule of the ids that no text contains."""
  if settings.get("symbols") and run.get("model_name") == "pretrained":
    return "symbols", NO_SYMBOLS
  return None


RULES = {
  "path": rules.optional(rules.text),
  **dict.fromkeys(("vocab_size", "max_tokens", "min_tokens"), rules.whole(1)),
  "symbols": rules.whole(0, MOST_SYMBOLS),
  "heldout": rules.number(above=0, below=0.5),
  "asks": rules.flag,
  rules.BLOCK: (_lengths, _symbols),
}


def make(
  *,
  seed: int = 0,
  cache_dir: str = ".cache",
  kept: str | Path | None = None,
  examine: bool = False,
  path: str | None = locked.ALL,
  vocab_size: int = 1024,
  symbols: int = 0,
  vocab: tokenizer.Vocabulary | None = None,
  max_tokens: int = 24,
  min_tokens: int = 8,
  heldout: float = 0.1,
  asks: bool = False,
) -> sources.Corpus:
  """Sentences of real text in a vocabulary made from the training split.

  Args:
    seed: which documents are held out.
    cache_dir: the folder in which vocabularies and shipped texts are kept.
    kept: the folder of the run's own copy of its text (kept_text). The copy is
      read where `path` is a word or gone.
    examine: it is also read where `path` has files.
    path: a .txt, .md or .py file, a folder of them, "docstrings" for those of
      Python's standard library and of the packages of the lock, "functions" for
      short functions of both (`functions`), or "stdlib" (or nothing) for the
      docstrings of the standard library alone.
    vocab_size: pieces of text, specials and control tags included.
    symbols: ids beside these that codes may hold and that no text contains, so
      that V = vocab_size + symbols.
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
    ValueError: a field is out of range, no file can be read, there is too
      little text, or the copy is damaged.
  """
  rules.check_some(RULES, locals(), "config.data")
  if vocab is not None and symbols:
    raise ValueError(f"config.data.symbols={symbols} must be {NO_SYMBOLS}.")
  asked = {"path": path or "", "seed": seed, "heldout": heldout}
  text, notes = _text(asked, cache_dir, kept and Path(kept), examine)
  _check_sizes(
    text,
    text.splits,
    f"give more prose (a sentence has {prose.SHORTEST} to {prose.LONGEST} "
    "characters and ends in a full stop or the like), or check "
    f"config.data.heldout={heldout}",
    text.left,
  )
  model, wanted = None, {"vocab_size": vocab_size, "asks": asks}
  if vocab is None:
    model = _model(text, wanted, cache_dir)
    vocab = tokenizer.from_sentencepiece(model, asks, symbols)
  left = left_out.tally_of(text.left)
  fit = lambda split, left: _fit(vocab, split, min_tokens, max_tokens, left)
  fitting = [fit(split, left) for split in text.splits]
  _check_sizes(
    text,
    fitting,
    f"give more text, raise config.data.max_tokens={max_tokens} or lower "
    f"config.data.min_tokens={min_tokens}",
    left_out.table(left),
  )
  train, valid, test = (sources.padded(rows, max_tokens) for rows in fitting)
  ood = fit(text.ood, {})
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
    ood_name=text.ood_name,
    left_out=left_out.table(left),
    notes=notes if examine else (*notes, *few(len(train.ids), path)),
    keep=functools.partial(
      kept_text.write, text=text, model=model, asked=wanted
    ),
  )


def few(count: int, path: str | None) -> tuple[str, ...]:
  """The warning of a run on `count` sentences of training; () if they do."""
  if count >= FEW:
    return ()
  return (
    f"config.data.path={path or ''!r} gives {count} sentences to train on, "
    f"fewer than {FEW:,}: a model learns them by heart long before it has "
    "learnt a language, and is then no good with others. Give more text.",
  )


def _text(
  asked: Mapping[str, Any], cache_dir: str, kept: Path | None, examine: bool
) -> tuple[Text, tuple[str, ...]]:
  """The sentences of a run, read anew or from its copy, and notes."""
  path, word = asked["path"], locked.word(asked["path"])
  copy = kept_text.read(kept, asked) if kept else None
  if copy is not None and (examine or word or not os.path.exists(path)):
    return copy, () if examine else _copy_notes(copy, word)
  left, notes, origin = {}, [], {}
  if word:
    shipped = locked.read(word, cache_dir)
    cuts, origin, notes = shipped.cuts, shipped.origin, locked.notes(shipped)
    left |= shipped.left
  else:
    cuts = sentences.cut(sentences.documents(path, left), left)
  splits = sentences.split(
    cuts, heldout=asked["heldout"], seed=asked["seed"], left=left
  )
  if copy is not None and copy.splits == splits:
    return copy, ()  # with its tokenizer
  of_code = word == locked.FUNCTIONS
  other = _other_functions if of_code else _other_sentences
  ood, kind = other(splits.train), "functions" if of_code else "docstrings"
  name = f"{kind} of numpy.lib {np.__version__}"
  text = Text(asked, splits, ood, name, left_out.table(left), origin)
  return text, tuple(notes)


def _copy_notes(copy: Text, word: str) -> tuple[str, ...]:
  """Why a run reads its own copy, where that is worth a line."""
  path, now = copy.asked["path"], locked.origin(word) if word else {}
  if not word:
    why = f"config.data.path={path!r} is not there"
  elif now == copy.origin:
    return ()
  else:
    differ = [x for x in now if now[x] != copy.origin.get(x)]
    said = ", ".join(f"{x} {copy.origin.get(x)}, now {now[x]}" for x in differ)
    why = (
      f"config.data.path={path!r} is other text here than when the run began "
      f"({said})"
    )
  return (f"{why}: the run's own copy in {copy.folder} is read.",)


def _model(text: Text, wanted: Mapping[str, Any], cache_dir: str) -> str:
  """The path of the SentencePiece model, of the run's copy or the cache."""
  if kept := kept_text.tokenizer(text, wanted):
    return kept
  return tokenizer.cached_sentencepiece(
    text.splits.train, cache_dir=cache_dir, **wanted
  )[0]


def _fit(
  vocab: tokenizer.Vocabulary,
  split: Sequence[str],
  least: int,
  most: int,
  left: left_out.Tally,
) -> list[list[int]]:
  """The ids of the sentences that have `least` to `most` tokens."""
  found = []
  for sentence in split:
    ids = vocab.encode(sentence)
    if len(ids) < least:
      reason = f"fewer than {least} tokens (config.data.min_tokens)"
    elif len(ids) > most:
      reason = f"more than {most} tokens (config.data.max_tokens)"
    elif not vocab.text[ids].all():  # a checkpoint's may have "unknown" only
      reason = "a letter that the tokenizer lacks"
    else:
      found.append(ids)
      continue
    left_out.add(left, left_out.SENTENCES, reason, sentence)
  return found


def _other_sentences(train: list[str]) -> list[str]:
  """Sentences of another kind of text, none of which overlaps with `train`.

  They are docstrings of NumPy (locked.HELD_OUT), which is installed wherever
  this runs.
  """
  docs = sentences.documents(str(_numpy()))
  return sentences.others(sentences.cut(docs), train)


def _other_functions(train: list[str]) -> list[str]:
  """The same of the functions of NumPy."""
  cuts = [
    sentences.Cut(x.name, tuple(locked.functions_of(x.name, x, {})))
    for x in sorted(_numpy().glob("*.py"))
  ]
  return sentences.others(cuts, train)


def _numpy() -> Path:
  return Path(importlib.util.find_spec("numpy").origin).parent / "lib"


def _check_sizes(
  text: Text,
  splits: Sequence,
  remedy: str,
  left: Sequence[left_out.LeftOut],
) -> None:
  """Raises ValueError where train, valid or test has too few sentences."""
  train, valid, test = (len(split) for split in splits)
  if min(train, valid, test) < sources.LEAST:
    alike = [row for row in left if row.reason == sentences.REPEATED]
    again = sum(row.count for row in alike)
    if again > SAME * (again + train + valid + test):
      raise ValueError(
        f"config.data.path={text.asked['path']!r}: {again} sentences repeat "
        f"one of {train + valid + test}, such as {alike[0].examples[0]!r}: "
        "give text whose sentences differ."
      )
    said = left_out.said(left)
    raise ValueError(
      f"config.data.path={text.asked['path']!r} gives {train} sentences to "
      f"train, {valid} to validate and {test} to test, and {sources.LEAST} of "
      f"each are needed: {remedy}.{said and f' Left out: {said}.'}"
    )
