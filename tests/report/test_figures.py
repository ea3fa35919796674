"""Numbers as they are printed, series, labels and figures."""

import math

import numpy as np
import pytest

from rsrc_jax.report import (
  arms,
  figures,
  numbers,
  run_files,
  style,
  training_section,
)
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


def watched(every=0):
  """A run whose arm relaxed at its plateau once, and once by the timer."""
  config = {
    "curriculum": {"every": every, "window": 4},
    "arms": {"code": {"overrides": [["curriculum.window", 10]]}},
  }
  key, split = ("held_reward", "held") if every else ("reward", "train")
  metrics = [
    {"phase": "code", "split": split, "step": i, key: 0.5 + i / 1_000}
    for i in range(1, 61)
  ]
  ends = [
    {"step": 30, "by": "plateau", "slope": 1e-3, "error": 2e-3},
    {"step": 60, "by": "timer", "slope": None, "error": None},
  ]
  summary = {"plateaus": {"code": ends, "english_rl": []}}
  return run_files.of(config=config, metrics=metrics, summary=summary)


@pytest.mark.parametrize("every", [0, 2])
def test_plateaus_show_what_the_rule_saw(every):
  """A line through the mean of its window, its slope, and the noise about it.

  The window of the arm is 10 rewards: the last 10 steps, or 20 of them. Error
  .002 a step is e = .002 every a reward, whose noise is e sqrt(10 99 / 12).
  """
  run = watched(every)
  assert list(figures.makers(run))[-1] == "plateaus"
  left, right = figures.makers(run)["plateaus"]().axes
  reward, first, line, second = left.lines
  assert len(reward.get_xdata()) == 60
  back = 10 * max(every, 1)
  np.testing.assert_array_equal(line.get_xdata(), [30 - back, 30])
  middle = 0.5 + np.arange(31 - back, 31).mean() / 1_000
  low, high = line.get_ydata()
  np.testing.assert_allclose(high - low, back / 1_000)
  (band,) = left.collections
  spread = np.ptp(band.get_paths()[0].vertices[:, 1]) - (high - low)
  noise = 2e-3 * max(every, 1) * np.sqrt(10 * 99 / 12)
  np.testing.assert_allclose(spread, 2 * noise, rtol=1e-6)
  np.testing.assert_allclose(np.interp(30.5 - back / 2, *line.get_data()),
                             middle, rtol=1e-6)  # fmt: skip
  # Where levels ended, and by what; the other arm logged nothing.
  assert [x.get_xdata()[0] for x in (first, second)] == [30, 60]
  assert [x.get_linestyle() for x in (first, second)] == ["-", ":"]
  assert [x.get_text() for x in left.texts] == ["plateau", "timer"]
  assert right.texts[0].get_text() == "nothing recorded"
  assert "plateaus" not in figures.makers(run_files.of())


def test_plateaus_stand_in_the_section_of_training(tmp_path):
  svg = style.save("plateaus", figures.makers(watched())["plateaus"], tmp_path)
  html = training_section.training(
    watched()._replace(drawings={"plateaus": svg})
  )
  assert "<figure>" in html and "no longer above its own standard" in html
  assert "<figure>" not in training_section.training(watched())
