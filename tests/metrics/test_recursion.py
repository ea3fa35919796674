"""Dead passes and self-reference, with real compressors as the systems.

zlib stands in for C; the bytes that a pass reads stand in for its FLOPs.
"""

import html
import itertools
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.metrics import recursion

few = settings(deadline=None, max_examples=30)
STDLIB = sorted(Path(os.__file__).parent.glob("*.py"))


def by_depth(rows, *transforms):
  """bits_saved [R + 1, rows] and stand-in FLOPs [R] of lossless passes."""
  bits, flops, data = [[0.0] * len(rows)], [], rows
  for encode, decode in transforms:
    flops.append(sum(map(len, data)))
    again = [encode(x) for x in data]
    assert [decode(x) for x in again] == data  # no residual
    data = again
    lengths = zip(rows, data, strict=True)
    bits.append([8.0 * (len(a) - len(b)) for a, b in lengths])
  return np.array(bits), np.array(flops)


ZLIB = (lambda x: zlib.compress(x, 1), zlib.decompress)


def deltas(data):
  x = np.frombuffer(data, np.uint8)
  return np.diff(x, prepend=np.uint8(0)).tobytes()


def sums(data):
  return np.cumsum(np.frombuffer(data, np.uint8), dtype=np.uint8).tobytes()


INDENT = (
  lambda x: x.replace(b"    ", b"\x01"),
  lambda x: x.replace(b"\x01", b"    "),
)


# Check 13.


def test_the_second_zlib_is_dead():
  bits, flops = by_depth([f.read_bytes() for f in STDLIB[:40]], ZLIB, ZLIB)
  found = recursion.passes(bits, flops, joules=[2.0, 1.0])
  first, second = found.passes
  assert (first.dead, second.dead) == (False, True)
  assert second.gain < 0 and second.marginal_interval["p95"] <= 0
  assert not second.redeemed
  # The second pass reads what the first one wrote: some 3 in 13 bytes.
  assert found.dead_fraction == found.unredeemed_fraction
  assert found.dead_fraction == flops[1] / flops.sum()
  assert 0.1 < found.dead_fraction < 0.3
  assert found.best_depth == 1
  assert found.best_depth_share == [0, 1, 0]
  assert found.k[0] == 0 and found.k[1] > found.k[2] > 0
  # m_r by hand: 2 J and 1 J a sample.
  np.testing.assert_allclose(first.marginal, np.mean(bits[1]) / 2)
  np.testing.assert_allclose(second.marginal, np.mean(bits[2] - bits[1]))


def test_a_second_pass_that_gains_is_not():
  """Four spaces to one byte, then zlib: both shorten."""
  files = [f.read_bytes() for f in STDLIB[:40]]
  files = [x for x in files if b"\x01" not in x]
  bits, flops = by_depth(files, INDENT, ZLIB)
  found = recursion.passes(bits, flops, None)
  assert [p.dead for p in found.passes] == [False, False]
  assert found.passes[0].gain_interval["p5"] > 0
  assert found.passes[1].gain_interval["p5"] > 0
  assert found.dead_fraction == 0.0
  assert found.best_depth == 2
  assert found.passes[1].marginal is None is found.passes[1].marginal_interval


def test_a_pass_that_prepares_is_redeemed():
  """Deltas of a slow wave save nothing, and zlib a lot on them."""
  rng = np.random.default_rng(0)
  t = np.arange(600)
  waves = [
    (120 + 110 * np.sin(t / period)).astype(np.uint8).tobytes()
    for period in rng.uniform(40, 90, 24)
  ]
  bits, flops = by_depth(waves, (deltas, sums), ZLIB, ZLIB)
  assert not bits[1].any()  # exactly 0 for all rows: a tie, so dead
  found = recursion.passes(bits, flops, None)
  assert [p.dead for p in found.passes] == [True, False, True]
  assert [p.redeemed for p in found.passes] == [True, False, False]
  np.testing.assert_allclose(
    [found.dead_fraction, found.unredeemed_fraction],
    [(flops[0] + flops[2]) / flops.sum(), flops[2] / flops.sum()],
  )
  # It did prepare: without it zlib saves less.
  alone, _ = by_depth(waves, ZLIB)
  assert alone[1].mean() < bits[2].mean()


