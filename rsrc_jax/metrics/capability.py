"""Verified bits: the saving of a code, with the cost of its errors.

A sender could send s under a frozen V's code, in l_V(s) bits. Instead it sends
the code c and then the edits that turn the decode d into s, with every inserted
token under V: l(c) + l_V(s | d) bits. The saving is signed: the errors of a
lossy code reduce it. ("Recursive Self-Referential Compression (RSRC)" calls for
algorithmic compression; this definition is ours.) Host code in NumPy, float64.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from rsrc_jax.types import Tokens


class Saved(NamedTuple):
  """Bits of each sample, [rows] float64."""

  raw: np.ndarray  # l_V(s)
  wire: np.ndarray  # l(c)
  residual: np.ndarray  # l_V(s | d)

  @property
  def bits(self) -> np.ndarray:
    """b(s) = l_V(s) - l(c) - l_V(s | d), signed."""
    return self.raw - self.wire - self.residual


def verified_bits(
  source: Tokens,
  code: Tokens,
  decoded: Tokens,
  token_bits: np.ndarray,
  *,
  symbols: int,
  budget: int,
) -> Saved:
  """The verified saving of each sample.

  Args:
    source: s, [rows, S].
    code: c, [rows, k].
    decoded: the free-running d, [rows, T].
    token_bits: [rows, S + 1], bits of each token of s and of its end under V;
      see uniform_bits.
    symbols: number of tokens that a code may use, without the end.
    budget: the most tokens that a code may have; a code of that length needs no
      end.
  """
  length = np.sum(source.mask, -1)
  spent = np.arange(token_bits.shape[1]) <= length[:, None]
  raw = np.sum(np.where(spent, token_bits, 0.0), -1)
  return Saved(
    raw,
    wire_bits(code, symbols=symbols, budget=budget),
    residual_bits(source, decoded, token_bits),
  )


def uniform_bits(source: Tokens, symbols: int) -> np.ndarray:
  """Bits under a uniform V: log2 of the alphabet and end. [rows, S + 1]"""
  rows, length = source.ids.shape
  return np.full((rows, length + 1), math.log2(symbols + 1))


def wire_bits(code: Tokens, *, symbols: int, budget: int) -> np.ndarray:
  """log2 |alphabet| for each token, and for the end below the full budget.

  It is an upper bound, without an entropy coder. [rows, k] -> [rows] float64.
  """
  length = np.sum(code.mask, -1)
  return (length + (length < budget)) * math.log2(symbols + 1)


def residual_bits(
  source: Tokens, decoded: Tokens, token_bits: np.ndarray
) -> np.ndarray:
  """l_V(s | d): edits that turn d into s, as a decodable message.

  The message holds the number of edits e (Elias gamma of e + 1), the number of
  insertions among them (uniform), the places of the edits among the steps of
  the alignment, which of them are insertions, one bit for each other edit
  (replace or delete), and each new token under V. A perfect d costs one bit.
  The alignment is the cheapest one under a fixed price for an edit, so this is
  an upper bound on the best such message.

  source [rows, S], decoded [rows, T], token_bits [rows, S + 1] -> [rows].
  """
  s, d = np.asarray(source.ids), np.asarray(decoded.ids)
  n, m = np.sum(source.mask, -1), np.sum(decoded.mask, -1)
  edits, inserted, tokens = _align(s, d, n, m, np.asarray(token_bits))
  steps = m + inserted
  counts = 2 * np.floor(np.log2(edits + 1)) + 1 + np.log2(edits + 1)
  places = _log2_choose(steps, edits) + _log2_choose(edits, inserted)
  return counts + places + (edits - inserted) + tokens


def hashes(tokens: Tokens) -> set[bytes]:
  """A digest of each row's content without pads."""
  ids, mask = np.asarray(tokens.ids, np.int32), np.asarray(tokens.mask)
  return {
    hashlib.blake2b(row[real].tobytes(), digest_size=16).digest()
    for row, real in zip(ids, mask, strict=True)
  }


def check_disjoint(train: Tokens, heldout: Tokens) -> None:
  """Refuses a held-out split that shares rows with training.

  Raises:
    ValueError: a row is in both.
  """
  both = hashes(train) & hashes(heldout)
  if both:
    raise ValueError(
      f"{len(both)} held-out sources stand in the training split: a memory of "
      "them would count as compression. Split by content (data.heldout)."
    )


def _align(s, d, n, m, token_bits):
  """Edits, insertions and bits of new tokens along a cheapest alignment.

  Every cell of the table holds (price, edits, insertions, token bits) of the
  best way to s[:i] from d[:j], for all rows at once.
  """
  rows, (width, depth) = len(s), (s.shape[1], d.shape[1])
  price = np.log2(m + 2.0) + 2.0  # of an edit: roughly its place and its kind
  column = [np.zeros((rows, 4))]
  for _ in range(depth):  # deletions from the front of d
    column.append(column[-1] + _step(price, 0, 0.0))
  found = np.zeros((rows, 4))
  found[n == 0] = _pick(column, m)[n == 0]
  for i in range(width):
    new = token_bits[:, i]
    insert, replace = _step(price + new, 1, new), _step(price + new, 0, new)
    delete = _step(price, 0, 0.0)
    row = [column[0] + insert]
    for j in range(depth):
      same = (s[:, i] == d[:, j])[:, None]
      ways = np.stack(
        [
          column[j] + np.where(same, 0.0, replace),
          column[j + 1] + insert,
          row[j] + delete,
        ]
      )
      best = np.argmin(ways[..., 0], 0)
      row.append(np.take_along_axis(ways, best[None, :, None], 0)[0])
    column = row
    done = n == i + 1
    found[done] = _pick(column, m)[done]
  return found[:, 1], found[:, 2], found[:, 3]


def _step(price, inserts: int, new) -> np.ndarray:
  rows = len(price)
  parts = (price, np.ones(rows), np.full(rows, inserts), np.zeros(rows) + new)
  return np.stack(parts, -1)


def _pick(column, m):
  return np.stack(column)[m, np.arange(len(m))]


def _log2_choose(n, k):
  gamma = np.vectorize(math.lgamma, otypes=[float])
  return (gamma(n + 1) - gamma(k + 1) - gamma(n - k + 1)) / math.log(2.0)
