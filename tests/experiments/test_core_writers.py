"""The controls of experiments/core: which ids they write, and what they say."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny
from helpers.runs import ROOT, shrunk

from experiments.core import hand_made, matched, pairs, pairs_rl
from rsrc_jax import train
from rsrc_jax.build import writers
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import facts, sources, synthetic
from rsrc_jax.types import Batch, Constraints, Rollout, Tokens

CORE = ROOT / "experiments" / "core"
NAMES = ("pairs", "pairs_rl", "hand_made", "matched")
FILES = {x: str(CORE / f"{x}.py") for x in NAMES}
WORDS, BLANKS = 68, 52  # 8 specials, 68 words, 52 blanks: V = 128


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
  return make_setup(config(), tmp_path_factory.mktemp("core"))


def config(**changes):
  """A shrunk run of the four controls."""
  found = shrunk(
    **{
      "only": "", "steps": 2, "pretrain.steps": 2, "pretrain.warmup_from": 1,
      "log_every": 2, "eval.every": 2, "eval.budgets": (2,),
      "checkpoint.every": 2, "eval.rows": 16, "eval.test_rows": 16,
      **changes,
    }
  )  # fmt: skip
  kinds = {"pairs": "extract", "hand_made": "extract"}
  found.arms = {
    name: {"pattern": kinds.get(name, "cdv"), "write": file}
    for name, file in FILES.items()
  }
  found.arms.pairs_rl.start = "pairs"
  found.report.headline = "matched"
  return found


def made(rows, length=4):
  ids = np.array([[*x, *[0] * (length - len(x))] for x in rows], np.int32)
  return Tokens(ids, ids > 0)


def texts(code):
  ids, mask = (np.asarray(x) for x in code)
  assert (ids[~mask] == 0).all()
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


# The dictionary of pairs.


def test_bits_and_the_best_pairs_by_hand():
  """Rare words save more: the order is not that of how often pairs occur.

  p(2) = 5/8, p(4 | 2) = 3/5, p(5 | 2) = 2/5, p(5 | 3) = 2/3, p(4 | 3) = 1/3.
  Saved is the smaller of two words' bits, times how often the pair occurs:
    2 4: 3 min(.678, .737) = 2.03    3 4: 1 min(1.415, 1.585) = 1.42
    2 5: 2 min(.678, 1.322) = 1.36   3 5: 2 min(1.415, .585) = 1.17
  """
  split = made([[2, 4]] * 3 + [[2, 5]] * 2 + [[3, 5]] * 2 + [[3, 4]])
  bits = pairs.counted_bits(split, 10)
  ways = [(8 / 5, 5 / 3), (8 / 5, 5 / 2), (8 / 3, 3 / 2), (8 / 3, 3)]
  np.testing.assert_allclose(bits[[0, 3, 5, 7], :2], np.log2(ways))
  assert (bits[:, 2:] == 0).all()
  best = [(2, 4), (3, 4), (2, 5), (3, 5)]
  for count in (1, 3, 4, 9):
    assert pairs.choose(split, 10, count) == best[:count]
  # Of other sentences too; what was never counted costs nothing.
  other = pairs.counted_bits(split, 10, made([[3, 4], [7, 4]]))
  np.testing.assert_allclose(other[:, :2], [np.log2((8 / 3, 3)), (0, 0)])


def test_sentences_with_a_pair_count_no_more():
  """All eight of {2,3} {4,5} {6,7}, once each: each word has one bit."""
  split = made(itertools.product((2, 3), (4, 5), (6, 7)))
  first = [(2, 4), (2, 5), (3, 4), (3, 5)]  # all pairs save 2 bits
  # These four leave no sentence that (4, 6) could save anything in.
  assert pairs.choose(split, 10, 6) == first
  more = [*first, (4, 6), (4, 7)]
  assert pairs.choose(split, 10, 6, once=False) == more


def test_kinds_of_pairs():
  """A word between that is always there has no bits and is in no pair."""
  split = made([(a, b, 9, c) for a in (2, 3) for b in (4, 5) for c in (6, 7)])
  choose = lambda kind: set(pairs.choose(split, 10, 99, kind, once=False))
  product = lambda *of: set(itertools.product(*of))
  a_b, b_c = product((2, 3), (4, 5)), product((4, 5), (6, 7))
  assert choose("neighbours") == a_b
  assert choose("content") == a_b | b_c
  assert choose("any") == a_b | b_c | product((2, 3), (6, 7))
  with pytest.raises(ValueError, match="kind='all' is none of neighbours"):
    choose("all")


def test_facts_have_a_pair_for_each_blank(setup):
  corpus = setup.corpus
  found, vocab = pairs.make(corpus), corpus.vocab
  assert len(found.ids) == BLANKS
  assert not vocab.text[found.ids].any() and vocab.code[found.ids].all()
  assert len({*zip(found.first, found.second, strict=True)}) == BLANKS
  # No pair has a word of the frame.
  content = np.flatnonzero(np.any(corpus.answers, 0))
  assert {*found.first, *found.second} <= {*content}
  full = vocab._replace(text=vocab.code)
  with pytest.raises(ValueError, match="vocab_size=128 leaves no id"):
    pairs.make(corpus._replace(vocab=full))


# Codes of words and pairs.

FOUND = pairs.Dictionary(
  *np.array([(20, 8, 9), (21, 8, 11), (22, 10, 11), (23, 11, 8)], np.int32).T
)


@functools.partial(jax.jit, static_argnums=2)
def extract(s, score, k, budget=None):
  return pairs.extract(FOUND, s, score, k, budget)


@pytest.mark.parametrize(
  "score, best",
  [
    # 21 has 5; 8 and 11 are spent, 9 has 2, 10 has .5. In the order of s.
    ((1, 2, 0.5, 4), ([], [21], [21, 9], [21, 9, 10], [21, 9, 10])),
    # 20 has 5; 22 has .6, more than 10 and 11 alone; then nothing is left.
    ((3, 2, 0.5, 0.1), ([], [20], [20, 22], [20, 22], [20, 22])),
    # 11 8 is not in this order. All pairs have 2: the first comes first.
    ((1, 1, 1, 1), ([], [20], [20, 22], [20, 22], [20, 22])),
  ],
)
def test_greedy_codes_by_hand(score, best):
  s, score = made([[8, 9, 10, 11]] * 5), np.array([score] * 5, np.float32)
  assert texts(extract(s, score, 4, np.arange(5))) == [*best]
  assert texts(extract(s, score, 2)) == [best[2]] * 5


def test_short_sources_and_words_that_stand_twice():
  s = made([[9, 8], [], [11, 8, 11]])
  found = extract(s, np.array([[1, 2, 1, 9]] * 3, np.float32), 3)
  # 11 8 and 8 11 both have 3; the first comes first, and one 11 is left.
  assert texts(found) == [[9, 8], [], [23, 11]]


def shown(limits):
  return [set(x[x >= 0].tolist()) for x in np.asarray(limits.allowed)[:, 0]]


def test_c_may_write_the_words_of_s_and_its_pairs(setup, monkeypatch):
  batch = sources.batch(setup.corpus.train, 0, 32)
  found = pairs.make(setup.corpus)
  right = [
    {*row.tolist()}
    | {
      int(i) for i, a, b in zip(*found, strict=True)
      if (a, b) in itertools.combinations(row.tolist(), 2)
    }
    for row in batch.source.ids
  ]  # fmt: skip
  assert any(len(x) > 12 for x in right)
  prepare, limits = training_and_evaluation(setup, "pairs_rl", monkeypatch)
  assert shown(prepare(batch, 0.9)) == shown(limits(batch)) == right


def test_the_order_of_a_pair_counts_and_an_empty_source_admits_no_id():
  s = made([[11, 9, 8, 0], [8, 9, 11, 10], [], [8, 10, 11, 9]])
  words = np.full((4, 1, 30), -1, np.int32)
  words[:, 0, :4] = np.where(s.mask, s.ids, -1)
  words[2, 0, 0] = 0  # the pad, which no role can write: not all ids
  limits = Constraints(words, jnp.asarray(words))
  batch = Batch(s, np.arange(4, dtype=np.int32))
  admit = jax.jit(lambda *x: pairs_rl.admit(FOUND, *x))
  found = shown(admit(batch, limits))
  assert found == [
    {8, 9, 11, 23}, {8, 9, 10, 11, 20, 21}, {0}, {8, 9, 10, 11, 20, 21, 22}
  ]  # fmt: skip


def training_and_evaluation(setup, arm, monkeypatch):
  """(batch, hidden) and (batch) -> the Constraints of an arm of C."""
  make = writers.of(FILES[arm]).make
  prepare, write = make(setup, arm_config(setup.config, arm), FILES[arm])
  seen = []

  def sample(policy, params, role, prompt, row_keys, *, samples, constraints):
    seen.append(constraints)
    ids = jnp.zeros((len(prompt.ids), samples, role.length), jnp.int32)
    return Rollout(prompt, Tokens(ids, ids > 0), ids, constraints)

  monkeypatch.setattr(writers.rollout, "sample", sample)
  key = jax.random.key(0)
  constrain = jax.jit(
    lambda batch, now: prepare({}, batch, key, now).constraints
  )
  evaluated = jax.jit(lambda batch: (write({}, {}, batch, key), seen[-1])[1])
  return (
    lambda batch, hidden: constrain(batch, tiny.schedule(hidden=hidden)),
    evaluated,
  )


# The code made by hand.


@pytest.fixture(scope="module")
def packing(setup):
  return hand_made.make(setup.corpus)


def write(packing, s, k, budget=None):
  """As a whole program: op by op it would be twenty small ones."""
  return jax.jit(lambda *x: hand_made.write(packing, x[0], k, *x[1:]))(
    s, *([] if budget is None else [budget])
  )


def decoded(packing, code):
  """The words of the code's slots, by the lists of synthetic.SLOTS alone."""
  slots = [x.split() for x in synthetic.SLOTS.values()]
  number = {int(x): i for i, x in enumerate(packing.ids)}
  found = []
  for t, token in enumerate(code):
    second, first = divmod(number[token], 8)
    found += [slots[2 * t][first], slots[2 * t + 1][second]]
  return found


