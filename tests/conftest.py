"""Settings of jax that must stand before it is imported, for every test."""

import os
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"

flags = os.environ.get("XLA_FLAGS", "")
if "host_platform_device_count" not in flags:
  os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Compiling is what tests spend their time on; none measures speed.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

from rsrc_jax.runtime import cache  # noqa: E402

cache.keep_memory()
