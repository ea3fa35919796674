"""Counted n-grams: numbers derived by hand, sums of 1, and order that tells."""

import collections
import time

import numpy as np
import pytest

from rsrc_jax.metrics import ngram

A, B, C, END = 1, 2, 3, 9
IDS, MASK = np.array([[A, B, 0], [A, C, 0]]), np.array([[1, 1, 0]] * 2, bool)


def test_a_bigram_by_hand():
  """Two sentences, "A B" and "A C".

  Bigrams: (start A) 2, (A B) 1, (B end) 1, (A C) 1, (C end) 1. Four were seen
  once, one twice: D2 = 4 / (4 + 2) = 2/3. Different tokens before A, B, C: 1,
  before the end: 2. Sum 5; three of 1, one of 2: D1 = 3 / (3 + 2) = .6. With
  five ids to predict, one of them never seen:
    p(A) = p(B) = p(C) = .4 / 5 + .6 * 4 / 5 / 5 = .08 + .096 = .176
    p(end) = 1.4 / 5 + .096 = .376, p(unseen) = .096
    p(B | A) = (1/3) / 2 + (2/3 * 2 / 2) * .176 = .284
    p(A | start) = (4/3) / 2 + (2/3 * 1 / 2) * .176 = .725333
    p(end | B) = 1/3 + 2/3 * .376 = .584
  """
  model = ngram.fit(IDS, MASK, order=2, support=5, end=END)
  seen = ngram.bits(model, IDS, MASK)
  expected = [0.725333, 0.284, 0.584]
  np.testing.assert_allclose(2 ** -seen[0, :3], expected, rtol=1e-5)
  assert seen.shape == (2, 4) and (seen[:, 3] == 0).all()
  # An id that training lacks, and what follows it, which has no counts.
  odd = ngram.bits(model, np.array([[7, B]]), np.ones((1, 2), bool))
  unseen = [1 / 3 * 0.096, 0.176, 0.584]
  np.testing.assert_allclose(2 ** -odd[0], unseen, rtol=1e-5)


def by_dicts(sentences, support):
  """p(w | u v) of a trigram, written down as the textbook has it."""
  seen = collections.Counter()
  for one in sentences:
    whole = ["<s>", "<s>", *one, END]
    seen.update(zip(whole, whole[1:], whole[2:], strict=False))
  pairs = {}  # tokens before each pair, or how often it begins a sentence
  for u, v, w in seen:
    count = seen[u, v, w] if v == "<s>" else 1
    pairs[v, w] = pairs.get((v, w), 0) + count
  single = collections.Counter(w for _, w in pairs)

  def smoothed(counts, lower):
    once, twice = (sum(x == n for x in counts.values()) for n in (1, 2))
    discount = once / (once + 2 * twice) if once else ngram.MIDDLE

    def p(*gram):
      behind = {k: x for k, x in counts.items() if k[:-1] == gram[:-1]}
      rest = lower(*gram[1:])
      if not behind:
        return rest
      own = max(counts.get(gram, 0) - discount, 0)
      return (own + discount * len(behind) * rest) / sum(behind.values())

    return p

  one = smoothed({(w,): x for w, x in single.items()}, lambda: 1 / support)
  return smoothed(seen, smoothed(pairs, one))


def test_a_trigram_is_that_of_the_textbook():
  ids, mask = text(np.random.default_rng(3), 40, 8, 9)
  sentences = [row[m].tolist() for row, m in zip(ids, mask, strict=True)]
  p = by_dicts(sentences[:30], 12)
  model = ngram.fit(ids[:30], mask[:30], order=3, support=12, end=END)
  found = ngram.bits(model, ids, mask)
  for row, one in zip(found, sentences, strict=True):
    whole = ["<s>", "<s>", *one, END]
    grams = zip(whole, whole[1:], whole[2:], strict=False)
    expected = [-np.log2(p(*gram)) for gram in grams]
    np.testing.assert_allclose(row[: len(expected)], expected, rtol=1e-9)
    assert (row[len(expected) :] == 0).all()


def text(rng, count, length=12, ids=30):
  """Sentences in which the two tokens before decide the next, mostly."""
  found = rng.integers(1, ids, (count, length))
  for t in range(2, length):
    ruled = (found[:, t - 1] * 7 + found[:, t - 2] * 3) % (ids - 1) + 1
    found[:, t] = np.where(rng.random(count) < 0.8, ruled, found[:, t])
  mask = np.arange(length) < rng.integers(3, length + 1, (count, 1))
  return np.where(mask, found, 0), mask


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one(order):
  ids, mask = text(np.random.default_rng(order), 300)
  model = ngram.fit(ids, mask, order=order, support=40, end=0)
  known, rng = len(model.known), np.random.default_rng(0)
  # Contexts of start marks, of what was seen, and of what was not.
  before = rng.integers(0, known + 2, (50, order - 1))
  before[0] = known + 1
  every = np.arange(known + 1)
  grams = np.concatenate(
    [np.repeat(before, known + 1, 0), np.tile(every, 50)[:, None]], 1
  )
  p = ngram.probability(model, grams).reshape(50, known + 1)
  assert (p > 0).all()
  whole = p[:, :-1].sum(1) + p[:, -1] * (40 - known)
  np.testing.assert_allclose(whole, 1.0, rtol=1e-9)


def test_more_context_is_worth_more_and_counting_is_quick():
  rng = np.random.default_rng(0)
  ids, mask = text(rng, 60_000)
  valid = text(rng, 2_000)
  begun, total = time.process_time(), {}
  for order in (1, 2, 3):
    model = ngram.fit(ids, mask, order=order, support=40, end=0)
    total[order] = ngram.bits(model, *valid).sum() / valid[1].sum()
  assert time.process_time() - begun < 10
  # .8 of the tokens behind the first two follow a rule of two tokens.
  assert total[3] < total[2] - 1 and total[2] <= total[1] + 0.01


def test_what_has_no_counts():
  with pytest.raises(ValueError, match="0 sentences"):
    ngram.fit(IDS[:0], MASK[:0], order=2, support=5, end=END)
  with pytest.raises(ValueError, match="order=0"):
    ngram.fit(IDS, MASK, order=0, support=5, end=END)
  wide = np.arange(1, 4_001)[None]
  with pytest.raises(ValueError, match="lower the order"):
    ngram.fit(wide, wide > 0, order=6, support=4_001, end=0)
