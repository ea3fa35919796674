"""Joules of an update and of decoding by NVML, beside what the model would say.

Windows of 20 s, since the sensor behind NVML is on for a part of the time only.
The sources are those of rsrc_jax.accounting.energy_sources.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu import nvml as gpu_nvml
from benchmarks.gpu.speed import PROMPTS, build
from benchmarks.gpu.table import WINDOWS
from benchmarks.gpu.timing import fed_back
from rsrc_jax.accounting import energy as joules_of
from rsrc_jax.accounting import energy_sources
from rsrc_jax.accounting.energy import BUSY, Meter, Term, Use
from rsrc_jax.runtime import sharding

SECONDS, TOY_SECONDS = 20.0, 1.0
AHEAD = 8  # calls that are dispatched before the host waits


def energy(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  del out
  case = build("135M", "bfloat16", toy=toy)
  full = jnp.full((PROMPTS, 1), case.new, jnp.int32)
  given = (case.prompt, case.keys, full)
  params = jax.tree.map(jnp.copy, case.params)  # the update donates its own
  sample = case.sample.lower(params, *given).compile()
  update = case.update.lower(case.params, case.state, case.work).compile()
  calls = {
    "at rest": None,
    "update": fed_back(update, (case.params, case.state), case.work),
    "decoding": lambda: sample(params, *given),
  }
  meter = energy_sources.open_meter(
    nvml=gpu_nvml.module(), accelerators=sharding.accelerators()
  )
  try:
    for name in WINDOWS:
      use, times = window(meter, calls[name], TOY_SECONDS if toy else SECONDS)
      yield name, cells_of(name, meter, use, times)
  finally:
    meter.close()


def window(
  meter: Meter, call: Callable | None, seconds: float
) -> tuple[Use, int]:
  """What a stretch of calls, or of rest, has used, and how many they were."""
  if call is not None:
    jax.block_until_ready(call())
  begun, times = meter.read(), 0
  until = time.perf_counter() + seconds
  if call is None:
    time.sleep(seconds)
  while call is not None and time.perf_counter() < until:
    for _ in range(AHEAD):
      found = call()
    jax.block_until_ready(found)
    times += AHEAD
  return joules_of.minus(meter.read(), begun), times


def cells_of(name: str, meter: Meter, use: Use, times: int) -> dict:
  """The row of a window."""
  terms = {term.name: term for term in meter.terms}
  counted = None
  known = "no accelerator"
  if "accelerator" in terms:
    term = terms["accelerator"]
    known = f"{term.source} ({term.boundary})"
    draws = joules_of.joules(use, meter.machine, [term])
    counted = None if draws is None else float(np.median(draws))
  host = joules_of.joules(
    use, meter.machine, [Term("host", "modelled", "", None)]
  )  # fmt: skip
  return {
    "seconds": use.seconds,
    "times": times,
    "accelerator, J": counted,
    "accelerator, W": counted and counted / use.seconds,
    "J each": counted / times if counted and times else None,
    "known by": known,
    "a TPU chip by the model, J": chip(meter, use, busy=times > 0),
    "host by the model, J": spread(host),
  }


def chip(meter: Meter, use: Use, *, busy: bool) -> str:
  """What the model of a TPU chip would say of one chip for as long."""
  machine = meter.machine._replace(accelerators=("one chip",))
  at_work = use._replace(counted={BUSY: use.seconds if busy else 0.0})
  term = Term("accelerator", "modelled", "", None)
  return spread(joules_of.joules(at_work, machine, [term]))


def spread(draws: np.ndarray) -> str:
  low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
  return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"
