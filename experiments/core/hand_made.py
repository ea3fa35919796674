"""The code made by hand: each token packs as many whole facts as its ids tell.

Facts stand at known places and have known words (`corpus.slots`,
`corpus.answers`). A token is the number, in a mixed radix, of the words of the
next slots: with 112 ids of codes two slots of eight words are a token, since 64
ids are enough and 512 are not. k tokens tell 2 k slots, in the order of the
sentence, and nothing of the rest. Nor could any code of 112 ids tell one whole
slot more in two or three tokens: 112**2 < 8**5 and 112**3 < 8**7. The same id
means other words in the next token, so that D has to read a token by its place.

One more id stands for words that no fact of its slots has, as in sentences of
another grammar. It is a rule and no English; D is trained on it for the steps
of the arm.

  PYTHONPATH=. ./.venv/bin/python experiments/core/hand_made.py  # what k tell
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build.writers import Writer, as_rule
from rsrc_jax.data.sources import Corpus
from rsrc_jax.runtime import configs
from rsrc_jax.types import Tokens


class Packing(NamedTuple):
  """Which slots are in which token, and how."""

  # The slots of each token, as indices of corpus.slots, in order.
  tokens: tuple[tuple[int, ...], ...]
  places: tuple[int, ...]  # of the Q slots in a sentence
  weights: np.ndarray  # [Q] int32: of the slot's digit in its token
  digits: np.ndarray  # [Q, V] int32: of each word; -1: no word of the slot
  ids: np.ndarray  # [R + 1] int32: of each number; the last: something else


def make(corpus: Corpus) -> Packing:
  """Packs slots from the left; the ids that no text holds are used first.

  Raises:
    ValueError: facts have no fixed places, or a slot has more words than codes
      have ids.
  """
  if corpus.slots is None or corpus.answers is None:
    raise ValueError(
      "config.arms: write=hand_made.py packs facts at fixed places: it needs "
      "config.data.source='facts' and config.data.omit=0."
    )
  vocab, answers = corpus.vocab, np.asarray(corpus.answers)
  digits = np.where(answers, np.cumsum(answers, 1) - 1, -1).astype(np.int32)
  radix, most = answers.sum(1), int(vocab.code.sum()) - 1
  if max(radix) > most:
    raise ValueError(
      f"config.data.vocab_size={vocab.size} leaves codes {most} ids for the "
      f"{max(radix)} words of a slot, and one for other words: raise it."
    )
  tokens, weights, size = [], np.ones(len(radix), np.int32), most + 1
  for slot, words in enumerate(radix):
    if size * words > most:
      tokens.append([])
      size = 1
    tokens[-1].append(slot)
    weights[slot], size = size, size * int(words)
  numbers = [np.prod(radix[list(x)]) for x in tokens]
  order = np.concatenate([
    np.flatnonzero(vocab.code & ~vocab.text),
    np.flatnonzero(vocab.code & vocab.text),
  ])  # fmt: skip
  return Packing(
    tuple(map(tuple, tokens)), tuple(corpus.slots), weights, digits,
    order[: max(numbers) + 1].astype(np.int32),
  )  # fmt: skip


def write(
  packing: Packing, s: Tokens, k: int, budget: jax.Array | None = None
) -> Tokens:
  """The first k tokens of the code, or all. [B, S] -> [B, k], pads at the end.

  budget: [B] int32, the most tokens of each row. None: k.
  """
  places = jnp.asarray(packing.places)
  words = jnp.where(s.mask, s.ids, 0)[:, places]
  digit = jnp.asarray(packing.digits)[jnp.arange(len(places)), words]
  ids = []
  for slots in packing.tokens[:k]:
    own = np.asarray(slots)
    number = jnp.sum(digit[:, own] * packing.weights[own], -1)
    known = jnp.all(digit[:, own] >= 0, -1)
    number = jnp.where(known, number, len(packing.ids) - 1)
    ids.append(jnp.asarray(packing.ids)[number])
  pad = ((0, 0), (0, k - len(ids)))
  code = jnp.pad(jnp.stack(ids, -1), pad)
  real = jnp.arange(k) < len(ids)
  limit = k if budget is None else budget[:, None]
  real = jnp.broadcast_to(real & (jnp.arange(k) < limit), code.shape)
  return Tokens(jnp.where(real, code, 0), real)


def told(packing: Packing, k: int) -> int:
  """How many slots k tokens tell."""
  return sum(map(len, packing.tokens[:k]))


def symbols(setup) -> int:
  """How many ids the code has."""
  return len(make(setup.corpus).ids)


def _make(setup, config, name):
  del name
  packing = make(setup.corpus)

  def write_code(params, frozen, batch, key, budget=None):
    del params, frozen, key
    return write(packing, batch.source, config.budget, budget)

  return as_rule(config, write_code)


WRITER = Writer(_make, english=False, words=False, rule=True, symbols=symbols)


def main(config: str = "default", budgets=(2, 3, 4, 6)) -> None:
  """Prints the share of the slots that k tokens tell."""
  from rsrc_jax.build.corpus import make_corpus

  packing = make(make_corpus(configs.load_config(config), ""))
  slots = len(packing.places)
  print(f"{len(packing.ids)} ids, {slots} slots")
  for k in budgets:
    print(f"k = {k}: {told(packing, k)} slots, {told(packing, k) / slots:.2f}")


if __name__ == "__main__":
  main()
