"""Codes by rule: which words of s they keep, and what D learns from them."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.data import tokenizer
from rsrc_jax.lm import extracts, rollout, tokens
from rsrc_jax.patterns import cdv, extract
from rsrc_jax.rl import verifier
from rsrc_jax.types import (
  Batch,
  Cache,
  Constraints,
  Context,
  Controls,
  Policy,
  Tokens,
)

S, K = tiny.SOURCE, tiny.BUDGET
few = settings(deadline=None, max_examples=40)
# Sources of 0 to 6 different words, and a score for each slot, no two equal.
words = st.lists(st.integers(8, 19), max_size=S, unique=True)
scores = st.permutations(range(S))

budgets = st.integers(0, S + 1)

keep = jax.jit(extracts.keep, static_argnums=2)
noisy = jax.jit(extracts.noisy)


def made_tokens(rows, length=S):
  """Lists of ids as Tokens, padded on the right."""
  ids = [row + [0] * (length - len(row)) for row in rows]
  mask = [[i < len(row) for i in range(length)] for row in rows]
  return Tokens(jnp.array(ids, jnp.int32), jnp.array(mask, bool))


def texts(made_tokens):
  """The real ids of each row; fails where pads are not 0, on the right."""
  ids, mask = (np.asarray(x) for x in made_tokens)
  assert (np.diff(mask.astype(int), axis=-1) <= 0).all()
  assert (ids[~mask] == 0).all() and ids.dtype == np.int32
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


@few
@given(words, scores)
def test_keep_takes_the_best_in_their_order(words, scores):
  found = texts(keep(made_tokens([words]), jnp.array([scores], jnp.float32), K))
  # Of the real words only: a pad's score does not count.
  best = sorted(range(len(words)), key=lambda i: -scores[i])[:K]
  assert found == [[words[i] for i in sorted(best)]]


def test_keep_by_hand():
  s = made_tokens([[8, 9, 10, 11], [12, 13], []])
  score = jnp.array([[0.1, 0.9, 0.5, 0.7, 9, 9]] * 3)
  # Best three of four words: 9, 11, 10, in their order. Two words: both.
  assert texts(keep(s, score, 3)) == [[9, 10, 11], [12, 13], []]
  assert texts(keep(s, score, 1)) == [[9], [13], []]
  assert texts(keep(s, score, S)) == [[8, 9, 10, 11], [12, 13], []]


def test_keep_with_a_budget_of_the_row_by_hand():
  s = made_tokens([[8, 9, 10, 11]] * 5 + [[12, 13], []])
  score = jnp.array([[0.1, 0.9, 0.5, 0.7, 9, 9]] * 7)
  found = keep(s, score, 3, jnp.array([0, 1, 2, 3, 9, 1, 2]))
  # Ranks are 9, 11, 10, 8. More than k = 3 no budget gives; [12, 13] scores
  # 13 best.
  best = [[], [9], [9, 11], [9, 10, 11], [9, 10, 11], [13], []]
  assert texts(found) == best


@few
@given(words, scores, budgets)
def test_a_row_with_a_budget_is_a_batch_of_that_budget(words, scores, budget):
  s, score = made_tokens([words] * 2), jnp.array([scores] * 2, jnp.float32)
  found = texts(keep(s, score, S, jnp.array([budget, S])))
  alone = [] if budget == 0 else texts(keep(s, score, min(budget, S)))[0]
  assert found == [alone, words]


def test_keep_takes_the_earlier_of_equals():
  s = made_tokens([[8, 9, 10, 11, 12, 13]])
  assert texts(keep(s, jnp.zeros((1, S)), 2)) == [[8, 9]]
  score = jnp.array([[0.0, 1, 0, 1, 1, 0]])
  assert texts(keep(s, score, 2)) == [[9, 11]]


def test_keep_refuses_a_budget_beyond_the_longest_source():
  with pytest.raises(ValueError, match=rf"budget={S + 1} .* source, {S}"):
    extracts.keep(made_tokens([[8]]), jnp.zeros((1, S)), S + 1)


@few
@given(words)
def test_lead_is_the_first_words(words):
  s = made_tokens([words])
  assert texts(keep(s, extracts.lead(s), K)) == [words[:K]]


def test_noisy_draws_k_places_without_replacement():
  s = made_tokens([list(range(8, 8 + S))] * 64)
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


def apply(params, made_tokens, positions, *, prefix=None, cache=None, index=0):
  """Logits of the t-th word are params[t], whatever was said before.

  As C it writes every second word of its source. `hidden` holds the logits.
  """
  del positions
  read = made_tokens if prefix is None else prefix.k
  step = jnp.arange(made_tokens.ids.shape[2]) + index + (prefix is not None)
  if prefix is None:
    step *= 0
  as_c = read.ids[:, :, :1] == tokenizer.C
  word = jnp.take(read.ids, 1 + 2 * step, axis=-1, mode="clip")
  logits = params[step] + 100 * as_c[..., None] * jax.nn.one_hot(
    word, tiny.VOCAB
  )
  hidden = jnp.broadcast_to(logits, (*made_tokens.ids.shape, tiny.VOCAB))
  return hidden, Cache(read, (), ()) if cache is None else cache


POLICY = Policy(
  init=None,
  apply=apply,
  unembed=lambda params, hidden: hidden,
  init_cache=lambda batch, group, length: Cache((), (), ()),
)
PARAMS = np.random.default_rng(0).normal(size=(S + 1, tiny.VOCAB)) * 3
FROZEN = {"base": jnp.asarray(PARAMS.astype(np.float32))}
TEXT = tiny.ROLES["text"]


def batch(rows, seed=0):
  source = tiny.tokens(np.random.default_rng(seed), rows, S)
  return Batch(source, jnp.arange(rows, dtype=jnp.int32))


# It rises with the id; no special is in a source, so they are the rarest.
IDF = np.linspace(1.0, 3.0, tiny.VOCAB, dtype=np.float32)
IDF[: len(tokenizer.SPECIALS)] = 9.0


@functools.cache
def writer(rule, policy=POLICY, k=K):
  return jax.jit(
    extracts.writer(policy, tiny.ROLES, rule, k, idf=IDF, code=tiny.CODE)
  )


def write(rule, batch, budget=None, *, seed=0, params=None, **settings):
  """What a rule writes; the arm's parameters are the base's if not given."""
  params = FROZEN["base"] if params is None else params
  if budget is not None:
    budget = jnp.array(budget, jnp.int32)
  key = jax.random.key(seed)
  return texts(writer(rule, **settings)(params, FROZEN, batch, key, budget))


def surprisals(ids):
  """Nats of each word of one source under PARAMS, among the role's words."""
  logits = np.where(TEXT.support, PARAMS[: len(ids)], -np.inf)
  total = np.log(np.exp(logits).sum(-1))
  return [total[t] - logits[t, i] for t, i in enumerate(ids)]


