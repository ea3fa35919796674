"""NVIDIA cards that were asked for and are not there, before jax is imported.

Without a card, jax's CUDA plug-in prints a traceback and the run goes on with
the CPU; with JAX_PLATFORMS=cuda the run ends in an assertion of jax.
"""

import importlib.util
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

CUDA = ("cuda", "gpu")
# Made by the driver: a card, a Jetson's, and that of Windows' Linux.
DEVICES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "dxg")
PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def check(environment: MutableMapping[str, str] | None = None) -> list[str]:
  """Sets jax to the CPU where a plug-in has no card. -> a line that says so.

  Raises:
    ValueError: JAX_PLATFORMS asks for CUDA and it can't be had. One line.
  """
  environment = os.environ if environment is None else environment
  plugins = [x for x in PLUGINS if importlib.util.find_spec(x)]
  notes = judge(environment, plugins, there=visible(environment))
  if notes:
    environment["JAX_PLATFORMS"] = "cpu"
  return notes


def visible(
  environment: Mapping[str, str], folder: Path = Path("/dev")
) -> bool:
  """Whether the driver shows a card, and it is not hidden from the process."""
  if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
    return False
  return any(any(folder.glob(x)) for x in DEVICES)


def judge(
  environment: Mapping[str, str], plugins: list[str], *, there: bool
) -> list[str]:
  """What `check` says, of a machine that is described."""
  asked = environment.get("JAX_PLATFORMS", "")
  first = asked.split(",")[0].strip()
  if first in CUDA and not plugins:
    raise ValueError(
      f"JAX_PLATFORMS={asked}, but jax has no CUDA plug-in: pip install "
      '"rsrc-jax[cuda13]" (or cuda12, for an older driver).'
    )
  if first in CUDA and not there:
    raise ValueError(
      f"JAX_PLATFORMS={asked}, but no NVIDIA card is visible: see nvidia-smi "
      "and CUDA_VISIBLE_DEVICES, or set JAX_PLATFORMS=cpu."
    )
  if asked or there or not plugins:
    return []
  return [
    f"{plugins[0]} is installed, but no NVIDIA card is visible: the run uses "
    "the CPU. See nvidia-smi and CUDA_VISIBLE_DEVICES, or set "
    "JAX_PLATFORMS=cpu."
  ]


def backend() -> str:
  """The backend that jax has started, such as "cpu".

  Raises:
    ValueError: it could not start one. One line.
  """
  import jax  # not before: see above

  try:
    return jax.default_backend()
  except (RuntimeError, AssertionError) as error:
    asked = os.environ.get("JAX_PLATFORMS") or ""
    reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
    raise ValueError(
      f"JAX_PLATFORMS={asked}: jax can't start it ({reason}). Unset it, set "
      "JAX_PLATFORMS=cpu, or install jax for the accelerator "
      "(docs/running.md)."
    ) from None


def check_used(backend: str) -> None:
  """Raises ValueError where jax passed over a card: call it once jax is up.

  Args:
    backend: jax.default_backend().
  """
  plugins = [x for x in PLUGINS if importlib.util.find_spec(x)]
  if problem := unused(os.environ, plugins, backend, there=visible(os.environ)):
    raise ValueError(problem)


def unused(
  environment: Mapping[str, str],
  plugins: list[str],
  backend: str,
  *,
  there: bool,
) -> str | None:
  """What `check_used` says, of a machine that is described."""
  asked = bool(environment.get("JAX_PLATFORMS"))
  if asked or not there or not plugins or backend != "cpu":
    return None
  return (
    "an NVIDIA card is visible, but jax could not start it (its reason is "
    'above): pip install --upgrade "rsrc-jax[cuda13]" (or cuda12, for an older '
    "driver), or set JAX_PLATFORMS=cpu to use the CPU."
  )
