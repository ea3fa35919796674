"""Codes by rule: which words of s they keep, and what D learns from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax import verifier
from rsrc_jax.data import tokenizer
from rsrc_jax.patterns import cdv, extract
from rsrc_jax.types import Batch, Cache, Policy, Tokens

S, K = tiny.SOURCE, tiny.BUDGET
few = settings(deadline=None, max_examples=40)
# Sources of 0 to 6 different words, and a score for each slot, no two equal.
words = st.lists(st.integers(8, 19), max_size=S, unique=True)
scores = st.permutations(range(S))

keep = jax.jit(extract.keep, static_argnums=2)
noisy = jax.jit(extract.noisy)


def tokens(rows, length=S):
  """Lists of ids as Tokens, padded on the right."""
  ids = [row + [0] * (length - len(row)) for row in rows]
  mask = [[i < len(row) for i in range(length)] for row in rows]
  return Tokens(jnp.array(ids, jnp.int32), jnp.array(mask, bool))


def texts(tokens):
  """The real ids of each row; fails where pads are not 0, on the right."""
  ids, mask = (np.asarray(x) for x in tokens)
  assert (np.diff(mask.astype(int), axis=-1) <= 0).all()
  assert (ids[~mask] == 0).all() and ids.dtype == np.int32
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


@few
@given(words, scores)
def test_keep_takes_the_best_in_their_order(words, scores):
  found = texts(keep(tokens([words]), jnp.array([scores], jnp.float32), K))
  # Of the real words only: a pad's score does not count.
  best = sorted(range(len(words)), key=lambda i: -scores[i])[:K]
  assert found == [[words[i] for i in sorted(best)]]


def test_keep_by_hand():
  s = tokens([[8, 9, 10, 11], [12, 13], []])
  score = jnp.array([[0.1, 0.9, 0.5, 0.7, 9, 9]] * 3)
  # Best three of four words: 9, 11, 10, in their order. Two words: both.
  assert texts(keep(s, score, 3)) == [[9, 10, 11], [12, 13], []]
  assert texts(keep(s, score, 1)) == [[9], [13], []]
  assert texts(keep(s, score, S)) == [[8, 9, 10, 11], [12, 13], []]


def test_keep_refuses_a_budget_beyond_the_longest_source():
  with pytest.raises(ValueError, match=rf"budget={S + 1} .* source, {S}"):
    extract.keep(tokens([[8]]), jnp.zeros((1, S)), S + 1)


@few
@given(words)
def test_lead_is_the_first_words(words):
  s = tokens([words])
  assert texts(keep(s, extract.lead(s), K)) == [words[:K]]


def test_noisy_draws_k_places_without_replacement():
  s = tokens([list(range(8, 8 + S))] * 64)
  found = keep(
    s, noisy(jnp.ones((64, S)), jax.random.key(0), jnp.arange(64)), K
  )
  # Different words, in order, so different places.
  assert all(len(set(row)) == K for row in texts(found))
  assert all(row == sorted(row) for row in texts(found))
  # 20 ways to keep 3 of 6: 64 draws see more than half of them.
  assert len({tuple(row) for row in texts(found)}) > 10


def test_noisy_weighs_by_the_score():
  """Gumbel-top-1 draws a place in proportion to its score: 1 : 2 : 3."""
  count = 6_000
  score = jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), (count, 3))
  first = jnp.argmax(noisy(score, jax.random.key(0), jnp.arange(count)), -1)
  found = np.bincount(first, minlength=3) / count
  expected = np.array([1, 2, 3]) / 6
  # Four deviations of a share.
  bound = 4 * np.sqrt(expected * (1 - expected) / count)
  assert (np.abs(found - expected) < bound).all()


def test_noisy_never_meets_an_infinity():
  score = jnp.array([[0.0, -1.0, 1e-30, 50.0]])
  assert np.isfinite(noisy(score, jax.random.key(0), jnp.arange(1))).all()


def test_noise_belongs_to_the_row():
  score = jnp.ones((4, S))
  key = jax.random.key(0)
  straight = np.asarray(noisy(score, key, jnp.array([5, 6, 7, 8])))
  shuffled = np.asarray(noisy(score, key, jnp.array([8, 1, 5, 6])))
  np.testing.assert_array_equal(shuffled[[2, 3, 0]], straight[[0, 1, 3]])
  other = np.asarray(noisy(score, jax.random.key(1), jnp.array([5, 6, 7, 8])))
  assert len(np.unique([*straight, *other])) == 8 * S


def apply(params, tokens, positions, *, prefix=None, cache=None, index=0):
  """Logits of the t-th word are params[t], whatever was said before.

  As C it writes every second word of its source. `hidden` holds the logits.
  """
  del positions
  read = tokens if prefix is None else prefix.k
  step = jnp.arange(tokens.ids.shape[2]) + index + (prefix is not None)
  if prefix is None:
    step *= 0
  as_c = read.ids[:, :, :1] == tokenizer.C
  word = jnp.take(read.ids, 1 + 2 * step, axis=-1, mode="clip")
  logits = params[step] + 100 * as_c[..., None] * jax.nn.one_hot(
    word, tiny.VOCAB
  )
  hidden = jnp.broadcast_to(logits, (*tokens.ids.shape, tiny.VOCAB))
  return hidden, Cache(read, (), ()) if cache is None else cache


POLICY = Policy(
  init=None,
  apply=apply,
  unembed=lambda params, hidden: hidden,
  init_cache=lambda batch, group, length: Cache((), (), ()),
)
PARAMS = np.random.default_rng(0).normal(size=(S + 1, tiny.VOCAB)) * 3
FROZEN = {"base": jnp.asarray(PARAMS, jnp.float32)}
TEXT = tiny.ROLES["text"]


def batch(rows, seed=0):
  source = tiny.tokens(np.random.default_rng(seed), rows, S)
  return Batch(source, jnp.arange(rows, dtype=jnp.int32))


def write(rule, batch):
  writer = extract.writer(POLICY, tiny.ROLES, rule, K)
  return texts(jax.jit(writer)(FROZEN, batch, jax.random.key(0)))


def surprisals(ids):
  """Nats of each word of one source under PARAMS, among the role's words."""
  logits = np.where(TEXT.support, PARAMS[: len(ids)], -np.inf)
  total = np.log(np.exp(logits).sum(-1))
  return [total[t] - logits[t, i] for t, i in enumerate(ids)]


