"""The Pallas head of token statistics on a GPU: right, and how fast."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import token_stats as cpu_benchmark
from benchmarks.gpu import device as gpu_device
from benchmarks.gpu.table import HEADS, PASSES, head_row
from benchmarks.gpu.timing import first_line, in_turns, largest
from rsrc_jax.ops import token_stats, token_stats_pallas

# Of the largest value, by dtype of the operands. The sums over D and V are
# float32 in both; products of bfloat16 numbers are exact in float32, and what
# is left is the rounding of a gradient to 8 bits and of its factor before it.
ALLOWED = {"float32": 1e-4, "bfloat16": 2e-2}
TOY = {"rows": 16, "width": 16, "vocab": 256}


def kernels(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  rates = gpu_device.rates(toy, out)
  for head in HEADS:
    rows, width, vocab, dtype = head
    if toy:
      rows, width, vocab = TOY["rows"], TOY["width"], TOY["vocab"]
    args = problem(rows, width, vocab, dtype)
    for which in PASSES:
      cells = one(args, dtype, which, rates, toy)
      yield head_row(*head, which), cells


def problem(rows: int, width: int, vocab: int, dtype: str) -> tuple:
  """hidden [rows, D], table [V, D], sampled [rows], injected [rows, 8].

  Made on the device; logits have a deviation of 2.
  """

  @jax.jit
  def make(key):
    a, b, c, d = jax.random.split(key, 4)
    hidden = jax.random.normal(a, (rows, width)) * 2 / np.sqrt(width)
    table = jax.random.normal(b, (vocab, width))
    return (
      hidden.astype(dtype),
      table.astype(dtype),
      jax.random.randint(c, (rows,), 0, vocab),
      jax.random.randint(d, (rows, 8), 0, vocab),
    )

  return make(jax.random.key(0))


def one(args: tuple, dtype: str, which: str, rates, toy: bool) -> dict:
  """The cells of one head and pass."""
  backend = {"backend": "gpu", "interpret": toy}
  versions = {
    "Pallas": functools.partial(token_stats_pallas.from_hidden, **backend),
    "plain": token_stats.from_hidden_plain,
    "blocked": token_stats.from_hidden,
  }
  of = lambda f: jax.jit(cpu_benchmark.passes(f)[which])
  # The kernel multiplies float32 without TF32, and so do the others here.
  precision = "highest" if dtype == "float32" else None
  calls, cells = {}, {"lowered": True}
  for name, f in versions.items():
    try:
      with jax.default_matmul_precision(precision):
        compiled = of(f).lower(*args).compile()
    except Exception as error:  # a compiler's own kinds of error
      if name != "Pallas":
        raise
      cells["lowered"] = f"no: {first_line(error)}"
      continue
    calls[name] = lambda compiled=compiled: compiled(*args)
  seconds = in_turns(calls, inner=4)
  cells |= {f"{name}, ms": 1e3 * x for name, x in seconds.items()}
  least, share = floor_of(args, dtype, which, rates), None
  if "Pallas" in seconds:
    share = least / seconds["Pallas"]
    cells["largest error"] = error_of(calls["Pallas"](), args, of)
    cells["allowed"] = ALLOWED[dtype]
    if not cells["largest error"] <= ALLOWED[dtype]:
      cells["error"] = f"the kernel is off by {cells['largest error']:.1e}"
  else:
    cells |= dict.fromkeys(("Pallas, ms", "largest error", "allowed"))
  return cells | {"floor, ms": 1e3 * least, "share of the floor": share}


def floor_of(args: tuple, dtype: str, which: str, rates) -> float:
  """Seconds: the floor of benchmarks/token_stats.py at the measured rates."""
  products = "float32 highest" if dtype == "float32" else dtype
  least = cpu_benchmark.floor(
    args, which != PASSES[0], rates.bandwidth, rates.products[products]
  )
  return max(least["moving"], least["products"])


def error_of(got, args: tuple, of: Callable) -> float:
  """Largest error of a field or gradient, over the largest value in it."""
  hidden, table, *ids = args
  exact = (hidden.astype(jnp.float32), table.astype(jnp.float32), *ids)
  with jax.default_matmul_precision("highest"):
    want = of(token_stats.from_hidden_plain)(*exact)
  worst = 0.0
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    difference = x.astype(jnp.float32) - y
    worst = max(worst, largest(difference) / max(largest(y), 1e-6))
  return worst
