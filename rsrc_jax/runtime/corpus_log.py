"""What a run shows and keeps of its text when it begins."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from rsrc_jax.data import left_out, sources
from rsrc_jax.runtime import run_log

FOLDER, LEFT_OUT = "text", "left_out.json"  # in the run directory


def folder(workdir: str | Path) -> Path:
  """Where a run keeps its own copy of its text."""
  return Path(workdir) / FOLDER


def record(corpus: sources.Corpus, log_dir: Path, log: run_log.Log) -> None:
  """Shows what was left out, once, and writes it and the run's copy.

  Args:
    corpus: of the run.
    log_dir: where this process writes (run_dir.Run).
    log: shows the notes and the table.

  Raises:
    ValueError: the folder has a copy of other text.
  """
  kept = corpus.keep(folder(log_dir)) if corpus.keep else ""
  for note in filter(None, (*corpus.notes, kept)):
    log.console.print(Text(f"note: {note}"), soft_wrap=True)
  path = log_dir / LEFT_OUT
  if corpus.left_out and not path.exists():
    run_log.write_json(path, left_out.json_of(corpus.left_out))
    log.console.print(table(corpus.left_out))


def table(rows: tuple[left_out.LeftOut, ...]) -> Table:
  """What was left out of a text, for a terminal."""
  found = Table(title="left out of the text", title_justify="left", box=None)
  for name in ("how many", "of", "why", "such as"):
    found.add_column(name, justify="right" if name == "how many" else "left")
  for row in rows:
    shown = ", ".join(row.examples[:3])
    more = len(row.examples) - 3
    shown += f" and {more} more in {LEFT_OUT}" if more > 0 else ""
    found.add_row(f"{row.count:,}", row.kind, Text(row.reason), Text(shown))
  return found