@pytest.mark.parametrize("k, slots", [(3, 6), (6, 8)])
def test_what_is_decoded_are_the_words_themselves(setup, packing, k, slots):
  """So no two facts share a code; k tokens tell 2 k slots, at most all."""
  vocab = setup.corpus.vocab
  rows = Tokens(*(x[:64] for x in setup.corpus.train))
  for row, code in zip(rows.ids, texts(write(packing, rows, k)), strict=True):
    words = vocab.pieces(row[list(synthetic.POSITIONS)].tolist())
    assert decoded(packing, code) == words[:slots]


def test_how_many_slots_k_tokens_tell(packing):
  share = [hand_made.told(packing, k) / 8 for k in (1, 2, 3, 4, 6)]
  assert share == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_packed_ids(setup, packing):
  """64 pairs of words and one id for other words, blanks first."""
  vocab = setup.corpus.vocab
  assert len({*packing.ids}) == 65 and vocab.code[packing.ids].all()
  assert vocab.text[packing.ids].sum() == 65 - BLANKS
  every = np.zeros((64, 12), np.int32)
  words = [vocab.encode(synthetic.SLOTS[x]) for x in ("giver", "verb")]
  every[:, :2] = [*itertools.product(*words)]
  code = write(packing, Tokens(every, every > 0), 2)
  assert len({*np.asarray(code.ids)[:, 0].tolist()}) == 64
  # The slots of the second token hold pads: something else.
  assert {*np.asarray(code.ids)[:, 1].tolist()} == {int(packing.ids[-1])}


