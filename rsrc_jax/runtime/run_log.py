"""What a run writes while it runs: JSON lines, TensorBoard, a live display."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeRemainingColumn,
)

from rsrc_jax.metrics import dead_groups
from rsrc_jax.output import files
from rsrc_jax.output.files import read_jsonl as read_jsonl
from rsrc_jax.output.files import write_json as write_json
from rsrc_jax.output.plain import lines, plain
from rsrc_jax.runtime.event_file import EventFile

PLAIN_SECONDS = 10.0  # between lines where there is no terminal to redraw


@contextlib.contextmanager
def waiting(what: str, console: Console) -> Iterator[None]:
  """Shows one line: what a run waits for, and the seconds when it is over."""
  begun = time.monotonic()
  console.print(f"{plain(what)} ...", end="", highlight=False, markup=False)
  try:
    yield
  except BaseException:
    console.print()
    raise
  seconds = time.monotonic() - begun
  console.print(f" {seconds:.1f} s", highlight=False)


class Log:
  """Writes the metrics of a run, by stage and step.

  The key of the stage in metrics.jsonl is "phase". A run directory has one
  writer.
  """

  def __init__(
    self,
    workdir: Path,
    *,
    console: Console | None = None,
    quiet: bool = False,
  ):
    self.workdir = Path(workdir)
    self.console = console or Console(stderr=True, quiet=quiet)
    self.path = self.workdir / "metrics.jsonl"
    # Why a line could not be written, and the lines since: the loop saves them
    # with its checkpoint, and ends with the error.
    self.failed: OSError | None = None
    self.unwritten: list[dict[str, Any]] = []
    self.watch = dead_groups.Watch()  # of the open stage
    self._board = None
    self._progress = None
    self._task = None
    self._said = 0.0

  def start(
    self,
    stage: str,
    title: str,
    step: int,
    steps: int,
    unwritten: Iterable[dict[str, Any]] = (),
  ) -> None:
    """Opens a stage of `steps` steps that continues after `step`.

    Lines of later steps are removed: a killed run logged them after its last
    checkpoint, and they will be logged again.

    unwritten: lines up to `step` that could not be written before.
    """
    self.stage, self.title, self.steps = stage, plain(title), steps
    kept = self._rewind(stage, step, unwritten)
    self.watch = dead_groups.followed(kept, stage)
    self._board = self._open(stage, step)
    self._first, self._since = step, None
    self._begun = time.monotonic()
    if self.console.is_terminal:
      self._progress = Progress(
        # An arm's name is no markup.
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
        console=self.console,
        transient=True,
      )
      self._task = self._progress.add_task(
        self.title, total=steps, completed=step, status="compiling"
      )
      self._progress.start()
    else:
      self._say(f"{self.title}: step {step} of {steps}, compiling")

  def compiled(self, step: int) -> None:
    """The step is compiled: the rate is measured from here on."""
    self._first, self._since = step, time.monotonic()
    seconds = self._since - self._begun
    self.note(f"compiling the step of {self.stage}: {seconds:.1f} s")

  def rate(self, step: int) -> float:
    """Steps per second since the program was compiled; 0 before that."""
    if self._since is None or step <= self._first:
      return 0.0
    return (step - self._first) / max(time.monotonic() - self._since, 1e-9)

  def train(self, step: int, metrics: dict[str, float]) -> None:
    """Logs a window of training and redraws the display."""
    rate = self.rate(step)
    self._write(step, "train", {**metrics, "steps_per_second": rate})
    self.watch = dead_groups.follow(self.watch, step, metrics)
    status = " ".join(
      f"{name} {metrics[name]:.3g}"
      for name in ("reward", "length", "loss")
      if name in metrics
    )
    status = f"{rate:.1f} steps/s  {status}"
    if self._progress is not None:
      self._progress.update(self._task, completed=step, status=status)
    elif time.monotonic() - self._said > PLAIN_SECONDS and rate > 0:
      left = (self.steps - step) / rate
      self._say(
        f"{self.title}: {step}/{self.steps}  {status}  {left:.0f} s left"
      )

  def valid(self, step: int, metrics: dict[str, float]) -> None:
    """Logs an evaluation on the validation split."""
    self._write(step, "valid", metrics)

  def held(self, step: int, metrics: dict[str, float]) -> None:
    """Logs what the curriculum saw of a held-out batch."""
    self._write(step, "held", metrics)

  def totals(self, scalars: dict[str, float]) -> None:
    """Writes numbers of the whole run to TensorBoard, beside its stages."""
    self._board = self._open("run", 0)
    self._draw(scalars, 0)
    self._board = None

  def close(self) -> None:
    """Ends the open stage, if there is one."""
    self.end()

  def end(self) -> None:
    """Closes the stage; a second call does nothing."""
    if self._progress is not None:
      self._progress.stop()
      self._progress = None
    self._board = None

  def note(self, text: str) -> None:
    """Shows one line above the display."""
    self.console.print(
      lines(text), highlight=False, soft_wrap=True, markup=False
    )

  def _say(self, text: str) -> None:
    self._said = time.monotonic()
    self.note(text)

  def _write(self, step: int, split: str, metrics: dict[str, Any]) -> None:
    line = {"phase": self.stage, "step": step, "split": split}
    line |= {k: None if v is None else float(v) for k, v in metrics.items()}
    self.unwritten.append(line)
    try:
      while self.unwritten:
        files.append(self.path, self.unwritten[0])
        del self.unwritten[0]
    except OSError as error:
      self.failed = error
    self._draw({f"{split}/{k}": v for k, v in metrics.items()}, step)

  def _open(self, name: str, step: int) -> EventFile | None:
    """TensorBoard's file; None, and a line, where there can be none."""
    try:
      return EventFile(self.workdir / "tensorboard" / name, step)
    except OSError as error:
      self._without(error)
      return None

  def _draw(self, scalars: Mapping[str, float | None], step: int) -> None:
    if self._board is None:
      return
    try:
      self._board.add(scalars, step)
    except OSError as error:
      self._board = None
      self._without(error)

  def _without(self, error: OSError) -> None:
    # metrics.jsonl has the same numbers: no reason to end a run.
    self.note(
      f"note: {files.said(error)}. The run goes on without TensorBoard's file."
    )

  def _rewind(
    self, stage: str, step: int, unwritten: Iterable[dict]
  ) -> list[dict[str, Any]]:
    """Removes what will be logged again. -> the lines that are left"""
    kept = [
      line
      for line in (read_jsonl(self.path) if self.path.exists() else ())
      if line.get("phase") != stage or line.get("step", 0) <= step
    ]
    kept += [line for line in unwritten if line not in kept]
    if kept or self.path.exists():
      files.write_lines(self.path, kept)
    return kept


def flush_window(
  log: Log,
  step: int,
  window: list[dict[str, Any]],
  more: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
  """Logs the means of a window of steps and returns an empty one.

  Args:
    log: an open one.
    step: the last one of the window.
    window: the metrics of each step, arrays [] or numbers, looked at by
      finite.check_steps before.
    more: logged beside the means.
  """
  import jax  # not before: what only reads lines starts without it

  means = mean(jax.device_get(window))
  log.train(step, {**means, **(more or {})})
  return []


def mean(window: Iterable[dict[str, Any]]) -> dict[str, float]:
  """Averages metrics over a window of steps, name by name.

  Where steps have different metrics, the mean of a name is over the steps that
  have it. It is in float64, so that a window gives the same numbers if it was
  saved and read back in between.
  """
  values = {}
  for metrics in window:
    for name, value in metrics.items():
      values.setdefault(name, []).append(float(value))
  return {name: float(np.mean(found)) for name, found in values.items()}
