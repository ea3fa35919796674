"""What can count or model the joules of this machine: RAPL, NVML, a TPU, time.

The best source of each term is taken; see energy.py. NVML follows its
documentation and was tried against fakes; the TPU model has never met a TPU.
"""

import importlib
import math
import os
import platform
import re
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.accounting.energy import (
  BUSY,
  Machine,
  Meter,
  Term,
  Use,
  times,
)

POLL_SECONDS = 0.1  # between power samples; NVML's own are about as far apart
PACKAGE_WATTS = 1000.0  # no CPU package draws more: bounds a wrap-around
Count = Callable[[], float]  # a running total; differences count


class _Source(NamedTuple):
  term: Term
  counts: dict[str, Count]
  close: Callable[[], None]


def open_meter(
  *,
  powercap: Path = Path("/sys/class/powercap"),
  nvml: Any = None,
  accelerators: tuple[str, ...] = (),
) -> Meter:
  """Finds what can be measured here. Takes no root, no network and no jax.

  Args:
    powercap: where Linux shows RAPL's counters.
    nvml: the module pynvml or what stands in for it; None imports it.
    accelerators: kinds of the devices in use, one each; none on a CPU.
  """
  machine = this_machine(accelerators)
  sources = [_rapl(powercap) or _modelled_host(machine)]
  if accelerators:
    tpu = any("TPU" in kind.upper() for kind in accelerators)
    sources.append(_tpu() if tpu else _nvml(nvml))
  counts = {k: v for source in sources for k, v in source.counts.items()}

  def read() -> Use:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() + children.ru_utime + children.ru_stime
    counted = {name: count() for name, count in counts.items()}
    return Use(time.perf_counter(), cpu, counted)

  def close() -> None:
    for source in sources:
      source.close()

  return Meter(machine, tuple(s.term for s in sources), read, close)


def alike(meter: Meter, machines: int) -> Meter:
  """A meter of several machines that do the same, from that of one of them.

  A simplification: processes of one SPMD program are as busy as each other, and
  each is taken to have a machine of its own.
  """
  if machines == 1:
    return meter
  one = meter.machine
  machine = Machine(
    f"{machines} x {one.name}", machines * one.vcpus, machines * one.gib,
    machines * one.accelerators,
  )  # fmt: skip
  terms = tuple(
    t._replace(boundary=f"{machines} times what process 0 saw: {t.boundary}")
    for t in meter.terms
  )

  def read() -> Use:
    seconds, *rest = times(meter.read(), machines)
    return Use(seconds / machines, *rest)

  return Meter(machine, terms, read, meter.close)


def this_machine(
  accelerators: tuple[str, ...] = (), *, cgroup: Path = Path("/sys/fs/cgroup")
) -> Machine:
  """CPU model, vCPUs and GiB that this process may use."""
  cpus, memory = _limits(cgroup, _text(Path("/proc/self/cgroup")))
  own = len(getattr(os, "sched_getaffinity", lambda _: ())(0))
  vcpus = math.ceil(min(own or os.cpu_count() or 1, cpus))
  memory = min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), memory)
  gib = round(memory / 2**30, 1)
  model = re.search(
    r"^model name\s*:\s*(.*\S)", _text(Path("/proc/cpuinfo")), re.MULTILINE
  )
  name = model[1] if model else platform.machine()
  return Machine(f"{name}, {vcpus} vCPU, {gib:.0f} GiB", vcpus, gib,
                 tuple(accelerators))  # fmt: skip


def _limits(root: Path, own: str) -> tuple[float, float]:
  """CPUs and bytes that control groups (v2) leave a process; inf: all.

  own: the text of /proc/self/cgroup. The folders above the process's count too.
  """
  found = re.search(r"^0::/(.*)$", own, re.MULTILINE)
  folder = root / (found[1].strip("/") if found else "")
  cpus = memory = math.inf
  for where in (folder, *folder.parents):
    if not where.is_relative_to(root):
      break
    quota, period = (_text(where / "cpu.max") or "max 1").split()
    most = _text(where / "memory.max").strip() or "max"
    cpus = min(cpus, math.inf if quota == "max" else int(quota) / int(period))
    memory = min(memory, math.inf if most == "max" else int(most))
  return cpus, memory


def _modelled_host(machine: Machine) -> _Source:
  boundary = (
    f"{machine.vcpus} vCPU and {machine.gib} GiB: idle draw for the time that "
    "passes, plus the process's CPU time (threads and ended children)"
  )
  return _Source(Term("host", "modelled", boundary, None), {}, lambda: None)


def _rapl(powercap: Path) -> _Source | None:
  """Packages, and DRAM beside them; None unless every counter can be read.

  A package holds its core and uncore domains, psys holds the packages: neither
  is added. Linux: Documentation/ABI/testing/sysfs-class-powercap.
  """
  zones = []
  for zone in sorted(powercap.glob("intel-rapl:*")):
    parts = [zone, *sorted(zone.glob("intel-rapl:*"))]
    if zone.name.count(":") == 1 and _text(zone / "name").strip() != "psys":
      dram = [z for z in parts[1:] if _text(z / "name").strip() == "dram"]
      zones += [zone, *dram]
  try:
    ranges = [int((z / "max_energy_range_uj").read_text()) for z in zones]
    count = _wrapping([z / "energy_uj" for z in zones], ranges)
  except (OSError, ValueError):
    return None
  if not zones:
    return None
  # A counter that wraps twice between readings looks as if it had once.
  seconds = max(1.0, min(ranges) / 1e6 / PACKAGE_WATTS / 2)
  boundary = (
    f"{len(zones)} RAPL domains (packages, DRAM), all processes; no board, "
    f"disk or fans; read every {seconds:.0f} s, to miss no wrap-around"
  )
  term = Term("host", "rapl", boundary, 0.001)
  count = _or_nan(count)
  return _Source(term, {"host": count}, _every(seconds, count))


