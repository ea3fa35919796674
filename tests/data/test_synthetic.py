"""The grammar of facts, whose entropy is exact, and the stream of its rows."""

import itertools
import json
import math

import numpy as np
import pytest

from rsrc_jax.data import facts, sources, synthetic, tokenizer
from rsrc_jax.types import Tokens

COUNT = 20_000
CHOICES = [words.split() for words in synthetic.SLOTS.values()]
LEAST = 8 + 8 * 8 + 4  # specials, the words of the slots, "to in on ."


@pytest.fixture(scope="module")
def vocab():
  return synthetic.vocabulary(128)


@pytest.fixture(scope="module")
def drawn(vocab):
  return synthetic.sentences(vocab, COUNT, seed=0)


def digits(vocab, ids):
  """Which of its eight words each slot holds, [n, 8]; fails on any other."""
  table = [vocab.encode(" ".join(words)) for words in CHOICES]
  return np.stack(
    [
      [choices.index(word) for word in column]
      for choices, column in zip(
        table, ids[:, synthetic.POSITIONS].T.tolist(), strict=True
      )
    ],
    -1,
  )


def test_the_entropy_is_exact():
  """Eight slots of eight words, all different: 8**8 = 2**24 sentences."""
  assert [len(words) for words in CHOICES] == [8] * 8
  assert len(set(itertools.chain(*CHOICES))) == 64
  assert math.prod(map(len, CHOICES)) == 8**8
  assert synthetic.ENTROPY_BITS == math.log2(8**8) == 24.0
  assert len(synthetic.FRAME) == synthetic.LENGTH == 12
  assert set(synthetic.SLOTS) <= set(synthetic.FRAME)


def test_what_three_words_can_carry():
  """The bound of the docstring, by counting which 3 facts and what they say."""
  extracts = sum(
    math.prod(len(words) for words in kept)
    for kept in itertools.combinations(CHOICES, 3)
  )
  assert extracts == 56 * 512
  bound = math.log2(extracts)
  np.testing.assert_allclose(bound, 3 * 3 + math.log2(math.comb(8, 3)))
  assert round(bound, 1) == 14.8 and "14.8 for k = 3" in synthetic.__doc__


def test_sentences_are_distinct_and_of_the_grammar(vocab, drawn):
  assert drawn.shape == (COUNT, 12) and drawn.dtype == np.int32
  assert len(np.unique(drawn, axis=0)) == COUNT
  values = digits(vocab, drawn)
  assert values.shape == (COUNT, 8)
  frame = [i for i in range(12) if i not in synthetic.POSITIONS]
  assert (drawn[:, frame] == vocab.encode("to in on .")).all()
  assert vocab.text[drawn].all()
  words = vocab.decode(drawn[0]).split()
  assert words[0] in CHOICES[0] and words[-1] == "."


def test_every_slot_is_uniform(vocab, drawn):
  """Each word of a slot is drawn n/8 times, up to sqrt(n 7/64) = 47.

  Five deviations, in 64 cells and again in 7 * 64 pairs of neighbouring slots
  (n/64 times, up to 17.5): by chance once in about 3000 seeds.
  """
  values = digits(vocab, drawn)
  for slot in values.T:
    counts = np.bincount(slot, minlength=8)
    assert np.abs(counts - COUNT / 8).max() < 5 * math.sqrt(COUNT * 7 / 64)
  for left, right in itertools.pairwise(values.T):
    counts = np.bincount(8 * left + right, minlength=64)
    spread = math.sqrt(COUNT * 63 / 64**2)
    assert np.abs(counts - COUNT / 64).max() < 5 * spread


def test_a_seed_is_a_draw(vocab):
  draw = lambda seed: synthetic.sentences(vocab, 100, seed)
  np.testing.assert_array_equal(draw(3), draw(3))
  codes = lambda ids: {tuple(row) for row in ids.tolist()}
  # Of 2**24 sentences two draws of 100 share one with probability 0.0006.
  assert not codes(draw(3)) & codes(draw(4))


