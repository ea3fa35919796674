"""One meter for several ledgers of a process: their readings add up to it.

Several runs that share a process (rsrc_jax/population.py) have a ledger each.
What one of them does alone is charged to it alone, a program that works for all
of them in equal parts, and everything else in equal parts too.
"""

import contextlib
from collections.abc import Iterator

from rsrc_jax.accounting.energy import Meter, Use, add, minus, times
from rsrc_jax.accounting.ledger import NOTHING


class SplitMeter:
  """Divides the readings of a meter among `count` runs."""

  def __init__(self, meter: Meter, count: int):
    self._meter, self._read = meter, [NOTHING] * count
    self._last, self._holders = meter.read(), range(count)
    self._pot = NOTHING  # of the work that waits for `give`

  def of(self, run: int) -> Meter:
    """The meter of one run. Closing it changes nothing; see `close`."""

    def read() -> Use:
      self._settle()
      return self._read[run]

    meter = self._meter
    return Meter(meter.machine, meter.terms, read, lambda: None)

  @contextlib.contextmanager
  def only(self, run: int) -> Iterator[None]:
    """Charges what happens inside to one run."""
    with self._held((run,)):
      yield

  @contextlib.contextmanager
  def joint(self) -> Iterator[list[Use]]:
    """Measures work for all runs, which no run is charged for yet.

    Yields a list, which holds the work's use at the end: see `give`.
    """
    found = []
    with self._held(()):
      try:
        yield found
      finally:
        self._settle()
        found.append(self._pot)
        self._pot = NOTHING

  def give(self, run: int, use: Use) -> None:
    """Charges a run for its part of joint work."""
    self._settle()
    self._read[run] = add(self._read[run], use)

  def close(self) -> None:
    """Closes the meter that is divided."""
    self._meter.close()

  @contextlib.contextmanager
  def _held(self, holders) -> Iterator[None]:
    self._settle()
    before, self._holders = self._holders, holders
    try:
      yield
    finally:
      self._settle()
      self._holders = before

  def _settle(self) -> None:
    """Charges what was used since the last time to its present holders."""
    now = self._meter.read()
    use, self._last = minus(now, self._last), now
    if not self._holders:
      self._pot = add(self._pot, use)
      return
    part = times(use, 1.0 / len(self._holders))
    for run in self._holders:
      self._read[run] = add(self._read[run], part)
