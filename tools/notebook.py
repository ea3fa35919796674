"""Executes docs/quickstart.ipynb and stores its output in it.

  ./.venv/bin/python tools/notebook.py [--output=FILE]

Took 5.6 minutes on two cores with other work on them (314 CPU seconds). It
runs in an empty folder, so that the run of the notebook is a new one. Of cells
that are tagged "progress" no output is stored, since it is of times; nor are
warnings, times of cells and the names of kernels.
"""

import argparse
import importlib.metadata
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
SECONDS = 1_800  # of a cell, on a machine with much else to do


def executed(path: Path, folder: str) -> nbformat.NotebookNode:
  """The notebook with the output of a run in `folder`."""
  notebook = nbformat.read(path, as_version=4)
  client = NotebookClient(
    notebook, timeout=SECONDS, kernel_name="python3",
    resources={"metadata": {"path": folder}},
  )  # fmt: skip
  paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
  env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
  return client.execute(env=env)


def stripped(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
  """Without what differs between two equal runs. It is changed in place."""
  notebook.metadata = nbformat.from_dict(
    {
      "kernelspec": {"name": "python3", "display_name": "Python 3"},
      "language_info": {"name": "python"},
      # The version that the stored numbers are of.
      "rsrc": {"jax": importlib.metadata.version("jax")},
    }
  )
  for cell in notebook.cells:
    tags = cell.metadata.get("tags")
    cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    if cell.cell_type == "code":
      kept = [] if "progress" in (tags or ()) else cell.outputs
      kept = [x for x in kept if x.get("name") != "stderr"]
      cell.outputs = joined(kept)
  return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
  """What was printed as one text: where it is cut depends on the time."""
  found = []
  for output in outputs:
    if found and output.get("name") and found[-1].get("name") == output.name:
      found[-1].text += output.text
    else:
      found.append(output)
  return found


def main() -> None:
  """The command line."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--output", type=Path, help="default: the notebook itself")
  given = flags.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    notebook = stripped(executed(NOTEBOOK, folder))
  nbformat.write(notebook, given.output or NOTEBOOK)


if __name__ == "__main__":
  main()
