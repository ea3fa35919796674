"""The list of shipped configs: complete, narrow, and without running them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rsrc_jax.runtime import listing

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("one", listing.shipped(), ids=lambda x: x.name)
def test_a_config_states_command_cost_and_expected_number(one):
  """Or says that cost or number are not known, which none may leave out."""
  own = f"--config=configs/{one.name}.py"
  runs = [shlex.split(x.rstrip("\\")) for x in one.commands]
  assert any(x[0] == "./tools/run" and own in x for x in runs)
  assert one.title.endswith((".", "?"))
  assert (re.search(r"\d", one.cost) and "minute" in one.cost) or (
    one.cost.startswith("not known")
  )
  assert re.search(r"\d", one.expect) or one.expect.startswith("not known")


def test_a_docstring_without_them_is_told(tmp_path):
  (tmp_path / "x.py").write_text('"""A title.\n\nNothing else.\n"""\nboom(')
  with pytest.raises(SyntaxError):
    listing.shipped(tmp_path)
  (tmp_path / "x.py").write_text('"""A title.\n\nNothing else.\n"""\nboom()')
  (found,) = listing.shipped(tmp_path)  # it is not run
  assert found == ("x", "A title.", (), "", "")


def test_the_list_fits_a_terminal_and_names_all():
  said = listing.table()
  assert max(map(len, said.splitlines())) <= 80
  for one in listing.shipped():
    assert f"\n{one.name}\n  {one.title[:40]}" in said


@pytest.mark.processes
def test_the_flag_lists_without_jax():
  code = (
    "import sys; sys.argv = ['rsrc', '--list']\n"
    "from rsrc_jax import main\n"
    "try:\n  main.cli()\nexcept SystemExit as end:\n  assert not end.code\n"
    "assert 'jax' not in sys.modules"
  )
  ran = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
    check=True,
  )  # fmt: skip
  assert ran.stdout == listing.table() + "\n" and ran.stderr == ""
