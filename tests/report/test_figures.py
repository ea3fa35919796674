"""Numbers as they are printed, series, labels and figures."""

import math

import numpy as np
import pytest

from rsrc_jax.report import arms, figures, numbers, style
from rsrc_jax.report.series import series


def test_series_reads_roles_and_lets_the_last_line_count():
  line = {"phase": "code", "split": "train"}
  metrics = [
    line | {"step": 2, "C_entropy": 5.0},
    line | {"step": 1, "entropy": 3.0},
    line | {"step": 2, "C_entropy": 4.0},
    line | {"step": 3, "entropy": float("nan")},
  ]
  steps, values = series(metrics, "code", "train", "entropy")
  assert steps.tolist() == [1, 2] and values.tolist() == [3, 4]


def test_labels_are_moved_apart_and_no_further():
  # 0.5 and 0.5 share their middle; 0.9 is far enough to stay.
  assert style.apart([0.5, 0.5, 0.9], 0.1) == pytest.approx([0.45, 0.55, 0.9])
  assert style.apart([], 0.1) == []


@pytest.mark.parametrize("key", ["verified_bits", "bits_conveyed", "nll_bits"])
def test_compute_falls_back_to_a_score_that_exists(key):
  metrics = [
    {"phase": "code", "split": "valid", "step": i, "flops": 2e12 * i,
     "joules": 3.0 * i, key: 5.0 + i} for i in (1, 2, 3)
  ]  # fmt: skip
  left, right = figures.compute(metrics, arms.of({}, {}, metrics)).axes
  titles = {"verified_bits": "Verified bits saved, validation",
            "bits_conveyed": "Bits conveyed, validation",
            "nll_bits": "Bits of s that c leaves open, validation"}  # fmt: skip
  assert (left.get_title() or left.get_title(loc="left")) == titles[key]
  np.testing.assert_allclose(left.lines[0].get_xdata(), [2, 4, 6])
  assert "10^{12}" in left.get_xlabel()
  np.testing.assert_allclose(right.lines[0].get_xdata(), [3, 6, 9])
  np.testing.assert_allclose(right.lines[0].get_ydata(), [6, 7, 8])


@pytest.mark.parametrize(
  ("value", "shown"),
  [
    (40.1234, "40.1"), (-3.976, "−3.98"), (2048, "2,048"), (9.999, "10.0"),
    (4.52e7, "4.5×10⁷"), (0.0011, "1.1×10⁻³"), (9.96e6, "1.0×10⁷"), (0, "0"),
    ("inf", "∞"), ("-inf", "−∞"), (math.inf, "∞"), (None, "—"), ("x", "—"),
    (math.nan, "—"), (True, "—"),
  ],
)  # fmt: skip
def test_numbers_are_short(value, shown):
  assert numbers.short(value) == shown


def test_intervals_share_a_power_of_ten():
  spread = lambda *x: numbers.spread(numbers.Quantiles(*x))
  assert spread(4.52e7, 2.4e7, 1.1e8) == "4.5 [2.4, 11.0] ×10⁷"
  assert spread(40.1, 39.3, 40.9) == "40.1 [39.3, 40.9]"
  assert spread(math.inf, math.inf, math.inf) == "∞"
  assert spread(3.0, None, None) == "3.00" and numbers.spread(None) == "—"
  assert numbers.count(1_234_567) == "1,234,567"
