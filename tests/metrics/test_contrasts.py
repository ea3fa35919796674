"""Contrasts over seeds: intervals that cover, tests of the size they state.

Simulations have a tolerance of about 3 standard errors of their own; the seeds
are fixed, so they do not flicker.
"""

import math

import numpy as np
import pytest

from rsrc_jax.metrics import contrasts, statistics

INF = math.inf


def experiment(rng, effect, *, seeds=5, docs=32, of_seeds=1.0, of_docs=1.0):
  """Two arms [seeds, docs] whose difference is normal about `effect`."""
  b = 3.0 + rng.normal(size=(seeds, docs)) + rng.normal(size=(seeds, 1))
  noise = of_seeds * rng.normal(size=(seeds, 1))
  return b + effect + noise + of_docs * rng.normal(size=(seeds, docs)), b


def test_all_contrasts_share_their_resamples():
  """A - C is A - B and B - C, draw by draw, so it is for their percentiles.

  B = A + 1 in each value: the draws of A - C and of B - C are 1 apart, and so
  are all ends, to the rounding of a float. Other draws would move them by 1e-2.
  """
  rng = np.random.default_rng(0)
  a, c = rng.normal(size=(2, 5, 20))
  one = contrasts.paired_bootstrap(a, c, draws=300).bootstrap
  other = contrasts.paired_bootstrap(a + 1, c, draws=300).bootstrap
  np.testing.assert_allclose(np.add(one[:2], 1), other[:2], rtol=1e-12)
  moved = contrasts.paired_bootstrap(a, c, draws=300, seed=1).bootstrap
  assert abs(moved.low - one.low) > 1e-4
  assert contrasts.paired_bootstrap(a, c, draws=300).bootstrap == one
  drawn = statistics.resampled_means(np.stack([a, c]), draws=300)
  difference = statistics.resampled_means(a - c, draws=300)
  np.testing.assert_allclose(drawn[0] - drawn[1], difference, atol=1e-12)


def test_what_is_paired_cancels():
  """Documents differ by 100, arms by 1/4 in each: the interval is a point."""
  b = 100 * np.random.default_rng(0).integers(-8, 8, size=(5, 16)).astype(float)
  found = contrasts.paired_bootstrap(b + 0.25, b, draws=500)
  assert found.difference == found.low == found.high == 0.25
  assert found.p == 2 / 501  # never 0: no draw is at 0 but the estimate counts
  same = contrasts.paired_bootstrap(b, b, draws=500)
  assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_trading_the_arms_trades_the_ends():
  rng = np.random.default_rng(3)
  a, b = experiment(rng, 0.5)
  one = contrasts.paired_bootstrap(a, b, draws=999)
  other = contrasts.paired_bootstrap(b, a, draws=999)
  assert one.low == pytest.approx(-other.high, rel=1e-12)
  assert one.high == pytest.approx(-other.low, rel=1e-12)
  assert one.p == pytest.approx(other.p, rel=1e-9)


def test_the_headline_is_the_wider():
  """Seeds alone differ: Student's. Documents alone: the bootstrap's."""
  rng = np.random.default_rng(0)
  found = contrasts.paired_bootstrap(
    *experiment(rng, 0.2, of_docs=0.0), draws=500
  )
  assert (found.low, found.high) == found.student[:2]
  assert found.student.low < found.bootstrap.low
  b = np.zeros((2, 50))
  a = np.stack([rng.permutation(50), rng.permutation(50)]) - 20.0
  found = contrasts.paired_bootstrap(a, b, draws=500)
  # Both seeds have the same mean: Student sees no spread at all.
  assert found.student.low == found.student.high == 4.5
  assert found.low == found.bootstrap.low < 4.5
  assert found.p == found.bootstrap.p > found.student.p


@pytest.mark.parametrize(
  "of_seeds, bootstrap, wider",
  [(1.0, 0.864, 0.953), (0.3, 0.917, 0.956), (0.0, 0.984, 0.986)],
)
def test_coverage_at_five_seeds(of_seeds, bootstrap, wider):
  """The numbers of the module, and that the headline's are not below 0.95."""
  rng = np.random.default_rng(7)
  trials, hits = 1000, np.zeros(3)
  for trial in range(trials):
    a, b = experiment(rng, 0.3, of_seeds=of_seeds)
    found = contrasts.paired_bootstrap(a, b, draws=400, seed=trial)
    for i, part in enumerate((found.bootstrap, found.student, found)):
      hits[i] += part.low <= 0.3 <= part.high
  # 3 standard errors of 1000 trials at 0.86 and at 0.95.
  assert hits[0] / trials == pytest.approx(bootstrap, abs=0.033)
  assert hits[1] / trials == pytest.approx(0.95, abs=0.021)
  assert hits[2] / trials == pytest.approx(wider, abs=0.021)
  assert hits[2] >= hits[1]