def _wrapping(paths: list[Path], ranges: list[int]) -> Count:
  """Joules since now of counters in uJ that start again at their range."""
  last = [int(path.read_text()) for path in paths]
  total, lock = 0, threading.Lock()

  def count() -> float:
    nonlocal total, last
    with lock:
      now = [int(path.read_text()) for path in paths]
      for before, after, most in zip(last, now, ranges, strict=True):
        total += after - before + (most if after < before else 0)
      last = now
      return total / 1e6

  return count


def _nvml(nvml: Any) -> _Source:
  """NVIDIA's counters of whole boards, or their power integrated over time.

  Sees every GPU of the node, idle ones too. The sensor behind it is on for a
  quarter of the time on A100 and H100 (arXiv 2312.02741): windows of 60 s.
  """
  try:
    nvml, devices = boards(nvml)
  except ModuleNotFoundError:
    return _unavailable('no NVML: pip install "rsrc-jax[nvml]"')
  except Exception as error:  # no driver, no right: all the same
    return _unavailable(f"no NVML: {type(error).__name__}")
  boundary = f"{len(devices)} NVIDIA boards: all that the node shows"
  milli = lambda ask: sum(ask(device) for device in devices) / 1e3
  energy = lambda: milli(nvml.nvmlDeviceGetTotalEnergyConsumption)
  power = lambda: milli(nvml.nvmlDeviceGetPowerUsage)

  if devices and not math.isnan(_or_nan(energy)()):
    term = Term("accelerator", "nvml_counter", boundary, POLL_SECONDS)
    return _Source(term, {term.name: _or_nan(energy)}, nvml.nvmlShutdown)
  if devices and not math.isnan(_or_nan(power)()):
    term = Term("accelerator", "nvml_power_sampled", boundary, POLL_SECONDS)
    count = integral(_or_nan(power))
    stop = _every(POLL_SECONDS, count)
    close = lambda: (stop(), nvml.nvmlShutdown())
    return _Source(term, {term.name: count}, close)
  nvml.nvmlShutdown()
  return _unavailable(f"{boundary}; neither energy nor power can be read")


def boards(nvml: Any) -> tuple[Any, list]:
  """NVML, started, and the handles of the node's GPUs. nvml: None: pynvml."""
  nvml = nvml or importlib.import_module("pynvml")
  nvml.nvmlInit()
  count = nvml.nvmlDeviceGetCount()
  return nvml, [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]


def _tpu() -> _Source:
  """A model from the duty cycle, or from none at all. Never run on a TPU."""
  try:
    ask = importlib.import_module("libtpu.sdk.tpumonitoring").get_metric
    duty = lambda: sum(map(float, ask("duty_cycle_pct").data())) / 100
    duty()
  except Exception:  # no library, or none of its chips answers
    duty = None
  chips = "TPU chips, at 90 to 450 W each at work (a guess: none is published)"
  if duty is None:
    boundary = f"{chips}; at work for an unknown share of the time, 0 to 1"
    term = Term("accelerator", "modelled", boundary, None)
    return _Source(term, {}, lambda: None)
  term = Term("accelerator", "modelled", f"{chips}; duty cycle read", 1.0)
  count = integral(_or_nan(duty))
  return _Source(term, {BUSY: count}, _every(1.0, count))


def _unavailable(why: str) -> _Source:
  term = Term("accelerator", "unavailable", why, None)
  return _Source(term, {}, lambda: None)


def integral(
  sample: Count, *, clock: Callable[[], float] = time.perf_counter
) -> Count:
  """The integral of sample() over time since now, trapezoid by trapezoid.

  Each call takes a sample and closes the window there.
  """
  lock, total, at, level = threading.Lock(), 0.0, clock(), sample()

  def count() -> float:
    nonlocal total, at, level
    with lock:
      now, new = clock(), sample()
      total += (now - at) * (level + new) / 2
      at, level = now, new
      return total

  return count


def _every(seconds: float, call: Callable[[], Any]) -> Callable[[], None]:
  """Calls from a thread until the function that is returned is called."""
  done = threading.Event()

  def work() -> None:
    while not done.wait(seconds):
      call()

  thread = threading.Thread(target=work, name="energy", daemon=True)
  thread.start()

  def stop() -> None:
    done.set()
    thread.join()

  return stop


def _or_nan(count: Count) -> Count:
  """NaN where a driver fails: sums over it are not known, and say so."""

  def read() -> float:
    try:
      return count()
    except Exception:
      return math.nan

  return read


def _text(path: Path) -> str:
  try:
    return path.read_text()
  except OSError:
    return ""
