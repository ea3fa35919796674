"""Means over seeds: Student's t, and draws of a bootstrap.

An unknown value is None, and so are results from it; see rsrc.py.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

CHUNK = 1 << 21  # documents drawn at a time: 16 MiB of indices
DRAWS, LEVEL, POWER = 10_000, 0.95, 0.8
# Nodes of the integral over the spread of a sample, in `tail`.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


class Interval(NamedTuple):
  """The ends of an interval, and the two-sided p of the null hypothesis."""

  low: float
  high: float
  p: float


class Adjusted(NamedTuple):
  """One hypothesis of a family."""

  p: float
  rejected: bool


def tail(t: float, dof: int, shift: float = 0.0) -> float:
  """P(|T| > t) of Student's t, noncentral by `shift`.

  T = (Z + shift) / W with W = sqrt(chi2(dof) / dof), so the probability is a
  normal one, averaged over W. It is integrated by Gauss-Legendre with 200 nodes
  over the range of W, to within 1e-12 for dof 1 to 1000.
  """
  low = max(0.0, 1 - 9 / math.sqrt(dof))
  high = 1 + 9 / math.sqrt(dof)
  w = low + (high - low) * (NODES + 1) / 2
  log_density = (
    math.log(2) + dof / 2 * math.log(dof / 2) - math.lgamma(dof / 2)
    + (dof - 1) * np.log(w) - dof * w**2 / 2
  )  # fmt: skip
  weight = WEIGHTS * (high - low) / 2 * np.exp(log_density)
  outside = [
    math.erfc((t * x - shift) / math.sqrt(2)) / 2
    + math.erfc((t * x + shift) / math.sqrt(2)) / 2
    for x in w
  ]
  return float(weight @ outside)


@functools.cache
def t_quantile(dof: int, level: float = LEVEL) -> float:
  """t with P(|T| < t) = level, of Student's t; 0.95 at dof 4 is 2.7764."""
  return _root(lambda t: (1 - level) - tail(t, dof), 64.0)


@functools.cache
def detectable_shift(
  dof: int, power: float = POWER, level: float = LEVEL
) -> float:
  """The noncentrality that a two-sided t test at `level` rejects with `power`.

  It is a true mean in units of its standard error.
  """
  t = t_quantile(dof, level)
  return _root(lambda shift: tail(t, dof, shift) - power, 2 * t + 20)


def _root(f: Callable[[float], float], high: float) -> float:
  """The positive root of an increasing f, by bisection; high: a guess."""
  while f(high) < 0:
    high *= 2
  low = 0.0
  for _ in range(60):
    middle = (low + high) / 2
    low, high = (middle, high) if f(middle) < 0 else (low, middle)
  return high