def test_budgets_and_other_words(setup, packing):
  corpus, last = setup.corpus, int(packing.ids[-1])
  rows = Tokens(*(x[:6] for x in corpus.train))
  whole = texts(write(packing, rows, 6))
  short = texts(write(packing, rows, 6, np.arange(6)))
  assert short == [x[:k] for k, x in enumerate(whole)]
  # Giver and taker, number and colour have changed places: tokens 1, 2 and 3
  # have another slot's words, token 4 is city and day as ever.
  swapped = texts(write(packing, corpus.ood, 4))
  assert all(x[:3] == [last] * 3 and x[3] != last for x in swapped)


@pytest.mark.parametrize("ids, slots", [(65, 2), (64, 1), (9, 1)])
def test_as_many_slots_as_fit(setup, ids, slots):
  vocab = setup.corpus.vocab
  few = vocab._replace(code=np.arange(vocab.size) < ids)
  packing = hand_made.make(setup.corpus._replace(vocab=few))
  assert [len(x) for x in packing.tokens] == [slots] * (8 // slots)
  assert len(packing.ids) == 8**slots + 1


def test_what_hand_made_refuses(setup):
  corpus, vocab = setup.corpus, setup.corpus.vocab
  few = vocab._replace(code=np.arange(vocab.size) < 8)
  with pytest.raises(ValueError, match="vocab_size=128 leaves codes 7 ids"):
    hand_made.make(corpus._replace(vocab=few))
  omitted = facts.make(
    vocab_size=128, sentences=200, heldout=40, seed=0, omit=0.5
  )
  with pytest.raises(ValueError, match=r"config\.data\.omit=0"):
    hand_made.make(omitted)


# As many ids as English has.


def test_the_matched_alphabet(setup, monkeypatch):
  vocab, own = setup.corpus.vocab, matched.ids(setup)
  subset = {*np.flatnonzero(own).tolist()}
  assert len(subset) == WORDS and vocab.code[[*subset]].all()
  # Words are among them, and not only words: 68 of 120 at random.
  assert 0 < vocab.text[[*subset]].sum() < WORDS
  other = setup.config.copy_and_resolve_references()
  other.seed = 1
  assert (matched.ids(setup) == own).all()
  assert (matched.ids(setup._replace(config=other)) != own).any()
  batch = sources.batch(setup.corpus.train, 0, 32)
  trained, evaluated = training_and_evaluation(setup, "matched", monkeypatch)
  assert shown(trained(batch, 0.0)) == shown(evaluated(batch)) == [subset] * 32
  hidden = shown(trained(batch, 0.9))
  assert all(x and x <= subset for x in hidden)
  # 68 * .1 on average; of 32 rows the mean is within 4 standard errors of .44.
  assert abs(np.mean([*map(len, hidden)]) - 6.8) < 1.8
  assert all(shown(trained(batch, 1.0)))  # never empty, which would admit all


def test_matched_refuses_ids_that_are_withheld(setup):
  own = arm_config(setup.config, "matched")
  own.augment.withheld = 4
  with pytest.raises(ValueError, match=r"augment\.withheld=4"):
    writers.of(FILES["matched"]).make(setup, own, FILES["matched"])


# What all of them are charged.


def test_alphabets_are_charged(setup):
  sizes = {x: writers.alphabet(setup, file) for x, file in FILES.items()}
  assert sizes == {
    "pairs": WORDS + BLANKS, "pairs_rl": WORDS + BLANKS, "hand_made": 65,
    "matched": WORDS,
  }  # fmt: skip
  assert writers.alphabet(setup, "words") == WORDS
  # Three tokens, and no end since the budget is full.
  batch = sources.batch(setup.corpus.test, 0, 4)
  code = Tokens(batch.source.ids[:, :3], batch.source.mask[:, :3])
  for name, size in sizes.items():
    saved = writers.make_saved(setup, FILES[name])(batch.source, code, code)
    np.testing.assert_allclose(saved.wire, 3 * math.log2(size + 1))


def test_which_of_them_are_english():
  rows = {x: writers.of(file) for x, file in FILES.items()}
  assert {x for x, row in rows.items() if row.english} == {"pairs", "pairs_rl"}
  assert {x for x, row in rows.items() if row.rule} == {"pairs", "hand_made"}
  assert rows["pairs"].reads_base and not rows["hand_made"].reads_base


def test_codes_of_arms_with_drawn_budgets(setup):
  """As of the package's rules: a budget for each row, at most k tokens."""
  own = arm_config(setup.config, "hand_made")
  own.budgets = (1, 3)
  make = writers.of(FILES["hand_made"]).make
  prepare, write = map(jax.jit, make(setup, own, ""))
  batch, key = sources.batch(setup.corpus.train, 0, 32), jax.random.key(0)
  code = prepare({"base": {}}, batch, key, tiny.schedule())
  assert {len(x) for x in texts(code)} == {1, 3}
  assert {len(x) for x in texts(write({}, {}, batch, key))} == {3}
  assert {len(x) for x in texts(write({}, {}, batch, key, 1))} == {1}


@pytest.mark.slow
def test_two_steps_of_each(tmp_path):
  summary = train.train(config(), tmp_path)
  assert set(summary["heldout"]["arms"]) == {*FILES}
  assert set(summary["heldout"]["english"]) == {"pairs", "pairs_rl"}
  curve = {(x["arm"], x["budget"]): x for x in summary["curve"]}
  for name in ("pairs", "hand_made"):
    row = curve[name, 2]
    size = {"pairs": WORDS + BLANKS, "hand_made": 65}[name]
    assert row["mean_tokens"] == 2
    np.testing.assert_allclose(row["channel_bits"], 2 * math.log2(size))
