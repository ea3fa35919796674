"""What tables say of the use of injected ids. Plain Python."""

import math

JUNK = 1.0  # bits a swapped id: use that costs D less says nothing of s


def label(swap_bits: float | None, use_rate: float | None = None) -> str:
  """ "junk", "kept", or "-" where nobody uses any.

  swap_bits: that D loses for each id that is swapped, a mean over the codes
  that use one; use_rate: the share of codes that do, if it is known.
  """
  if swap_bits is None or math.isnan(swap_bits) or use_rate == 0:
    return "-"
  return "junk" if swap_bits < JUNK else "kept"