def test_sentences_refuse_more_than_a_quarter(vocab):
  with pytest.raises(ValueError, match=r"data.sentences=\d+: at most 4194304"):
    synthetic.sentences(vocab, 8**8 // 4 + 1, seed=0)


@pytest.mark.parametrize("blanks", [0, 1, len(synthetic.BLANKS)])
def test_vocabulary_sizes(blanks):
  vocab = synthetic.vocabulary(LEAST + blanks)
  assert vocab.size == len(vocab.text) == len(vocab.code) == LEAST + blanks
  # Text holds the grammar's words, codes the blanks too; neither has specials.
  assert vocab.text.sum() == 68 and vocab.code.sum() == 68 + blanks
  specials = len(tokenizer.SPECIALS)
  assert not vocab.text[:specials].any() and not vocab.code[:specials].any()
  assert (vocab.code | ~vocab.text).all()


@pytest.mark.parametrize("size", [0, LEAST - 1, 77 + len(synthetic.BLANKS)])
def test_vocabulary_refuses(size):
  most = LEAST + len(synthetic.BLANKS)
  with pytest.raises(ValueError, match=f"size={size}: .* {LEAST} to {most}"):
    synthetic.vocabulary(size)


def test_facts():
  make = lambda seed: facts.make(
    vocab_size=128, sentences=500, heldout=100, seed=seed
  )
  corpus, again, other = make(0), make(0), make(1)
  assert corpus.digest == again.digest != other.digest
  assert (corpus.name, corpus.entropy_bits) == ("facts", 24.0)
  assert corpus.slots == (0, 1, 2, 3, 4, 6, 8, 10)
  splits = (corpus.train, corpus.valid, corpus.test)
  assert [len(split.ids) for split in splits] == [300, 100, 100]
  assert all(split.mask.all() for split in splits)
  rows = {tuple(row) for split in splits for row in split.ids.tolist()}
  assert len(rows) == 500  # all three disjoint


def test_facts_refuse_to_hold_out_everything():
  with pytest.raises(ValueError, match=r"config.data.heldout=50 must"):
    facts.make(vocab_size=128, sentences=100, heldout=50, seed=0)


def left_out(vocab, ids, mask):
  """The words of each row; fails where pads are not 0, on the right."""
  assert (ids[~mask] == tokenizer.PAD).all() and (ids[mask] != 0).all()
  assert (np.diff(mask.astype(int), axis=-1) <= 0).all()
  return [
    vocab.decode(row[m]).split() for row, m in zip(ids, mask, strict=True)
  ]


def test_leave_out_by_hand(vocab):
  """All that can go goes; of what has become equal the first stays."""
  said = (
    "peter sent two red chairs to george in rome on monday .",
    "anna sold four red books to helen in oslo on friday .",
    "peter sent two red chairs to george in lima on sunday .",
  )
  ids = np.array([vocab.encode(text) for text in said], np.int32)
  found = left_out(vocab, *synthetic.leave_out(ids, 1.0, 0))
  assert [" ".join(row) for row in found] == [
    "peter sent two red chairs to george .",
    "anna sold four red books to helen .",
  ]
  whole, mask = synthetic.leave_out(ids, 0.0, 0)
  np.testing.assert_array_equal(whole, ids)
  assert mask.all()


def test_phrases_go_whole_and_by_their_share(vocab, drawn):
  """Where and when apart from each other, a quarter of each."""
  ids, mask = synthetic.leave_out(drawn, 0.25, 3)
  assert ids.shape == mask.shape and len(np.unique(ids, axis=0)) == len(ids)
  # A few become equal: 1,250 of 2**18 ways, and twice 3,750 of 2**21.
  assert COUNT - 50 < len(ids) < COUNT
  first, last = drawn[:, :7], drawn[:, -1:]
  where, when = drawn[:, 7:9], drawn[:, 9:11]
  ways = {
    (a, b): {
      tuple(row)
      for row in np.concatenate(
        [first, *[where] * a, *[when] * b, last], -1
      ).tolist()
    }
    for a, b in itertools.product((0, 1), repeat=2)
  }
  rows = [tuple(row[m].tolist()) for row, m in zip(ids, mask, strict=True)]
  counts = {way: sum(row in x for row in rows) for way, x in ways.items()}
  assert sum(counts.values()) == len(ids)
  for (a, b), count in counts.items():
    chance = (0.75 if a else 0.25) * (0.75 if b else 0.25)
    spread = math.sqrt(COUNT * chance * (1 - chance))
    assert abs(count - COUNT * chance) < 4 * spread
  # A seed is a draw, and the order is that of the sentences.
  again, _ = synthetic.leave_out(drawn, 0.25, 3)
  other, _ = synthetic.leave_out(drawn, 0.25, 4)
  np.testing.assert_array_equal(ids, again)
  assert len(other) != len(ids) or (other != ids).any()
  place = {tuple(row): i for i, row in enumerate(drawn.tolist())}
  full = [place[row] for row in rows if len(row) == synthetic.LENGTH]
  assert full == sorted(full)


def test_facts_that_are_left_out():
  make = lambda omit, seed=0: facts.make(
    vocab_size=128, sentences=2_000, heldout=300, seed=seed, omit=omit
  )
  corpus, again, whole = make(0.25), make(0.25), make(0.0)
  assert corpus.digest == again.digest
  assert len({corpus.digest, whole.digest, make(0.25, 1).digest}) == 3
  splits = (corpus.train, corpus.valid, corpus.test)
  assert [len(x.ids) for x in splits[1:]] == [300, 300]
  rows = [
    tuple(row)
    for split in splits
    for row in map(tuple, left_out(corpus.vocab, *split))
  ]
  assert len(set(rows)) == len(rows) > 1_990  # disjoint, and no row twice
  for split in splits:
    share = np.mean(split.mask.sum(-1) < synthetic.LENGTH)
    bound = 4 * math.sqrt(7 / 16 * 9 / 16 / len(split.ids))
    assert abs(share - 7 / 16) < bound
  # No position is any more a fact's; a question's words are what they were.
  assert corpus.slots is None and whole.slots == synthetic.POSITIONS
  # 18 bits, and twice 0.8113 to say it or not and 3 bits, three times in four.
  np.testing.assert_allclose(corpus.entropy_bits, 24.1226, atol=1e-4)
  assert whole.entropy_bits == 24 and whole.train.mask.all()
  assert corpus.facts == tuple(synthetic.QUESTIONS)
  np.testing.assert_array_equal(corpus.answers, whole.answers)
  said = corpus.answers[:, corpus.train.ids] & corpus.train.mask
  assert said.sum(-1).max() == 1  # [Q, n]: never two answers in a sentence
  always = [x for x in corpus.facts if x not in synthetic.OPTIONAL]
  for name, fact in zip(corpus.facts, said.any(-1), strict=True):
    assert fact.all() == (name in always)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_the_entropy_of_what_is_left(share):
  """By adding up all 81 ways to say or not to say where and when."""
  one = [share, *[(1 - share) / 8] * 8]  # not at all, or one of eight words
  ways = [a * b for a, b in itertools.product(one, one) if a * b]
  assert len(ways) == (81 if share else 64)
  np.testing.assert_allclose(sum(ways), 1.0)
  # Six slots more, of eight words each.
  expected = math.log2(8**6) - sum(p * math.log2(p) for p in ways)
  np.testing.assert_allclose(synthetic.entropy_left(share), expected)
  if not share:
    assert synthetic.entropy_left(0) == 24.0


@pytest.mark.parametrize(
  "settings, said",
  [
    (
      {"omit": 0.25, "withheld": "object,city"},
      "omit=0.25.*withheld='object,city'",
    ),
    ({"omit": -0.1}, "omit=-0.1 must be a number in"),
    ({"omit": 1.0}, "omit=1.0 must be a number in"),
  ],
)
def test_facts_refuse_to_leave_out(settings, said):
  with pytest.raises(ValueError, match=rf"config\.data\.{said}"):
    facts.make(vocab_size=128, sentences=100, heldout=10, seed=0, **settings)


# Ten rows in batches of four: an epoch ends in the middle of the third batch.
ROWS, SIZE = 10, 4
_ids = np.arange(ROWS * 3, dtype=np.int32).reshape(ROWS, 3)
SPLIT = Tokens(_ids, _ids % 3 < 2)


def take(stream, count):
  return [next(stream) for _ in range(count)]


def rows(batches):
  return [batch.row.tolist() for batch in batches]


def stream(seed=0):
  return sources.batches(SPLIT, batch_size=SIZE, seed=seed)


def test_every_row_once_an_epoch():
  order = np.concatenate(rows(take(stream(), 15)))
  epochs = order.reshape(-1, ROWS)  # 15 batches of 4 are 6 epochs of 10
  assert (np.sort(epochs) == np.arange(ROWS)).all()
  assert len(np.unique(epochs, axis=0)) == 6  # reshuffled every time


def test_batches_hold_their_rows():
  for batch in take(stream(), 4):
    assert batch.row.dtype == np.int32 and batch.row.shape == (SIZE,)
    np.testing.assert_array_equal(batch.source.ids, SPLIT.ids[batch.row])
    np.testing.assert_array_equal(batch.source.mask, SPLIT.mask[batch.row])


def test_a_seed_is_a_stream():
  five, again, six = (rows(take(stream(seed), 6)) for seed in (5, 5, 6))
  assert five == again != six


def test_resuming_is_exact():
  """From the start, from the middle of an epoch and at the end of one."""
  whole, states, order = stream(), [], []
  for _ in range(11):
    states.append(json.dumps(whole.get_state()))  # as a checkpoint holds it
    order += rows(take(whole, 1))
  for after in (0, 2, 5):  # batch 2 holds an epoch's end, batch 5 begins one
    resumed = stream()
    resumed.set_state(json.loads(states[after]))
    assert rows(take(resumed, 6)) == order[after : after + 6]


def test_batch_wraps_around():
  found = sources.batch(SPLIT, 8, 4)
  assert found.row.tolist() == [8, 9, 0, 1] and found.row.dtype == np.int32
  np.testing.assert_array_equal(found.source.ids, SPLIT.ids[[8, 9, 0, 1]])
  np.testing.assert_array_equal(found.source.mask, SPLIT.mask[[8, 9, 0, 1]])
  # More rows than there are: every row again and again, in order.
  assert sources.batch(SPLIT, 0, 25).row.tolist() == [
    i % ROWS for i in range(25)
  ]


def test_ood_sentences_are_the_same_words_in_other_slots():
  vocab = synthetic.vocabulary(128)
  usual = synthetic.sentences(vocab, 500, 0)
  ood = synthetic.sentences(vocab, 500, 0, synthetic.OOD)
  assert set(ood.ravel()) <= set(usual.ravel())
  for place, name in enumerate(synthetic.FRAME):
    same = set(usual[:, place]) == set(ood[:, place])
    apart = not set(usual[:, place]) & set(ood[:, place])
    assert apart if name in synthetic.SWAPPED else same
