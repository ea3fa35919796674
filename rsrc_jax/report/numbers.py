"""Numbers as a report prints them, and as a file may hold them."""

import math
from typing import Any, NamedTuple

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Quantiles(NamedTuple):
  """A median and the ends of its 90 % interval; an end may be unknown.

  The fields are the keys that metrics/statistics.interval writes.
  """

  median: float
  p5: float | None
  p95: float | None


def number(value: Any) -> float | None:
  """A finite float, or None for whatever else a file may hold."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  return float(value) if math.isfinite(value) else None


def amount(value: Any) -> float | None:
  """A float that may be infinite: JSON has no infinity, so files write it out.

  None for whatever else a file may hold.
  """
  if value in ("inf", "-inf", math.inf, -math.inf):
    return float(value)
  return number(value)


def quantiles(value: Any) -> Quantiles | None:
  """{"median", "p5", "p95"} of a file; None where there is no median."""
  value = value if isinstance(value, dict) else {}
  median, *ends = (amount(value.get(key)) for key in Quantiles._fields)
  return None if median is None else Quantiles(median, *ends)


def short(value: Any) -> str:
  """Three digits, or two and a power of ten: 40.1, 4.1×10⁷, ∞, — for None.

  Four before the point, so that counts to 9,999 are exact.
  """
  value = amount(value)
  if value is None:
    return "—"
  if math.isinf(value):
    return "∞" if value > 0 else "−∞"
  if not value:
    return "0"
  mantissa, exponent = _split(value, 2)
  if -2 <= exponent < 4:
    text = f"{value:,.{max(2 - exponent, 0)}f}"
  else:
    mantissa, exponent = _split(value, 1)
    text = f"{mantissa:.1f}×10{str(exponent).translate(SUPERSCRIPTS)}"
  return text.replace("-", "−")


def count(value: Any) -> str:
  """A number of samples: exact where it is a whole number of a usual size."""
  value = amount(value)
  if value is None or not float(value).is_integer() or abs(value) >= 1e9:
    return short(value)
  return f"{value:,.0f}"


def spread(value: Quantiles | None) -> str:
  """Median [5 %, 95 %], all three over one power of ten."""
  if value is None or None in value or not all(map(math.isfinite, value)):
    return short(None if value is None else value.median)
  if not any(value):
    return "0"
  _, exponent = _split(value.median, 1)
  if -2 <= exponent < 4:
    return f"{short(value.median)} [{short(value.p5)}, {short(value.p95)}]"
  middle, low, high = (f"{x / 10.0**exponent:.1f}" for x in value)
  power = str(exponent).translate(SUPERSCRIPTS)
  return f"{middle} [{low}, {high}] ×10{power}".replace("-", "−")


def percent(share: float) -> str:
  """A signed share: +7.3 %."""
  return f"{100 * share:+.1f} %".replace("-", "−")


def _split(value: float, digits: int) -> tuple[float, int]:
  """Mantissa and exponent as they are printed: with one digit 9.99 is 1.0e1."""
  mantissa, exponent = f"{value:.{digits}e}".split("e")
  return float(mantissa), int(exponent)