def test_surprisal_against_numpy():
  s = batch(8).source
  score = jax.jit(lambda params, s: extracts.surprisal(POLICY, params, TEXT, s))
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
  full = batch(8)._replace(source=made_tokens([list(range(8, 14))] * 8))
  assert write("sft", full) == [[8, 10, 12]] * 8


@pytest.mark.parametrize("rule", ["first", "", "source"])
def test_unknown_rule(rule):
  with pytest.raises(ValueError, match=rf"{rule!r} is none of lead, surp"):
    extracts.writer(POLICY, tiny.ROLES, rule, K)


def test_rules_without_what_they_need():
  with pytest.raises(ValueError, match="'tfidf' needs idf"):
    extracts.writer(POLICY, tiny.ROLES, "tfidf", K, code=tiny.CODE)
  for code in (None, np.zeros(tiny.VOCAB, bool)):
    with pytest.raises(ValueError, match="'hash' needs code"):
      extracts.writer(POLICY, tiny.ROLES, "hash", K, code=code, idf=IDF)


ALL = (*extracts.RULES, "sampled_oracle")


@pytest.mark.parametrize("rule", ALL)
def test_budgets_by_row(rule):
  """A row is written as in a batch whose k is its own budget."""
  found = batch(8)
  found = found._replace(source=made_tokens([list(range(8, 14))] * 8))
  budget = [1, 2, 3, 3, 1, 2, 2, 3]
  mixed = write(rule, found, budget)
  assert [len(code) for code in mixed] == budget
  alone = {k: write(rule, found, [k] * 8) for k in (1, 2, 3)}
  assert mixed == [alone[k][b] for b, k in enumerate(budget)]
  # Without budgets a batch is one of k for all.
  assert alone[K] == write(rule, found)


