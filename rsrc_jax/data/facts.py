"""The data kind "facts": sentences of the synthetic grammar.

The grammar itself, its words and its entropy, is in `synthetic`.
"""

import functools

import numpy as np

from rsrc_jax import rules
from rsrc_jax.data import sources, synthetic, tokenizer
from rsrc_jax.types import Tokens


def _splits(settings, run):
  """The rule of what is held out."""
  del run
  heldout, sentences = settings["heldout"], settings["sentences"]
  if 2 * heldout >= sentences:
    return "heldout", f"less than half of config.data.sentences={sentences}"
  if settings.get("omit") and settings.get("withheld"):
    return "omit", f"0 where withheld={settings['withheld']!r} names a pair"
  return None


RULES = {
  **dict.fromkeys(("vocab_size", "sentences", "heldout"), rules.whole(1)),
  "path": sources.no_path,
  "asks": rules.flag,
  "withheld": rules.optional(rules.text),
  "omit": rules.number(0, below=1),
  rules.BLOCK: (_splits,),
}


def make(
  *,
  vocab_size: int,
  sentences: int,
  heldout: int,
  seed: int,
  cache_dir: str = "",
  path: str = "",
  asks: bool = False,
  withheld: str | None = None,
  omit: float = 0.0,
) -> sources.Corpus:
  """Sentences of facts. The splits share no sentence.

  Args:
    vocab_size: V, the control tags included.
    sentences: how many there are in all three splits.
    heldout: how many there are in valid, in test, and in each shift.
    seed: which sentences are drawn.
    cache_dir: unused, since the vocabulary is not trained.
    path: must be empty. Facts are drawn, not read.
    asks: whether the vocabulary has tokenizer.CONTROL_TAGS.
    withheld: "object,city": sentences that pair these slots in one of eight
      ways are in no split and no shift but "combinations".
    omit: share of the sentences that do not say where, and, independently, of
      those that do not say when. Facts then have no fixed positions, and the
      entropy is that of independent draws.

  Returns:
    Corpus with splits of [n, 12] ids and the shifts "longer" (four more tokens,
    two more slots), "second_grammar" (the phrases in another order) and, where
    some pairs are withheld, "combinations".

  Raises:
    ValueError: a field is out of range.
  """
  del cache_dir
  rules.check_some(RULES, locals(), "config.data")
  vocab = synthetic.vocabulary(vocab_size, asks)
  pair = synthetic.pair(withheld)
  drawn = functools.partial(_drawn, vocab, pair, omit)
  train, valid, test = _split(drawn(sentences, seed), heldout)
  shifts = _shifts(vocab, heldout, seed, pair)
  ood = synthetic.sentences(vocab, heldout, seed, synthetic.OOD)
  return sources.Corpus(
    name="facts",
    vocab=vocab,
    train=train,
    valid=valid,
    test=test,
    entropy_bits=(
      synthetic.WITHHELD_BITS if pair else synthetic.entropy_left(omit)
    ),
    slots=None if omit else synthetic.POSITIONS,
    digest=sources.digest(train, valid, test),
    ood=_whole(ood),
    ood_name="the same words in other slots",
    questions=synthetic.questions(vocab),
    shifts=shifts,
    shift_slots={
      name: synthetic.positions(frame) for name, frame in _frames(pair).items()
    },
    facts=tuple(synthetic.QUESTIONS),
    answers=synthetic.words(vocab),
    redraw=drawn,
  )


def _drawn(
  vocab: tokenizer.Vocabulary,
  pair: tuple[str, str] | None,
  omit: float,
  count: int,
  seed: int,
) -> Tokens:
  """Distinct sentences, [n, S]; fewer than `count` where phrases are left out.

  The other arguments are those of `make`.
  """
  ids = synthetic.sentences(vocab, count, seed, withheld=pair)
  return Tokens(*synthetic.leave_out(ids, omit, seed)) if omit else _whole(ids)


def _split(rows: Tokens, heldout: int) -> tuple[Tokens, Tokens, Tokens]:
  """[n, S] -> train, valid and test.

  The rows are distinct draws of a uniform grammar, so that any cut is a split
  by content.
  """
  cuts = ((2 * heldout, None), (heldout, 2 * heldout), (0, heldout))
  train, valid, test = (Tokens(*(x[a:b] for x in rows)) for a, b in cuts)
  return train, valid, test


def _frames(pair: tuple[str, str] | None) -> dict[str, list[str]]:
  """The frame of each shift, by its name."""
  frames = {"longer": synthetic.LONGER, "second_grammar": synthetic.SECOND}
  return {"combinations": synthetic.FRAME, **frames} if pair else frames


def _shifts(
  vocab: tokenizer.Vocabulary,
  count: int,
  seed: int,
  pair: tuple[str, str] | None,
) -> dict[str, Tokens]:
  """`count` sentences of each shift.

  One thing is new in each: only "combinations" has what was withheld.
  """
  return {
    name: _whole(
      synthetic.sentences(
        vocab, count, seed, frame, pair, only_withheld=name == "combinations"
      )
    )
    for name, frame in _frames(pair).items()
  }


def _whole(ids: np.ndarray) -> Tokens:
  """[n, S] ids without pads, as Tokens."""
  return Tokens(ids, np.ones(ids.shape, bool))
