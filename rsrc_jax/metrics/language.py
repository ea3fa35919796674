"""How far codes are from the language of the sources, under a frozen model.

A model of text gives no probability to an id that no text holds: its
log-probability there is a mask, and no mean over it is a number of bits. So
such ids are counted, and the model is asked about the others alone.
"""

from typing import NamedTuple

import numpy as np

from rsrc_jax.types import Tokens


class Language(NamedTuple):
  """Two numbers of all tokens of all codes; None where there is no token."""

  foreign: float | None  # share of the tokens that no text holds
  bits: float | None  # a token of the others, -log2 p


def measure(code: Tokens, token_bits: np.ndarray, text: np.ndarray) -> Language:
  """The share of foreign tokens, and the model's bits a token of the others.

  Args:
    code: [..., T], without an end token.
    token_bits: [..., T], -log2 p of each token under a frozen model of text,
      given those before it, the foreign ones among them; what stands at a
      foreign token is not read.
    text: [V] bool, the ids that texts hold.

  Raises:
    ValueError: the model gives no probability to an id of `text`: its bits are
      not finite, or a mask's.
  """
  ids, mask = np.asarray(code.ids), np.asarray(code.mask)
  if not mask.any():
    return Language(None, None)
  known = np.asarray(text)[ids] & mask
  bits = np.asarray(token_bits, np.float64)[known]
  if not (np.abs(bits) < MASKED).all():  # nan is refused too
    raise ValueError(
      "token_bits has a mask's bits at an id that `text` says texts hold: give "
      "the ids that the model may write."
    )
  foreign = 1.0 - known.sum() / mask.sum()
  return Language(float(foreign), float(bits.mean()) if bits.size else None)


MASKED = 1e20  # bits; a mask of log-probabilities is -1e30 nats
