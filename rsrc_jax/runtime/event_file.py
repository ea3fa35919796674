"""TensorBoard's event files, written by the thread that logs.

tensorboardX.SummaryWriter writes in a thread of its own: where the disk is full
that thread ends with a traceback, and the caller hears of it when it closes the
writer. Its records are used here without it.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from rsrc_jax.output import files
from rsrc_jax.output.plain import plain


class EventFile:
  """The event file of a session. Nothing is held back, or open."""

  def __init__(self, folder: Path, step: int = 0):
    """Begins the file.

    Args:
      folder: of one stage; made if missing.
      step: after which it goes on: TensorBoard forgets what it had from there.

    Raises:
      OSError: it can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
    self.path = folder / name
    events = [Event(file_version="brain.Event:2")]
    if step:
      start = SessionLog(status=SessionLog.START)
      events.append(Event(step=step, session_log=start))
    self._append(events)

  def add(self, scalars: Mapping[str, float | None], step: int) -> None:
    """Adds scalars of a step; None is left out.

    Raises:
      OSError: they can't be written; the file ends as it did before.
    """
    self._append(
      [
        Event(step=step, summary=scalar(plain(name), value))
        for name, value in scalars.items()
        if value is not None
      ]
    )

  def _append(self, events: list[Event]) -> None:
    now = time.time()
    for event in events:
      event.wall_time = now
    data = b"".join(_record(x.SerializeToString()) for x in events)
    files.append_bytes(self.path, data)


def _record(data: bytes) -> bytes:
  """A TFRecord: the length, its checksum, the data, their checksum."""
  head = struct.pack("<Q", len(data))
  checks = [struct.pack("<I", masked_crc32c(x)) for x in (head, data)]
  return head + checks[0] + data + checks[1]
