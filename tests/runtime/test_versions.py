"""versions.py: packages and Pythons that do not fit, in one line each."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from rsrc_jax.runtime import versions

WANTED = [Requirement("jax>=0.10.2,<0.12"), Requirement("flax>=0.12.8,<0.13"),
          Requirement("optax>=0.2.8,<0.3")]  # fmt: skip
KNOWN = {"jax": [Version("0.10.2"), Version("0.11.2")],
         "flax": [Version("0.12.8"), Version("0.12.12")]}  # fmt: skip
HAVE = {"jax": "0.11.2", "jaxlib": "0.11.2", "flax": "0.12.12",
        "optax": "0.2.8"}  # fmt: skip


def judged(needs=(), known=KNOWN, **changes):
  have = HAVE | {k.replace("_", "-"): v for k, v in changes.items()}
  have = {name: version for name, version in have.items() if version}
  return versions.judge(WANTED, have, dict(needs), known)


def test_what_is_installed_here_fits():
  assert versions.check() == []
  assert judged() == []
  assert judged(jax="0.10.2", jaxlib="0.10.2", flax="0.12.8") == []


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"jax": "0.9.1"}, [
      "jax 0.9.1 is older than bounded",
      'pip install "jax<0.12,>=0.10.2"',
    ]),
    ({"flax": "0.12.8rc1"}, ["flax 0.12.8rc1 is older"]),
    ({"optax": None}, ["optax is not installed", "pip install"]),
    ({"jax_cuda13_plugin": "0.11.1"}, [
      "jax-cuda13-plugin 0.11.1 does not fit jaxlib 0.11.2",
      'pip install --upgrade "rsrc-jax[cuda13]"',
    ]),
  ],
)  # fmt: skip
def test_what_is_older_missing_or_of_another_build_is_refused(changes, says):
  with pytest.raises(ValueError) as refused:
    judged(**changes)
  text = str(refused.value)
  assert all(x in text for x in says) and "\n" not in text


def test_a_flax_that_needs_another_jax_is_refused():
  needs = {"flax": ["jax>=0.11.1", 'clu; extra == "testing"']}
  assert judged(needs) == []
  with pytest.raises(ValueError, match=r"flax 0.12.12 needs jax>=0.11.1, and "
                     r"jax is 0.10.2: pip install"):  # fmt: skip
    judged(needs, jax="0.10.2", jaxlib="0.10.2")


def test_what_is_newer_than_tried_goes_on_with_a_line():
  [line] = judged(jax="0.11.3", jaxlib="0.11.3")  # within its bound
  assert "jax 0.11.3 is newer than what was tried (0.11.2)" in line
  [line] = judged(jax="0.12.0", jaxlib="0.12.0")
  assert "jax 0.12.0 is newer" in line and "\n" not in line
  # Without the locks, as after `pip install`, the bounds alone are known.
  assert judged(known={}, jax="0.11.3", jaxlib="0.11.3") == []
  [line] = judged(known={}, optax="0.3.1")
  assert "optax 0.3.1 is newer than what was tried (<0.3,>=0.2.8)" in line


def test_pythons_outside_of_the_bound():
  assert versions.of_python(">=3.11,<3.15", (3, 14)) == []
  with pytest.raises(ValueError, match=r"Python 3\.9 is older .* PYTHON"):
    versions.of_python(">=3.11,<3.15", (3, 9))
  [line] = versions.of_python(">=3.11,<3.15", (3, 15))
  assert "3.15 is newer" in line


def test_an_installed_package_has_its_bounds_as_metadata(tmp_path, monkeypatch):
  """Where there is no setup.cfg, those of the extras are told apart."""
  about = tmp_path / "rsrc_jax-1.dist-info" / "METADATA"
  about.parent.mkdir()
  about.write_text(
    "Metadata-Version: 2.1\nName: rsrc-jax\nVersion: 1\n"
    "Requires-Python: >=3.11\nRequires-Dist: jax<0.12\n"
    'Requires-Dist: pytest>=8; extra == "test"\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  names = lambda extras: [x.name for x in versions.bounds(tmp_path, extras)[0]]
  assert names(()) == ["jax"] and names(["test"]) == ["jax", "pytest"]
  assert versions.bounds(tmp_path)[1] == ">=3.11"


def test_it_does_not_import_jax_and_the_command_ends_in_one_line(tmp_path):
  """A jax of 0.1 on the path, as far as its metadata go."""
  about = tmp_path / "jax-0.1.dist-info" / "METADATA"
  about.parent.mkdir()
  about.write_text("Metadata-Version: 2.1\nName: jax\nVersion: 0.1\n")
  (tmp_path / "jax.py").write_text("raise SystemExit('jax was imported')\n")
  root = Path(versions.ROOT)
  done = subprocess.run(
    [sys.executable, "-m", "rsrc_jax.main", f"--workdir={tmp_path}/run"],
    env={"PYTHONPATH": f"{tmp_path}:{root}", "PATH": ""}, cwd=root,
    capture_output=True, text=True,
  )  # fmt: skip
  [line] = done.stderr.splitlines()
  assert done.returncode == 1
  assert line.startswith("error: jax 0.1 is older than bounded")
  assert not (tmp_path / "run").exists()
