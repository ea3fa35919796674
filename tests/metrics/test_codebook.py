"""What codes are like: hand-computed values, and codes that have nothing."""

import itertools
import math
import zlib
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.metrics import codebook
from rsrc_jax.types import Tokens


def pack(*rows, width=None):
  """Lists of ids, padded with 0, whose mask is False."""
  width = width or max(map(len, rows))
  mask = np.arange(width) < np.array([[len(row)] for row in rows])
  ids = np.zeros(mask.shape, np.int32)
  ids[mask] = [i for row in rows for i in row]
  return Tokens(ids, mask)


def rng():
  return np.random.default_rng(0)


EMPTY = Tokens(np.zeros((2, 3), np.int32), np.zeros((2, 3), bool))
row = st.lists(st.integers(0, 3), max_size=6)
some = settings(deadline=None, max_examples=60)


def test_token_f1():
  """2 * shared / (len s + len d): copies count as often as both have them.

  5 5 7 and 5 7 7 9 share one 5 and one 7: 4 / 7. The order says nothing.
  """
  s = pack([5, 5, 7], [1, 2], [1, 2], [1], [], [0])
  d = pack([5, 7, 7, 9], [2, 1], [3, 4], [], [], [0, 0, 0])
  np.testing.assert_allclose(
    codebook.token_f1(s, d), [4 / 7, 1, 0, 0, 1, 2 / 4]
  )


@some
@given(row, row)
def test_token_f1_is_that_of_counters(a, b):
  shared = (Counter(a) & Counter(b)).total()
  expected = 2 * shared / (len(a) + len(b)) if a or b else 1.0
  found = codebook.token_f1(pack(a, width=6), pack(b, width=7))
  np.testing.assert_allclose(found, [expected])


def test_chrf():
  """abcd against abce: n-grams shared 3/4, 2/3, 1/2, 0/1; n = 5, 6 have none.

  Both texts have as many, so P = R = F = (3/4 + 2/3 + 1/2) / 4 = 23/48.
  abc for abcdef: P is 1 for n = 1 to 3 and R is 3/6, 2/5, 1/4, 23/60 on
  average; F = 5 P R / (4 P + R) = (23/12) / (263/60) = 115/263.
  The other way round P = 23/60, R = 1: F = (23/12) / (152/60) = 115/152.
  """
  found = codebook.chrf(
    ["abcd", "abcdef", "abc", "a b c", "", "abc", "", "ab"],
    ["abce", "abc", "abcdef", "ab c", "", "", "abc", "cd"],
  )
  expected = [23 / 48, 115 / 263, 115 / 152, 1, 1, 0, 0, 0]
  np.testing.assert_allclose(found, expected)
  assert codebook.chrf([], []).shape == (0,)
  # Only single characters: aab and abb share one a and one b, 2/3.
  np.testing.assert_allclose(codebook.chrf(["aab"], ["abb"], longest=1), 2 / 3)
  with pytest.raises(ValueError, match="zip"):
    codebook.chrf(["a"], [])


def test_unigram_kl():
  """V = 4, x = 0.2 adds 0.05 each: p = .85 .05 .05 .05, q = .45 .45 .05 .05.

  KL = .85 ln(.85/.45) + .05 ln(.05/.45).
  """
  counts = np.array([10, 10, 0, 0])
  found = codebook.unigram_kl(pack([0, 0], [0]), counts, 0.2)
  expected = 0.85 * math.log(0.85 / 0.45) + 0.05 * math.log(0.05 / 0.45)
  np.testing.assert_allclose(found, expected)
  # The same law costs nothing, however often it was counted.
  assert codebook.unigram_kl(pack([0, 1, 1, 0]), counts) == 0
  assert codebook.unigram_kl(EMPTY, counts) is None
  # The bound is met by one id that the corpus lacks: ln(1 + V (1 - x) / x).
  only = np.array([1, 0, 0, 0])
  found = codebook.unigram_kl(pack([0]), np.array([0, 5, 0, 0]), 0.1)
  p, q = [0.925, 0.025], [0.025, 0.925]
  np.testing.assert_allclose(
    found, sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
  )
  assert found < math.log(1 + 4 * 0.9 / 0.1)
  # Ids that neither may use are no part of it: V = 2 adds 0.1 each.
  support = np.array([True, True, False, False])
  found = codebook.unigram_kl(pack([0]), counts, 0.2, support)
  expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
  np.testing.assert_allclose(found, expected)
  for code, counts, x, support, message in (
    (pack([0]), only, 0.0, None, "shrinkage=0.0"),
    (pack([0]), only, 1.5, None, "shrinkage=1.5"),
    (pack([0]), 0 * only, 0.1, None, "corpus has no token"),
    (pack([1]), only, 0.1, only > 0, "support lacks"),
    (pack([0]), only + 1, 0.1, only > 0, "support lacks"),
    (pack([4]), only, 0.1, None, "code has the id 4, counts only 4"),
  ):
    with pytest.raises(ValueError, match=message):
      codebook.unigram_kl(code, counts, x, support)


