"""The scores of a held-out comparison: their columns, and how they print."""

from typing import Any, NamedTuple

from rsrc_jax.report.numbers import number


class Metric(NamedTuple):
  """A column of the results and one line on what it means."""

  key: str
  label: str
  digits: int
  percent: bool
  better: int  # +1 where more is better, -1 where less is, 0 where neither
  about: str


METRICS = (
  Metric("bits_conveyed", "bits conveyed", 2, False, 1,
    "entropy of a source − nll: what D has learnt from the code; blank where "
    "the entropy is unknown"),
  Metric("nll_bits", "nll, bits", 2, False, -1,
    "bits that D, given the code, still needs to write the source; "
    "teacher-forced, so never read it alone"),
  Metric("token_accuracy", "tokens right", 1, True, 1,
    "positions of s that the free-running d has right"),
  Metric("exact_match", "exact", 1, True, 1,
    "sources of which d is a copy, token for token"),
  Metric("edit_similarity", "edit similarity", 3, False, 1,
    "1 − edit distance of s and d / the longer length, in tokens"),
  Metric("mean_tokens", "code tokens", 2, False, 0,
    "tokens spent on the code"),
  Metric("novel_fraction", "novel tokens", 1, True, 0,
    "tokens of the code that its source does not contain; 0 for an extract"),
)  # fmt: skip
BY_KEY = {metric.key: metric for metric in METRICS}
PLAIN = Metric("", "", 2, False, 0, "")  # of a score that has no column
CONTROLS = {
  "no_code": ("no code", "D reads nothing"),
  "shuffled_code": ("other's code", "of another source: has to fail"),
  "source_given": ("source given", "D reads s, untrained for it"),
}


def rounded(value: float, metric: Metric) -> float:
  """To the digits that are printed."""
  # Adding zero makes a rounded −0 a 0.
  return round(value, metric.digits + 2 * metric.percent) + 0.0


def shown(value: Any, metric: Metric) -> str:
  """A number as the table prints it; a dash where there is none."""
  value = number(value)
  if value is None:
    return "—"
  value = rounded(value, metric)
  if metric.percent:
    return f"{100 * value:.{metric.digits}f}\N{NO-BREAK SPACE}%"
  return f"{value:.{metric.digits}f}".replace("-", "−")
