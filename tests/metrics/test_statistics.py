"""Student's t, draws of a bootstrap and families of p, by hand and by table."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.metrics import statistics

INF = math.inf
few = settings(deadline=None, max_examples=40)


def test_area_by_hand():
  """Budgets 4, 8, 32: log2 is 2, 3, 5. Trapezoids of values 1, 3, 5:
  (1 + 3) / 2 * 1 = 2 and (3 + 5) / 2 * 2 = 8, together 10, over the span 3."""
  found = statistics.area([[1, 3, 5], [7, 7, 7]], [4, 8, 32])
  np.testing.assert_allclose(found, [10 / 3, 7], rtol=1e-15)
  # What is a line over log2 k has the mean of its ends, however k is spaced.
  budgets = np.array([4, 5, 7, 16, 31, 32])
  line = 2 + 0.5 * np.log2(budgets)
  np.testing.assert_allclose(
    statistics.area(line, budgets), (line[0] + line[-1]) / 2, rtol=1e-14
  )


@pytest.mark.parametrize(
  "budgets", [[4], [4, 4, 8], [8, 4, 16], [0, 4, 8], [4, 8, INF]]
)
def test_area_refuses_budgets(budgets):
  with pytest.raises(ValueError, match=r"budgets=.*rise from above 0"):
    statistics.area(np.ones(len(budgets)), budgets)


def test_area_refuses_values_of_other_budgets():
  with pytest.raises(ValueError, match=r"\(2, 3\) don't end in the 2 budgets"):
    statistics.area(np.ones((2, 3)), [4, 8])


def test_t_quantiles_of_the_tables():
  """Printed tables of Student's t, two-sided 95, 90 and 99 %."""
  for dof, at95, at90, at99 in [
    (1, 12.7062, 6.3138, 63.6567),
    (2, 4.3027, 2.9200, 9.9248),
    (4, 2.7764, 2.1318, 4.6041),
    (9, 2.2622, 1.8331, 3.2498),
    (29, 2.0452, 1.6991, 2.7564),
  ]:
    found = [statistics.t_quantile(dof, x) for x in (0.95, 0.9, 0.99)]
    np.testing.assert_allclose(found, [at95, at90, at99], atol=6e-5)


def test_quantiles_from_the_textbook():
  """Two-sided 5 % of Student's t; df 1 in closed form: tan(0.475 pi)."""
  for df, expected in [(2, 4.302653), (3, 3.182446), (4, 2.776445),
                       (9, 2.262157), (30, 2.042272)]:  # fmt: skip
    np.testing.assert_allclose(statistics.t_quantile(df), expected, atol=1e-6)
  np.testing.assert_allclose(
    statistics.t_quantile(1), math.tan(0.475 * math.pi), rtol=1e-9
  )


# SciPy's own series fails for t of 1e-122 and warns; 0 itself is done by hand.
@few
@given(st.integers(1, 300), st.floats(1e-6, 20), st.floats(0, 8))
def test_tail_against_scipy(df, t, shift):
  stats = pytest.importorskip("scipy.stats")
  found = statistics.tail(t, df, shift)
  np.testing.assert_allclose(
    statistics.tail(t, df), 2 * stats.t.sf(t, df), atol=1e-10
  )
  expected = stats.nct.sf(t, df, shift) + stats.nct.sf(t, df, -shift)
  if shift == 0:
    expected = 2 * stats.t.sf(t, df)
  np.testing.assert_allclose(found, expected, atol=1e-8)


def test_tail_by_hand():
  """df 2: P(|T| > t) = 1 - t / sqrt(2 + t^2). At t = 0 all is outside."""
  for t in (0.0, 0.5, 2.0, 7.0):
    expected = 1 - t / math.sqrt(2 + t * t)
    np.testing.assert_allclose(statistics.tail(t, 2), expected, atol=1e-12)
  # Many degrees of freedom: a normal, shifted by 1.96 + 0.8416 for 80 %.
  np.testing.assert_allclose(
    statistics.detectable_shift(1000), 2.8016, atol=0.01
  )


def test_interval_by_hand():
  # 1, 2, 3: mean 2, s = 1, s / sqrt(3) = 0.57735, t = 4.302653.
  found = statistics.t_interval(np.array([1.0, 2.0, 3.0]))
  half = 4.302653 / math.sqrt(3)
  np.testing.assert_allclose(found[:2], (2 - half, 2 + half), rtol=1e-6)


