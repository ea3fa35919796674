"""Settings of jax that must stand before it is imported, for every test."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

import pytest

from rsrc_jax.runtime import cache  # does not import jax

CACHE = Path(__file__).resolve().parent.parent / ".cache"
PROGRAMS = 1 << 30  # bytes of compiled programs that are kept from run to run

flags = os.environ.get("XLA_FLAGS", "")
if "host_platform_device_count" not in flags:
  flags += " --xla_force_host_platform_device_count=8"
# Its fusions take most of the time that compiling takes, and none is needed.
# jaxlib 0.11 has the switch under another name, and ends a process that gives
# it a flag that it does not know.
if "fusion_emitters" not in flags:
  old = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)
  flags += (
    " --xla_cpu_use_fusion_emitters=false"
    if old
    else " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
  )
os.environ["XLA_FLAGS"] = flags.strip()
# As the command line has it: its processes find what was compiled here.
cache.compile_fast(os.environ)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("RSRC_CACHE", str(CACHE))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "jax-tests"))
# Small programs too: what runs op by op is hundreds of them in each process.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Compiling is what tests spend their time on; none measures speed.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax  # noqa: E402

cache.keep_memory()
pytest_plugins = ("durations",)


LITERALS = 8  # programs that turn a module's constants into arrays, at most
compiled = []
jax.monitoring.register_event_duration_secs_listener(
  lambda name, *_, **__: "backend_compile" in name and compiled.append(name)
)


def pytest_sessionfinish(session):
  """Keeps the cache bounded: the oldest programs go.

  jax's own bound reads the whole folder at every entry that it writes.
  """
  if hasattr(session.config, "workerinput"):
    return
  kept = sorted(
    (x.stat().st_mtime, x.stat().st_size, x)
    for x in (CACHE / "jax-tests").glob("*-cache")
  )
  excess = sum(size for _, size, _ in kept) - PROGRAMS
  for _, size, path in kept:
    if excess <= 0:
      break
    path.unlink(missing_ok=True)
    excess -= size


def pytest_collectreport(report):
  """No test module works while it is imported: every worker would pay for it.

  What it computes goes into a fixture or a cached function. What is compiled is
  counted, since no clock has to be read for that.
  """
  found = len(compiled)
  compiled.clear()
  if found > LITERALS:
    raise pytest.UsageError(
      f"{report.nodeid} compiles {found} programs while it is imported: move "
      "them into fixtures or cached functions"
    )


def pytest_collection_modifyitems(config, items):
  """Files of tests for the workers, longest first.

  xdist hands files out in this order (--no-loadscope-reorder).
  """
  import durations  # a plugin: it is imported after this file

  known = durations.known()
  cost = lambda file: known.get(file, durations.UNKNOWN)[0]
  items.sort(key=lambda item: -cost(item.nodeid.split("::")[0]))


def pytest_collection_finish():
  """The collector of cycles passes over what is imported, and comes less often.

  It takes a fifth of the time that tracing takes otherwise.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory):
  """Runs of the shrunk default (helpers.runs.Runs), once for each worker."""
  from helpers import runs

  return runs.Runs.of(runs.shrunk(), tmp_path_factory.mktemp("tiny_runs"))
