"""Seconds, CPU seconds and joules of a stretch of work, and how well known.

Energy comes from the best source that a machine has, by term:

  host         rapl > modelled
  accelerator  nvml_counter > nvml_power_sampled > modelled (TPU) > unavailable

What isn't known is None, never 0. Virtual machines have no meter, so theirs is
modelled (ours, not of "Recursive Self-Referential Compression (RSRC)"):

  E = PUE * (vcpus*p_idle*T + p_dynamic*cpu_seconds + GiB*p_ram*T)

linear in what is used, with wide priors on the three powers. All runs on one
kind of machine share the draws, so that their ratio is known far better than
either of them. NVML follows its documentation and was tried against fakes; the
TPU model has never met a TPU.
"""

import hashlib
import importlib
import math
import os
import platform
import re
import resource
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Best first.
SOURCES = (
  "nvml_counter", "rapl", "nvml_power_sampled", "modelled", "unavailable",
)  # fmt: skip
BUSY = "busy_seconds"  # in Use.counted: seconds of chips at work, not joules
POLL_SECONDS = 0.1  # between power samples; NVML's own are about as far apart
PACKAGE_WATTS = 1000.0  # no CPU package draws more: bounds a wrap-around
Count = Callable[[], float]  # a running total; differences count


class Use(NamedTuple):
  """What a stretch of work has used. Additive: see add, minus, times."""

  seconds: float
  cpu_seconds: float  # of this process: threads, and children that have ended
  counted: dict[str, float]  # term -> joules, where there is a counter


class Term(NamedTuple):
  """A part of the energy and how it is known."""

  name: str  # "host" or "accelerator"
  source: str  # one of SOURCES
  boundary: str  # what is inside
  interval_seconds: float | None  # between updates of the source; None: model


class Machine(NamedTuple):
  """What a model of the energy has to know. Same name, same draws."""

  name: str
  vcpus: int
  gib: float
  accelerators: tuple[str, ...]


class Meter(NamedTuple):
  """read() counts from an arbitrary origin: take differences."""

  machine: Machine
  terms: tuple[Term, ...]
  read: Callable[[], Use]
  close: Callable[[], None]


class Prior(NamedTuple):
  """Draws [draws] of what a machine's parts draw, in watts, and two shares."""

  dynamic: np.ndarray  # W per busy vCPU, above idle
  idle: np.ndarray  # W per vCPU
  ram: np.ndarray  # W per GiB
  chip: np.ndarray  # W per TPU chip at work
  chip_rest: np.ndarray  # share of it at rest
  chip_busy: np.ndarray  # share of the time at work, where nobody measured it


class _Source(NamedTuple):
  term: Term
  counts: dict[str, Count]
  close: Callable[[], None]


def add(a: Use, b: Use) -> Use:
  """Both stretches together."""
  return _combine(a, b, 1.0)


def minus(a: Use, b: Use) -> Use:
  """From reading b to reading a."""
  return _combine(a, b, -1.0)


def times(a: Use, factor: float) -> Use:
  """A share of a stretch, or several like it."""
  counted = {k: v * factor for k, v in a.counted.items()}
  return Use(a.seconds * factor, a.cpu_seconds * factor, counted)


def _combine(a: Use, b: Use, sign: float) -> Use:
  keys = {**a.counted, **b.counted}
  counted = {
    k: a.counted.get(k, 0.0) + sign * b.counted.get(k, 0.0) for k in keys
  }
  return Use(
    a.seconds + sign * b.seconds, a.cpu_seconds + sign * b.cpu_seconds, counted
  )


def joules(
  use: Use,
  machine: Machine,
  terms: Sequence[Term],
  *,
  pue: float = 1.0,
  draws: int = 1000,
) -> np.ndarray | None:
  """Energy of a use: [draws] float64 in joules; draw i is draw i everywhere.

  A counter's draws are all equal: its own error is not among them.

  Args:
    use: a difference of two readings.
    machine: gives the powers' draws, by its name alone.
    terms: what to sum over.
    pue: of the facility, declared; 1.0 stops at the machine's own supply.
    draws: how many.

  Returns:
    None where a term is unavailable; a counter that stood still while time
    passed, or was not read, is unavailable.

  Raises:
    ValueError: a PUE below 1.
  """
  if not 1.0 <= pue < math.inf:
    raise ValueError(
      f"pue is {pue}: a facility draws at least what its machines draw. Give "
      "its declared PUE, or 1.0 for the machine alone."
    )
  prior = priors(machine, draws)
  parts = [_part(use, machine, term, prior) for term in terms]
  if not parts or any(part is None for part in parts):
    return None
  return pue * np.sum(parts, axis=0)


def weakest(terms: Sequence[Term]) -> str:
  """The source of a sum of terms: that of the least known among them."""
  if not terms:
    return "unavailable"
  return max((term.source for term in terms), key=SOURCES.index)


def priors(machine: Machine, draws: int) -> Prior:
  """Draws of a machine's powers, seeded by its name alone.

  The host's: p_dynamic lognormal of median 3 W a vCPU, sigma 0.35; p_idle 20
  to 60 % of it; memory 0.1 to 0.4 W a GiB. A TPU chip's: lognormal of median
  200 W, sigma 0.5, as no figure is published for recent ones; 20 to 60 % of it
  at rest.
  """
  digest = hashlib.sha256(machine.name.encode()).digest()
  rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
  dynamic = rng.lognormal(math.log(3.0), 0.35, draws)
  return Prior(
    dynamic=dynamic,
    idle=dynamic * rng.uniform(0.2, 0.6, draws),
    ram=rng.uniform(0.1, 0.4, draws),
    chip=rng.lognormal(math.log(200.0), 0.5, draws),
    chip_rest=rng.uniform(0.2, 0.6, draws),
    chip_busy=rng.uniform(0.0, 1.0, draws),
  )


def _part(
  use: Use, machine: Machine, term: Term, prior: Prior
) -> np.ndarray | None:
  """Joules [draws] of one term, at PUE 1."""
  if term.source == "unavailable":
    return None
  if term.source == "modelled" and term.name == "host":
    standing = machine.vcpus * prior.idle + machine.gib * prior.ram
    return standing * use.seconds + prior.dynamic * use.cpu_seconds
  if term.source == "modelled":
    chip_seconds = len(machine.accelerators) * use.seconds
    busy = use.counted.get(BUSY, prior.chip_busy * chip_seconds)
    rest = prior.chip_rest
    return prior.chip * (rest * chip_seconds + (1 - rest) * busy)
  counted = use.counted.get(term.name, math.nan if use.seconds else 0.0)
  if math.isnan(counted) or (counted <= 0 and use.seconds > 0):
    return None
  return np.full_like(prior.ram, counted)


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
  except Exception as error:  # no module, no driver, no right: all the same
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
