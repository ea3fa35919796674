"""Dead passes, with real compressors as the systems.

zlib stands in for C; the bytes that a pass reads stand in for its FLOPs.
"""

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