@pytest.mark.parametrize("rule", ALL)
def test_a_budget_of_all_changes_nothing(rule):
  """Sources of all lengths: the shorter ones are not filled up."""
  found = batch(8)
  codes = write(rule, found)
  assert write(rule, found, [K] * 8) == codes
  assert write(rule, found, [K + 1] * 8) == codes
  if rule not in ("sft", "hash"):
    sizes = [min(K, len(text)) for text in texts(found.source)]
    assert [len(code) for code in codes] == sizes


@pytest.mark.parametrize("rule", ALL)
def test_what_is_written_belongs_to_the_row(rule):
  """Not to where it stands, nor to who else is in the batch."""
  found = batch(8)
  order = np.array([5, 2, 7, 0, 1, 1, 4, 3])
  codes = write(rule, found, [1, 2, 3, 3, 2, 3, 1, 3])
  budget = np.array([1, 2, 3, 3, 2, 3, 1, 3])[order]
  moved = write(rule, jax.tree.map(lambda x: x[order], found), budget)
  assert moved == [codes[i] for i in order]


def test_frequencies_by_hand():
  # Three sources; 8 is in all, twice in one; 9 in two; 10 in one; 11 in none.
  s = made_tokens([[8, 9, 8], [8, 9], [8, 10]])
  found = extracts.inverse_frequency(jax.device_get(s), 12)
  assert found.dtype == np.float32 and found.shape == (12,)
  expected = [math.log(4 / (1 + df)) + 1 for df in (3, 2, 1, 0)]
  np.testing.assert_allclose(found[8:], expected, rtol=1e-6)
  assert found[8] == 1.0
  # The pad stands in no source, although its id fills their ends.
  np.testing.assert_allclose(found[:8], expected[-1], rtol=1e-6)


def test_tfidf_by_hand():
  rows = [[8, 9, 8, 10], [11, 12, 13], [tokenizer.UNKNOWN, 8, 9, 9]]
  # idf rises by 2 / 23 an id: 8 has 1.70, 9 has 1.78, 10 has 1.87. The word
  # said twice scores double, so both of its places go before all others.
  s = Batch(made_tokens(rows), jnp.arange(3))
  assert write("tfidf", s) == [[8, 8, 10], [11, 12, 13], [8, 9, 9]]
  assert write("tfidf", s, [2, 2, 2]) == [[8, 8], [12, 13], [9, 9]]
  # Of equal scores the earlier; what is no word of a text comes last.
  assert write("tfidf", s, [1, 1, 3]) == [[8], [13], [8, 9, 9]]
  score = jax.jit(extracts.tfidf)(s.source, jnp.asarray(IDF))
  np.testing.assert_allclose(score[0, :4], IDF[[8, 9, 8, 10]] * [2, 1, 2, 1])