def test_copy_rate():
  """Of 7 7 8 two are in s; pads are ids of nothing, in s and in c."""
  s = pack([7, 9, 3], [7], [0, 1], [])
  c = pack([7, 7, 8], [8, 9], [0], [5])
  np.testing.assert_allclose(codebook.copy_rate(s, c), [2 / 3, 0, 1, 0])
  assert codebook.copy_rate(pack([0, 1], [2]), EMPTY).tolist() == [0, 0]
  # A group of codes shares its source.
  shared = Tokens(s.ids[:, None], s.mask[:, None])
  group = Tokens(np.stack([c.ids, c.ids], 1), np.stack([c.mask, c.mask], 1))
  assert codebook.copy_rate(shared, group).shape == (4, 2)


def test_types_and_tokens():
  """1 1 2 and 1 3: three ids, five tokens."""
  assert codebook.type_token_ratio(pack([1, 1, 2], [1, 3])) == 3 / 5
  assert codebook.type_token_ratio(EMPTY) is None


def test_zipf_slope():
  """Frequencies 12, 6, 4, 3 are 12 / rank: -1. Two ids, 8 and 1: -log2 8."""
  counted = pack([5] * 12 + [6] * 6 + [2] * 4 + [9] * 3)
  np.testing.assert_allclose(codebook.zipf_slope(counted), -1)
  np.testing.assert_allclose(codebook.zipf_slope(pack([1] * 8, [2])), -3)
  assert codebook.zipf_slope(pack([1, 2, 3])) == 0
  assert codebook.zipf_slope(pack([1, 1])) is None
  assert codebook.zipf_slope(EMPTY) is None


def test_distinct():
  """1 1 1 2 has two ids of four; its bigrams are 11 11 12, two of three."""
  code = pack([1, 1, 1, 2], [1, 2, 1, 2], [0, 0], [3], [])
  np.testing.assert_allclose(
    codebook.distinct(code, 1), [1 / 2, 1 / 2, 1 / 2, 1, 1]
  )
  np.testing.assert_allclose(
    codebook.distinct(code, 2), [2 / 3, 2 / 3, 1, 1, 1]
  )
  assert codebook.distinct(code, 5).tolist() == [1] * 5
  assert codebook.distinct(EMPTY, 1).tolist() == [1, 1]


@some
@given(row, st.integers(1, 4))
def test_distinct_is_that_of_sets(a, n):
  grams = list(zip(*(a[i:] for i in range(n)), strict=False))
  expected = len(set(grams)) / len(grams) if grams else 1.0
  np.testing.assert_allclose(codebook.distinct(pack(a, width=6), n), [expected])


@some
@given(st.lists(row, min_size=1, max_size=4))
def test_longest_run_is_that_of_groups(rows):
  runs = lambda a: max(
    (len(list(g)) for _, g in itertools.groupby(a)), default=0
  )
  found = codebook.longest_run(pack(*rows, width=6))
  assert found.tolist() == [runs(a) for a in rows]


def test_longest_run():
  """Pads have id 0 and are no part of a run of it."""
  code = pack([1, 2, 2, 2, 1], [0, 0], [], [4, 5])
  assert codebook.longest_run(code).tolist() == [3, 2, 0, 1]


def test_zlib_ratio():
  """One byte a token for up to 256 ids, two above; pads are left out."""
  code = pack([7] * 50, [7] * 10)
  assert (
    codebook.zlib_ratio(code, 256) == len(zlib.compress(b"\7" * 60, 9)) / 60
  )
  wide = len(zlib.compress(b"\7\0" * 60, 9)) / 120
  assert codebook.zlib_ratio(code, 257) == wide
  even = Tokens(rng().integers(0, 256, (100, 40)), np.ones((100, 40), bool))
  assert (
    codebook.zlib_ratio(even, 256) > 1 > 0.3 > codebook.zlib_ratio(code, 256)
  )
  assert codebook.zlib_ratio(EMPTY, 128) is None


