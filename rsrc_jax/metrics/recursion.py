"""Whether more passes, and a memory of its own, gain anything: C -> C and CC.

Dead compute: the document "Rethinking Recursive Models". Self-reference: the
hypothesis of "Theory of RSI on LLMs through ordinary RL (Kolmogorov
Compressor)", that a compressed state of its own improves the compressor later.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from rsrc_jax.metrics import statistics

ALPHA = 0.05  # one-sided, as the ends of a 5-95 % interval are
POWER = 0.8
EXACT = 12  # units up to which every subset is taken: 4095 of them


class Pass(NamedTuple):
  """The r-th pass of C -> C, against the depth before it."""

  gain: float  # k_r - k_{r-1}, bits/sample, signed
  gain_interval: dict[str, float]
  marginal: float | None  # m_r = gain / energy of the pass, bit/J
  marginal_interval: dict[str, float] | None
  flops: float
  dead: bool  # no gain is left inside the interval: p95 <= 0
  redeemed: bool  # dead, but a later depth beats the one before this pass


class Recursion(NamedTuple):
  """Capability by depth; R passes, depth 0 is none of them."""

  k: list[float]  # [R + 1] bits/sample, clipped at 0
  k_intervals: list[dict[str, float]]
  passes: list[Pass]  # [R]
  dead_fraction: float  # share of the FLOPs in dead passes
  unredeemed_fraction: float  # the same without the redeemed ones
  best_depth: int  # r*, the shallowest of the best
  best_depth_share: list[float]  # [R + 1] of the bootstrap draws
  rows: int


def passes(
  bits_saved: np.ndarray,
  flops: np.ndarray,
  joules: np.ndarray | None,
  draws: int = 1000,
  seed: int = 0,
) -> Recursion:
  """What each pass adds, with paired intervals over the same rows.

  Gains are of signed means: below 0 the clip of k would call every pass dead.
  A pass that only prepares the next one is dead by its own gain; `redeemed`
  says that a later depth made up for it. Whether that depth needed it, only
  leaving it out can tell. Each pass is judged on its own: one that does gain is
  called dead about one time in twenty at most.

  Args:
    bits_saved: [R + 1, rows], b(s) after r passes, the same samples each time.
    flops: [R], of each pass.
    joules: [R] of each pass, or [R, draws] of a modelled energy, or None.
    draws: bootstrap corpora. Under some 20 rows their intervals are too narrow.
    seed: of the bootstrap.

  Raises:
    ValueError: shapes that do not fit, fewer than 2 rows, bits that are not
      finite, FLOPs negative or all 0, joules not positive.
  """
  bits = np.asarray(bits_saved, np.float64)
  flops = np.asarray(flops, np.float64)
  _check(bits, flops)
  resample = lambda x: statistics.bootstrap(x, draws, seed, clip=False)
  # Depths are summed from their gains: a pass that changes no row leaves an
  # exact tie, which the shallower depth wins.
  steps = np.diff(bits, axis=0)  # [R, rows]
  gain, gain_draws = steps.mean(-1), resample(steps)
  sum_up = lambda first, step: np.cumsum([first, *step], axis=0)
  k = np.maximum(sum_up(bits[0].mean(), gain), 0.0)
  k_draws = np.maximum(sum_up(resample(bits[0]), gain_draws), 0.0)
  marginal, marginal_draws = _per_joule(gain, gain_draws, joules)
  dead = np.quantile(gain_draws, 1 - ALPHA, axis=-1) <= 0
  redeemed = dead & _redeemed(gain_draws)
  share = lambda which: float(flops[which].sum() / flops.sum())
  found = [
    Pass(
      gain=float(gain[r]),
      gain_interval=statistics.interval(gain_draws[r]),
      marginal=None if marginal is None else float(marginal[r]),
      marginal_interval=(
        None if marginal is None else statistics.interval(marginal_draws[r])
      ),
      flops=float(flops[r]),
      dead=bool(dead[r]),
      redeemed=bool(redeemed[r]),
    )
    for r in range(len(flops))
  ]
  depths = np.bincount(np.argmax(k_draws, axis=0), minlength=len(k))
  return Recursion(
    k=k.tolist(),
    k_intervals=[statistics.interval(x) for x in k_draws],
    passes=found,
    dead_fraction=share(dead),
    unredeemed_fraction=share(dead & ~redeemed),
    best_depth=int(np.argmax(k)),
    best_depth_share=(depths / draws).tolist(),
    rows=bits.shape[1],
  )


class Contrast(NamedTuple):
  """The own memory against another one of the same length, or none."""

  gain: float  # mean of k(own) - k(other), bits/document
  interval: dict[str, float]
  p: float  # of gain <= 0, one-sided
  smallest: float  # effect that 80 % of such experiments would show


class SelfReference(NamedTuple):
  """Both contrasts, and what they say."""

  own: float  # mean k, bits/document
  shuffled: float
  empty: float
  over_shuffled: Contrast
  over_empty: Contrast
  shown: bool
  sentence: str


def self_reference(
  own: np.ndarray,
  shuffled: np.ndarray,
  empty: np.ndarray,
  *,
  unit: Literal["rounds", "rows", "documents"] = "rounds",
  seed: int = 0,
) -> SelfReference:
  """Whether a compressor's own cc helps it in later rounds.

  Both own - shuffled and own - empty have to be above 0 with p < 0.05; since
  both have to, neither is corrected for the other. The caller sees to it that
  the arms have the same token budget, the same FLOPs, and held-out documents of
  rounds later than the cc.

  p and interval are one exact thing: where the differences of the units are
  symmetric about the gain, the gain falls with equal probability between any
  two neighbours of the sorted subset means (Hartigan 1969, "Using subsample
  values as typical values"), and the p-value is that of flipping signs.

  Args:
    own: [rounds, rows], k of each document with the cc of its round.
    shuffled: [rounds, rows], with a shuffled cc of equal length.
    empty: [rounds, rows], without.
    unit: what is independent. Documents that read one cc are not: "rounds"
      where a round shares a cc, "rows" where every row is a stream with a cc of
      its own, "documents" where every document has one.
    seed: of the random subsets, from 13 units on, and of `smallest`.

  Raises:
    ValueError: another unit, shapes that differ, numbers that are not finite.
  """
  arms = {"own": own, "shuffled": shuffled, "empty": empty}
  arms = {name: np.asarray(k, np.float64) for name, k in arms.items()}
  for name, k in arms.items():
    if k.ndim != 2 or not k.size or k.shape != arms["own"].shape:
      raise ValueError(
        f"{name} has shape {k.shape}: give [rounds, rows], as own has."
      )
    if not np.isfinite(k).all():
      raise ValueError(f"{name} is not finite: score every document.")
  own, shuffled, empty = arms.values()
  over_shuffled = _contrast(_by_unit(own - shuffled, unit), seed)
  over_empty = _contrast(_by_unit(own - empty, unit), seed)
  contrasts = (over_shuffled, over_empty)
  shown = all(c.gain > 0 and c.p < ALPHA for c in contrasts)
  units = len(_by_unit(own, unit))
  return SelfReference(
    own=float(own.mean()),
    shuffled=float(shuffled.mean()),
    empty=float(empty.mean()),
    over_shuffled=over_shuffled,
    over_empty=over_empty,
    shown=shown,
    sentence=_sentence(shown, contrasts, units, unit),
  )


def _check(bits: np.ndarray, flops: np.ndarray):
  if bits.ndim != 2 or len(bits) < 2 or bits.shape[1] < 2:
    raise ValueError(
      f"bits_saved has shape {bits.shape}: give [R + 1, rows], depth 0 first, "
      "with at least one pass and two rows."
    )
  if not np.isfinite(bits).all():
    raise ValueError(
      "bits_saved is not finite: score every row at every depth."
    )
  if flops.shape != (len(bits) - 1,):
    raise ValueError(
      f"flops has shape {flops.shape}: give one number for each of "
      f"{len(bits) - 1} passes."
    )
  if not np.isfinite(flops).all() or (flops < 0).any() or not flops.sum():
    raise ValueError(
      f"flops is {flops.tolist()}: counts are 0 or more, and not all 0."
    )


def _per_joule(
  gain: np.ndarray, gain_draws: np.ndarray, joules: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
  """m_r [R] and its draws [R, draws]."""
  if joules is None:
    return None, None
  joules = np.asarray(joules, np.float64)
  if joules.shape not in (gain.shape, gain_draws.shape):
    raise ValueError(
      f"joules has shape {joules.shape}: give {gain.shape}, or "
      f"{gain_draws.shape} draws, or None if unknown."
    )
  if not (np.isfinite(joules) & (joules > 0)).all():
    raise ValueError(
      f"joules has {joules.min():g} J among them: energies are positive; give "
      "None if unknown."
    )
  joules = joules.reshape(len(gain), -1)
  return gain / np.median(joules, axis=-1), gain_draws / joules


def _redeemed(gain_draws: np.ndarray) -> np.ndarray:
  """Passes r that a later depth makes up for: k_s > k_{r-1}, s > r. [R] bool.

  The chance of one lucky s is shared out over all of them (Bonferroni).
  """
  found = np.zeros(len(gain_draws), bool)
  for r in range(len(gain_draws) - 1):
    since = np.cumsum(gain_draws[r:], axis=0)[1:]  # [later depths, draws]
    low = np.quantile(since, ALPHA / len(since), axis=-1)
    found[r] = (low > 0).any()
  return found


def _by_unit(values: np.ndarray, unit: str) -> np.ndarray:
  """[rounds, rows] -> one number for each independent unit. [units]"""
  if unit == "rounds":
    return values.mean(1)
  if unit == "rows":
    return values.mean(0)
  if unit == "documents":
    return values.ravel()
  raise ValueError(f"unit is {unit!r}: choose rounds, rows or documents.")


def _contrast(values: np.ndarray, seed: int) -> Contrast:
  """The mean of paired differences [units] against 0."""
  rng = np.random.default_rng(seed)
  subsets = _subsets(len(values), rng)  # [m, units]
  means = np.sort(_means(subsets, values[:, None])[:, 0])
  # Of m + 1 gaps that are equally probable, `end` lie beyond either end.
  end = math.ceil(ALPHA * (len(means) + 1) - 1)
  p = (1 + np.sum(means <= 0)) / (len(means) + 1)
  known = end >= 1
  return Contrast(
    gain=float(values.mean()),
    interval={
      "median": float(np.median(means)),
      "p5": float(means[end - 1]) if known else -math.inf,
      "p95": float(means[-end]) if known else math.inf,
    },
    p=float(p),
    smallest=_smallest(values, subsets, end, rng) if known else math.inf,
  )


def _subsets(units: int, rng: np.random.Generator) -> np.ndarray:
  """Every subset but the empty one, or as many at random. [m, units] float."""
  if units <= EXACT:
    index = np.arange(1, 2**units)[:, None]
    return ((index >> np.arange(units)) & 1).astype(np.float64)
  chosen = rng.integers(2, size=(2**EXACT - 1, units)).astype(np.float64)
  return chosen[chosen.any(1)]


def _means(subsets: np.ndarray, values: np.ndarray) -> np.ndarray:
  """[m, units], [units, n] -> [m, n]; what only rounding keeps from 0 is 0."""
  means = subsets @ values / subsets.sum(1, keepdims=True)
  return np.where(np.abs(means) <= 1e-12 * np.abs(values).max(), 0.0, means)


def _smallest(
  values: np.ndarray, subsets: np.ndarray, end: int, rng: np.random.Generator
) -> float:
  """The effect that 80 % of experiments as noisy as this one would show.

  Shifting all values by x shifts the lower end of the interval by x, so it is a
  quantile of that end over resampled residuals.
  """
  units = len(values)
  noise = (values - values.mean()) * math.sqrt(units / (units - 1))
  noise = noise[rng.integers(units, size=(200, units))]  # [n, units]
  means = np.partition(_means(subsets, noise.T), end - 1, axis=0)
  return float(np.quantile(0.0 - means[end - 1], POWER))


def _sentence(
  shown: bool, contrasts: tuple[Contrast, Contrast], units: int, unit: str
) -> str:
  parts = [
    f"own - {name} = {c.gain:+.4g} bits/document "
    f"[{c.interval['p5']:.4g}, {c.interval['p95']:.4g}], p = {c.p:.2g}"
    + (
      "" if shown else f" ({c.smallest:.3g} would show {POWER:.0%} of the time)"
    )
    for name, c in zip(("shuffled", "empty"), contrasts, strict=True)
  ]
  if shown:
    return f"Gain shown: {'; '.join(parts)}."
  need = math.ceil(-math.log2(ALPHA))
  if units < need:
    return (
      f"No gain shown: {units} {unit} can't reach p < {ALPHA}, {need} can; "
      f"{'; '.join(parts)}."
    )
  return f"No gain shown: {'; '.join(parts)}."
