"""Folders: the shipped configs, and where runs go.

In a clone the configs are beside the package, and runs go into the clone. A
wheel has the configs inside of the package; its runs go into the current
folder, never into site-packages.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def configs(package: Path = PACKAGE) -> Path:
  """The folder of the shipped configs.

  package: the folder rsrc_jax, of a clone or in site-packages.
  """
  inside = package / "configs"
  return inside if inside.is_dir() else package.parent / "configs"


def is_clone(package: Path = PACKAGE) -> bool:
  """Whether the package is imported from its source tree."""
  return configs(package).parent != package


def home(package: Path = PACKAGE) -> Path:
  """The folder of runs/ and experiments/: the clone, or the current folder."""
  return package.parent if is_clone(package) else Path.cwd()


def command(started: str = "") -> str:
  """What starts a run, for messages that name a command to go on with.

  started: sys.argv[0] of this one.
  """
  by_name = Path(started).stem == "rsrc"
  return "./tools/run" if is_clone() and not by_name else "rsrc"
