"""What is installed: a wheel and an editable clone, run from elsewhere."""

import configparser
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.runs import SHRUNK

import rsrc_jax

ROOT = Path(__file__).resolve().parents[1]
SOURCE = (
  "rsrc_jax", "configs", "setup.cfg", "pyproject.toml", "MANIFEST.in",
  "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
)  # fmt: skip
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.py"))


def setup_cfg() -> configparser.ConfigParser:
  found = configparser.ConfigParser()
  found.read(ROOT / "setup.cfg")
  return found


def test_every_folder_is_installed_and_so_are_the_configs():
  listed = setup_cfg()["options"]["packages"].split()
  folders = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in (ROOT / "rsrc_jax").rglob("*.py")
  }
  assert listed == sorted({*folders, "rsrc_jax.configs"})
  assert not (ROOT / "rsrc_jax" / "configs").exists()


def test_every_file_that_is_no_module_is_installed():
  text = setup_cfg()["options.package_data"]["rsrc_jax"]
  patterns = [x.strip() for x in text.split(",")]
  others = [
    str(path.relative_to(ROOT / "rsrc_jax"))
    for path in (ROOT / "rsrc_jax").rglob("*.*")
    if path.suffix not in (".py", ".pyc")
  ]
  assert len(others) >= 4
  for name in others:
    assert any(fnmatch.fnmatch(name, x) for x in patterns), name


# In environments of their own: they have the packages that this one has, but
# none of its links to this repository.


def elsewhere(*command, cwd, expect=0):
  """Runs a command that can't see this repository. -> (stdout, stderr)"""
  env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  done = subprocess.run(
    list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True,
    timeout=900,
  )  # fmt: skip
  assert done.returncode == expect, done.stdout + done.stderr[-3_000:]
  return done.stdout, done.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A copy of what a package is built from: building writes beside it."""
  folder = tmp_path_factory.mktemp("source")
  for name in SOURCE:
    if (ROOT / name).is_dir():
      ignore = shutil.ignore_patterns("__pycache__")
      shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    else:
      shutil.copy(ROOT / name, folder / name)
  return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  """The bin/ of a new environment; .pth files of the present one don't count.

  A folder that a .pth file adds is not searched for further ones, so a link to
  this repository in the present environment has no effect in the new one.
  """
  folder = tmp_path_factory.mktemp("environment")
  elsewhere(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
  [packages] = folder.glob("lib/python3*/site-packages")
  ends = ("site-packages", "dist-packages")
  (packages / "present.pth").write_text(
    "".join(f"{path}\n" for path in sys.path if path.endswith(ends))
  )
  return folder / "bin"


def installed(environment, *what, cwd):
  """Installs without dependencies and index. -> where rsrc_jax is."""
  elsewhere(
    sys.executable, "-m", "pip", f"--python={environment / 'python'}",
    "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
    "--force-reinstall", *what, cwd=cwd,
  )  # fmt: skip
  found, _ = elsewhere(
    environment / "python", "-c", "import rsrc_jax; print(rsrc_jax.__file__)",
    cwd=cwd,
  )  # fmt: skip
  return Path(found.strip())


def shrunk(**changes):
  settings = SHRUNK | {"only": "code"} | changes
  return [f"--config.{name}={value}" for name, value in settings.items()]


def build(source, folder, kind):
  hook = (
    f"from setuptools import build_meta as b; b.build_{kind}({str(folder)!r})"
  )
  elsewhere(sys.executable, "-c", hook, cwd=source)
  [found] = folder.iterdir()
  return found


@pytest.mark.slow
@pytest.mark.processes
def test_a_source_distribution_holds_what_a_wheel_is_built_from(
  source, tmp_path
):
  packed = build(source, tmp_path, "sdist")
  with tarfile.open(packed) as file:
    names = {x.partition("/")[2] for x in file.getnames()}
  assert {f"configs/{x}" for x in CONFIGS} <= names
  assert {"rsrc_jax/report/page.css", "CHANGELOG.md", "LICENSE"} <= names
  assert not [x for x in names if x.startswith("tests")]


@pytest.mark.slow
@pytest.mark.processes
def test_a_wheel_runs_from_another_folder(source, environment, tmp_path):
  (tmp_path / "wheel").mkdir()
  wheel = build(source, tmp_path / "wheel", "wheel")
  with zipfile.ZipFile(wheel) as file:
    names = file.namelist()
  assert {f"rsrc_jax/configs/{x}" for x in CONFIGS} <= set(names)
  top = {x.partition("/")[0] for x in names}
  assert top == {"rsrc_jax", f"rsrc_jax-{rsrc_jax.__version__}.dist-info"}
  work = tmp_path / "work"
  work.mkdir()
  found = installed(environment, wheel, cwd=work)
  assert found.is_relative_to(environment.parent)
  package = found.parent
  # A config that starts from another, by a name that only a clone has a file
  # of; from here on the command ends where its run is.
  said, _ = elsewhere(
    environment / "rsrc", "--config=configs/qa.py", *shrunk(steps=2),
    "--config.pretrain.steps=2", "--config.pretrain.warmup_from=1",
    "--workdir=mine", cwd=work,
  )  # fmt: skip
  assert said.splitlines()[-1] == "report: mine/report.html"
  said, _ = elsewhere(
    environment / "python", "-m", "rsrc_jax.main", "--config=tiny",
    *shrunk(), cwd=work,
  )  # fmt: skip
  run = work / "runs" / "tiny-seed0"
  assert said.splitlines()[-1] == f"report: {run}/report.html"
  made = json.loads((run / "environment.json").read_text())
  assert made["git"] is None
  assert made["packages"]["rsrc-jax"] == rsrc_jax.__version__
  # The same again is answered from the run; the report is written again.
  page = (run / "report.html").read_bytes()
  again, _ = elsewhere(environment / "rsrc", *shrunk(), cwd=work)
  assert again == said
  elsewhere(environment / "rsrc", "report", run, cwd=work)
  assert (run / "report.html").read_bytes() == page
  # A card of provenance names a revision, which only a clone has.
  _, error = elsewhere(
    environment / "rsrc", "accounting", "card", run, cwd=work, expect=1
  )
  assert error.endswith("from a git checkout.\n")
  elsewhere(
    environment / "rsrc", "sweep", "run", "--config=tiny", "--seeds=0,1",
    "--slurm=array.sh", cwd=work,
  )  # fmt: skip
  assert f"PYTHONPATH={package.parent}" in (work / "array.sh").read_text()
  assert (
    f"--workdir={work}/runs/tiny/tiny-1-" in (work / "array.sh").read_text()
  )
  _, error = elsewhere(
    environment / "rsrc", "--config=tyni", cwd=work, expect=1
  )
  assert error.count("\n") == 1 and "Did you mean tiny?" in error
  assert not list(package.parent.glob("runs"))


@pytest.mark.slow
@pytest.mark.processes
def test_an_editable_clone_runs_from_another_folder(
  source, environment, tmp_path
):
  found = installed(environment, "--editable", source, cwd=tmp_path)
  assert found == source / "rsrc_jax" / "__init__.py"
  said, _ = elsewhere(
    environment / "rsrc", "--config=configs/tiny.py", *shrunk(), cwd=tmp_path
  )
  run = source / "runs" / "tiny-seed0"  # as ./tools/run of the clone
  assert said.splitlines()[-1] == f"report: {run}/report.html"
  # What is changed in the clone is changed.
  (source / "configs" / "mine.py").write_text("raise SystemExit('changed')")
  _, error = elsewhere(
    environment / "rsrc", "--config=mine", cwd=tmp_path, expect=1
  )
  assert error.strip() == "changed"
