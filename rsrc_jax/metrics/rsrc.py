"""RSRC_i, RSRC_t and related quantities: verified bits per joule.

The document "Recursive Self-Referential Compression (RSRC)" names RSRC_t and
RSRC_i and defines neither for a model of our size. These definitions are ours,
and reports label them "RSRC_t (ours)" and "RSRC_i (ours)":

  b(s)         = l_V(s) - (l(c) + l_V(s|d))     verified bits saved, signed
  k            = max(0, mean of b over held-out)              bits/sample
  RSRC_i       = k / e_i                                      bit/J
  RSRC_t(n)    = n (k - k_0) / E_t                            bit/J
  RSRC_life(n) = n k / (E_t + n e_i)                          bit/J
  eta          = RSRC k_B T ln 2                              dimensionless
  n*           = E_t / (e_base - e_i)                         samples
  m*           = e_C / (e_A(s) - e_A(c))                      readings of c
  K_net(N)     = N k - state bits                             bits

Every argument is a float or an array: draws [n] of a modelled energy, draws of
a bootstrap, or a sweep over n. Arrays broadcast as in NumPy. An unknown value
is None, and so are results from it; an energy of 0 J is an error.
"""

from collections.abc import Iterable

import numpy as np

from rsrc_jax.metrics.statistics import finite_rows

DEFINITIONS = "ours, 1"
BOLTZMANN = 1.380649e-23  # k_B, J/K: exact, the SI defines the kelvin by it

Value = float | np.ndarray


def capability(bits_saved: np.ndarray) -> float:
  """k of a held-out corpus: max(0, mean of b(s)), bits/sample.

  The clip is the choice to send the corpus raw, at one bit for the whole
  corpus. A clip for each sample would be a choice for each sample, without its
  cost.

  Args:
    bits_saved: [rows], b(s), signed.

  Raises:
    ValueError: no rows, or one that is not finite.
  """
  return max(0.0, float(np.mean(finite_rows("bits_saved", bits_saved))))


def rsrc_i(k: Value | None, e_i: Value | None) -> Value | None:
  """RSRC_i (ours): k / e_i, bit/J.

  Args:
    k: capability, bits/sample, at least 0.
    e_i: inference energy, J/sample: C and D, and V where it is deployed.

  Raises:
    ValueError: k negative, e_i not positive.
  """
  if k is None or e_i is None:
    return None
  return _plain(_bits("k", k) / _joules("e_i", e_i))


def rsrc_t(
  n: Value, k: Value | None, k_0: Value | None, training: Value | None
) -> Value | None:
  """RSRC_t(n) (ours): n (k - k_0) / E_t, bit/J; negative if training hurt.

  Args:
    n: declared number of samples served.
    k: capability, bits/sample.
    k_0: capability of the same system before training, bits/sample.
    training: E_t, J of everything spent: rollouts, V, evaluations used for
      selection, failed runs, siblings of a sweep.

  Raises:
    ValueError: n or training not positive, k or k_0 negative.
  """
  n = _volume(n)
  if k is None or k_0 is None or training is None:
    return None
  gained = _bits("k", k) - _bits("k_0", k_0)
  return _plain(n * gained / _joules("training", training))


def rsrc_life(
  n: Value, k: Value | None, training: Value | None, e_i: Value | None
) -> Value | None:
  """RSRC_life(n) (ours): n k / (E_t + n e_i), bit/J.

  With k_0 = 0 it is half the harmonic mean of RSRC_t and RSRC_i: 1/life =
  1/RSRC_t + 1/RSRC_i. A system without training has RSRC_life = RSRC_i.
  Arguments as in `rsrc_t` and `rsrc_i`.

  Raises:
    ValueError: n or an energy not positive, k negative.
  """
  n = _volume(n)
  if k is None or training is None or e_i is None:
    return None
  spent = _joules("training", training) + n * _joules("e_i", e_i)
  return _plain(n * _bits("k", k) / spent)


def log10_eta(rsrc: Value | None, kelvin: float = 300.0) -> Value | None:
  """log10 of RSRC k_B T ln 2: decades from Landauer's limit, as a scale only.

  Args:
    rsrc: bit/J. 0 or less, which saves no bits, gives -inf.
    kelvin: T.

  Raises:
    ValueError: kelvin not positive, rsrc NaN.
  """
  if rsrc is None:
    return None
  if not kelvin > 0:
    raise ValueError(f"kelvin is {kelvin}: give a positive temperature.")
  rsrc = np.asarray(rsrc, np.float64)
  if np.isnan(rsrc).any():
    raise ValueError("rsrc is NaN: an unknown RSRC is None.")
  decades = np.full(rsrc.shape, -np.inf)
  np.log10(rsrc, out=decades, where=rsrc > 0)
  # A sum of logs, because the product could underflow.
  return _plain(decades + np.log10(BOLTZMANN * np.log(2)) + np.log10(kelvin))


