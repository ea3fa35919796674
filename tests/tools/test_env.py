"""tools/env.sh chooses an interpreter; here scripts stand in for them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASH = shutil.which("bash")
# What env.sh may use of the system: real Pythons must not be found.
PROGRAMS = (
  "cat",
  "chmod",
  "cmp",
  "cp",
  "dirname",
  "mkdir",
  "sed",
  "sort",
  "tr",
)
STUB = """#!{bash}
case "$1" in
  --version) echo "Python {version}.0" ;;
  -c) echo "{version}" ;;
  -m)
    if [ "$2" = venv ]; then
      mkdir -p "$3/bin" "$3/lib/python{version}/site-packages"
      cp "$0" "$3/bin/python"
    else
      echo "pip: $*"
    fi ;;
esac
"""
# As pyenv's shim of a version that is not selected, and Debian's without venv.
SHIM = """#!{bash}
echo "pyenv: python{version}: command not found" >&2
exit 127
"""
BARE = """#!{bash}
echo {version}
[ "$1" != -c ]
"""


@pytest.fixture
def machine(tmp_path):
  """A clone with locks of 3.11 to 3.14 and a PATH without any Python."""
  repository, path = tmp_path / "repository", tmp_path / "bin"
  (repository / "tools").mkdir(parents=True)
  (repository / "requirements").mkdir()
  path.mkdir()
  shutil.copy(ROOT / "tools" / "env.sh", repository / "tools")
  for minor in (11, 12, 13, 14):
    (repository / "requirements" / f"py3{minor}.lock").write_text(f"{minor}\n")
  for name in PROGRAMS:
    (path / name).symlink_to(shutil.which(name))
  return repository, path


def add(path, name, version, text=STUB):
  (path / name).write_text(text.format(bash=BASH, version=version))
  (path / name).chmod(0o755)
  return path / name


def start(machine, **environment):
  """-> (status, the version of $python, lines of stderr)"""
  repository, path = machine
  done = subprocess.run(
    [BASH, "-c", f'source "{repository}/tools/env.sh" && "$python" --version'],
    env={"PATH": str(path), **environment},
    capture_output=True, text=True,
  )  # fmt: skip
  lines = done.stdout.splitlines()
  return done.returncode, lines[-1] if lines else "", done.stderr.splitlines()


def test_the_newest_that_starts_and_has_a_lock_is_taken(machine):
  _, path = machine
  add(path, "python3.14", "3.14", SHIM)
  add(path, "python3.13", "3.13", BARE)
  add(path, "python3.11", "3.11")
  add(path, "python3.12", "3.12")
  add(path, "python3.15", "3.15")
  assert start(machine)[:2] == (0, "Python 3.12.0")


def test_python3_counts_by_its_version_not_by_its_name(machine):
  _, path = machine
  add(path, "python3.12", "3.12")
  add(path, "python3", "3.14")
  assert start(machine)[:2] == (0, "Python 3.14.0")


def test_the_locks_decide_which_versions_there_are(machine):
  repository, path = machine
  add(path, "python3.14", "3.14")
  add(path, "python3.9", "3.9")
  (repository / "requirements" / "py314.lock").unlink()
  code, _, [line] = start(machine)
  assert code == 1
  assert "3.13 3.12 3.11" in line and "apt install" in line
  assert "3.14" not in line


def test_PYTHON_picks_one_and_is_refused_in_one_line(machine):
  _, path = machine
  add(path, "python3.13", "3.13")
  old, mine = add(path, "old", "3.9"), add(path, "mine", "3.11")
  for wrong, word in ((old, "3.9, without a lock"), ("/none", "no Python")):
    code, _, [line] = start(machine, PYTHON=str(wrong))
    assert code == 1 and word in line and f"PYTHON={wrong}" in line
  assert start(machine, PYTHON=str(mine))[:2] == (0, "Python 3.11.0")


def test_an_environment_is_kept_and_a_PYTHON_that_differs_is_told_so(machine):
  repository, path = machine
  add(path, "python3.12", "3.12")
  other = add(path, "python3.13", "3.13")
  start(machine, PYTHON="python3.12")
  code, version, lines = start(machine)
  assert (code, version, lines) == (0, "Python 3.12.0", [])
  code, version, [line] = start(machine, PYTHON=str(other))
  assert (code, version) == (0, "Python 3.12.0")
  assert "3.12 and is kept; delete it" in line
  installed = repository / ".venv" / "installed.lock"
  assert installed.read_text() == "12\n"


def test_an_environment_without_a_lock_is_refused_in_one_line(machine):
  repository, path = machine
  add(path, "python3.12", "3.12")
  start(machine)
  (repository / "requirements" / "py312.lock").unlink()
  code, _, [line] = start(machine)
  assert code == 1 and "3.12" in line and "delete .venv" in line


def test_an_image_uses_its_own_interpreter_and_makes_no_environment(machine):
  repository, path = machine
  add(path, "python3", "3.12")
  code, version, lines = start(machine, RSRC_ENV="image")
  assert (code, version, lines) == (0, "Python 3.12.0", [])
  assert not (repository / ".venv").exists()
  add(path, "python3", "3.12", "#!{bash}\necho 'error: no grain' >&2\nexit 1\n")
  assert start(machine, RSRC_ENV="image") == (1, "", ["error: no grain"])
  code, _, [line] = start(machine, RSRC_ENV="docker")
  assert code == 1 and "RSRC_ENV=docker" in line and "image" in line


def test_an_image_reads_beside_before_its_own(machine):
  repository, path = machine
  add(path, "python3", "3.12")
  done = subprocess.run(
    [BASH, "-c", f'source "{repository}/tools/env.sh" && echo "$PYTHONPATH"'],
    env={"PATH": str(path), "RSRC_ENV": "image", "PYTHONPATH": os.sep},
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  found = done.stdout.strip().splitlines()[-1].split(":")
  assert found == [str(repository), f"{repository}/.beside", os.sep]
