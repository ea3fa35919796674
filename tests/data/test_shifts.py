"""Facts that are not in training, question words, and control tags."""

import hashlib
import math

import numpy as np
import pytest

from rsrc_jax.data import facts, synthetic, text, tokenizer

SIZES = {"vocab_size": 128, "sentences": 1_000, "heldout": 100, "seed": 0}
PAIR = ("object", "city")


@pytest.fixture(scope="module")
def vocab():
  return synthetic.vocabulary(128)


@pytest.fixture(scope="module")
def apart():
  return facts.make(**SIZES, withheld="object,city", asks=True)


def sha(array):
  return hashlib.sha256(
    np.ascontiguousarray(array, "<i4").tobytes()
  ).hexdigest()


def index(vocab, ids, frame, name):
  """Which of the eight words of `name` stands at its (first) place, [n]."""
  words = np.asarray(vocab.encode(synthetic.SLOTS[name]))
  found = ids[:, frame.index(name), None] == words
  assert (found.sum(1) == 1).all()
  return found.argmax(1)


def fits(vocab, ids, frame):
  """Every column holds the words of its name in the frame, and all of them."""
  for column, name in zip(ids.T, frame, strict=True):
    assert set(column) == set(vocab.encode(synthetic.SLOTS.get(name, name)))
  assert len(np.unique(ids, axis=0)) == len(ids)


def test_what_was_drawn_before_is_drawn_still(vocab):
  """Golden: sha256 of the ids, from before there was anything to withhold."""
  found = synthetic.sentences(vocab, 1_000, 1)
  assert sha(found).startswith("731f7322cf312e4ad1c97a13bd9ca23b")
  ood = synthetic.sentences(vocab, 1_000, 1, synthetic.OOD)
  assert sha(ood).startswith("638da5673c66646281815b6bcf78aa73")
  for changes in ({}, {"withheld": ""}, {"withheld": None, "asks": True}):
    corpus = facts.make(**SIZES, **changes)
    assert corpus.digest.startswith("7b46b8af4dcda1c74902150901b72755")
    assert sha(corpus.ood.ids).startswith("b16762bd603bacd1fc6405778ad")
    assert corpus.entropy_bits == 24.0
    assert sorted(corpus.shifts) == ["longer", "second_grammar"]


def test_words_keep_their_ids(vocab):
  """Questions and control tags are ids that no sentence has."""
  asking = synthetic.vocabulary(128, asks=True)
  assert asking.size == vocab.size == 128
  assert asking.pieces(range(124)) == vocab.pieces(range(124))
  assert asking.pieces(range(124, 128)) == list(tokenizer.CONTROL_TAGS)
  assert asking.control_tags == dict(use=124, avoid=125, slot=126, question=127)
  assert vocab.control_tags == {}
  np.testing.assert_array_equal(asking.text, vocab.text)
  # With control tags, codes hold no question word, and never a control tag.
  asked = [q for q, _ in synthetic.questions(asking)]
  assert vocab.code[asked].all() and not asking.code[asked].any()
  same = [i for i in range(124) if i not in asked]
  np.testing.assert_array_equal(asking.code[same], vocab.code[same])
  assert vocab.code[124:].all() and not asking.code[124:].any()


def test_sizes_count_the_asks():
  """8 specials, 68 words and 4 control tags are 80."""
  assert synthetic.vocabulary(80, asks=True).code.sum() == 68
  with pytest.raises(ValueError, match=r"size=79: the grammar takes 80 to 13"):
    synthetic.vocabulary(79, asks=True)


def test_questions(vocab, apart):
  assert vocab.pieces(range(76, 84)) == list(synthetic.QUESTIONS.values())
  assert len(set(synthetic.BLANKS)) == len(synthetic.BLANKS)
  assert list(synthetic.QUESTIONS) == list(synthetic.SLOTS)
  # Eight slots in the order of the frame: the positions of the content.
  asked = synthetic.questions(vocab)
  assert asked == apart.questions
  assert [id for id, _ in asked] == list(range(76, 84))
  assert tuple(place for _, place in asked) == synthetic.POSITIONS
  where = dict(asked)[vocab.encode("where")[0]]
  assert synthetic.FRAME[where] == "city"
  ids = [id for id, _ in asked]
  assert not vocab.text[ids].any() and vocab.code[ids].all()
  # With seven blanks one question has no word, so there are none.
  assert synthetic.questions(synthetic.vocabulary(83)) is None
  assert synthetic.questions(synthetic.vocabulary(84)) is not None


def test_withheld_combinations_are_in_no_split(apart):
  vocab, frame = apart.vocab, synthetic.FRAME
  pair = lambda ids: [index(vocab, ids, frame, name) for name in PAIR]
  rows = set()
  for split in (apart.train, apart.valid, apart.test):
    left, right = pair(split.ids)
    assert (left != right).all()
    rows |= {tuple(row) for row in split.ids.tolist()}
  assert len(rows) == 1_000
  left, right = pair(apart.shifts["combinations"].ids)
  assert (left == right).all() and len(set(left)) == 8
  fits(vocab, apart.train.ids, frame)
  fits(vocab, apart.shifts["combinations"].ids, frame)