def test_surprisal_against_numpy():
  s = batch(8).source
  score = jax.jit(lambda params, s: extract.surprisal(POLICY, params, TEXT, s))
  found, mask = np.asarray(score(FROZEN["base"], s)), np.asarray(s.mask)
  expected = [x for text in texts(s) for x in surprisals(text)]
  np.testing.assert_allclose(found[mask], expected, rtol=1e-5)
  assert (found[~mask] == 0.0).all()


def test_writers():
  found = batch(8)
  sources = texts(found.source)
  assert write("lead", found) == [text[:K] for text in sources]
  expected = []
  for text in sources:
    score = surprisals(text)
    best = sorted(range(len(text)), key=lambda i: -score[i])[:K]
    expected.append([text[i] for i in sorted(best)])
  assert write("surprising", found) == expected
  # Every second word, over the whole of the longest source.
  full = batch(8)._replace(source=tokens([list(range(8, 14))] * 8))
  assert write("sft", full) == [[8, 10, 12]] * 8


@pytest.mark.parametrize("rule", ["first", "", "source"])
def test_unknown_rule(rule):
  with pytest.raises(ValueError, match=rf"{rule!r} is none of lead, surp"):
    extract.writer(POLICY, tiny.ROLES, rule, K)


def read(lesson):
  """What stands in each prompt, [N] lists of ids."""
  ids, mask = (np.asarray(x) for x in lesson.prompt)
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


