"""How much of s an arithmetic coder says in as many bits as a code has.

A frozen language model and an arithmetic coder are the codec that is known: s
takes -log2 p(s) bits, to within two. A code of k tokens from an alphabet of A
ids has at most k log2 A bits. So no code that C and D learn is expected to say
more of s than the coder says in these bits under the same model: it is the
ceiling of the comparison at equal tokens. Host code in NumPy, float64.
"""

import math
from typing import NamedTuple

import numpy as np


class Coded(NamedTuple):
  """What is left and what is right of each sentence, [rows] each."""

  nll_bits: np.ndarray  # float64: bits of s that the code leaves open
  tokens: np.ndarray  # int: of s that are decoded, from its first on
  share: np.ndarray  # float64: those, as a share of the tokens of s
  exact: np.ndarray  # bool: all of s and its end


def capacity(symbols: int, k: int) -> float:
  """Bits of a code of exactly k tokens from an alphabet of `symbols` ids."""
  return k * math.log2(symbols)


def coded(
  token_bits: np.ndarray, length: np.ndarray, bits: float, spare: float = 0.0
) -> Coded:
  """What a code of `bits` says of each sentence.

  A sentence's prefix is an interval of width p(prefix). It is decoded if an
  interval of the code lies inside, and the best that a code can do is to have
  p(prefix) >= 2^-bits. With equal intervals of width 2^-bits, one always lies
  inside of an interval of twice the width, so that `spare=1` is reached by a
  coder of codes of one length; `spare=0` is the bound. Tokens behind the prefix
  count as wrong, although a reader could guess them: a d that is completed by
  the model is at least as similar.

  Args:
    token_bits: [rows, S + 1], -log2 p of each token of s and of its end, given
      those before it; what is behind the end is not read.
    length: [rows] int, tokens of each s without its end.
    bits: of a code; see capacity.
    spare: bits of it that say nothing, at least 0.

  Returns:
    Coded. Bits conveyed are the entropy of s less the mean of nll_bits, as for
    codes that are learnt.

  Raises:
    ValueError: `bits` or `spare` is negative, or a sentence is longer than its
      row of bits.
  """
  token_bits, length = np.asarray(token_bits, np.float64), np.asarray(length)
  if bits < 0 or spare < 0:
    raise ValueError(f"bits={bits}, spare={spare}: give 0 or more.")
  if length.size and length.max() >= token_bits.shape[1]:
    raise ValueError(
      f"length={length.max()}: token_bits has {token_bits.shape[1]} columns, "
      "and needs one for each token and one for the end."
    )
  real = np.arange(token_bits.shape[1]) <= length[:, None]
  spent = np.cumsum(np.where(real, token_bits, 0.0), -1)
  room = max(bits - spare, 0.0)
  # A last digit of the sum decides nothing.
  fits = (spent <= room * (1 + 1e-9)) & real
  tokens = np.minimum(np.cumprod(fits, -1).sum(-1), length)
  exact = np.take_along_axis(fits, length[:, None], 1)[:, 0]
  share = np.where(length > 0, tokens / np.maximum(length, 1), 1.0)
  left = np.maximum(spent[:, -1] - room, 0.0) if len(spent) else np.zeros(0)
  return Coded(left, tokens, share, exact)