def test_withholding_is_exact(vocab):
  """Both parts together are the grammar, so the rest has 7/8 of it.

  Checked on a frame of two slots and a word, whose 64 sentences are few enough
  to draw a quarter of many times: 56 and 8 of them appear, and no others.
  """
  frame = ["city", "to", "object"]
  seen = {False: set(), True: set()}
  for only, rows in seen.items():
    for seed in range(200):
      # At most a quarter of 56 and of 8.
      ids = synthetic.sentences(vocab, 2, seed, frame, PAIR, only)
      rows |= {tuple(row) for row in ids.tolist()}
  assert (len(seen[False]), len(seen[True])) == (56, 8)
  assert not seen[False] & seen[True]
  assert math.log2(7 * 8**7) == synthetic.WITHHELD_BITS
  with pytest.raises(ValueError, match=f"at most {7 * 8**7 // 4}, a quarter"):
    synthetic.sentences(vocab, 7 * 8**7 // 4 + 1, 0, withheld=PAIR)


def test_what_is_left_is_uniform(vocab):
  """Each of 56 pairs n/56 times, within five deviations; so is each word."""
  count = 20_000
  ids = synthetic.sentences(vocab, count, 0, withheld=PAIR)
  left, right = (index(vocab, ids, synthetic.FRAME, name) for name in PAIR)
  table = np.bincount(8 * left + right, minlength=64).reshape(8, 8)
  assert (np.diag(table) == 0).all()
  off = table[~np.eye(8, dtype=bool)]
  assert np.abs(off - count / 56).max() < 5 * math.sqrt(count * 55 / 56**2)
  for name in synthetic.SLOTS:
    counts = np.bincount(index(vocab, ids, synthetic.FRAME, name), minlength=8)
    assert np.abs(counts - count / 8).max() < 5 * math.sqrt(count * 7 / 64)


def test_frames_of_the_shifts():
  assert len(synthetic.LONGER) == 16 and len(synthetic.SECOND) == 12
  assert sorted(synthetic.SECOND) == sorted(synthetic.FRAME)
  assert synthetic.LONGER[:11] == synthetic.FRAME[:11]
  assert set(synthetic.LONGER) == set(synthetic.FRAME)
  for name in synthetic.SLOTS:
    assert synthetic.SECOND.index(name) != synthetic.FRAME.index(name)


def test_shifts(apart):
  assert list(apart.shifts) == ["combinations", "longer", "second_grammar"]
  assert apart.shifts.keys() == apart.shift_slots.keys()
  for name, frame in (
    ("longer", synthetic.LONGER),
    ("second_grammar", synthetic.SECOND),
  ):
    shift, slots = apart.shifts[name], apart.shift_slots[name]
    assert shift.ids.shape == (100, len(frame)) and shift.mask.all()
    assert shift.ids.dtype == np.int32
    fits(apart.vocab, shift.ids, frame)
    assert [frame[i] in synthetic.SLOTS for i in slots] == [True] * len(slots)
    assert len(slots) == {"longer": 10, "second_grammar": 8}[name]
    # One thing is new: what is withheld is in "combinations" alone.
    left, right = (index(apart.vocab, shift.ids, frame, x) for x in PAIR)
    assert (left != right).all()
  assert apart.shift_slots["combinations"] == apart.slots


@pytest.mark.parametrize(
  "withheld", ["city", "city,city", "city,street", "city,day,verb", ","]
)
def test_pairs_that_are_none(withheld):
  with pytest.raises(ValueError, match=r"config.data.withheld=.* name two of"):
    facts.make(**SIZES, withheld=withheld)


def test_text_with_asks(tmp_path):
  """Real text has neither shifts nor questions; ids stay below the tags."""
  words = [
    "river",
    "stone",
    "house",
    "garden",
    "winter",
    "letter",
    "window",
    "paper",
  ]
  rng = np.random.default_rng(0)
  prose = "\n\n".join(
    " ".join(rng.choice(words, 6)).capitalize() + "." for _ in range(300)
  )
  (tmp_path / "a.txt").write_text(prose)
  make = lambda size, asks: text.make(
    path=str(tmp_path / "a.txt"),
    vocab_size=size,
    max_tokens=40,
    min_tokens=4,
    heldout=0.2,
    cache_dir=str(tmp_path / "cache"),
    asks=asks,
  )
  plain, asking = make(316, False), make(320, True)
  assert plain.digest == asking.digest and asking.vocab.size == 320
  assert (asking.questions, asking.shifts, asking.shift_slots) == (None, {}, {})
  assert list(asking.vocab.control_tags.values()) == [316, 317, 318, 319]
  assert not asking.vocab.text[316:].any()
