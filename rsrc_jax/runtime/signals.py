"""SIGTERM and Ctrl-C, as a function that a loop polls."""

import contextlib
import signal
from collections.abc import Callable, Iterator


class Interrupted(Exception):
  """A signal has stopped the run, and its state is saved."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
  """Yields a function that is True once a SIGTERM or Ctrl-C has arrived.

  A second Ctrl-C interrupts at once. Outside the main thread no signal can be
  caught, and the function is always False.
  """
  received = []

  def note(number, frame):
    del frame
    received.append(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)

  try:
    before = {
      s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)
    }
  except ValueError:
    before = {}
  try:
    yield lambda: bool(received)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
