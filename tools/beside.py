"""What an accelerator image lacks, and the wheels to carry there.

  python3 tools/beside.py                               what is missing here
  python3 tools/beside.py --have=have.txt --fetch=FOLDER --for-python=3.12
  python3 tools/beside.py --wheels=FOLDER               offline, in the image

The first and the last are run by the image's own interpreter. --fetch is run on
a machine with a network; have.txt is what `python3 -m pip list --format=freeze`
prints in the image. What is missing comes from the lock of that Python and is
checked against its hashes; what the image has is left as it is, jax above all.
Wheels are installed into .beside, which RSRC_ENV=image ./tools/run reads.
"""

import argparse
import email
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
try:
  import packaging  # noqa: F401
except ModuleNotFoundError:  # pip has a copy of its own
  import pip

  sys.path.append(str(Path(pip.__file__).parent / "_vendor"))

from packaging.requirements import Requirement  # noqa: E402
from packaging.utils import canonicalize_name, parse_wheel_filename  # noqa: E402

from rsrc_jax.runtime import versions  # noqa: E402

BESIDE = ROOT / ".beside"
# An image's own builds of these fit its driver: none is ever replaced.
OWN = ("jax", "jaxlib", "numpy", *versions.PLUGINS)
GUIDE = "docs/running.md, 'An accelerator image'"
# The oldest and the newest glibc that wheels are tagged for.
GLIBC = ("2014", "_2_17", "_2_24", "_2_26", "_2_27", "_2_28")


def main(arguments: Sequence[str] | None = None) -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--have", type=Path, help="pip's list of the image")
  flags.add_argument("--fetch", type=Path, help="folder to fetch wheels into")
  flags.add_argument("--for-python", help="the image's, for example 3.12")
  flags.add_argument("--for-machine", default="x86_64", help="or aarch64")
  flags.add_argument("--wheels", type=Path, help="folder of carried wheels")
  flags.add_argument("--extra", action="append", default=[], help="test, ...")
  flags.add_argument("--quiet", action="store_true", help="only what is wrong")
  asked = flags.parse_args(arguments)
  try:
    wanted, _ = versions.bounds(ROOT, asked.extra)
    if asked.fetch:
      fetch(asked, wanted)
      return
    if asked.wheels:
      install(asked.wheels, wanted)
    check(wanted, quiet=asked.quiet)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from None


def check(wanted: Sequence[Requirement], *, quiet: bool) -> None:
  """Raises ValueError, in one line, if something is missing here."""
  have = installed([str(BESIDE), *sys.path])
  of = lambda name: metadata_of(name) if name in have else ()
  found = lacking(wanted, have, lambda names: {x: of(x) for x in names})
  if found:
    raise ValueError(
      f"{sys.executable} lacks {listed(found)}: carry it there with "
      f"tools/beside.py ({GUIDE})."
    )
  if not quiet:
    print(f"{sys.executable} has all {len(wanted)} requirements.")


def metadata_of(name: str) -> Sequence[str]:
  where = [str(BESIDE), *sys.path]
  [one, *_] = metadata.distributions(name=name, path=where)
  return one.requires or ()


def installed(where: Iterable[str]) -> dict[str, str]:
  """Version by canonical name of what lies in folders; the first one counts."""
  found = {}
  for one in metadata.distributions(path=list(where)):
    if one.name:  # what was removed by half has none
      found.setdefault(canonicalize_name(one.name), one.version)
  return found


def listed(found: Mapping[str, str]) -> str:
  """grain, flax (0.11 is there, not >=0.12.8)"""
  words = lambda why: "" if why == "missing" else f" ({why})"
  return ", ".join(f"{name}{words(why)}" for name, why in found.items())


Requires = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]


