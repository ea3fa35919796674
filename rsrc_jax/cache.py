"""Where compiled programs are kept, so that the next run need not wait."""

import os
from pathlib import Path


def keep_programs(environment: dict[str, str] | None = None) -> None:
  """Sets jax's cache in `environment`, by default this process's.

  To be called before jax is imported; what the user has set stays.
  """
  environment = os.environ if environment is None else environment
  home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  folder = home / "rsrc-jax" / "jax"
  environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
  environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