def test_random_extracts():
  rows = 1200
  s = Batch(made_tokens([list(range(8, 12))] * rows), jnp.arange(rows))
  found = write("random", s, [2] * rows)
  pairs = list(itertools.combinations(range(8, 12), 2))
  counts = np.array([sum(tuple(x) == pair for x in found) for pair in pairs])
  # Six subsets in order, equally often: four deviations of a count.
  assert counts.sum() == rows
  bound = 4 * math.sqrt(rows * (1 / 6) * (5 / 6))
  assert (np.abs(counts - rows / 6) < bound).all()
  assert write("random", s, [2] * rows) == found
  assert write("random", s, [2] * rows, seed=1) != found


def test_hash_names_a_text_by_all_of_it():
  """Equal texts only, at any place, row number, key and padding."""
  rows = [
    [8, 9, 10], [8, 9, 10], [10, 9, 8], [8, 9], [8, 9, 11], [9, 10],
    [8, 8, 9, 10], [],
  ]  # fmt: skip
  s = Batch(made_tokens(rows), jnp.arange(8))
  found = write("hash", s, k=24)
  assert all(len(code) == 24 for code in found)
  assert found[0] == found[1]
  # 16 ids: that two texts agree in half of 24 slots has a chance of 1e-8.
  for a, b in itertools.combinations(found[1:], 2):
    assert sum(x == y for x, y in zip(a, b, strict=True)) < 12
  s = Batch(made_tokens(rows, S + 3), jnp.arange(8) + 100)
  assert write("hash", s, seed=1, params=(), k=24) == found
  # A smaller k is the beginning of it.
  assert write("hash", s) == [code[:K] for code in found]


def test_hash_draws_all_ids_of_the_code_equally_often():
  ids = np.flatnonzero(tiny.CODE)
  rows = list(itertools.product(range(8, 20), repeat=3))
  s = Batch(made_tokens(rows := [list(x) for x in rows]), jnp.arange(len(rows)))
  found = np.array(write("hash", s))
  assert found.shape == (12**3, K)
  share = 1 / len(ids)
  bound = 4 * math.sqrt(len(rows) * share * (1 - share))
  for slot in found.T:
    counts = np.array([(slot == i).sum() for i in ids])
    assert counts.sum() == len(rows)
    assert (np.abs(counts - len(rows) * share) < bound).all()
  # Slots know nothing of each other: equal in one of 16 rows.
  same = (found[:, 0] == found[:, 1]).sum()
  assert abs(same - len(rows) * share) < bound


@jax.jit
def known(params, s, code):
  """ln p_D(s | c) in one piece, [B, S], [B, k] -> [B]: without the chunks."""
  D = tiny.ROLES["D"]
  target = Tokens(*(x[:, None] for x in tokens.with_end(s, D.end)))
  return rollout.likelihood(tiny.POLICY, params, D, D.prompt(code), target)[
    :, 0
  ]


def grown(params, text, k):
  """The greedy extract of one text, one candidate at a time, in Python."""
  chosen = set()
  while len(chosen) < min(k, len(text)):
    free = [i for i in range(len(text)) if i not in chosen]
    codes = [[text[j] for j in sorted({*chosen, i})] for i in free]
    codes += [[]] * (tiny.ROWS - len(codes))
    found = known(
      params, made_tokens([text] * tiny.ROWS), made_tokens(codes, K)
    )
    chosen.add(free[int(np.argmax(found[: len(free)]))])
  return [text[i] for i in sorted(chosen)]


def test_oracle_against_a_loop_in_python():
  found = batch(8)
  budget = [3, 1, 2, 3, 3, 2, 1, 3]
  params = tiny.params(3)
  codes = write("oracle", found, budget, policy=tiny.POLICY, params=params)
  sources = texts(found.source)
  expected = [grown(params, x, k) for x, k in zip(sources, budget, strict=True)]
  assert codes == expected
  assert codes != write("lead", found, budget)
  # It reads the present parameters.
  other = write(
    "oracle", found, budget, policy=tiny.POLICY, params=tiny.params(4)
  )
  assert other != codes


