"""The contract of an executor: what starts the processes of a sweep.

`drive` decides what is started and what has become of it; an executor starts,
watches and stops, and never decides success. That is for the files of a run
(`state`), which it does not read beyond the attempts that it was given.

  artefacts(tasks)       {file name: text} that it would hand to a scheduler; it
                         is pure, so that a plan can be looked at. The local one
                         has none.
  submit(tasks, token)   starts them, and returns a handle for each key. A
                         handle is a JSON value. It first looks for what was
                         submitted under the token before, and returns that.
                         Raises OSError where it can't.
  poll(handles)          {key: "queued", "running", "gone" or "unknown"}, for
                         all at once. A key that it can't tell is "unknown",
                         which changes nothing.
  cancel(handles)        asks them to save and stop: TERM, and KILL later. It
                         does not wait.
  logs(handle)           the path of what it prints.

Every executor starts `python -m rsrc_jax.sweep.attempt` with the tasks'
attempts, on the machine where the run shall be; it writes the end of the run,
whether or not a driver is still there.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Handles = Mapping[str, Any]


class Task(NamedTuple):
  """A process to start: the attempts of its runs, which have been claimed."""

  key: str
  attempts: tuple[Path, ...]


class Executor(NamedTuple):
  """See above. slots: how many tasks may run at a time."""

  slots: int
  artefacts: Callable[[Sequence[Task]], dict[str, str]]
  submit: Callable[[Sequence[Task], str], dict[str, Any]]
  poll: Callable[[Handles], dict[str, str]]
  cancel: Callable[[Handles], None]
  logs: Callable[[Any], Path]
