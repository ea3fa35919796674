"""Whether Python and the installed packages fit, before jax is imported.

In a checkout the bounds are those of setup.cfg, and what has been tried is in
the locks of requirements/. An installed package has its bounds as metadata.
"""

import configparser
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
# A newer one is pointed out even within its bounds: programs depend on them.
PAIR = ("jax", "jaxlib", "flax")
PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin")


def check(root: Path = ROOT) -> list[str]:
  """-> a line for each thing that is newer than what has been tried.

  Raises:
    ValueError: a package is missing, older than its bound, or does not fit
      another one. The message is one line with the remedy.
  """
  wanted, python = bounds(root)
  have = installed([*(x.name for x in wanted), *PAIR, *PLUGINS])
  names = [x for x in ("jax", "flax") if x in have]
  needs = {name: metadata.requires(name) or [] for name in names}
  return [
    *of_python(python, sys.version_info[:2]),
    *judge(wanted, have, needs, locked(root)),
  ]


def installed(names: Iterable[str]) -> dict[str, str]:
  """Version by canonical name; what is not there is left out."""
  found = {}
  for name in names:
    try:
      text = metadata.distribution(name).read_text("METADATA") or ""
    except metadata.PackageNotFoundError:
      continue
    # Parsing all of it, as metadata.version does, takes ten times as long.
    line = re.search(r"^Version: *(\S+)", text, re.M)
    found[canonicalize_name(name)] = line[1] if line else metadata.version(name)
  return found


def bounds(
  root: Path = ROOT, extras: Sequence[str] = ()
) -> tuple[list[Requirement], str]:
  """What the package requires, and the Pythons that it runs on."""
  if (root / "setup.cfg").is_file():
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += [config["options.extras_require"][x] for x in extras]
    lines = [x for x in "\n".join(texts).splitlines() if x.strip()]
    return active(lines), config["options"]["python_requires"]
  about = metadata.metadata("rsrc-jax")
  lines = about.get_all("Requires-Dist") or []
  return active(lines, extras=extras), about["Requires-Python"]


def active(
  lines: Iterable[str],
  *,
  extras: Iterable[str] = (),
  environment: Mapping[str, str] | None = None,
) -> list[Requirement]:
  """The requirements whose markers hold, by default on this machine."""
  found = []
  for one in map(Requirement, lines):
    holds = lambda extra, marker=one.marker: marker.evaluate(
      {**(environment or {}), "extra": extra}
    )
    if one.marker is None or any(map(holds, ["", *extras])):
      found.append(one)
  return found


def locked(root: Path = ROOT) -> dict[str, list[Version]]:
  """The versions of the pair in each lock; none outside of a clone."""
  found = {}
  line = re.compile(rf"^({'|'.join(PAIR)})==([^\s;]+)", re.M)
  for path in sorted((root / "requirements").glob("py*.lock")):
    for name, version in line.findall(path.read_text()):
      found.setdefault(name, []).append(Version(version))
  return found


def of_python(bound: str, running: tuple[int, int]) -> list[str]:
  """Raises ValueError for an older one; a newer one gives a line."""
  name = ".".join(map(str, running))
  if fits(bound, name):
    return []
  if older(bound, name):
    raise ValueError(
      f"Python {name} is older than rsrc-jax needs ({bound}): install a newer "
      "one and set PYTHON to its path."
    )
  return [
    f"Python {name} is newer than any that was tried ({bound}): if something "
    "fails, set PYTHON to an older one."
  ]


def judge(
  wanted: Iterable[Requirement],
  have: Mapping[str, str],
  needs: Mapping[str, Sequence[str]],
  known: Mapping[str, Sequence[Version]],
) -> list[str]:
  """Compares what is installed with what was asked for.

  Args:
    wanted: the bounds.
    have: the installed version by canonical name.
    needs: lines of requirements of installed packages, by name.
    known: versions that have been tried, by name; may be empty.

  Returns:
    A line for each package that is newer than bounded or tried.

  Raises:
    ValueError: a package is missing, too old, or does not fit another one.
  """
  notes = []
  for one in wanted:
    name, bound = canonicalize_name(one.name), one.specifier
    version = have.get(name)
    if version is None:
      raise ValueError(f"{one.name} is not installed: {remedy(one)}.")
    if older(bound, version):
      raise ValueError(
        f"{name} {version} is older than bounded ({bound}): {remedy(one)}."
      )
    newest = max(known.get(name, ()), default=None)
    untried = name in PAIR and newest and Version(version) > newest
    if untried or not fits(bound, version):
      tried = newest if newest else str(bound)
      notes.append(
        f"{name} {version} is newer than what was tried ({tried}): if "
        f"something fails, {remedy(one)}."
      )
  for name, lines in needs.items():
    for one in active(lines):
      version = have.get(canonicalize_name(one.name))
      if one.name in PAIR and version and not fits(one.specifier, version):
        raise ValueError(
          f"{name} {have[name]} needs {one.name}{one.specifier}, and "
          f"{one.name} is {version}: pip install --upgrade {name} {one.name}."
        )
  for name in PLUGINS:
    if name in have and have[name] != have.get("jaxlib"):
      extra = name.split("-")[1]
      raise ValueError(
        f"{name} {have[name]} does not fit jaxlib {have.get('jaxlib')}, and "
        f'jax would not use it: pip install --upgrade "rsrc-jax[{extra}]".'
      )
  return notes


def remedy(one: Requirement) -> str:
  return f'pip install "{one.name}{one.specifier}"'


def fits(bound: SpecifierSet | str, version: str) -> bool:
  return SpecifierSet(str(bound)).contains(version, prereleases=True)


def older(bound: SpecifierSet | str, version: str) -> bool:
  """Whether a version is below the lower end of a bound."""
  low = [x for x in SpecifierSet(str(bound)) if x.operator[0] in ">=~"]
  return any(Version(version) < Version(x.version.rstrip(".*")) for x in low)
