"""SIGTERM and Ctrl-C, as a question that a loop can ask."""

import contextlib
import signal
from collections.abc import Callable, Iterator


class Interrupted(Exception):
  """A signal came; everything up to here is saved."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
  """Turns the first SIGTERM or Ctrl-C into a question that a loop can ask.

  A second Ctrl-C interrupts at once. Outside the main thread nothing is caught.
  """
  asked = []

  def ask(number, frame):
    del frame
    asked.append(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)

  try:
    before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
  except ValueError:
    before = {}
  try:
    yield lambda: bool(asked)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