def seed_interval(
  values: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
  """Student's t over seeds: (mean, half of the interval).

  Args:
    values: [seeds], two or more.
    level: of the interval.

  Raises:
    ValueError: fewer than two seeds, a value that is not finite, or a level
      that is not between 0.5 and 1.
  """
  values = np.asarray(values, float)
  check_level(level)
  if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
    raise ValueError(
      f"values={values.tolist()}: an interval needs one finite number for each "
      "of two or more seeds."
    )
  half = t_quantile(len(values) - 1, level) * standard_error(values)
  return float(values.mean()), half


def t_interval(values: np.ndarray, level: float = LEVEL) -> Interval:
  """The ends of `seed_interval`, and the two-sided p of a mean of 0."""
  mean, half = seed_interval(values, level)
  p = one_sided_p(values)
  return Interval(mean - half, mean + half, two_sided(p, 1 - p))


def detectable(
  values: np.ndarray, power: float = POWER, level: float = LEVEL
) -> float:
  """The smallest true mean that [seeds] of this spread detect."""
  shift = detectable_shift(len(values) - 1, power, level)
  return shift * float(values.std(ddof=1)) / math.sqrt(len(values))


def standard_error(values: np.ndarray) -> float:
  """The standard error of the mean of values [seeds]."""
  return float(values.std(ddof=1)) / math.sqrt(len(values))


def one_sided_p(each: np.ndarray) -> float:
  """One-sided p of a mean over [seeds] that is not above 0."""
  mean, error = each.mean(), standard_error(each)
  if error <= 1e-12 * abs(mean):  # seeds that differ only by rounding
    return 0.5 if mean == 0 else float(mean < 0)
  outside = tail(abs(mean) / error, len(each) - 1) / 2
  return outside if mean > 0 else 1 - outside


def two_sided(low: float, high: float) -> float:
  """The two-sided p from the one-sided p of either side."""
  return min(1.0, 2 * min(low, high))


def bootstrap(
  values: np.ndarray,
  draws: int = 1000,
  seed: int = 0,
  *,
  documents: np.ndarray | None = None,
  clip: bool = True,
) -> np.ndarray:
  """Means of resampled corpora, document by document. -> [..., draws].

  Args:
    values: [..., rows]; the leading axes share their resamples, so that their
      differences are paired.
    draws: how many corpora.
    seed: of numpy's default generator.
    documents: [rows], which document a row is of; every row is one by default.
    clip: clip each draw at 0, like `rsrc.capability` of a corpus; False gives
      signed means.

  Raises:
    ValueError: no rows, one that is not finite, `documents` of another length.
  """
  values = finite_rows("values", values)
  rows = values.shape[-1]
  owner = np.arange(rows) if documents is None else np.asarray(documents)
  if owner.shape != (rows,):
    raise ValueError(
      f"documents has shape {owner.shape}: give one id for each of {rows} rows."
    )
  _, owner, sizes = np.unique(owner, return_inverse=True, return_counts=True)
  sums = np.zeros((*values.shape[:-1], len(sizes)))
  np.add.at(sums, (..., owner), values)
  rng = np.random.default_rng(seed)
  means = np.empty((*values.shape[:-1], draws))
  for i in range(
    draws
  ):  # counts instead of indices: memory [rows], not [n, rows]
    picked = rng.integers(len(sizes), size=len(sizes))
    counts = np.bincount(picked, minlength=len(sizes))
    means[..., i] = sums @ counts / (sizes @ counts)
  return np.maximum(means, 0.0) if clip else means


def interval(draws: float | np.ndarray | None) -> dict[str, float] | None:
  """Median and 5-95 % of draws [n], infinities allowed; None for None.

  Raises:
    ValueError: no draws, or NaN among them.
  """
  if draws is None:
    return None
  draws = np.ravel(np.asarray(draws, np.float64))
  if not draws.size or np.isnan(draws).any():
    raise ValueError(f"draws has {draws.size} values, or NaN: no quantiles.")
  # There is no interpolation between two infinities.
  method = "linear" if np.isfinite(draws).all() else "inverted_cdf"
  p5, median, p95 = np.quantile(draws, [0.05, 0.5, 0.95], method=method)
  return {"median": float(median), "p5": float(p5), "p95": float(p95)}


def resamples(
  seeds: int, docs: int, draws: int, seed: int = 0, *, crossed: bool = False
) -> Iterator[np.ndarray]:
  """The draws of the hierarchical bootstrap, in parts to bound memory.

  They are a function of the arguments, so contrasts over the same seeds and
  documents share their resamples.

  Args:
    seeds: n of a draw.
    docs: of each seed.
    draws: in all.
    seed: of numpy's default generator.
    crossed: one draw of documents for all seeds of a draw, for documents that
      all seeds share; False: one for each seed.

  Yields:
    [some draws, seeds, docs] int64, into a flattened [seeds, docs].
  """
  rng = np.random.default_rng(seed)
  some = max(CHUNK // (seeds * docs), 1)
  for start in range(0, draws, some):
    size = min(some, draws - start)
    which = rng.integers(seeds, size=(size, seeds, 1))
    own = (size, 1 if crossed else seeds, docs)
    yield which * docs + rng.integers(docs, size=own)


def resampled_means(
  arms: np.ndarray,
  *,
  draws: int = DRAWS,
  seed: int = 0,
  crossed: bool = False,
) -> np.ndarray:
  """The mean of every draw; the leading axes share their resamples.

  Args:
    arms: [..., seeds, docs].
    draws: how many.
    seed: see `resamples`.
    crossed: see `resamples`.

  Returns:
    [..., draws].
  """
  flat = arms.reshape(*arms.shape[:-2], -1)
  return np.concatenate(
    [
      np.take(flat, picked, axis=-1).mean((-2, -1))
      for picked in resamples(*arms.shape[-2:], draws, seed, crossed=crossed)
    ],
    axis=-1,
  )


def area(values: np.ndarray, budgets: np.ndarray) -> np.ndarray:
  """Area under a budget curve divided by its span, in the values' unit.

  It uses the trapezoid rule over log2 k, so that all doublings of the budget
  have the same weight.

  Args:
    values: [..., budgets], a metric at each budget.
    budgets: [budgets], k in tokens, rising, at least two.

  Returns:
    [...].

  Raises:
    ValueError: the budgets don't rise from above 0, are fewer than two, or are
      not those of the values.
  """
  values, budgets = np.asarray(values, float), np.asarray(budgets, float)
  rises = np.diff(budgets, prepend=0.0) > 0
  if len(budgets) < 2 or not rises.all() or not np.isfinite(budgets).all():
    raise ValueError(
      f"budgets={budgets.tolist()}: give two or more that rise from above 0."
    )
  k = np.log2(budgets)
  if values.shape[-1:] != k.shape:
    raise ValueError(
      f"values {values.shape} don't end in the {len(k)} budgets: give one "
      "value for each."
    )
  middle = (values[..., 1:] + values[..., :-1]) / 2
  return (middle * np.diff(k)).sum(-1) / (k[-1] - k[0])


def holm(p: dict[str, float], level: float = LEVEL) -> dict[str, Adjusted]:
  """Holm's step-down (S. Holm, 1979): no false rejection at `level`.

  Args:
    p: of each hypothesis, by name.
    level: 0.95 allows any false rejection in the family in 5 % of cases.

  Returns:
    The adjusted p of each, (m - rank) p, never below a smaller one's and at
    most 1; and whether it is rejected. In the order given.

  Raises:
    ValueError: a p is not in [0, 1]; the level is not between 0.5 and 1.
  """
  check_level(level)
  for name, value in p.items():
    if not 0 <= value <= 1:
      raise ValueError(f"p of {name} is {value}: it must be in [0, 1].")
  worst, found = 0.0, {}
  for rank, name in enumerate(sorted(p, key=p.get)):
    worst = max(worst, min((len(p) - rank) * p[name], 1.0))
    found[name] = Adjusted(worst, worst <= 1 - level + 1e-12)
  return {name: found[name] for name in p}


def check_level(level: float, name: str = "level") -> None:
  """Raises ValueError if a level is an error rate, such as 0.05."""
  if not 0.5 <= level < 1:
    raise ValueError(f"{name}={level} must be in [0.5, 1), as 0.95 is.")


def finite_rows(name: str, values: np.ndarray) -> np.ndarray:
  """[..., rows] as float64.

  Raises:
    ValueError: no rows, or one that is not finite.
  """
  values = np.asarray(values, np.float64)
  if not values.ndim or not values.shape[-1] or not np.isfinite(values).all():
    raise ValueError(
      f"{name}, of shape {values.shape}, needs at least one row and finite "
      "numbers only: score every held-out sample."
    )
  return values