def test_one_lucky_depth_of_many_redeems_nothing():
  """A mean of 2 standard errors: p = 0.023 alone, not one of four."""
  rng = np.random.default_rng(0)
  noise = rng.normal(0, 1, 200)
  luck = (noise - noise.mean()) / noise.std() + 2 / 200**0.5
  down = np.full(200, -3.0)
  one = np.stack([0 * luck, down, luck])
  found = recursion.passes(one, np.ones(2), None, draws=4000)
  assert found.passes[0].dead and found.passes[0].redeemed
  four = np.stack([0 * luck, down, luck, luck, luck, luck])
  found = recursion.passes(four, np.ones(5), None, draws=4000)
  assert found.passes[0].dead and not found.passes[0].redeemed


def test_ties_go_to_the_shallower_depth():
  rng = np.random.default_rng(0)
  first = rng.normal(5, 1, 50)
  bits = np.stack([0 * first, first, first, first - 1, first])
  found = recursion.passes(bits, np.ones(4), None)
  assert [p.dead for p in found.passes] == [False, True, True, False]
  # The fourth only makes up for the third: no depth beats the first.
  assert not any(p.redeemed for p in found.passes)
  assert found.best_depth == 1 and found.best_depth_share == [0, 1, 0, 0, 0]
  assert found.dead_fraction == 0.5


def test_nothing_gained_at_any_depth():
  """Raw is best; a climb below 0 is a gain, though it is no capability."""
  rng = np.random.default_rng(0)
  loss = rng.normal(-9, 1, 60)
  found = recursion.passes(
    np.stack([0 * loss, loss, loss + 4]), np.array([3.0, 1.0]), None
  )
  assert found.best_depth == 0 and found.best_depth_share == [1, 0, 0]
  assert found.k == [0.0, 0.0, 0.0]
  assert [p.dead for p in found.passes] == [True, False]
  assert found.dead_fraction == 0.75


def test_a_gain_within_the_noise_is_not_dead():
  """Dead says that no gain is left, not that none was shown."""
  rng = np.random.default_rng(1)
  noise = rng.normal(0, 1, 30)
  bits = np.stack([np.zeros(30), noise - noise.mean()])
  found = recursion.passes(bits, np.ones(1), None)
  assert found.passes[0].gain_interval["p5"] < 0
  assert not found.passes[0].dead
  assert 0.3 < found.best_depth_share[1] < 0.7


def test_pairing_by_row():
  """A small sure gain under a large spread between documents."""
  rng = np.random.default_rng(0)
  rows = rng.normal(1000, 300, 40)
  loss = rng.normal(-1, 0.3, 40)
  found = recursion.passes(np.stack([rows, rows + loss]), np.ones(1), None)
  assert found.passes[0].dead


@few
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(1e-15, 1e3))
def test_units_and_copies_change_no_verdict(seed, depth, unit):
  """FLOP -> PFLOP; a workload twice is the same workload."""
  rng = np.random.default_rng(seed)
  bits = rng.normal(0, 1, (depth + 1, 12)).cumsum(0)
  flops = rng.uniform(1, 2, depth)
  one = recursion.passes(bits, flops, flops, draws=50)
  other = recursion.passes(bits, flops * unit, flops * unit, draws=50)
  assert [p.dead for p in one.passes] == [p.dead for p in other.passes]
  np.testing.assert_allclose(one.dead_fraction, other.dead_fraction)
  for a, b in zip(one.passes, other.passes, strict=True):
    np.testing.assert_allclose(a.marginal, b.marginal * unit)
  twice = recursion.passes(np.tile(bits, 2), 2 * flops, None, draws=50)
  np.testing.assert_allclose(twice.k, one.k, atol=1e-9)
  assert twice.best_depth == one.best_depth