def test_crossed_documents_are_not_averaged_out():
  """Documents shared by all seeds: 0.71 and 0.94, as the module says."""
  rng, trials = np.random.default_rng(7), 300
  hits = {False: 0, True: 0}
  for trial in range(trials):
    of_docs = rng.normal(size=(1, 32)) + 0.5 * rng.normal(size=(5, 32))
    a = 0.3 + 0.1 * rng.normal(size=(5, 1)) + of_docs
    for crossed in hits:
      found = contrasts.paired_bootstrap(
        a, np.zeros_like(a), draws=400, seed=trial, crossed=crossed
      )
      hits[crossed] += found.low <= 0.3 <= found.high
  assert hits[False] / trials == pytest.approx(0.707, abs=0.08)
  assert hits[True] / trials == pytest.approx(0.943, abs=0.042)


def test_p_is_of_its_size_under_the_null():
  """p below 5 % in 5 % of null experiments, and in step with the interval."""
  rng, trials, found = np.random.default_rng(11), 600, []
  for trial in range(trials):
    a, b = experiment(rng, 0.0)
    found.append(contrasts.paired_bootstrap(a, b, draws=400, seed=trial))
  rejected = np.array([x.p < 0.05 for x in found])
  assert rejected.mean() == pytest.approx(0.05, abs=0.027)
  clear = np.array([x.low > 0 or x.high < 0 for x in found])
  assert (rejected != clear).mean() < 0.01


def test_ratio_covers():
  """Ratio of means 1.2 / 1.5 of arms that share their seeds' noise."""
  rng, trials, hits = np.random.default_rng(5), 600, 0
  for trial in range(trials):
    shared = 0.2 * rng.normal(size=(5, 1))
    b = 1.5 + shared + 0.5 * rng.normal(size=(5, 32))
    a = 1.2 + shared + 0.2 * rng.normal(size=(5, 1))
    a = a + 0.5 * rng.normal(size=(5, 32))
    found = contrasts.paired_ratio(a, b, draws=400, seed=trial)
    hits += found.low <= 0.8 <= found.high
  assert hits / trials == pytest.approx(0.955, abs=0.027)


def test_ratio_by_hand():
  """Fieller's ends are the r at which the t of a - r b is the quantile."""
  rng = np.random.default_rng(2)
  b = 2 + 0.3 * rng.normal(size=(5, 16)) + 0.3 * rng.normal(size=(5, 1))
  a = 0.9 * b + 0.2 * rng.normal(size=(5, 1))
  found = contrasts.paired_ratio(a, b, draws=500)
  assert found.difference == pytest.approx(a.mean() / b.mean(), rel=1e-12)
  for end, sign in ((found.student.low, 1), (found.student.high, -1)):
    each = (a - end * b).mean(-1)
    t = each.mean() / (each.std(ddof=1) / math.sqrt(5))
    assert t == pytest.approx(sign * 2.7764451, rel=1e-6)
  # And p is that of the difference a - against * b.
  at = contrasts.paired_ratio(a, b, against=0.7, draws=500)
  same = contrasts.paired_bootstrap(a, 0.7 * b, draws=500)
  assert at.p == pytest.approx(same.p, rel=1e-9) and at.p < 0.05 < 1
  exact = contrasts.paired_ratio(0.5 * b, b, draws=500)
  np.testing.assert_allclose(exact[:3], 0.5, rtol=1e-7)


def test_a_ratio_to_nothing_claims_nothing():
  """b about 0, or below it: the whole line, p 1, neither equivalent nor not."""
  rng = np.random.default_rng(0)
  noise = rng.normal(size=(5, 16)) + rng.normal(size=(5, 1))
  for b in (noise - noise.mean() + 0.01, noise - 20, np.zeros((5, 16))):
    found = contrasts.paired_ratio(b + 7, b, against=0.9, draws=200)
    assert (found.low, found.high, found.p) == (-INF, INF, 1)
    assert found.student == (-INF, INF, 1)
    assert math.isnan(found.difference) == (b.mean() <= 0)
    found = contrasts.tost(b + 7, b, margin=0.02, draws=200)
    assert (found.low, found.high) == (-INF, INF)
    assert not found.equivalent and not found.not_worse
    assert found.p_equivalent == found.p_not_worse == 1


def test_tost_on_four_cases():
  """Margin 2 % of a mean of about 100, and seeds that differ by far less."""
  rng = np.random.default_rng(0)
  b = 100 + rng.normal(size=(5, 64))
  for shift, equivalent, not_worse in [
    (0, True, True), (5, False, True), (-5, False, False), (-1.5, True, True),
  ]:  # fmt: skip
    a = b + shift + 0.2 * rng.normal(size=(5, 64))
    found = contrasts.tost(a, b, margin=0.02, draws=500)
    assert (found.equivalent, found.not_worse) == (equivalent, not_worse)
    assert (found.p_equivalent < 0.05) == equivalent
    assert (found.p_not_worse < 0.05) == not_worse
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx(shift / 100, abs=1e-3)
  # Seeds that agree to the bit have no spread to test by, yet are told apart.
  flat = np.full((5, 4), 100.0)
  for shift, not_worse in ((5, True), (-5, False), (0, True)):
    found = contrasts.tost(flat + shift, flat, margin=0.02, draws=500)
    assert found.not_worse == not_worse == (found.p_not_worse < 0.05)
  # Too noisy to say: neither, though the arms are one law.
  wide = b + 20 * rng.normal(size=(5, 1))
  assert not contrasts.tost(wide, b, margin=0.02, draws=500).not_worse


