"""What a run was made with: its config, versions, revision and devices."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_collections

from rsrc_jax import __version__
from rsrc_jax.output import files
from rsrc_jax.runtime import old_configs, places, run_log

PACKAGES = [
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "sentencepiece",
  "numpy",
  "ml-collections",
]

# Settings that may change when a run is resumed: they don't change its numbers.
FREE = (
  "checkpoint.", "mesh.", "log_every", "ledger.pue", "ledger.samples_served",
  "ledger.service_seconds",
)  # fmt: skip
# At these, a setting is no difference.
OLD = (
  old_configs.flat(old_configs.ADDED)
  | old_configs.ADDED_WITHIN
  | old_configs.ADDED_TO_TEXT
)


def check(config: ml_collections.ConfigDict, workdir: Path) -> None:
  """Refuses to resume a run of another config.

  Raises:
    ValueError: the folder holds one: names the field. Settings that came or
      went since (configs.ADDED, REMOVED) are no difference at their defaults.
  """
  path = workdir / "config.json"
  if not path.exists():
    return
  stored = files.read_json(path, "Put it back, or give another --workdir.")
  theirs, ours = (
    old_configs.flat(old_configs.upgraded(x)) for x in (stored, _plain(config))
  )
  for name in {**theirs, **ours}:
    before, now = theirs.get(name), ours.get(name)
    if name.startswith(FREE) or before == now:
      continue
    raise ValueError(
      f"{workdir} holds a run with config.{name}={before!r}, and "
      f"now it is {now!r}: give another --workdir, or the same settings "
      "to go on with that run."
    )


def record(config: ml_collections.ConfigDict, workdir: Path) -> None:
  """Writes config.json and environment.json, again where a run is resumed."""
  run_log.write_json(workdir / "config.json", _plain(config))
  run_log.write_json(workdir / "environment.json", environment())


def identity(config: ml_collections.ConfigDict) -> str:
  """A name for the run of a config: 12 hexadecimal digits.

  Of the values of all settings that its numbers depend on, in whatever order
  they were set: a run that may go on (`check`) has the same name.
  """
  return identity_of(settings(config))


def identity_of(values: dict[str, Any]) -> str:
  """`identity` of the values of all settings by dotted name, as JSON has them.

  For many configs that differ in a few settings: ConfigDicts are slow to copy.
  """
  return digest(filter(None, (line(*x) for x in sorted(values.items()))))


def line(name: str, value: Any) -> str:
  """What a setting adds to the identity; empty where it adds nothing."""
  if name.startswith(FREE) or OLD.get(name, OLD) == value:
    return ""
  return f"{name}={json.dumps(value, ensure_ascii=False)}"


def digest(lines: Iterable[str]) -> str:
  """12 hexadecimal digits for the lines of a run, which are in order."""
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def settings(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The values of all settings by dotted name, as JSON has them."""
  return old_configs.flat(_plain(config))


def stored_identity(workdir: Path) -> str | None:
  """`identity` of the run that a folder holds; None where it holds none."""
  try:
    stored = json.loads((workdir / "config.json").read_text())
    return identity_of(old_configs.flat(old_configs.upgraded(stored)))
  except (OSError, ValueError):
    return None


def environment() -> dict:
  """Versions, git revision and devices, as JSON values."""
  import jax  # not before: ids are made without it

  versions = {"rsrc-jax": __version__}  # of the code itself, installed or not
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = None
  return {
    "python": platform.python_version(),
    "platform": f"{platform.system()} {platform.machine()}",
    "packages": versions,
    "git": revision(),
    "devices": [d.device_kind for d in jax.devices()],
    "backend": jax.default_backend(),
    "processes": jax.process_count(),
    "arguments": sys.argv[1:],
  }


def made_with(environment: dict) -> dict:
  """The part of an `environment` that the summary of a run repeats."""
  kept = ("git", "python", "packages", "backend", "devices", "processes")
  return {name: environment[name] for name in kept}


def revision() -> str | None:
  """The commit of the source tree, with a "+" if files of it have changed.

  None where it is not a git checkout, and for an installed package: it may be
  in the checkout of another project.
  """
  if not places.is_clone():
    return None

  def git(*arguments):
    return subprocess.run(
      ["git", *arguments], cwd=places.PACKAGE, capture_output=True, text=True,
      check=True,
    ).stdout.strip()  # fmt: skip

  try:
    changed = git("status", "--porcelain", "--untracked-files=no", ".")
    return git("rev-parse", "HEAD") + ("+" if changed else "")
  except (OSError, subprocess.CalledProcessError):
    return None


def _plain(config) -> dict:
  return json.loads(config.to_json_best_effort())