def test_draws_of_a_modelled_energy():
  """They widen m_r, and a constant one changes nothing."""
  rng = np.random.default_rng(0)
  bits = np.stack([np.zeros(50), rng.normal(5, 1, 50)])
  fixed = recursion.passes(bits, [1.0], [2.0], draws=400)
  same = recursion.passes(bits, [1.0], np.full((1, 400), 2.0), draws=400)
  assert fixed == same
  spread = 2 * np.exp(rng.normal(0, 0.5, (1, 400)))
  wide = recursion.passes(bits, [1.0], spread, draws=400).passes[0]
  a, b = wide.marginal_interval, fixed.passes[0].marginal_interval
  assert a["p5"] < b["p5"] < b["p95"] < a["p95"]


@pytest.mark.parametrize(
  "bits, flops, joules, names",
  [
    (np.zeros(3), [1.0], None, "bits_saved has shape"),
    (np.zeros((1, 3)), [], None, "at least one pass"),
    (np.zeros((2, 1)), [1.0], None, "two rows"),
    (np.zeros((2, 3)), [1.0, 1.0], None, "flops has shape"),
    (np.zeros((2, 3)), [0.0], None, "not all 0"),
    (np.zeros((3, 3)), [-1.0, 2.0], None, "0 or more"),
    (np.zeros((2, 3)), [math.nan], None, "0 or more"),
    (np.zeros((2, 3)), [1.0], [0.0], "energies are positive"),
    (np.zeros((2, 3)), [1.0], [[1.0, 1.0]], "joules has shape"),
    (np.full((2, 3), math.nan), [1.0], None, "not finite"),
    (np.full((2, 3), math.inf), [1.0], None, "not finite"),
  ],
)
def test_passes_refuses(bits, flops, joules, names):
  with pytest.raises(ValueError, match=names) as found:
    recursion.passes(bits, np.array(flops), joules)
  assert "\n" not in str(found.value)


# Check 14. A stream of source files; cc is the text of earlier rounds.

ROUNDS, ROWS, SIZE, CC = 10, 12, 700, 6_000


def saved(cc, row):
  """k of one document, bits: deflate with cc as its dictionary, lossless."""
  given = {"zdict": cc} if cc else {}
  coder = zlib.compressobj(9, wbits=-15, **given)
  code = coder.compress(row) + coder.flush()
  assert zlib.decompressobj(wbits=-15, **given).decompress(code) == row
  return 8.0 * (len(row) - len(code))


def stream():
  """[rounds, rows] texts; a later round holds later files only."""
  chunks = []
  for path in STDLIB:
    data = path.read_bytes()
    if len(data) >= 2 * SIZE:
      chunks.append(data[SIZE : 2 * SIZE])
  picked = chunks[: (ROUNDS + 1) * ROWS]
  return [picked[i * ROWS : (i + 1) * ROWS] for i in range(ROUNDS + 1)]


def score(memories, rounds):
  """memories: of each round, written before it. -> k [rounds, rows]."""
  pairs = zip(memories, rounds, strict=True)
  return np.array([[saved(cc, row) for row in rows] for cc, rows in pairs])


def permuted(cc, rng):
  return rng.permutation(np.frombuffer(cc, np.uint8)).tobytes()


def own_memories(rounds):
  """cc before each round: the last bytes of all rounds until then."""
  past = itertools.accumulate(b"".join(rows) for rows in rounds)
  return [text[-CC:] for text in past][:-1]


def test_a_memory_with_a_codebook_is_a_gain():
  rounds, rng = stream(), np.random.default_rng(0)
  memories = own_memories(rounds)
  own = score(memories, rounds[1:])
  empty = score([b""] * ROUNDS, rounds[1:])
  # Shuffled: its own bytes in another order, and another stream's text.
  bytes_of = [permuted(cc, rng) for cc in memories]
  entities = "".join(html.entities.html5).encode() * 3
  others = [entities[: len(cc)] for cc in memories]
  for shuffled in (bytes_of, others):
    assert [len(x) for x in shuffled] == [len(x) for x in memories]
    found = recursion.self_reference(own, score(shuffled, rounds[1:]), empty)
    for contrast in (found.over_shuffled, found.over_empty):
      assert contrast.gain > 100 and contrast.p < 0.05
      assert contrast.interval["p5"] > 0
    assert found.shown and found.sentence.startswith("Gain shown")
  np.testing.assert_allclose(
    found.own - found.empty, found.over_empty.gain, rtol=1e-12
  )