def lacking(
  wanted: Iterable[Requirement],
  have: Mapping[str, str],
  requires: Requires,
  environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
  """What has to be added, with all that it needs itself.

  Args:
    wanted: the bounds.
    have: the version by canonical name that is there.
    requires: names -> the lines of requirements of each. It is asked about what
      is to be added, and about what is there and wanted with an extra.
    environment: of markers; by default this machine's.

  Returns:
    By canonical name, "missing" or why the version that is there won't do.
  """
  found, seen, level = {}, set(), list(wanted)
  while level:
    ask = {}
    for one in level:
      name = canonicalize_name(one.name)
      if name not in have:
        found[name] = "missing"
      elif not versions.fits(one.specifier, have[name]):
        found.setdefault(name, f"{have[name]} is there, not {one.specifier}")
      if name in found or one.extras:
        ask.setdefault(name, set()).update(one.extras)
    ask = {k: v for k, v in ask.items() if (k, frozenset(v)) not in seen}
    seen |= {(k, frozenset(v)) for k, v in ask.items()}
    lines = requires(sorted(ask))
    level = [
      one
      for name, extras in ask.items()
      for one in versions.active(
        lines[name], extras=extras, environment=environment
      )
    ]
  return found


def listing(text: str) -> dict[str, str]:
  """Version by canonical name, of pip's list in the form of `freeze`.

  Raises:
    ValueError: a line gives no version, as `pip freeze` does for packages that
      were installed from a file.
  """
  found = {}
  for line in text.splitlines():
    line = line.strip()
    if not line or line.startswith("#"):
      continue
    name, _, version = line.partition("==")
    if not re.fullmatch(r"[\w.-]+", name) or not version:
      raise ValueError(
        f"--have: {line!r} is not NAME==VERSION: write the file with "
        "`python3 -m pip list --format=freeze`."
      )
    found[canonicalize_name(name)] = version
  return found


def pinned(python: str) -> dict[str, str]:
  """By canonical name, the lines of a lock: NAME==VERSION and its hashes."""
  lock = ROOT / "requirements" / f"py{python.replace('.', '')}.lock"
  if not lock.is_file():
    known = sorted(lock.parent.glob("py*.lock"))
    names = ", ".join(f"3.{x.stem.removeprefix('py3')}" for x in known)
    raise ValueError(f"Python {python} has no lock: there are {names}.")
  blocks = re.split(r"^(?=[\w.-]+==)", lock.read_text(), flags=re.M)
  names = [x.partition("==")[0] for x in blocks]
  pairs = zip(names, blocks, strict=True)
  return {canonicalize_name(name): block for name, block in pairs if name}


def fetch(asked, wanted: Sequence[Requirement]) -> None:
  """Downloads what the image lacks, from the lock, and prints its size."""
  if not (asked.have and asked.for_python):
    raise ValueError(
      "--fetch needs --have=FILE and --for-python=3.x of the image."
    )
  have, lock = listing(asked.have.read_text()), pinned(asked.for_python)
  platforms = [f"manylinux{x}_{asked.for_machine}" for x in GLIBC]
  tags = [f"--python-version={asked.for_python}", "--implementation=cp",
          f"--abi=cp{asked.for_python.replace('.', '')}", "--abi=abi3",
          "--abi=none", *(f"--platform={x}" for x in platforms)]  # fmt: skip
  asked.fetch.mkdir(parents=True, exist_ok=True)
  environment = {
    "python_version": asked.for_python, "sys_platform": "linux",
    "python_full_version": f"{asked.for_python}.0", "os_name": "posix",
    "platform_system": "Linux", "platform_machine": asked.for_machine,
    "implementation_name": "cpython", "platform_python_implementation":
    "CPython",
  }  # fmt: skip
  with tempfile.TemporaryDirectory() as scratch:

    def requires(names):
      """Of the wheels of the lock, which are downloaded for it."""
      absent = sorted(set(names) - set(wheels(Path(scratch))))
      refuse(absent, lock)
      lines = "".join(lock[x] for x in absent)
      pip("download", lines, ["--only-binary=:all:", *tags, "-d", scratch])
      there = wheels(Path(scratch))
      return {name: requirements_of(there[name]) for name in names}

    found = lacking(wanted, have, requires, environment)
    kept = keep_own(found)
    for name, path in wheels(Path(scratch)).items():
      if name in kept:
        shutil.copy(path, asked.fetch / path.name)
  size = sum(x.stat().st_size for x in asked.fetch.glob("*.whl"))
  print(f"The image lacks {listed(kept) or 'nothing'}.")
  print(f"{asked.fetch}: {len(kept)} wheels, {size / 1e6:.1f} MB to carry.")


def keep_own(found: Mapping[str, str]) -> dict[str, str]:
  """What may be put beside an image.

  Raises:
    ValueError: one of its own builds is missing or out of bounds.
  """
  for name in OWN:
    if name in found:
      why = found[name]
      raise ValueError(
        f"the image's {name} won't do ({why}), and it is never replaced: take "
        "another image, or make .venv by ./tools/run without RSRC_ENV."
      )
  return dict(found)


def refuse(names: Iterable[str], lock: Mapping[str, str]) -> None:
  absent = [x for x in names if x not in lock]
  if absent:
    raise ValueError(f"no version of {', '.join(absent)} is in the lock.")


def wheels(folder: Path) -> dict[str, Path]:
  """Path by canonical name."""
  found = sorted(folder.glob("*.whl"))
  return {parse_wheel_filename(x.name)[0]: x for x in found}


def requirements_of(wheel: Path) -> list[str]:
  with zipfile.ZipFile(wheel) as archive:
    [name] = [
      x for x in archive.namelist()
      if re.fullmatch(r"[^/]+\.dist-info/METADATA", x)
    ]  # fmt: skip
    about = email.message_from_bytes(archive.read(name))
  return about.get_all("Requires-Dist") or []


def install(folder: Path, wanted: Sequence[Requirement]) -> None:
  """Puts into .beside what this interpreter lacks and the folder has."""
  there = wheels(folder)
  if not there:
    raise ValueError(f"--wheels={folder} holds no wheel: fetch some ({GUIDE}).")
  have = installed(x for x in sys.path if Path(x or ".").resolve() != BESIDE)
  of = lambda x: requirements_of(there[x]) if x in there else ()
  found = lacking(wanted, have, lambda names: {x: of(x) for x in names})
  names = [x for x in keep_own(found) if x in there]
  lock = pinned("{}.{}".format(*sys.version_info))
  refuse(names, lock)
  part = BESIDE.with_name(".beside.part")
  shutil.rmtree(part, ignore_errors=True)
  offline = ["--no-index", f"--find-links={folder}", f"--target={part}"]
  pip("install", "".join(lock[x] for x in names), offline)
  shutil.rmtree(BESIDE, ignore_errors=True)
  part.rename(BESIDE)
  print(f"{BESIDE}: {len(names)} packages.")


def pip(what: str, lines: str, arguments: Sequence[str]) -> None:
  """Runs pip on lines of a lock, hashes checked, without dependencies."""
  if not lines:
    return
  with tempfile.TemporaryDirectory() as scratch:
    listed = Path(scratch) / "lines.txt"
    listed.write_text(lines)
    done = subprocess.run(
      [sys.executable, "-m", "pip", what, "--quiet", "--no-deps",
       "--disable-pip-version-check", "--require-hashes", "-r", str(listed),
       *arguments],
    )  # fmt: skip
  if done.returncode:
    raise ValueError(f"pip {what} failed: its reason is above.")


if __name__ == "__main__":
  main()
