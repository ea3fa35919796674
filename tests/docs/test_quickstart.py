"""docs/quickstart.ipynb: what is stored, and what a new execution prints."""

import ast
import json
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import rsrc_jax

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
BYTES = 300_000
CPU_SECONDS = 5 * 60 * 2  # five minutes on two cores


def cells(path: Path = NOTEBOOK) -> list[dict]:
  return json.loads(path.read_text())["cells"]


def code(found: list[dict]) -> list[dict]:
  return [cell for cell in found if cell["cell_type"] == "code"]


def printed(cell: dict) -> str:
  """What a cell has printed; a figure is its kind."""
  text = ""
  for output in cell["outputs"]:
    shown = output.get("data", {})
    text += "".join(output.get("text", ()))
    text += "<image>" if "image/png" in shown else ""
  return text


def test_it_uses_public_names_only():
  for cell in code(cells()):
    lines = [x for x in cell["source"] if not x.startswith("%")]
    for node in ast.walk(ast.parse("".join(lines))):
      if isinstance(node, ast.Import):
        assert not [x for x in node.names if x.name.startswith("rsrc_jax")]
      if isinstance(node, ast.ImportFrom) and "rsrc_jax" in node.module:
        assert node.module == "rsrc_jax"
        assert {x.name for x in node.names} <= set(rsrc_jax.__all__)


def test_its_output_is_stored_and_holds_nothing_of_a_machine():
  text = NOTEBOOK.read_text()
  assert len(text.encode()) <= BYTES
  stored = json.loads(text)
  assert set(stored["metadata"]) == {"kernelspec", "language_info", "rsrc"}
  assert not re.search(r"/(home|root|tmp|work|Users|usr)/", text)
  for number, cell in enumerate(code(stored["cells"]), 1):
    assert cell["execution_count"] == number  # in order, from a new kernel
    assert set(cell["metadata"]) <= {"tags"}
    kinds = {x["output_type"] for x in cell["outputs"]}
    assert "error" not in kinds
    assert not [x for x in cell["outputs"] if x.get("name") == "stderr"]
  assert [printed(x) for x in code(cells())].count("<image>") == 1


def test_its_prose_is_wrapped_as_pages_are():
  prose = [x for x in cells() if x["cell_type"] == "markdown"]
  assert max(len(line) for x in prose for line in x["source"]) <= 130


@pytest.mark.slow
@pytest.mark.processes
def test_it_runs_within_its_time_and_prints_what_is_stored(
  tmp_path, monkeypatch
):
  """Words and shapes of every cell; numbers where jax is the same version.

  Numbers of trained models may differ between kinds of CPU by rounding, which
  training amplifies: those of the comparison by a bit and a half at most, the
  difference between two seeds.
  """
  pytest.importorskip("nbclient", reason="needs the extra test")
  pytest.importorskip("ipykernel", reason="needs the extra test")
  # As a user has it: with all optimisations, and one device.
  for name in ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"):
    monkeypatch.delenv(name, raising=False)
  output, before = tmp_path / "executed.ipynb", children()
  done = subprocess.run(
    [sys.executable, "tools/notebook.py", f"--output={output}"], cwd=ROOT,
    capture_output=True, text=True, timeout=3_000,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3_000:]
  assert children() - before < CPU_SECONDS
  stored = json.loads(NOTEBOOK.read_text())
  old, new = code(stored["cells"]), code(cells(output))
  assert [x["source"] for x in old] == [x["source"] for x in new]
  assert [bool(printed(x)) for x in old] == [bool(printed(x)) for x in new]
  if stored["metadata"]["rsrc"]["jax"] != metadata.version("jax"):
    return
  for a, b in zip(old, new, strict=True):
    tags = a["metadata"].get("tags", ())
    if "trained" in tags:  # tokens of codes, which follow from the numbers
      assert printed(a).count("\n") == printed(b).count("\n")
    elif "measured" in tags:
      assert masked(printed(a)) == masked(printed(b))
      assert numbers(printed(b)) == pytest.approx(
        numbers(printed(a)), abs=1.5, rel=0.2
      )
    else:
      assert printed(a) == printed(b)


def children() -> float:
  """CPU seconds of processes that have ended, their own children included."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def masked(text: str) -> str:
  return re.sub(r"\s+", " ", NUMBER.sub("#", text))


def numbers(text: str) -> list[float]:
  return [float(x) for x in NUMBER.findall(text)]