def test_a_random_memory_is_none():
  rounds, rng = stream(), np.random.default_rng(0)
  noise = [rng.bytes(CC) for _ in range(ROUNDS)]
  found = recursion.self_reference(
    score(noise, rounds[1:]),
    score([permuted(cc, rng) for cc in noise], rounds[1:]),
    score([b""] * ROUNDS, rounds[1:]),
  )
  interval = found.over_shuffled.interval
  assert interval["p5"] <= 0 <= interval["p95"]
  assert found.over_shuffled.p > 0.05
  assert not found.shown
  assert found.sentence.startswith("No gain shown")
  assert f"{found.over_shuffled.smallest:.3g} would show" in found.sentence
  # Any 6 kB hold some byte triples of a text: a few bits more than without.
  # Only the shuffled one tells that from a codebook.
  assert 0 <= found.over_empty.gain < 10


def test_one_contrast_is_not_enough():
  """A shuffled memory that helps as much: text helps, but not its order."""
  rng = np.random.default_rng(0)
  empty = rng.normal(0, 1, (8, 20))
  own, shuffled = (empty + 5 + rng.normal(0, 0.1, (8, 20)) for _ in range(2))
  found = recursion.self_reference(own, shuffled, empty)
  assert found.over_empty.p < 0.05 < found.over_shuffled.p
  assert not found.shown
  found = recursion.self_reference(own, empty, shuffled)
  assert found.over_shuffled.p < 0.05 < found.over_empty.p
  assert not found.shown


def by_flips(values):
  """Textbook: share of sign flips whose mean is as large as the one seen."""
  signs = np.array(list(itertools.product([1, -1], repeat=len(values))))
  return np.mean(signs @ values >= np.sum(values) - 1e-9)


@few
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=9))
def test_p_is_that_of_flipping_signs(values):
  """And it is below 0.05 exactly where the interval is above 0."""
  own = np.array(values, float)[:, None]
  none = np.zeros_like(own)
  found = recursion.self_reference(own, none, none).over_empty
  np.testing.assert_allclose(found.p, by_flips(np.array(values)))
  assert (found.p < 0.05) == (found.interval["p5"] > 0)
  assert found.interval["p5"] <= found.interval["median"]
  assert found.interval["median"] <= found.interval["p95"]


@few
@given(st.integers(0, 10**6), st.integers(5, 20), st.floats(-50, 50))
def test_shift_and_mirror(seed, units, shift):
  own = np.random.default_rng(seed).normal(0, 1, (units, 1))
  none = np.zeros_like(own)
  of = lambda x: recursion.self_reference(x, none, none).over_empty
  here, moved, mirror = of(own), of(own + shift), of(-own)
  for end in ("p5", "median", "p95"):
    np.testing.assert_allclose(
      moved.interval[end], here.interval[end] + shift, atol=1e-9
    )
  np.testing.assert_allclose(moved.smallest, here.smallest, atol=1e-9)
  np.testing.assert_allclose(mirror.interval["p5"], -here.interval["p95"])


def test_error_rate_and_power():
  """400 nulls, then effects of the size that 80 % should show."""
  rng = np.random.default_rng(0)
  none = np.zeros((8, 1))
  trial = lambda x: recursion.self_reference(x, none, none)
  nulls = [trial(rng.normal(0, 1, (8, 1))) for _ in range(400)]
  # Exact: 12 of 256 sign flips, 4.7 %; 3.3 standard deviations each way.
  wrong = np.mean([r.shown for r in nulls])
  assert 0.012 <= wrong <= 0.082
  held = np.mean([r.over_empty.interval["p95"] >= 0 for r in nulls])
  assert 0.918 <= held <= 0.988
  smallest = np.median([r.over_empty.smallest for r in nulls])
  seen = [trial(rng.normal(smallest, 1, (8, 1))).shown for _ in range(400)]
  assert 0.7 < np.mean(seen) < 0.9
  # Many units: (1.645 + 0.842) standard errors.
  values = rng.normal(0, 1, (100, 1))
  none = np.zeros_like(values)
  found = recursion.self_reference(values, none, none).over_empty
  np.testing.assert_allclose(
    found.smallest, 2.487 * values.std(ddof=1) / 10, rtol=0.15
  )