def break_even(
  training: Value | None, e_base: Value | None, e_i: Value | None
) -> Value | None:
  """n*: samples after which training has saved its energy, at equal quality.

  Args:
    training: E_t, J.
    e_base: J/sample of the system that it replaces.
    e_i: J/sample of the trained system; not below e_base gives inf.

  Raises:
    ValueError: an energy not positive.
  """
  if training is None or e_base is None or e_i is None:
    return None
  return _ratio(
    _joules("training", training),
    _joules("e_base", e_base) - _joules("e_i", e_i),
  )


def reuse(
  e_c: Value | None, e_read_s: Value | None, e_read_c: Value | None
) -> Value | None:
  """m*: readings of c in Q -> A after which its writing has saved energy.

  Args:
    e_c: J to write c.
    e_read_s: J of an answer from the source s.
    e_read_c: J of an answer from c; not below e_read_s gives inf.

  Raises:
    ValueError: an energy not positive.
  """
  if e_c is None or e_read_s is None or e_read_c is None:
    return None
  return _ratio(
    _joules("e_c", e_c),
    _joules("e_read_s", e_read_s) - _joules("e_read_c", e_read_c),
  )


def net_bits(
  n: Value, k: Value | None, state_bits: Value | None
) -> Value | None:
  """K_net(n) = n k - state bits: bits saved, minus the size of the state.

  It is the adjusted rate of "Language Modeling Is Compression" and of the
  Hutter
  prize: a codebook inside the state counts with its size.

  Args:
    n: samples served.
    k: capability, bits/sample.
    state_bits: of the change of the weights, cc, index, codebook, dictionary.

  Raises:
    ValueError: n not positive, k or state_bits negative.
  """
  n = _volume(n)
  if k is None or state_bits is None:
    return None
  return _plain(n * _bits("k", k) - _bits("state_bits", state_bits))


def break_even_samples(
  k: Value | None, state_bits: Value | None
) -> Value | None:
  """N at which K_net crosses 0, from k and state_bits as above; inf at k = 0.

  Raises:
    ValueError: k or state_bits negative.
  """
  if k is None or state_bits is None:
    return None
  return _ratio(_bits("state_bits", state_bits), _bits("k", k))


def merge(
  ledgers: Iterable[tuple[Value | None, Value | None]],
) -> tuple[Value | None, Value | None]:
  """The sums of several (bits, joules); their ratio is the mediant.

  Bits are signed. One unknown entry makes its sum unknown.

  Raises:
    ValueError: no ledgers, or joules not positive.
  """
  ledgers = list(ledgers)
  if not ledgers:
    raise ValueError("ledgers is empty: give at least one (bits, joules).")
  bits = [b for b, _ in ledgers]
  joules = [j if j is None else _joules("joules", j) for _, j in ledgers]
  total = lambda x: None if any(v is None for v in x) else _plain(sum(x))
  return total(bits), total(joules)


def _ratio(cost: np.ndarray, saved: np.ndarray) -> Value:
  """cost / saved where something is saved, inf elsewhere."""
  cost, saved = np.broadcast_arrays(cost, saved)
  ratio = np.full(cost.shape, np.inf)
  np.divide(cost, saved, out=ratio, where=saved > 0)
  return _plain(ratio)


def _joules(name: str, joules: Value) -> np.ndarray:
  joules = np.asarray(joules, np.float64)
  bad = joules[~(np.isfinite(joules) & (joules > 0))]
  if bad.size:
    raise ValueError(
      f"{name} is {bad[0]:g} J: energies are positive; give None if unknown."
    )
  return joules


def _bits(name: str, bits: Value) -> np.ndarray:
  bits = np.asarray(bits, np.float64)
  bad = bits[~(np.isfinite(bits) & (bits >= 0))]
  if bad.size:
    raise ValueError(
      f"{name} is {bad[0]:g} bits: it is 0 or more; clip means at 0 once a "
      "corpus, and give None if unknown."
    )
  return bits


def _volume(n: Value) -> np.ndarray:
  volume = np.asarray(n, np.float64)
  if not (np.isfinite(volume) & (volume > 0)).all():
    raise ValueError(f"n is {n}: declare a positive number of samples served.")
  return volume


def _plain(value: Value) -> Value:
  """A float where there is one number, an array of them elsewhere."""
  value = np.asarray(value, np.float64)
  return float(value) if value.ndim == 0 else value
