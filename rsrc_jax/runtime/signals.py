"""SIGTERM and Ctrl-C, as a function that a loop calls to see if one came."""

import contextlib
import signal
from collections.abc import Callable, Iterator


class Interrupted(Exception):
  """A signal has ended the run. Everything up to here is saved."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
  """Yields a function that says whether a SIGTERM or Ctrl-C has come.

  A second Ctrl-C interrupts at once. Outside the main thread no signal can be
  caught: the function then always says no.
  """
  asked = []

  def note(number, frame):
    del frame
    asked.append(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)

  try:
    before = {
      s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)
    }
  except ValueError:
    before = {}
  try:
    yield lambda: bool(asked)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
