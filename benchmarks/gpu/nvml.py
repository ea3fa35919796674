"""NVIDIA's management library by ctypes, for images that lack pynvml.

It has those functions of pynvml, under the same names, that
rsrc_jax.accounting.energy_sources calls. Never run on a GPU: the signatures are
those of NVML's documentation (nvml.h).
"""

import ctypes
import importlib
from types import SimpleNamespace
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


def module() -> Any:
  """pynvml, or what stands in for it; None where there is no driver."""
  try:
    return importlib.import_module("pynvml")
  except ImportError:
    pass
  try:
    return bind(ctypes.CDLL(LIBRARY))
  except (OSError, AttributeError):
    return None


def bind(library: Any) -> SimpleNamespace:
  """pynvml's functions over a loaded library.

  Raises:
    AttributeError: the library lacks one of them.
  """
  init, shutdown = library.nvmlInit_v2, library.nvmlShutdown
  by_index = library.nvmlDeviceGetHandleByIndex_v2

  def number(name: str, kind: type):
    function = getattr(library, name)

    def ask(*given) -> int:
      found = kind()
      check(function(*given, ctypes.byref(found)), name)
      return found.value

    return ask

  def handle(index: int) -> ctypes.c_void_p:
    found = ctypes.c_void_p()
    status = by_index(ctypes.c_uint(index), ctypes.byref(found))
    check(status, "nvmlDeviceGetHandleByIndex")
    return found

  energy = "nvmlDeviceGetTotalEnergyConsumption"
  power = "nvmlDeviceGetPowerUsage"
  return SimpleNamespace(
    nvmlInit=lambda: check(init(), "nvmlInit"),
    nvmlShutdown=lambda: check(shutdown(), "nvmlShutdown"),
    nvmlDeviceGetCount=number("nvmlDeviceGetCount_v2", ctypes.c_uint),
    nvmlDeviceGetHandleByIndex=handle,
    nvmlDeviceGetTotalEnergyConsumption=number(energy, ctypes.c_ulonglong),
    nvmlDeviceGetPowerUsage=number(power, ctypes.c_uint),
  )


def check(status: int, name: str) -> None:
  if status:
    raise OSError(f"{name} answered {status}, which is no success (0)")
