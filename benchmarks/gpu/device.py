"""The card, its software, and the rates that the other steps divide by."""

import importlib.metadata
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxlib

from benchmarks.gpu.run import driver_version
from benchmarks.gpu.timing import Rates, measured_rates

# What an image may bring of jax's CUDA parts.
PLUGINS = (
  "jax-cuda13-plugin", "jax-cuda13-pjrt", "jax-cuda12-plugin",
  "jax-cuda12-pjrt", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12",
)  # fmt: skip


def device(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  del out
  chip = jax.devices()[0]
  stats = chip.memory_stats() or {}
  limit = stats.get("bytes_limit")
  asked = smi()
  cells = {
    "card": chip.device_kind,
    # What jax may take of it: by default three quarters.
    "memory": (
      f"{asked.get('memory.total', '?')} in all, "
      f"{limit / 2**30 if limit else 0:.1f} GiB for jax"
    ),
    "driver": asked.get("driver_version") or driver_version(),
    "CUDA": " ".join(chip.client.platform_version.split()),
    "power limit": asked.get("power.limit"),
    "jax, jaxlib": f"{jax.__version__}, {jaxlib.__version__}",
    "plug-in": ", ".join(f"{k} {v}" for k, v in installed().items()) or "none",
    "XLA_FLAGS": os.environ.get("XLA_FLAGS") or "none",
  }
  for row, value in cells.items():
    yield row, {"value": value}
  rates = measured_rates(toy)
  for name, rate in rates.products.items():
    yield f"products in {name}, TFLOP/s", {"value": rate / 1e12}
  yield "in place, GB/s", {"value": rates.bandwidth / 1e9}
  micro = 1e6 * rates.kernel
  yield "a kernel in a row of them, microseconds", {"value": micro}


def installed() -> dict[str, str]:
  found = {}
  for name in PLUGINS:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def smi() -> dict[str, str]:
  """What nvidia-smi says of the first card; nothing without it."""
  names = ("driver_version", "memory.total", "power.limit", "clocks.max.sm")
  ask = [
    "nvidia-smi",
    f"--query-gpu={','.join(names)}",
    "--format=csv,noheader",
  ]
  try:
    done = subprocess.run(ask, capture_output=True, text=True, timeout=30)
    values = re.split(r",\s*", done.stdout.splitlines()[0].strip())
    return dict(zip(names, values, strict=True))
  except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
    return {}


def rates(toy: bool, out: Path) -> Rates:
  """The rates that the step `device` stored in OUT, or measured now."""
  path = out / f"device{'.toy' if toy else ''}.json"
  if path.is_file():
    stored = json.loads(path.read_text())
    here = stored["here"]["device"] == jax.devices()[0].device_kind
    if stored["status"] == "done" and here:
      return read_rates(stored["values"])
  return measured_rates(toy)


def read_rates(values: dict) -> Rates:
  """The rates in the rows that `device` yields."""
  of = lambda row: values[row]["value"]
  products = {
    name: 1e12 * of(f"products in {name}, TFLOP/s")
    for name in ("float32", "float32 highest", "bfloat16")
  }
  return Rates(
    products, 1e9 * of("in place, GB/s"),
    of("a kernel in a row of them, microseconds") / 1e6,
  )  # fmt: skip
