"""RSRC_i, RSRC_t (ours): the axioms, by hypothesis, and numbers by hand."""

import inspect
import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.metrics import rsrc, statistics

few = settings(deadline=None, max_examples=60)
bits = st.floats(1e-3, 1e9)
joules = st.floats(1e-9, 1e12)
volume = st.floats(1.0, 1e12)
more = st.floats(1.001, 1e3)  # a factor
signed = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


# The axioms.


@few
@given(volume, bits, joules, joules, more)
def test_capability_up_raises_all(n, k, training, e_i, factor):
  up = k * factor
  assert rsrc.rsrc_i(up, e_i) > rsrc.rsrc_i(k, e_i)
  assert rsrc.rsrc_t(n, up, 0, training) > rsrc.rsrc_t(n, k, 0, training)
  life = lambda k: rsrc.rsrc_life(n, k, training, e_i)
  assert life(up) > life(k)


@few
@given(volume, bits, joules, joules, more)
def test_energy_up_lowers_all(n, k, training, e_i, factor):
  assert rsrc.rsrc_i(k, e_i * factor) < rsrc.rsrc_i(k, e_i)
  t = lambda training: rsrc.rsrc_t(n, k, 0, training)
  assert t(training * factor) < t(training)
  both = rsrc.rsrc_life(n, k, training * factor, e_i * factor)
  assert both < rsrc.rsrc_life(n, k, training, e_i)
  # Of two terms of very different size, the smaller may vanish in rounding.
  one = rsrc.rsrc_life(n, k, training * factor, e_i)
  assert one <= rsrc.rsrc_life(n, k, training, e_i)


@few
@given(st.integers(1, 50), volume, joules, joules)
def test_an_identity_copy_is_exactly_0(rows, n, training, e_i):
  saved = np.zeros(rows)
  k = rsrc.capability(saved)
  found = [
    k,
    rsrc.rsrc_i(k, e_i),
    rsrc.rsrc_t(n, k, 0.0, training),
    rsrc.rsrc_life(n, k, training, e_i),
    rsrc.net_bits(n, k, 0),
  ]
  assert found == [0.0] * 5
  assert rsrc.log10_eta(rsrc.rsrc_i(k, e_i)) == -math.inf
  assert not statistics.bootstrap(saved, 20).any()


@few
@given(st.lists(st.tuples(bits, joules), min_size=2, max_size=8))
def test_a_change_of_unit_leaves_orderings_and_eta(systems):
  """J -> Wh, FLOP -> PFLOP: RSRC per unit of anything that is spent."""
  k, e = np.array(systems).T
  for unit in (3600.0, 1e15):
    here, there = rsrc.rsrc_i(k, e), rsrc.rsrc_i(k, e / unit)
    # Equal up to a positive factor, so equal in order; ties may round apart.
    np.testing.assert_allclose(there / here, unit, rtol=1e-12)
    order = np.argsort(here)
    apart = np.diff(here[order]) > 1e-12 * here[order][1:]
    assert (np.diff(there[order])[apart] > 0).all()
    # k_B T follows: the same joules, in the other unit.
    np.testing.assert_allclose(
      rsrc.log10_eta(there, kelvin=300.0 / unit),
      rsrc.log10_eta(here, kelvin=300.0),
      atol=1e-9,
    )


@few
@given(signed, joules, st.integers(2, 5))
def test_duplicating_a_workload_changes_nothing(saved, e_i, copies):
  k = rsrc.capability(saved)
  again = rsrc.capability(np.tile(saved, copies))
  np.testing.assert_allclose(again, k, rtol=1e-9, atol=1e-6)
  ledger = (sum(saved), e_i * len(saved))
  total, spent = rsrc.merge([ledger] * copies)
  np.testing.assert_allclose(
    total / spent, ledger[0] / ledger[1], rtol=1e-9, atol=1e-12
  )


