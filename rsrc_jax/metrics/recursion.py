"""The gain of each further pass of C -> C, and dead passes.

Dead compute is a term of the document "Rethinking Recursive Models".
"""

from typing import NamedTuple

import numpy as np

from rsrc_jax.metrics import statistics

ALPHA = 0.05  # one-sided, like the ends of a 5-95 % interval


class Pass(NamedTuple):
  """The r-th pass of C -> C, compared with the depth before it."""

  gain: float  # k_r - k_{r-1}, bits/sample, signed
  gain_interval: dict[str, float]
  marginal: float | None  # m_r = gain / energy of the pass, bit/J
  marginal_interval: dict[str, float] | None
  flops: float
  dead: bool  # the interval has no gain: p95 <= 0
  redeemed: bool  # dead, but a later depth beats the one before this pass


class Recursion(NamedTuple):
  """Capability by depth, of R passes; depth 0 is before the first."""

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
  """The gain of each pass, with paired intervals over the same rows.

  Gains are differences of signed means, because the clip of k would make every
  pass below 0 dead. A pass that only prepares the next one is dead by its own
  gain; `redeemed` means that a later depth exceeds the depth before it. This
  does not show that the later depth needed the pass: only an ablation would.
  Each pass is tested separately: one with a true gain is found dead in about
  one case in twenty at most.

  Args:
    bits_saved: [R + 1, rows], b(s) after r passes, the same samples each time.
    flops: [R], of each pass.
    joules: [R] of each pass, or [R, draws] of a modelled energy, or None.
    draws: bootstrap corpora. With fewer than about 20 rows their intervals are
      too narrow.
    seed: of the bootstrap.

  Raises:
    ValueError: shapes that do not fit, fewer than 2 rows, bits that are not
      finite, FLOPs negative or all 0, joules not positive.
  """
  bits = np.asarray(bits_saved, np.float64)
  flops = np.asarray(flops, np.float64)
  _check(bits, flops)
  resample = lambda x: statistics.bootstrap(x, draws, seed, clip=False)
  # Depths are summed from their gains. So a pass that changes no row gives an
  # exact tie, and the shallower depth is the best.
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
  """Passes r with a later depth above the one before: k_s > k_{r-1}, s > r.

  -> [R] bool, with a Bonferroni correction over s.
  """
  found = np.zeros(len(gain_draws), bool)
  for r in range(len(gain_draws) - 1):
    since = np.cumsum(gain_draws[r:], axis=0)[1:]  # [later depths, draws]
    low = np.quantile(since, ALPHA / len(since), axis=-1)
    found[r] = (low > 0).any()
  return found
