"""Seconds, CPU seconds and joules of a stretch of work, and how well known.

Energy comes from the best source that a machine has, by term:

  host         rapl > modelled
  accelerator  nvml_counter > nvml_power_sampled > modelled (TPU) > unavailable

What isn't known is None, never 0. Virtual machines have no meter, so theirs is
modelled (ours, not of "Recursive Self-Referential Compression (RSRC)"):

  E = PUE * (vcpus*p_idle*T + p_dynamic*cpu_seconds + GiB*p_ram*T)

linear in what is used, with wide priors on the three powers. All runs on one
kind of machine share the draws, so that their ratio is known far better than
either of them. energy_sources.py reads what a machine has.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# Best first.
SOURCES = (
  "nvml_counter", "rapl", "nvml_power_sampled", "modelled", "unavailable",
)  # fmt: skip
BUSY = "busy_seconds"  # in Use.counted: seconds of chips at work, not joules


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