def test_false_positives_and_power():
  """1000 null samples reject near 5 %; at the detectable effect, 80 % do."""
  rng = np.random.default_rng(0)
  null = [statistics.seed_interval(x) for x in rng.normal(0, 1, (1000, 4))]
  rejected = np.mean([abs(mean) > half for mean, half in null])
  assert 0.03 < rejected < 0.07  # 5 % +- 3 standard errors of 0.7 %
  shift = statistics.detectable_shift(3) / 2  # times sigma 1 / sqrt(4)
  moved = [statistics.seed_interval(x) for x in rng.normal(shift, 1, (4000, 4))]
  assert 0.78 < np.mean([mean > half for mean, half in moved]) < 0.82


def test_quantiles_far_out():
  """Beyond 64, where the search begins: dof 1 is tan(0.4975 pi)."""
  far = [statistics.t_quantile(1, 0.995), statistics.t_quantile(2, 0.9999)]
  np.testing.assert_allclose(far, [127.3213, 99.9925], atol=1e-4)


def test_seed_interval_by_hand():
  """1, 2, 3, 4, 5: mean 3, sd sqrt(2.5), over sqrt 5 is sqrt(.5); t 2.7764."""
  mean, half = statistics.seed_interval([1, 2, 3, 4, 5])
  assert mean == 3
  assert half == pytest.approx(2.7764 * math.sqrt(0.5), abs=1e-4)
  with pytest.raises(ValueError, match="two or more seeds"):
    statistics.seed_interval([1.0])


def test_resamples_are_seeds_and_then_their_documents(monkeypatch):
  """Each row of a draw is of one seed; all seeds and documents come up."""
  picked = np.concatenate(list(statistics.resamples(5, 8, 400, 3)))
  assert picked.shape == (400, 5, 8)
  owner = picked // 8
  assert (owner == owner[:, :, :1]).all()
  # Expected of each: 400 * 5 / 5 of seeds, sd 18, and 400 * 40 / 40.
  np.testing.assert_allclose(np.bincount(owner[:, :, 0].ravel()), 400, atol=90)
  np.testing.assert_allclose(np.bincount(picked.ravel()), 400, atol=160)
  # No two seeds of a draw have the same documents, unless they are crossed.
  documents = picked % 8
  assert not (documents == documents[:, :1]).all((-2, -1)).any()
  crossed = np.concatenate(
    list(statistics.resamples(5, 8, 50, 3, crossed=True))
  )
  assert (crossed % 8 == crossed[:, :1] % 8).all()
  monkeypatch.setattr(statistics, "CHUNK", 5 * 8 * 100)
  sizes = [len(part) for part in statistics.resamples(5, 8, 250, 3)]
  assert sizes == [100, 100, 50]


def test_means_are_those_of_the_resamples():
  """Against a loop over draws, seeds and documents, over several chunks."""
  rng = np.random.default_rng(0)
  arms = rng.normal(size=(2, 3, 4))
  found = statistics.resampled_means(arms, draws=7, seed=5)
  picked = np.concatenate(list(statistics.resamples(3, 4, 7, 5)))
  for i in range(7):
    for arm in range(2):
      drawn = [arms[arm, index // 4, index % 4] for index in picked[i].ravel()]
      assert found[arm, i] == pytest.approx(sum(drawn) / 12, rel=1e-12)


def test_holm_by_hand():
  """Sorted .01 .02 .03 .04 of four, times 4 3 2 1: .04, .06, .06 (not under
  the one before), .06 (.04 is under). At 5 % the first alone is rejected."""
  found = statistics.holm({"d": 0.04, "a": 0.01, "c": 0.03, "b": 0.02})
  assert list(found) == ["d", "a", "c", "b"]
  p = {name: value.p for name, value in found.items()}
  assert p == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06})
  assert [name for name in found if found[name].rejected] == ["a"]
  # .005 * 3, .02 * 2, .3: the second is rejected at 5 %, Bonferroni would not.
  found = statistics.holm({"x": 0.3, "y": 0.02, "z": 0.005})
  assert [found[name].p for name in "xyz"] == pytest.approx([0.3, 0.04, 0.015])
  assert [found[name].rejected for name in "xyz"] == [False, True, True]
  assert statistics.holm({"x": 0.9, "y": 0.8})["y"] == (1.0, False)
  # On the line counts as rejected, whatever 1 - 0.95 is in floats.
  assert statistics.holm({"x": 0.1}, 0.9)["x"].rejected  # 1 - 0.9 < 0.1
  assert statistics.holm({}) == {}


def test_holm_refuses():
  with pytest.raises(ValueError, match="p of x is nan"):
    statistics.holm({"x": math.nan})
  # An error rate where a level belongs would reject nearly everything.
  with pytest.raises(ValueError, match=r"level=0.05 must be in \[0.5, 1\)"):
    statistics.holm({"x": 0.3}, 0.05)


def test_needs_no_jax():
  code = (
    "import rsrc_jax.metrics.statistics, sys; sys.exit('jax' in sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0