def test_tost_has_the_size_it_states():
  """At a true difference of -margin "not worse" is said in at most 5 %."""
  rng, trials, said, low_p = np.random.default_rng(1), 400, 0, 0
  for trial in range(trials):
    b = 10 + 0.3 * rng.normal(size=(5, 16))
    a = 0.9 * b + 0.4 * rng.normal(size=(5, 1))
    found = contrasts.tost(a, b, margin=0.1, draws=300, seed=trial)
    said += found.not_worse
    low_p += found.p_not_worse < 0.05
  assert said / trials == pytest.approx(0.05, abs=0.033)
  assert abs(said - low_p) <= 2


def test_minimum_detectable_by_hand():
  """Differences 1..5, sd sqrt 2.5; over sqrt 5 that is sqrt .5.

  t_{.975, 4} + t_{.8, 4} = 2.7764 + 0.9410 is the common approximation, 3.7174;
  the noncentral t puts it at 3.7611.
  """
  a = np.arange(1.0, 6)[:, None] + np.array([-1.0, 0, 1])
  found = contrasts.minimum_detectable(a, np.zeros((5, 3)))
  assert found == pytest.approx(3.7611 * math.sqrt(0.5), rel=1e-4)
  assert found > 3.7174 * math.sqrt(0.5)


@pytest.mark.parametrize("seeds, power, level", [(5, 0.8, 0.95), (3, 0.6, 0.9)])
def test_the_detectable_difference_is_detected(seeds, power, level):
  """At the true spread: normal seeds of sd 1 show it with the power stated."""
  design = np.zeros((seeds, 2))
  design[:2] = [[1.0], [-1.0]]
  spread = design.mean(-1).std(ddof=1)
  effect = contrasts.minimum_detectable(
    design, np.zeros_like(design), power=power, level=level
  )
  rng, trials = np.random.default_rng(0), 20_000
  drawn = effect / spread + rng.normal(size=(trials, seeds))
  error = drawn.std(-1, ddof=1) / math.sqrt(seeds)
  found = np.abs(drawn.mean(-1) / error) > statistics.t_quantile(
    seeds - 1, level
  )
  assert found.mean() == pytest.approx(power, abs=0.011)


@pytest.mark.parametrize("a, b, match", [
  (np.ones((1, 4)), np.ones((1, 4)), "two or more seeds"),
  (np.ones((2, 4)), np.ones((2, 5)), r"a \(2, 4\) and b \(2, 5\)"),
  (np.ones(4), np.ones(4), r"give \[seeds, docs\]"),
  (np.ones((2, 0)), np.ones((2, 0)), r"give \[seeds, docs\]"),
  (np.ones((2, 2)), np.array([[1, 1], [np.nan, 1]]), r"b is not .* \[1, 0\]"),
])  # fmt: skip
def test_refuses_what_is_not_paired(a, b, match):
  for contrast in (
    contrasts.paired_bootstrap,
    contrasts.paired_ratio,
    contrasts.minimum_detectable,
    lambda a, b: contrasts.tost(a, b, margin=0.1),
  ):
    with pytest.raises(ValueError, match=match):
      contrast(a, b)


@pytest.mark.parametrize(
  "paid, said",
  [(0.1, ""), (0.3, ""), (0.099, "not tested"), (0.0, "not tested"),
   (None, "not recorded"), (math.nan, "not recorded")],
)  # fmt: skip
def test_a_mechanism_that_paid_next_to_nothing_was_not_tested(paid, said):
  assert contrasts.mechanism(paid) == said


def test_refuses_settings():
  a = np.ones((2, 2))
  with pytest.raises(ValueError, match=r"margin=2.0 must be a share"):
    contrasts.tost(a, a, margin=2.0)
  with pytest.raises(ValueError, match=r"level=95 must be in"):
    contrasts.paired_bootstrap(a, a, level=95)
  with pytest.raises(ValueError, match=r"power=0.2 must be in"):
    contrasts.minimum_detectable(a, a, power=0.2)


def test_the_registered_size_fits():
  """10k draws of 5 seeds of 512 documents, in chunks of bounded memory."""
  largest = max(part.nbytes for part in statistics.resamples(5, 512, 10_000, 0))
  assert largest <= 8 * statistics.CHUNK
  rng = np.random.default_rng(0)
  found = contrasts.paired_bootstrap(*experiment(rng, 0.2, docs=512))
  assert found.draws == 10_000 and found.low < found.difference < found.high
