"""English of an equal dictionary: ids that no text holds stand for two words.

Codes have more ids than English has words. Here English has as many: each id of
codes that no text holds names a pair of words, which are read in this order.

**Which pairs.** Those of neighbours in the training split that save most, one
after another. A code of one word names the word with more bits; a pair names
the other word too, and saves that one's bits, -log2 p(word | word before),
counted on the split. A sentence counts until one of its pairs is in the
dictionary, so that the pairs are spread over sentences. Words of the frame cost
no bits, and no pair is spent on them. `main` prints what other choices name:
pairs of the next content words, pairs of any two, and pairs that are counted in
every sentence.

**Which codes** (`WRITER`, a rule). Of the words of s and of the pairs whose two
words stand in s in this order, whether or not they are neighbours, take the one
with the most nats under the frozen base, then the next that has no word in
common with those taken, and write them in the order of s. pairs_rl.py leaves
the choice to C.

  PYTHONPATH=. ./.venv/bin/python experiments/core/pairs.py  # what a pair saves
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build.writers import Writer, as_rule
from rsrc_jax.data.sources import Corpus
from rsrc_jax.lm import extracts
from rsrc_jax.runtime import configs
from rsrc_jax.types import Tokens

KINDS = ("neighbours", "content", "any")
CONTENT = 1.0  # bits from which a word is a content word
LEAST = 1e-6  # bits below which nothing is saved: rounding


class Dictionary(NamedTuple):
  """P pairs of words, best first, and the id of each; [P] int32 each."""

  ids: np.ndarray  # which codes may hold and no text holds
  first: np.ndarray
  second: np.ndarray


def make(corpus: Corpus) -> Dictionary:
  """The dictionary of a corpus. It has fewer pairs than ids where few save.

  Raises:
    ValueError: every id of codes may stand in a text.
  """
  vocab = corpus.vocab
  ids = np.flatnonzero(vocab.code & ~vocab.text)
  if not len(ids):
    raise ValueError(
      f"config.data.vocab_size={vocab.size} leaves no id that no text holds, "
      "which pairs of words need: raise it."
    )
  found = choose(corpus.train, vocab.size, len(ids))
  first, second = np.array(found, np.int32).reshape(-1, 2).T
  return Dictionary(ids[: len(found)].astype(np.int32), first, second)


def choose(
  split: Tokens, size: int, count: int, kind: str = "neighbours", once=True
) -> list[tuple[int, int]]:
  """The pairs that save most bits on a split, best first; at most `count`.

  Args:
    split: [n, S].
    size: V.
    count: of the pairs.
    kind: which two words of a sentence are a pair: "neighbours"; "content":
      content words with none between them; "any": content words.
    once: a sentence with a pair that was chosen counts no more.
  """
  keys, saved = _pairs_of(split, counted_bits(split, size), size, kind)
  names, index = np.unique(keys, return_inverse=True)
  index = index.reshape(keys.shape)
  total = np.bincount(index.ravel(), saved.ravel(), len(names))
  found, left = [], np.ones(len(keys), bool)
  while len(found) < count and total.max(initial=0) > LEAST:
    best = int(np.argmax(total))
    found.append(divmod(int(names[best]), size))
    total[best] = -np.inf
    if once:
      gone = left & np.any((index == best) & (saved > LEAST), 1)
      total -= np.bincount(index[gone].ravel(), saved[gone].ravel(), len(names))
      left &= ~gone
  return found


def counted_bits(
  split: Tokens, size: int, on: Tokens | None = None
) -> np.ndarray:
  """-log2 p(token | token before), counted on a split. -> [m, S], 0 at pads.

  The first token follows the pad, id 0.

  Args:
    split: [n, S], what is counted.
    size: V.
    on: [m, S], whose bits are returned; None: those of `split`. What was never
      counted costs no bits.
  """

  def of(tokens):
    ids = np.where(tokens.mask, tokens.ids, 0).astype(np.int64)
    before = np.pad(ids, ((0, 0), (1, 0)))[:, :-1]
    return before, before * size + ids

  before, keys = of(split)
  names, counts = np.unique(keys[split.mask], return_counts=True)
  all_after = np.bincount(before[split.mask], minlength=size)
  bits = np.log2(all_after[names // size] / counts)
  on = split if on is None else on
  keys = of(on)[1]
  place = np.minimum(np.searchsorted(names, keys), len(names) - 1)
  return np.where(on.mask & (names[place] == keys), bits[place], 0.0)


def _pairs_of(split: Tokens, bits: np.ndarray, size: int, kind: str):
  """first * V + second of each two words of a sentence, and the bits saved.

  -> [n, pairs] int64, and float64, 0 where they are no pair of this kind
  """
  i, j = np.triu_indices(split.ids.shape[1], 1)
  if kind == "neighbours":
    i, j = i[j == i + 1], j[j == i + 1]
  elif kind not in KINDS:
    raise ValueError(f"kind={kind!r} is none of {', '.join(KINDS)}.")
  ids = split.ids.astype(np.int64)
  saved = np.minimum(bits[:, i], bits[:, j])
  if kind != "neighbours":
    content = bits >= CONTENT
    saved = np.where(content[:, i] & content[:, j], saved, 0.0)
  if kind == "content":
    number = np.cumsum(content, 1)
    saved = np.where(number[:, j] == number[:, i] + 1, saved, 0.0)
  return ids[:, i] * size + ids[:, j], saved


def standing(found: Dictionary, s: Tokens) -> jax.Array:
  """The id of the pair of each two words of s, in order. -> [B, S, S] int32

  0 where the dictionary has none.
  """
  here = jnp.where(s.mask, s.ids, -1)[..., None]
  first = jnp.where(here == found.first, jnp.asarray(found.ids), 0)
  second = (here == found.second).astype(jnp.int32)
  # A pair has one id, so that at most one term is not 0.
  return jnp.triu(jnp.einsum("bip,bjp->bij", first, second), 1)


def extract(
  found: Dictionary,
  s: Tokens,
  score: jax.Array,
  k: int,
  budget: jax.Array | None = None,
) -> Tokens:
  """The best words and pairs of s, chosen greedily, in order. -> [B, k]

  No word is named twice. Among equals the earlier comes first.

  Args:
    found: the dictionary.
    s: [B, S].
    score: [B, S], of each word; a pair has the sum of its two words'.
    k: the most tokens.
    budget: [B] int32, the most of each row. None: k.
  """
  rows, size = s.ids.shape
  itself = jnp.eye(size, dtype=bool)
  ids = jnp.where(itself, s.ids[:, :, None], standing(found, s))
  value = score[:, :, None] + jnp.where(itself, 0.0, score[:, None])
  real = jnp.where(itself, s.mask[:, :, None], ids > 0)
  value = jnp.where(real, value, -jnp.inf).reshape(rows, -1)

  def take(value, _):
    best = jnp.argmax(value, -1)[:, None]
    taken = jnp.take_along_axis(value, best, 1)[:, 0] > -jnp.inf
    i, j = jnp.divmod(jnp.arange(size * size), size)
    one, other = jnp.divmod(best, size)
    spent = (i == one) | (i == other) | (j == one) | (j == other)
    return jnp.where(spent, -jnp.inf, value), (best[:, 0], taken)

  _, (best, taken) = jax.lax.scan(take, value, length=k)
  best, taken = best.T, taken.T
  if budget is not None:
    taken &= jnp.arange(k) < budget[:, None]
  best = jnp.sort(jnp.where(taken, best, size * size), -1)
  taken = best < size * size
  best = jnp.where(taken, best, 0)
  code = jnp.take_along_axis(ids.reshape(rows, -1), best, 1)
  return Tokens(jnp.where(taken, code, 0), taken)


def symbols(setup) -> int:
  """Words of sources and pairs: what a token is charged for."""
  return int(setup.corpus.vocab.text.sum()) + len(make(setup.corpus).ids)


def _make(setup, config, name):
  del name
  found, text = make(setup.corpus), setup.roles["text"]

  def write_code(params, frozen, batch, key, budget=None):
    del params, key
    with jax.named_scope("C"):
      score = extracts.surprisal(
        setup.policy, frozen["base"], text, batch.source
      )
    return extract(found, batch.source, score, config.budget, budget)

  return as_rule(config, write_code)


WRITER = Writer(
  _make, english=True, words=False, rule=True, reads_base=True, symbols=symbols
)


def named(
  pairs: list[tuple[int, int]], corpus: Corpus, budgets: tuple[int, ...]
) -> list[float]:
  """Words named by greedy codes of the validation split, the mean by budget."""
  first, second = np.array(pairs, np.int32).reshape(-1, 2).T
  size, valid = corpus.vocab.size, corpus.valid
  ids = np.arange(size, size + len(pairs), dtype=np.int32)
  found = Dictionary(ids, first, second)
  score = counted_bits(corpus.train, size, valid)
  codes = [extract(found, valid, score, k) for k in budgets]
  return [
    float(np.mean(np.sum(c.mask * 1 + (c.ids >= size), -1))) for c in codes
  ]


def main(config: str = "default", budgets=(1, 2, 3, 4, 6)) -> None:
  """Prints how many words k tokens name with the pairs of each choice."""
  from rsrc_jax.build.corpus import make_corpus

  corpus = make_corpus(configs.load_config(config), "")
  vocab = corpus.vocab
  count = int((vocab.code & ~vocab.text).sum())
  head = f"{count} pairs, {vocab.text.sum()} words"
  print(f"| {head} | {' | '.join(f'k = {k}' for k in budgets)} |")
  print("|---" * (len(budgets) + 1) + "|")
  choices = {"no pairs": []}
  for kind in KINDS:
    for once, said in ((True, "until one is chosen"), (False, "all counted")):
      pairs = choose(corpus.train, vocab.size, count, kind, once)
      choices[f"{kind}, {said}"] = pairs
  for name, pairs in choices.items():
    means = " | ".join(f"{x:.2f}" for x in named(pairs, corpus, budgets))
    print(f"| {name} | {means} |")


if __name__ == "__main__":
  main()