def test_oracle_of_one_token_is_the_best_of_all():
  found, params = batch(8, seed=1), tiny.params(3)
  s = found.source
  codes = write("oracle", found, [1] * 8, policy=tiny.POLICY, params=params)
  reached = known(params, s, made_tokens(codes, K))
  every = [
    known(
      params, s, made_tokens([[text[i % len(text)]] for text in texts(s)], K)
    )
    for i in range(S)
  ]
  np.testing.assert_allclose(reached, np.max(every, 0), rtol=1e-5)
  assert (np.max(every, 0) > every[0] + 0.01).any()


def needs_decode(
  params, made_tokens, positions, *, prefix=None, cache=None, index=0
):
  """A D that says each word by its logit, and 5 more if its code has it."""
  del positions, index
  read = made_tokens if prefix is None else prefix.k
  heard = jax.nn.one_hot(read.ids, tiny.VOCAB) * read.mask[..., None]
  logits = params + 5.0 * jnp.max(heard, 2, keepdims=True)
  hidden = jnp.broadcast_to(logits, (*made_tokens.ids.shape, tiny.VOCAB))
  return hidden, Cache(read, (), ()) if cache is None else cache


def test_oracle_reaches_the_best_extract_where_that_is_known():
  """Under `hears`, of different words the best k are the least likely ones.

  With weights w = exp(logit) and a = e^5 - 1, ln p(s | c) is
  sum ln w(s_t) + 5 k - (S + 1) ln(W + a * sum over c of w): all codes of k
  tokens gain as much, and those of the smallest weights cost least.
  """
  rows, policy = 16, POLICY._replace(apply=needs_decode)
  rng = np.random.default_rng(0)
  logits = rng.normal(size=tiny.VOCAB) * 2
  sources = [
    rng.permutation(np.arange(8, 20))[:S].tolist() for _ in range(rows)
  ]
  found = Batch(made_tokens(sources), jnp.arange(rows))
  budget = rng.integers(1, K + 1, rows)
  codes = write(
    "oracle", found, budget, policy=policy,
    params=jnp.asarray(logits, jnp.float32),
  )  # fmt: skip
  rarest = [
    set(sorted(text, key=lambda i: logits[i])[:k])
    for text, k in zip(sources, budget, strict=True)
  ]
  assert codes == [
    [i for i in text if i in few]
    for text, few in zip(sources, rarest, strict=True)
  ]

  def nats(text, code):
    logit = logits + 5.0 * np.isin(np.arange(tiny.VOCAB), code)
    words = logit[tiny.ROLES["D"].support]
    said = logit[[*text, tokenizer.END]]
    return said.sum() - len(said) * np.log(np.exp(words).sum())

  # Surprise under another model is no better, and here and there worse.
  surprising = write("surprising", found, budget)
  gap = [
    nats(text, code) - nats(text, other)
    for text, code, other in zip(sources, codes, surprising, strict=True)
  ]
  assert min(gap) >= 0 and max(gap) > 0.1
  for text, code in zip(sources, codes, strict=True):
    best = max(nats(text, x) for x in itertools.combinations(text, len(code)))
    np.testing.assert_allclose(nats(text, code), best, rtol=1e-9)


def test_sampled_oracle_is_the_best_of_its_draws():
  found, params = batch(8), tiny.params(3)
  budget = [3, 1, 2, 3, 3, 2, 1, 3]
  best = write(
    "sampled_oracle", found, budget, policy=tiny.POLICY, params=params
  )
  random = writer("random")
  draws = [
    random(
      (), FROZEN, found, jax.random.fold_in(jax.random.key(0), t),
      jnp.array(budget),
    )
    for t in range(extracts.TRIES)
  ]  # fmt: skip
  of_draws = np.array([known(params, found.source, code) for code in draws])
  reached = known(params, found.source, made_tokens(best, K))
  np.testing.assert_allclose(reached, of_draws.max(0), rtol=1e-5)
  assert (of_draws.max(0) > of_draws[0] + 0.01).any()
  greedy = write("oracle", found, budget, policy=tiny.POLICY, params=params)
  whole = known(params, found.source, made_tokens(greedy, K))
  # Not in every row: a greedy search is beaten where words help in pairs.
  assert np.mean(whole - reached) > 0


