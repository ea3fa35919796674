"""The files of a sweep: JSON that is whole at every moment, and logs."""

import json
import os
from pathlib import Path
from typing import Any

from rsrc_jax.output.files import create, said, write_text
from rsrc_jax.output.files import write_json as write

__all__ = ["create", "last_line", "read", "said", "step", "write", "write_text"]


def read(path: Path) -> Any:
  """The value of a JSON file; None where there is no file.

  Raises:
    ValueError: the file is not JSON, and so not of this package.
  """
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, NotADirectoryError):
    return None
  except ValueError:
    raise ValueError(f"{path} is not JSON: move it away.") from None


def last_line(path: Path, longest: int = 300) -> str:
  """The last line of a text file that is not blank, cut to `longest`."""
  try:
    with path.open("rb") as file:
      file.seek(0, os.SEEK_END)
      file.seek(max(file.tell() - (1 << 16), 0))
      lines = file.read().decode("utf-8", "replace").splitlines()
  except OSError:
    return ""
  return next((x.strip() for x in reversed(lines) if x.strip()), "")[:longest]


def step(workdir: Path) -> list[Any] | None:
  """[stage, step] of the last line of a run's metrics; None before any."""
  try:
    found = json.loads(last_line(workdir / "metrics.jsonl", 1 << 16))
    return [found["phase"], int(found["step"])]
  except (ValueError, KeyError, TypeError):
    return None