def test_attribution():
  """Four attributes of two bits; three positions.

  Position 0 names attribute 0, position 1 attributes 1 and 2 together,
  position 2 is noise. Attribute 3 is named by nothing.
  """
  n, draw = 4_000, rng()
  values = draw.integers(0, 4, (n, 4))
  noise = draw.integers(0, 16, n)
  ids = np.stack([9 - values[:, 0], 4 * values[:, 1] + values[:, 2], noise], 1)
  code = Tokens(ids.astype(np.int32), np.ones(ids.shape, bool))
  found = codebook.attribution(code, 100 + values, rng())
  expected = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
  np.testing.assert_allclose(found.share, expected, atol=0.01)
  np.testing.assert_allclose(found.bits[0, 0], 2, atol=0.01)
  # Bias is (rows - 1) (columns - 1) / (2 n ln 2): 45 or 9 times 1.8e-4 bits.
  bias = np.array([9, 45, 45])[:, None] / (2 * n * math.log(2))
  np.testing.assert_allclose(found.chance, bias + np.zeros((3, 4)), rtol=0.5)


def test_attribution_is_corrected():
  """200 ids for 400 rows: as counted they tell much, corrected nothing."""
  draw = rng()
  code = Tokens(draw.integers(0, 200, (400, 1)), np.ones((400, 1), bool))
  found = codebook.attribution(code, draw.integers(0, 8, (400, 1)), rng(), 32)
  assert found.bits > 1 and abs(found.share) < 0.05
  # A token that names the attribute has all of it, and no more than that.
  values = draw.integers(0, 8, (400, 1))
  code = Tokens(50 * values + draw.integers(0, 50, (400, 1)), code.mask)
  found = codebook.attribution(code, values, rng())
  assert found.chance > 1 and found.share == pytest.approx(1)


def test_attribution_by_hand():
  """Tokens a a b -, attribute 0 0 1 1: H = 1, and the token tells it: 1 bit.

  Against 0 1 0 1: H(token) = 1.5, H(attribute) = 1, all four pairs differ:
  1.5 + 1 - 2 = 0.5. A constant tells nothing and is told by nothing.
  """
  code = pack([5, 7], [5, 7], [6, 7], [9, 7])
  code.ids[3, 0], code.mask[3, 0] = 5, False  # absent, whatever is under it
  values = np.array([[0, 0, 4], [0, 1, 4], [1, 0, 4], [1, 1, 4]])
  found = codebook.attribution(code, values, rng(), shuffles=0)
  np.testing.assert_allclose(found.bits, [[1, 0.5, 0], [0, 0, 0]], atol=1e-12)
  np.testing.assert_allclose(found.share, [[1, 0.5, 0], [0, 0, 0]], atol=1e-12)
  assert (found.chance == 0).all()


def test_attribution_of_codes_that_say_nothing():
  """Empty codes; and codes that all differ, of which nothing can be known."""
  found = codebook.attribution(EMPTY, np.array([[0, 1], [1, 0]]), rng())
  assert found.share.shape == (3, 2) and not found.share.any()
  code = Tokens(np.arange(8)[:, None], np.ones((8, 1), bool))
  found = codebook.attribution(code, np.arange(8)[:, None] % 4, rng())
  assert found.bits == found.chance == 2 and found.share == 0
  nobody = Tokens(np.zeros((0, 3), np.int32), np.zeros((0, 3), bool))
  found = codebook.attribution(nobody, np.zeros((0, 2), int), rng())
  assert found.share.shape == (3, 2)
  with pytest.raises(ValueError, match="attributes has 3 rows for 2 codes"):
    codebook.attribution(EMPTY, np.zeros((3, 1), int), rng())


def levenshtein(a, b):
  """The textbook recursion, on lists."""
  if not a or not b:
    return len(a) + len(b)
  return min(
    levenshtein(a[:-1], b[:-1]) + (a[-1] != b[-1]),
    levenshtein(a[:-1], b) + 1,
    levenshtein(a, b[:-1]) + 1,
  )


@settings(deadline=None, max_examples=40)
@given(
  st.lists(st.integers(0, 2), max_size=4),
  st.lists(st.integers(0, 2), max_size=4),
)
def test_edit_distance(a, b):
  found = codebook.edit_distance(pack(a, width=4), pack(b, width=5))
  assert found.tolist() == [levenshtein(a, b)]