def play(found, given, *, lessons, dropout, seed=0):
  pattern = extract.make(
    POLICY, tiny.ROLES, None, lessons=lessons, dropout=dropout
  )
  assert pattern.init() == ()
  episode, carry = jax.jit(pattern.play)(
    (), (), (), found, jax.random.key(seed), given
  )
  assert carry == () and not episode.rollouts and not episode.rewards
  return episode


def test_play_teaches_d_s_from_its_extract():
  found = batch(8)
  given = keep(found.source, extract.lead(found.source), K)
  episode = play(found, given, lessons=2, dropout=0.0)
  assert set(episode.lessons) == {"D"}
  lesson = episode.lessons["D"]
  twice = lambda rows: [row for row in rows for _ in range(2)]
  assert read(lesson) == [
    [tokenizer.D, *code, tokenizer.SEPARATOR] for code in twice(texts(given))
  ]
  target = Tokens(*(x[:, 0] for x in lesson.target))
  assert texts(target) == [
    [*text, tokenizer.END] for text in twice(texts(found.source))
  ]
  assert (lesson.weights == 1.0).all()
  length = np.mean([len(code) for code in texts(given)])
  np.testing.assert_allclose(episode.metrics["length"], length, rtol=1e-6)


@pytest.mark.parametrize("lessons", [1, 3])
def test_every_arm_teaches_d_equally_many_pairs(lessons):
  """In the shapes of C -> D -> V, so that arms differ in the codes alone."""
  found = batch(tiny.ROWS)
  given = keep(found.source, extract.lead(found.source), K)
  mine = play(found, given, lessons=lessons, dropout=0.1).lessons["D"]
  score = lambda frozen, s, d, gain: (jnp.zeros(d.ids.shape[:3]), {})
  verify = verifier.Verifier(score, hears=True)
  pattern = cdv.make(
    POLICY, tiny.ROLES, verify, group=4, decodes=1, length_price=0.0,
    lessons=lessons, dropout=0.1,
  )  # fmt: skip
  episode, _ = jax.eval_shape(
    pattern.play, FROZEN["base"], FROZEN | {"reader": ()}, (), found,
    jax.random.key(0), None,
  )  # fmt: skip
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(mine) == shapes(episode.lessons["D"])
  assert mine.weights.size == lessons * tiny.ROWS


def test_dropout_share_and_lengths():
  """A share of 0.3 is cut, to each of 0, 1 and 2 words equally often."""
  rows, lessons, share = 500, 4, 0.3
  s = tokens([list(range(8, 14))] * rows)
  found = Batch(s, jnp.arange(rows, dtype=jnp.int32))
  given = keep(s, extract.lead(s), K)
  lesson = play(found, given, lessons=lessons, dropout=share).lessons["D"]
  codes, pairs = [row[1:-1] for row in read(lesson)], rows * lessons
  assert all(code == list(range(8, 8 + len(code))) for code in codes)
  counts = np.bincount([len(code) for code in codes], minlength=K + 1)
  expected = np.array([share / K] * K + [1 - share])
  # Four deviations of a count.
  bound = 4 * np.sqrt(pairs * expected * (1 - expected))
  assert (np.abs(counts - pairs * expected) < bound).all()
  # The target is whole whatever was cut.
  assert lesson.target.mask.all()


@pytest.mark.parametrize("dropout, lengths", [(0.0, {K}), (1.0, {0, 1, 2})])
def test_dropout_of_none_and_of_all(dropout, lengths):
  s = tokens([list(range(8, 14))] * 100)
  found = Batch(s, jnp.arange(100, dtype=jnp.int32))
  given = keep(s, extract.lead(s), K)
  lesson = play(found, given, lessons=1, dropout=dropout).lessons["D"]
  assert {len(row) - 2 for row in read(lesson)} == lengths
