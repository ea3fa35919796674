"""What a run was made with: its config, versions, revision and devices."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import jax
import ml_collections

from rsrc_jax.runtime import run_log

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


def check(config: ml_collections.ConfigDict, workdir: Path) -> None:
  """Refuses to resume a run of another config.

  Raises:
    ValueError: the folder holds a run with another value of some field, which
      the message names.
  """
  path = workdir / "config.json"
  if not path.exists():
    return
  theirs, ours = _flat(json.loads(path.read_text())), _flat(_plain(config))
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


def environment() -> dict:
  """Versions, git revision and devices, as JSON values."""
  versions = {}
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

  None where it is not a git checkout.
  """
  root = Path(__file__).resolve().parents[1]

  def git(*arguments):
    return subprocess.run(
      ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()

  try:
    changed = git("status", "--porcelain", "--untracked-files=no", ".")
    return git("rev-parse", "HEAD") + ("+" if changed else "")
  except (OSError, subprocess.CalledProcessError):
    return None


def _plain(config) -> dict:
  return json.loads(config.to_json_best_effort())


def _flat(tree: dict, prefix: str = "") -> dict:
  leaves = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      leaves |= _flat(value, f"{prefix}{key}.")
    else:
      leaves[prefix + key] = value
  return leaves
