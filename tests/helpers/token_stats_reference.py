"""Token statistics in plain numpy, float64, and what they are tried on.

Shared by the tests of every implementation. Nothing here is clever: the
definitions are summed as they are written, over the allowed support.
"""

from typing import NamedTuple

import numpy as np

MISSING = float(np.float32(-1e30))  # ln p of an id that is masked, or a pad
FIELDS = ("lse", "log_prob", "entropy", "varentropy", "collision", "mass")


class Reference(NamedTuple):
  """The fields of types.TokenStats, each [...] float64."""

  lse: np.ndarray
  log_prob: np.ndarray
  entropy: np.ndarray
  varentropy: np.ndarray
  collision: np.ndarray
  mass: np.ndarray


def reference(logits, sampled, injected, mask=None) -> Reference:
  """logits [..., V], sampled [...], injected [..., N], mask -> Reference.

  Every row needs one allowed entry. Ids outside 0..V-1 are pads.
  """
  z = np.asarray(logits, np.float64)
  allowed = np.broadcast_to(True if mask is None else mask, z.shape)
  z = np.where(allowed, z, -np.inf)
  peak = z.max(-1, keepdims=True)
  log_weight = np.log(np.exp(z - peak).sum(-1, keepdims=True))
  logp = z - peak - log_weight
  p = np.exp(logp)
  surprisal = np.where(p > 0, -logp, 0.0)
  entropy = (p * surprisal).sum(-1)
  member = _one_hot(injected, z.shape[-1]).any(-2)
  picked = _one_hot(np.asarray(sampled)[..., None], z.shape[-1])[..., 0, :]
  log_prob = np.where(picked & (p > 0), logp, 0.0).sum(-1)
  return Reference(
    lse=(peak + log_weight)[..., 0],
    log_prob=np.where((picked & (p > 0)).any(-1), log_prob, MISSING),
    entropy=entropy,
    varentropy=(p * (surprisal - entropy[..., None]) ** 2).sum(-1),
    collision=-np.log((p**2).sum(-1)),
    mass=np.where(member, p, 0.0).sum(-1),
  )


def gradient(logits, sampled, injected, mask, cotangents, step=1e-5):
  """Central differences of sum(cotangents * statistics): [R, V] float64.

  logits [R, V] with V small: each entry of each row is moved. cotangents: six
  arrays [R], in the order of FIELDS.
  """
  z = np.asarray(logits, np.float64)
  moves = step * np.eye(z.shape[-1])[:, None]  # [V, 1, V]

  def total(moved):  # [V, R, V] -> [V, R]
    stats = reference(
      moved,
      np.broadcast_to(sampled, moved.shape[:-1]),
      np.broadcast_to(injected, moved.shape[:-1] + np.shape(injected)[-1:]),
      mask,
    )
    # What is missing stays so, and would drown the rest of the sum.
    return sum(
      np.asarray(c, np.float64) * np.where(s > MISSING / 2, s, 0.0)
      for c, s in zip(cotangents, stats, strict=True)
    )

  return ((total(z + moves) - total(z - moves)) / (2 * step)).T


def _one_hot(ids, size):
  """ids [..., N] -> [..., N, size] bool; pads are False everywhere."""
  return np.asarray(ids)[..., None] == np.arange(size)


def _normal(scale, offset=0.0):
  return lambda rng, shape: (rng.normal(size=shape) * scale + offset, None)


def _uniform(offset):
  return lambda rng, shape: (np.full(shape, offset), None)


def _peaked(rng, shape):
  """0.9 on one id, the rest spread by N(0, 1)."""
  z = rng.normal(size=shape)
  z[..., 0] = -np.inf
  z[..., 0] = np.log(9.0) + np.log(np.exp(z).sum(-1))
  return z, None


def _zipf(rng, shape):
  """-ln rank, ranks in an order of its own in each row."""
  ranks = np.broadcast_to(np.arange(1.0, shape[-1] + 1), shape)
  return rng.permuted(-np.log(ranks), axis=-1), None


def _half_masked(rng, shape):
  """What is masked holds -inf, a huge value, or an ordinary one."""
  mask = rng.random(shape) < 0.5
  mask[..., 0] = True
  junk = rng.choice([-np.inf, 1e4, 0.0], size=shape)
  return np.where(mask, rng.normal(size=shape) * 2, junk), mask


def _one_unmasked(rng, shape):
  mask = np.zeros(shape, bool)
  mask[..., shape[-1] // 3] = True
  return np.where(mask, rng.normal(size=shape), -np.inf), mask


# name -> draw(rng, shape [..., V]) -> (logits float64, mask [..., V] or None)
DRAWS = {
  "normal_1": _normal(1.0),
  "normal_5": _normal(5.0),
  "uniform": _uniform(0.0),
  "uniform_1e4": _uniform(1e4),
  "normal_1e4": _normal(1.0, 1e4),
  "peaked": _peaked,
  "zipf": _zipf,
  "half_masked": _half_masked,
  "one_unmasked": _one_unmasked,
}
CASES = tuple(DRAWS)


class Case(NamedTuple):
  """Arguments of the statistics, as arrays of numpy."""

  logits: np.ndarray  # [R, V] float32
  sampled: np.ndarray  # [R] int32
  injected: np.ndarray  # [R, N] int32, with a duplicate and pads
  mask: np.ndarray | None  # [R, V] bool


def case(name, rows=2, size=50_000, count=8, seed=0) -> Case:
  """One of CASES, rounded to float32; size >= 8. Compare with reference(*it).

  Row 0 samples the likeliest allowed id, the others any. The injected ids
  begin with the sampled one twice and end with a pad, where count allows.
  """
  rng = np.random.default_rng([seed, CASES.index(name)])
  logits, mask = DRAWS[name](rng, (rows, size))
  logits = np.asarray(logits, np.float32)
  sampled = rng.integers(size, size=rows)
  allowed = logits if mask is None else np.where(mask, logits, -np.inf)
  sampled[0] = allowed[0].argmax()
  injected = rng.integers(size, size=(rows, count))
  injected[:, :2] = sampled[:, None]
  if count > 2:
    injected[:, -1] = -1
  return Case(logits, sampled.astype(np.int32), injected.astype(np.int32), mask)
