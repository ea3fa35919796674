"""Timing on a device that runs behind the host, and what limits a program.

A call is dispatched before it has run, so that a clock stops only after
block_until_ready; nothing is copied to the host in between. What is compared
takes turns, and a figure is the median of the turns.
"""

import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import floor
from benchmarks.gpu.run import clipped
from rsrc_jax.accounting import hlo, metering

ROUNDS = 5
# Instructions of a compiled program that start nothing on the device.
SILENT = frozenset({
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while",
  "conditional", "call", "after-all", "opt-barrier", "partition-id",
  "replica-id", "domain", "async-done", "async-update", "copy-done",
})  # fmt: skip


class Rates(NamedTuple):
  """What this device was seen to do."""

  products: dict[str, float]  # FLOPs a second, by dtype or "float32 highest"
  bandwidth: float  # bytes a second, read and written
  kernel: float  # seconds of a small kernel in a row of dependent ones


def in_turns(
  calls: dict[str, Callable[[], Any]], *, rounds: int = ROUNDS, inner: int = 1
) -> dict[str, float]:
  """Median seconds of a call, by name; the calls take turns.

  The first call of each is not counted. inner: so many calls are dispatched one
  after another, and the clock stops when the last has ended, as in training.
  """
  taken = {name: [] for name in calls}
  for call in calls.values():
    jax.block_until_ready(call())
  for number in range(rounds):
    for name in [*calls][:: 1 if number % 2 else -1]:
      begun = time.perf_counter()
      for _ in range(inner):
        found = calls[name]()
      jax.block_until_ready(found)
      taken[name].append((time.perf_counter() - begun) / inner)
  return {name: statistics.median(x) for name, x in taken.items()}


def fed_back(f: Callable, state: tuple, *rest: Any) -> Callable[[], tuple]:
  """A call of f(*state, *rest) -> state, whose buffers may be donated."""

  def call():
    nonlocal state
    state = f(*state, *rest)
    return state

  return call


def measured_rates(toy: bool) -> Rates:
  """Products, bandwidth and the time of a kernel, measured now."""
  products = product_rates(256 if toy else 8_192)
  # One pass over 4 GiB: what a call costs to start is a hundredth of it.
  bandwidth = floor.bandwidth(2**22 if toy else 2**32, passes=1)
  return Rates(products, bandwidth, kernel_seconds())


def product_rates(size: int) -> dict[str, float]:
  """FLOPs a second of square products, by dtype and precision.

  Of random numbers: a card draws less power, and is faster, on constants.
  """
  calls = {}
  for name in ("float32", "float32 highest", "bfloat16"):
    dtype, _, precision = name.partition(" ")
    a, b = jax.jit(
      lambda dtype=dtype: tuple(
        jax.random.normal(jax.random.key(i), (size, size), dtype)
        for i in range(2)
      )
    )()
    product = jax.jit(
      lambda a, b, precision=precision: jnp.matmul(
        a, b, precision=precision or None
      )
    )
    calls[name] = lambda product=product, a=a, b=b: product(a, b)
  seconds = in_turns(calls, rounds=9, inner=4)
  return {name: 2 * size**3 / x for name, x in seconds.items()}


def kernel_seconds(length: int = 200, size: int = 64) -> float:
  """Seconds of each of many small products that wait for one another."""

  def chain(x):
    for _ in range(length):
      x = x @ x
    return x

  x = jnp.eye(size)
  compiled = jax.jit(chain).lower(x).compile()
  seconds = in_turns({"chain": lambda: compiled(x)}, rounds=9)["chain"]
  return seconds / max(kernels(compiled.as_text()), 1)


def kernels(text: str, trips: int = 1) -> int:
  """Kernels that a compiled program starts, from its HLO text.

  trips: of loops whose trip count XLA does not know. Of branches the longest
  counts. A fusion or a library call is one kernel.
  """
  computations, entry = hlo._computations(text)

  def of(name: str) -> int:
    return sum(one(x) for x in computations.get(name, ()))

  def called(x, pattern: str) -> list[str]:
    return [
      name
      for match in re.findall(pattern, x.rest)
      for name in re.findall(r"[\w.\-]+", match)
    ]

  def one(x) -> int:
    if x.code == "while":
      times = hlo._trips(x)
      inside = called(x, r"(?:body|condition)=(%?[\w.\-]+)")
      return (trips if times is None else times) * sum(map(of, inside))
    if x.code == "conditional":
      inside = called(
        x, r"(?:branch_computations|true_computation|false_computation)="
        r"(\{[^}]*\}|%?[\w.\-]+)",
      )  # fmt: skip
      return max(map(of, inside), default=0)
    if x.code in ("call", "async-start"):
      return sum(map(of, called(x, r"(?:to_apply|calls)=(%?[\w.\-]+)")))
    return int(x.code not in SILENT)

  return of(entry)


def bound(
  work: float, moved: float, rates: Rates, products: str
) -> tuple[float, str]:
  """Seconds below which a call can't go, and which of the two binds.

  The floor of benchmarks/floor.py, at rates that were measured before.
  """
  by = {
    "products": work / rates.products[products],
    "bytes": moved / rates.bandwidth,
  }
  return max(by.values()), max(by, key=by.get)


def pieces(
  named: Iterable[tuple[str, Callable[[], Iterator]]],
) -> Iterator[tuple[str, dict]]:
  """The rows of all pieces; one that raises leaves its error in its row."""
  for row, piece in named:
    try:
      yield from piece()
    except Exception as error:
      yield row, {"error": first_line(error)}


def first_line(error: Exception) -> str:
  """Kind and first line of an error, short enough for a table."""
  lines = str(error).strip().splitlines() or [""]
  return clipped(f"{type(error).__name__}: {lines[0]}")


def peak_gib() -> float | None:
  """The most that this process has held on the device so far."""
  stats = jax.devices()[0].memory_stats() or {}
  found = stats.get("peak_bytes_in_use")
  return None if found is None else found / 2**30


def planned_gib(compiled) -> float | None:
  """Memory of a program by the compiler's plan: arguments and the rest."""
  planned = metering.peak_bytes(compiled)
  return None if planned is None else planned / 2**30


def largest(x: Any) -> float:
  """The largest magnitude in a tree of arrays."""
  return max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(x))