def test_topographic_similarity():
  """A code that is the source has rho 1, one that reverses the order less.

  Sources 0 00 000 0000 have the distances |i - j|. Codes that are one token
  for i, j in {0, 1} and another for {2, 3}: their distance is 0 within and 1
  across. Checked against Spearman's rho over all 12 ordered pairs, half of
  each rank tied: source distances 1 (6 times), 2 (4), 3 (2) have the mean
  ranks 3.5, 8.5, 11.5; code distances 0 (4), 1 (8) have 2.5, 8.5. Distance 1
  is within 4 times and across 2 times. Deviations from 6.5 are -3, 2, 5 and
  -4, 2: the sum of products is 4 * 12 + 2 * -6 + 4 * 4 + 2 * 10 = 72, of
  squares 6*9 + 4*4 + 2*25 = 120 and 4*16 + 8*4 = 96: 72 / sqrt(11520).
  """
  source = pack(*([0] * (i + 1) for i in range(4)))
  found = codebook.topographic_similarity(source, source, rng())
  assert found == pytest.approx(1)
  code = pack([1], [1], [2], [2])
  found = codebook.topographic_similarity(code, source, rng(), pairs=60_000)
  assert found == pytest.approx(72 / math.sqrt(11520), abs=0.01)
  # Lengths 4 1 3 2 for 1 2 3 4.
  far = pack(*([0] * i for i in (2, 4, 1, 3)))
  assert codebook.topographic_similarity(far, source, rng()) < -0.2


def test_equal_distances_share_their_ranks():
  """1 is first; the three 5 are second to fourth, third in the mean."""
  assert codebook._mean_ranks(np.array([5, 1, 5, 9, 5])).tolist() == [
    3, 1, 3, 5, 3,
  ]  # fmt: skip


def test_topographic_similarity_where_there_is_none():
  source = pack([1, 2], [3, 4], [1, 5])
  for code in (pack([7], [7], [7]), pack([], [], [], width=2)):
    assert codebook.topographic_similarity(code, source, rng()) is None
  one = pack([1])
  assert codebook.topographic_similarity(one, one, rng()) is None


# Injected: 7 and 8 for the first two codes, 9 for the others; -1 pads.
CODE = pack([1, 7, 8], [7, 1, 7], [1, 2], [9], [])
INJECTED = np.array([[7, 8], [7, 8], [9, -1], [9, -1], [9, -1]])


def test_tail_share():
  """Of the three codes with uses 1 7 8 and 9 end in all of them, 7 1 7 not.

  By chance: 2 of 3 in 1 of C(3, 2) = 3 orders, so twice 1/3, and once 1.
  """
  found = codebook.tail_share(CODE, INJECTED)
  assert (found.share, found.codes) == (2 / 3, 3)
  assert found.chance == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
  assert codebook.tail_share(EMPTY, INJECTED[:2]) is None
  # A group of codes shares its list, as a rollout has it.
  group = Tokens(CODE.ids[None], CODE.mask[None])
  found = codebook.tail_share(group, np.array([[[7, 8, 9]]]))
  assert found == codebook.tail_share(CODE, np.array([7, 8, 9]))


def test_tail_share_by_chance():
  """Permuting the tokens of codes leaves what `chance` says."""
  draw = rng()
  ids = np.argsort(draw.random((20_000, 5)), -1)
  code = Tokens(ids, np.arange(5) < draw.integers(0, 6, (20_000, 1)))
  injected = np.array([0, 1])
  found = codebook.tail_share(codebook.permute(code, draw), injected)
  # Both shares are means of 0..1 over some 13,000 codes: 0.004 a deviation.
  assert abs(found.share - found.chance) < 0.02
  appended = Tokens(np.sort(ids)[:, ::-1], np.ones(ids.shape, bool))
  assert codebook.tail_share(appended, injected).share == 1


def test_permute():
  code = pack([1, 2, 3], [4, 4], [], width=4)
  found = [codebook.permute(code, np.random.default_rng(i)) for i in range(200)]
  for one in found:
    np.testing.assert_array_equal(one.mask, code.mask)
    np.testing.assert_array_equal(one.ids[~one.mask], 0)
    np.testing.assert_array_equal(
      np.sort(one.ids[:, :3]), np.sort(code.ids[:, :3])
    )
  # Each of the 6 orders 200/6 times, 5.3 the deviation.
  orders = Counter(tuple(one.ids[0, :3].tolist()) for one in found)
  assert len(orders) == 6 and max(orders.values()) < 60
  assert code.ids[0].tolist() == [1, 2, 3, 0]  # left as it was


def test_arrays_of_a_device_are_welcome():
  """And no float is left behind that JSON cannot hold."""
  code = Tokens(jnp.asarray(CODE.ids), jnp.asarray(CODE.mask))
  injected = jnp.asarray(INJECTED)
  counts = jnp.ones(10)
  assert codebook.tail_share(code, injected) == codebook.tail_share(
    CODE, INJECTED
  )
  for found in (
    codebook.unigram_kl(code, counts),
    codebook.type_token_ratio(code),
    codebook.zipf_slope(code),
    codebook.zlib_ratio(code, 10),
    codebook.topographic_similarity(code, code, rng()),
  ):
    assert type(found) is float and math.isfinite(found)
  np.testing.assert_array_equal(codebook.token_f1(code, CODE), 1)