@pytest.mark.parametrize("n", [1, 8, 9, 19])
def test_likelihood_of_many_codes_is_that_of_each(n):
  """In chunks of at most 8, whether they come out even or not."""
  rng = np.random.default_rng(n)
  s, params = batch(8).source, tiny.params(3)
  code = tiny.tokens(rng, 8, n, K)
  found = jax.jit(
    lambda *x: extracts.likelihood(tiny.POLICY, x[0], tiny.ROLES["D"], *x[1:])
  )(params, s, code)
  assert found.shape == (8, n)
  for i in {0, n // 2, n - 1}:
    one = known(params, s, Tokens(*(x[:, i] for x in code)))
    np.testing.assert_allclose(found[:, i], one, rtol=1e-5)


def read(lesson):
  """What stands in each prompt, [N] lists of ids."""
  ids, mask = (np.asarray(x) for x in lesson.prompt)
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


def play(found, given, *, lessons, dropout, seed=0):
  pattern = extract.make(
    Context(POLICY, tiny.ROLES), lessons=lessons, dropout=dropout
  )
  assert pattern.init() == ()
  episode, carry = jax.jit(pattern.play)(
    (), (), (), found, jax.random.key(seed), given
  )
  assert carry == () and not episode.rollouts and not episode.rewards
  return episode


def test_play_teaches_d_s_from_its_extract():
  found = batch(8)
  given = keep(found.source, extracts.lead(found.source), K)
  episode = play(found, given, lessons=2, dropout=0.0)
  assert set(episode.sft_batches) == {"D"}
  lesson = episode.sft_batches["D"]
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
  given = keep(found.source, extracts.lead(found.source), K)
  mine = play(found, given, lessons=lessons, dropout=0.1).sft_batches["D"]
  verify = verifier.make(
    POLICY, tiny.ROLES["V"], weights={"edit": 1.0}, shaping={}, positions=None
  )
  pattern = cdv.make(
    Context(POLICY, tiny.ROLES, verify), group=4, decodes=1, length_price=0.0,
    lessons=lessons, dropout=0.1,
  )  # fmt: skip
  none = jnp.full((tiny.ROWS, 1, 1), -1, jnp.int32)
  ask = Controls(Constraints(none, none), none, jnp.float32(0), jnp.int32(0))
  episode, _ = jax.eval_shape(
    pattern.play, FROZEN["base"], FROZEN | {"reader": ()}, (), found,
    jax.random.key(0), ask,
  )  # fmt: skip
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(mine) == shapes(episode.sft_batches["D"])
  assert mine.weights.size == lessons * tiny.ROWS


def test_dropout_share_and_lengths():
  """A share of 0.3 is cut, to each of 0, 1 and 2 words equally often."""
  rows, lessons, share = 500, 4, 0.3
  s = made_tokens([list(range(8, 14))] * rows)
  found = Batch(s, jnp.arange(rows, dtype=jnp.int32))
  given = keep(s, extracts.lead(s), K)
  lesson = play(found, given, lessons=lessons, dropout=share).sft_batches["D"]
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
  s = made_tokens([list(range(8, 14))] * 100)
  found = Batch(s, jnp.arange(100, dtype=jnp.int32))
  given = keep(s, extracts.lead(s), K)
  lesson = play(found, given, lessons=1, dropout=dropout).sft_batches["D"]
  assert {len(row) - 2 for row in read(lesson)} == lengths