@few
@given(bits, joules, bits, joules)
def test_merging_gives_the_mediant(bits_a, joules_a, bits_b, joules_b):
  total, spent = rsrc.merge([(bits_a, joules_a), (bits_b, joules_b)])
  a, b = bits_a / joules_a, bits_b / joules_b
  slack = 1 + 1e-12
  assert min(a, b) / slack <= total / spent <= max(a, b) * slack
  assert (total, spent) == (bits_a + bits_b, joules_a + joules_b)


@few
@given(volume, bits, joules, joules, st.floats(1e-6, 1e3))
def test_a_useless_pass_strictly_lowers(n, k, training, e_i, share):
  """The same k, and the energy of one more pass."""
  longer = e_i * (1 + share)
  assert rsrc.rsrc_i(k, longer) < rsrc.rsrc_i(k, e_i)
  life = lambda e_i: rsrc.rsrc_life(n, k, training, e_i)
  assert life(longer) <= life(e_i)
  wasted = rsrc.rsrc_t(n, k, 0, training * (1 + share))
  assert wasted < rsrc.rsrc_t(n, k, 0, training)


@few
@given(volume, bits, bits, bits)
def test_fewer_bytes_of_state_never_lower_net_bits(n, k, state, less):
  small = max(state - less, 0)
  assert rsrc.net_bits(n, k, small) >= rsrc.net_bits(n, k, state)
  assert rsrc.break_even_samples(k, small) <= rsrc.break_even_samples(k, state)


@few
@given(st.lists(bits, min_size=1, max_size=20), joules, joules, volume)
def test_chance_level_is_0(code_bits, training, e_i, n):
  """Decodes that know nothing: all of s is sent after a useless c."""
  source = 100.0
  saved = [source - (c + source) for c in code_bits]
  assert rsrc.capability(saved) == 0.0
  assert not statistics.bootstrap(saved, 10).any()
  assert rsrc.rsrc_i(rsrc.capability(saved), e_i) == 0.0
  assert rsrc.rsrc_t(n, rsrc.capability(saved), 0.0, training) == 0.0


def test_no_date_and_no_label_goes_in():
  """Nor anything else but bits, joules and samples."""
  inputs = {
    "bits_saved", "k", "k_0", "n", "training", "e_i", "e_base", "e_c",
    "e_read_s", "e_read_c", "state_bits", "rsrc", "kelvin", "ledgers",
  }  # fmt: skip
  public = [
    f
    for name, f in inspect.getmembers(rsrc, inspect.isfunction)
    if f.__module__ == rsrc.__name__ and not name.startswith("_")
  ]
  assert len(public) == 10
  assert {p for f in public for p in inspect.signature(f).parameters} == inputs
  modules = {name for name, _ in inspect.getmembers(rsrc, inspect.ismodule)}
  assert modules == {"np"}  # no clock, no calendar, no jax


@few
@given(volume, bits, joules, joules)
def test_harmonic_identity(n, k, training, e_i):
  t, i = rsrc.rsrc_t(n, k, 0, training), rsrc.rsrc_i(k, e_i)
  life = rsrc.rsrc_life(n, k, training, e_i)
  np.testing.assert_allclose(1 / life, 1 / t + 1 / i, rtol=1e-9)


# By hand.


def test_by_hand():
  # 10 bits for 2 J: 5 bit/J. 100 samples, 10 - 4 bits, 300 J: 2 bit/J.
  assert rsrc.rsrc_i(10, 2) == 5.0
  assert rsrc.rsrc_t(100, 10, 4, 300) == 2.0
  # 100 * 10 bits for 300 + 100 * 2 J: 2 bit/J.
  assert rsrc.rsrc_life(100, 10, 300, 2) == 2.0
  assert rsrc.rsrc_t(100, 4, 10, 300) == -2.0  # training hurt
  # 300 J over 5 - 2 J/sample: 100 samples. 6 J over 3 - 1: 3 readings.
  assert rsrc.break_even(300, 5, 2) == 100.0
  assert rsrc.reuse(6, 3, 1) == 3.0
  assert rsrc.break_even(300, 2, 2) == rsrc.break_even(300, 1, 2) == math.inf
  assert rsrc.reuse(6, 1, 1) == rsrc.reuse(6, 1, 3) == math.inf
  # 7 bits a sample against a state of 70.
  assert rsrc.net_bits(12, 7, 70) == 14.0
  assert rsrc.break_even_samples(7, 70) == 10.0
  assert rsrc.break_even_samples(0, 70) == math.inf
  assert rsrc.break_even_samples(0, 0) == math.inf
  assert rsrc.merge([(3, 2), (-1, 4.5)]) == (2.0, 6.5)