def test_documents_of_one_memory_are_not_independent():
  """A round's luck is shared by its rows: only rounds may count."""
  rng = np.random.default_rng(0)
  none = np.zeros((6, 12))
  luck = lambda: rng.normal(0, 1, (6, 1)) + rng.normal(0, 0.1, (6, 12))
  trials = [luck() for _ in range(60)]
  wrong = lambda unit: np.mean([
    recursion.self_reference(x, none, none, unit=unit).shown for x in trials
  ])  # fmt: skip
  assert wrong("rounds") <= 0.15
  assert wrong("documents") >= 0.25
  # The other way round, where each row is a stream of its own.
  rows = recursion.self_reference(trials[0].T, none.T, none.T, unit="rows")
  rounds = recursion.self_reference(trials[0], none, none)
  assert rows.over_empty == rounds.over_empty


def test_too_few_rounds_say_so():
  own, none = np.ones((4, 50)), np.zeros((4, 50))
  found = recursion.self_reference(own, none, none)
  # All four rounds gain: 1 of 2^4 sign flips does as well.
  assert found.over_empty.p == 1 / 16
  assert found.over_empty.interval["p5"] == -math.inf
  assert found.over_empty.smallest == math.inf
  assert not found.shown and "4 rounds can't reach p < 0.05, 5" in (
    found.sentence
  )
  five = recursion.self_reference(*(np.r_[x, x[:1]] for x in (own, none, none)))
  assert five.shown and five.over_empty.p == 1 / 32


def test_contrast_by_hand():
  of = lambda x: (
    recursion.self_reference(
      np.array(x)[:, None], *np.zeros((2, len(x), 1))
    ).over_empty
  )
  # Of five units only "all above 0" reaches 1/32, so p5 is the least of them.
  # Residuals of 0..4 hold their least, -2, in 1 - 0.8^5 = 67 % of resamples:
  # it decides at a power of 80 %. As n - 1 of them are free: 2 * sqrt(5 / 4).
  found = of([0.0, 1.0, 2.0, 3.0, 4.0])
  assert found.gain == found.interval["median"] == 2.0
  assert (found.interval["p5"], found.interval["p95"]) == (0.0, 4.0)
  np.testing.assert_allclose(found.smallest, 5**0.5)
  # 0.1 + 0.2 - 0.3 is 0, whatever floats make of it.
  assert of([0.1, 0.2, -0.3]).p == of([1, 2, -3]).p


def test_no_difference_at_all():
  same = np.ones((8, 3))
  found = recursion.self_reference(same, same, same)
  assert found.over_empty.p == 1.0 and not found.shown
  assert found.over_empty.interval == {"median": 0.0, "p5": 0.0, "p95": 0.0}


@pytest.mark.parametrize(
  "own, other, unit, names",
  [
    (np.zeros(3), np.zeros(3), "rounds", "own has shape"),
    (np.zeros((0, 3)), np.zeros((0, 3)), "rounds", "own has shape"),
    (np.zeros((2, 3)), np.zeros((3, 2)), "rounds", "shuffled has shape"),
    (np.zeros((2, 3)), np.full((2, 3), math.nan), "rounds", "shuffled is not"),
    (np.zeros((2, 3)), np.zeros((2, 3)), "files", "unit is 'files'"),
  ],
)
def test_self_reference_refuses(own, other, unit, names):
  with pytest.raises(ValueError, match=names):
    recursion.self_reference(own, other, np.zeros_like(own), unit=unit)
