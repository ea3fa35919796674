"""What energy can be known here, and what other tools say of the same work.

python -m rsrc_jax.accounting energy --probe
python -m rsrc_jax.accounting energy --crosscheck zeus,codecarbon
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rsrc_jax.accounting import energy, energy_sources
from rsrc_jax.metrics import statistics

# What another tool found: term -> (joules or None, how it came by them).
Found = dict[str, tuple[float | None, str]]
Tool = Callable[[Callable[[], Any]], Found]  # measures while work() runs


def main(argv: list[str] | None = None) -> int:
  """Prints what can be measured here, and other tools' opinion of it."""
  parser = argparse.ArgumentParser("python -m rsrc_jax.accounting energy")
  parser.add_argument("--probe", action="store_true", help="default")
  parser.add_argument("--crosscheck", metavar="zeus,codecarbon", default="")
  parser.add_argument("--seconds", type=float, help="of work, 1; crosscheck 5")
  parser.add_argument("--pue", type=float, default=1.0)
  parser.add_argument("--accelerators", help="kinds; default: what NVML lists")
  options = parser.parse_args(argv)
  names = [name for name in options.crosscheck.split(",") if name]
  if options.accelerators is None:
    kinds = _gpu_names()
  else:
    kinds = tuple(filter(None, options.accelerators.split(",")))
  try:
    tools = {name: _tool(name) for name in names}
    meter = energy_sources.open_meter(accelerators=kinds)
    with contextlib.closing(meter):
      if names:
        _crosscheck(tools, meter, options.seconds or 5.0)
      else:
        _probe(meter, options.seconds or 1.0, options.pue)
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  return 0


def _probe(meter: energy.Meter, seconds: float, pue: float) -> None:
  """Says where each term comes from, and what a busy window costs."""
  print(f"machine      {meter.machine.name}; PUE {pue}, declared")
  for term in meter.terms:
    every = term.interval_seconds
    every = "no interval" if every is None else f"every {every:g} s"
    print(f"{term.name:<12} source={term.source}, {every}: {term.boundary}")
  if not meter.machine.accelerators:
    print("accelerator  none found")
  use = _window(meter, lambda: _busy(seconds))
  print(f"busy window  {use.seconds:.2f} s, {use.cpu_seconds:.2f} CPU s")
  each = [((term,), term.name) for term in meter.terms]
  for terms, name in [*each, (meter.terms, "total")]:
    text = _joules_text(energy.joules(use, meter.machine, terms, pue=pue))
    print(f"{name:<12} {text}; {energy.weakest(terms)}")


def _crosscheck(
  tools: dict[str, Tool],
  meter: energy.Meter,
  seconds: float,
) -> None:
  """The same busy loop under each tool, and under ours at the same time."""
  for name, measure in tools.items():
    uses = []
    ours = lambda uses=uses: uses.append(_window(meter, lambda: _busy(seconds)))
    found, (use,) = measure(ours), uses
    print(f"{name}: {use.seconds:.2f} s, {use.cpu_seconds:.2f} CPU s")
    for term in meter.terms:
      draws = energy.joules(use, meter.machine, (term,))
      print(f"  {term.name}, ours: {_joules_text(draws)} ({term.source})")
      theirs, how = found.get(term.name, (None, "no such term"))
      if theirs is None:
        print(f"  {term.name}, {name}: unavailable ({how})")
        continue
      print(f"  {term.name}, {name}: {theirs:.3g} J ({how})")
      if draws is not None:
        factor = theirs / float(np.median(draws))
        print(f"  {term.name}: {name} / ours = {factor:.2f}")
        if not 0.5 <= factor <= 2.0:
          print(f"  warning: {term.name} is more than 2x apart")


def _tool(name: str) -> Tool:
  """Opens another tool, imported late."""
  if name not in TOOLS:
    raise ValueError(f"--crosscheck={name}: give some of {', '.join(TOOLS)}")
  try:
    return TOOLS[name]()
  except ImportError as error:
    raise ValueError(
      f'{name} can\'t be imported ({error}): pip install "rsrc-jax[energy]"'
    ) from error


def _zeus() -> Tool:
  from zeus.monitor import ZeusMonitor

  monitor = ZeusMonitor()

  def measure(work: Callable[[], Any]) -> Found:
    monitor.begin_window("crosscheck", sync_execution=False)
    work()
    found = monitor.end_window("crosscheck", sync_execution=False)
    cpu = {**(found.cpu_energy or {})}
    for package, value in (found.dram_energy or {}).items():
      cpu[package] = cpu.get(package, 0.0) + value
    # Without any device its total_energy is 0.0, which is no measurement.
    none = f"it says {found.total_energy} J, for it has no such meter here"
    return {
      "host": (sum(cpu.values()) or None, "RAPL" if cpu else none),
      "accelerator": (
        sum(found.gpu_energy.values()) or None,
        "NVML" if found.gpu_energy else none,
      ),
    }

  return measure


def _codecarbon() -> Tool:
  from codecarbon import OfflineEmissionsTracker

  def measure(work: Callable[[], Any]) -> Found:
    # Offline: the other tracker asks the network where it is.
    tracker = OfflineEmissionsTracker(
      country_iso_code="USA",
      tracking_mode="process",
      measure_power_secs=1,
      save_to_file=False,
      allow_multiple_runs=True,
      log_level="critical",
    )
    tracker.start()
    work()
    tracker.stop()
    data, parts = tracker.final_emissions_data, tracker._hardware
    to_joules = lambda kwh: kwh * 3.6e6
    cpu, ram = to_joules(data.cpu_energy), to_joules(data.ram_energy)
    gpu = to_joules(data.gpu_energy)
    modes = [getattr(part, "_mode", "") for part in parts]
    how = "/".join(filter(None, modes))
    if how in ("cpu_load", "constant"):
      how += ", a fall-back from nominal watts"
    source = (
      f"CPU {cpu:.3g} J by {how}; memory {ram:.3g} J, "
      f"{ram / max(cpu + ram, 1e-9):.0%} of the sum, from its constants"
    )
    return {
      "host": ((cpu + ram) or None, source),
      "accelerator": (gpu or None, "NVML" if gpu else "no GPU found"),
    }

  return measure


TOOLS = {"zeus": _zeus, "codecarbon": _codecarbon}


def _window(meter: energy.Meter, work: Callable[[], Any]) -> energy.Use:
  before = meter.read()
  work()
  return energy.minus(meter.read(), before)


def _busy(seconds: float) -> None:
  """Keeps one core at work."""
  end = time.perf_counter() + seconds
  while time.perf_counter() < end:
    sum(range(10_000))


def _joules_text(draws: np.ndarray | None) -> str:
  found = statistics.interval(draws)
  if found is None:
    return "unavailable"
  low, high = found["p5"], found["p95"]
  return (
    f"median {found['median']:.3g} J, 5-95 % {low:.3g} to {high:.3g} J: a "
    f"factor {high / low if low else 1.0:.1f} from end to end"
  )


def _gpu_names() -> tuple[str, ...]:
  """Names of the NVIDIA GPUs of this node; none without a driver."""
  try:
    nvml, devices = energy_sources.boards(None)
    return tuple(map(nvml.nvmlDeviceGetName, devices))
  except Exception:
    return ()