def test_landauer():
  # k_B * 300 K * ln 2 = 1.380649e-23 * 300 * 0.693147 = 2.8710e-21 J a bit:
  # a system at the limit makes 1 / 2.8710e-21 = 3.4831e20 bit/J.
  np.testing.assert_allclose(rsrc.log10_eta(3.4831e20), 0, atol=1e-4)
  # The table of the published audit: 6.5e7 bit/J is at 10^-12.7.
  np.testing.assert_allclose(rsrc.log10_eta(6.5e7), -12.7, atol=0.05)
  assert rsrc.log10_eta(-1.0) == rsrc.log10_eta(0.0) == -math.inf
  assert rsrc.log10_eta(math.inf) == math.inf
  found = rsrc.log10_eta(np.array([0.0, 3.4831e21]))
  np.testing.assert_allclose(found, [-math.inf, 1], atol=1e-4)


def test_limits_of_the_volume():
  """Few samples: training is all; many: inference is."""
  few, many = (rsrc.rsrc_life(n, 10, 300, 2) for n in (1e-9, 1e15))
  np.testing.assert_allclose(few, rsrc.rsrc_t(1e-9, 10, 0, 300), rtol=1e-9)
  np.testing.assert_allclose(many, rsrc.rsrc_i(10, 2), rtol=1e-9)


def test_the_clip_is_once_a_corpus():
  assert rsrc.capability([10, -4]) == 3.0  # by the sample it would be 5
  assert rsrc.capability([4, -10]) == 0.0


def test_draws_and_sweeps_broadcast():
  rng = np.random.default_rng(0)
  k, e_i = rng.uniform(1, 2, (2, 7))
  n = np.geomspace(1, 1e6, 5)[:, None]
  found = rsrc.rsrc_life(n, k, 40.0, e_i)
  assert found.shape == (5, 7)
  one = rsrc.rsrc_life(float(n[2, 0]), float(k[3]), 40.0, float(e_i[3]))
  assert isinstance(one, float)
  np.testing.assert_allclose(found[2, 3], one)
  found = rsrc.break_even(40.0, np.array([3.0, 1.0]), 2.0)
  assert found.tolist() == [40.0, math.inf]


# Check 11.


def test_a_codebook_hidden_in_state_costs_its_bits():
  """Rows that share a text: a dictionary of it saves, and is charged."""
  rng = np.random.default_rng(0)
  book = rng.integers(0, 256, 500, dtype=np.uint8).tobytes()

  def saved(zdict):
    given = {"zdict": zdict} if zdict else {}
    found = []
    for i in range(100):
      row = book[i : i + 300]
      coder = zlib.compressobj(9, wbits=-15, **given)
      found.append(8 * (len(row) - len(coder.compress(row) + coder.flush())))
    return found

  # Random bytes: nothing to save without the book; nearly all with it.
  assert rsrc.capability(saved(b"")) == 0.0
  k = rsrc.capability(saved(book))
  assert 2300 < k < 2400
  state = 8 * len(book)
  for n in (1, 2, 50):
    hidden, declared = rsrc.net_bits(n, k, 0), rsrc.net_bits(n, k, state)
    assert hidden - declared == state
  # 4000 bits of book at some 2350 a row: the second row pays for it.
  crossing = rsrc.break_even_samples(k, state)
  assert 1 < crossing < 2
  assert rsrc.net_bits(1, k, state) < 0 < rsrc.net_bits(2, k, state)
  np.testing.assert_allclose(rsrc.net_bits(crossing, k, state), 0, atol=1e-9)


# Bootstrap and intervals.


def test_bootstrap_finds_the_standard_error():
  rows = np.random.default_rng(0).normal(3, 2, 400)
  draws = statistics.bootstrap(rows, 4000, seed=1)
  assert draws.shape == (4000,)
  np.testing.assert_allclose(draws.mean(), rows.mean(), atol=0.01)
  # The bootstrap's own noise at 4000 draws is about 1.1 %.
  np.testing.assert_allclose(draws.std(), rows.std() / 20, rtol=0.05)


def test_bootstrap_is_by_document():
  """Eight copies of a row are one document: as wide as without them."""
  rows = np.random.default_rng(0).normal(0, 1, 50)
  copies, owner = np.repeat(rows, 8), np.repeat(np.arange(50)[::-1], 8)
  options = {"draws": 2000, "seed": 3, "clip": False}
  by_row = statistics.bootstrap(copies, **options)
  by_document = statistics.bootstrap(copies, **options, documents=owner)
  alone = statistics.bootstrap(rows, **options)
  np.testing.assert_allclose(by_document.std(), alone.std(), rtol=0.08)
  np.testing.assert_allclose(by_row.std(), alone.std() / 8**0.5, rtol=0.08)


def test_documents_of_unequal_size():
  # Drawn twice each or once each, from (1, 1, 4) in documents (a, a, b): aa
  # gives 1, ab gives 2, bb gives 4; in four draws of equal probability.
  draws = statistics.bootstrap(
    [1, 1, 4], 4000, documents=np.array(["a", "a", "b"])
  )
  values, counts = np.unique(draws.round(9), return_counts=True)
  assert values.tolist() == [1, 2, 4]
  np.testing.assert_allclose(counts / 4000, [1 / 4, 1 / 2, 1 / 4], atol=0.03)


def test_leading_axes_are_paired():
  rows = np.random.default_rng(0).normal(0, 1, (2, 30))
  rows = np.stack([rows[0], rows[0] + 5])
  draws = statistics.bootstrap(rows, 100, clip=False)
  np.testing.assert_allclose(draws[1] - draws[0], 5, atol=1e-9)
  assert (statistics.bootstrap(rows, 100) >= 0).all()
  np.testing.assert_array_equal(
    draws, statistics.bootstrap(rows, 100, clip=False)
  )
  other = statistics.bootstrap(rows, 100, seed=1, clip=False)
  assert (draws != other).any()


def test_coverage_of_the_interval():
  """5-95 % of 60 skewed rows holds the truth about nine times in ten."""
  rng = np.random.default_rng(0)
  held = 0
  for i in range(200):
    found = statistics.interval(
      statistics.bootstrap(rng.gamma(4.0, 1.0, 60), 300, seed=i)
    )
    held += found["p5"] <= 4.0 <= found["p95"]
  assert 165 <= held <= 194  # 180 +- 3.4 standard deviations


def test_interval():
  found = statistics.interval(np.arange(101.0))
  assert found == {"median": 50.0, "p5": 5.0, "p95": 95.0}
  assert statistics.interval(3) == {"median": 3.0, "p5": 3.0, "p95": 3.0}
  assert statistics.interval(None) is None
  # Half of n* is finite: the quantiles are draws, never between two of them.
  found = statistics.interval([1.0, 2.0, math.inf, math.inf])
  assert found == {"median": 2.0, "p5": 1.0, "p95": math.inf}
  assert statistics.interval([-math.inf, -math.inf])["median"] == -math.inf
  for bad in ([], [1.0, math.nan]):
    with pytest.raises(ValueError, match="no quantiles"):
      statistics.interval(bad)


# What is unknown, and what can't be.


def test_unknown_stays_unknown():
  unknown = [
    rsrc.rsrc_i(1, None), rsrc.rsrc_i(None, 1), rsrc.rsrc_t(1, 1, 0, None),
    rsrc.rsrc_t(1, None, 0, 1), rsrc.rsrc_t(1, 1, None, 1),
    rsrc.rsrc_life(1, 1, None, 1), rsrc.rsrc_life(1, 1, 1, None),
    rsrc.rsrc_life(1, None, 1, 1), rsrc.log10_eta(None),
    rsrc.break_even(None, 1, 1), rsrc.break_even(1, None, 1),
    rsrc.break_even(1, 1, None), rsrc.reuse(None, 1, 1),
    rsrc.reuse(1, None, 1), rsrc.reuse(1, 1, None), rsrc.net_bits(1, 1, None),
    rsrc.net_bits(1, None, 1), rsrc.break_even_samples(None, 1),
    rsrc.break_even_samples(1, None),
  ]  # fmt: skip
  assert all(found is None for found in unknown)
  assert rsrc.merge([(1, 2), (3, None)]) == (4.0, None)
  assert rsrc.merge([(None, 2), (3, 4)]) == (None, 6.0)


@pytest.mark.parametrize("joules", [0, -1.0, math.nan, math.inf, [1.0, 0.0]])
def test_energies_are_positive(joules):
  for call in (
    lambda: rsrc.rsrc_i(1, joules),
    lambda: rsrc.rsrc_t(1, 1, 0, joules),
    lambda: rsrc.rsrc_life(1, 1, joules, 1),
    lambda: rsrc.rsrc_life(1, 1, 1, joules),
    lambda: rsrc.break_even(joules, 1, 1),
    lambda: rsrc.break_even(1, joules, 1),
    lambda: rsrc.break_even(1, 1, joules),
    lambda: rsrc.reuse(joules, 1, 1),
    lambda: rsrc.reuse(1, joules, 1),
    lambda: rsrc.reuse(1, 1, joules),
    lambda: rsrc.merge([(1, joules)]),
  ):
    with pytest.raises(ValueError, match=r"J: energies are positive.*None"):
      call()


@pytest.mark.parametrize("n", [0, -3, math.nan, math.inf, None, [1, 0]])
def test_the_volume_is_declared(n):
  for call in (
    lambda: rsrc.rsrc_t(n, 1, 0, 1),
    lambda: rsrc.rsrc_life(n, 1, 1, 1),
    lambda: rsrc.net_bits(n, 1, 1),
    lambda: rsrc.rsrc_t(n, None, None, None),
  ):
    with pytest.raises(ValueError, match="declare a positive number"):
      call()
  for f in (rsrc.rsrc_t, rsrc.rsrc_life, rsrc.net_bits):
    n = inspect.signature(f).parameters["n"]
    assert n.default is inspect.Parameter.empty


@pytest.mark.parametrize(
  "call, names",
  [
    (lambda: rsrc.rsrc_i(-0.5, 1), "k is -0.5 bits"),
    (lambda: rsrc.rsrc_t(1, 1, -0.5, 1), "k_0 is -0.5 bits"),
    (lambda: rsrc.rsrc_life(1, math.nan, 1, 1), "k is nan bits"),
    (lambda: rsrc.net_bits(1, 1, -8), "state_bits is -8 bits"),
    (lambda: rsrc.break_even_samples(1, -8), "state_bits is -8 bits"),
    (lambda: rsrc.capability([]), "at least one row"),
    (lambda: rsrc.capability([1, math.nan]), "finite"),
    (lambda: statistics.bootstrap([1, math.inf]), "finite"),
    (lambda: statistics.bootstrap([1, 2], documents=np.array([1])), "2 rows"),
    (lambda: rsrc.log10_eta(1, kelvin=0), "kelvin is 0"),
    (lambda: rsrc.log10_eta(math.nan), "rsrc is NaN"),
    (lambda: rsrc.merge([]), "ledgers is empty"),
  ],
)
def test_errors_name_the_field(call, names):
  with pytest.raises(ValueError, match=names) as found:
    call()
  assert "\n" not in str(found.value)
