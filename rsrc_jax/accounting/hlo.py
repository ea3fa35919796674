"""XLA's own count of a compiled program, corrected, to hold against the walk.

`cost_analysis` counts every loop body once (jax#18672 and others). Here the
products are read from the HLO text and loops multiplied by the trip counts that
XLA proved; see flops.py for the conventions.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from rsrc_jax.accounting import equations


class XLA(NamedTuple):
  """What the compiled program of one device does, in XLA's words."""

  raw: float | None  # cost_analysis: elementwise too, every loop body once
  corrected: float  # products, loop bodies by their known trip counts
  once: float  # products, every loop body once: to hold against raw
  partitions: int  # devices that share the work
  unknown_loops: tuple[str, ...]  # counted once
  unseen: dict[str, int]  # targets of custom calls, which may hide products


def xla(compiled) -> XLA:
  """Reads `jax.jit(f).lower(...).compile()`: products by its own HLO.

  The products stand in the text with their shapes, fused or not; a while loop
  is multiplied by the trip count that XLA proved, and of a conditional the
  costlier branch is taken, as XLA does. Not seen: products that became custom
  calls (cuBLAS and cuDNN on GPUs), which are listed, and those that XLA turned
  into elementwise arithmetic, as it does with outer products.
  """
  text = compiled.as_text()
  computations, entry = _computations(text)
  memo: dict[tuple, float] = {}

  def total(name: str, counted: bool) -> float:
    if (name, counted) not in memo:
      memo[name, counted] = sum(
        _operation(x, counted, total) for x in computations.get(name, ())
      )
    return memo[name, counted]

  operations = list(itertools.chain(*computations.values()))
  loops = [x for x in operations if x.code == "while" and _trips(x) is None]
  calls = (
    re.search(r'custom_call_target="([^"]*)"', x.rest)
    for x in operations
    if x.code == "custom-call"
  )
  partitions = re.search(r"num_partitions=(\d+)", text)
  return XLA(
    raw=_cost(compiled),
    corrected=total(entry, True),
    once=total(entry, False),
    partitions=int(partitions[1]) if partitions else 1,
    unknown_loops=tuple(_label(x) for x in loops),
    unseen=dict(Counter(x[1] for x in calls if x)),
  )


def collectives(text: str) -> dict[str, tuple[float, float]]:
  """What devices say to each other: {operation: (times, bytes of results)}.

  Of one device, from the text of a compiled program; loops by their known trip
  counts, once where XLA knows none. An operation that is started and ended
  apart counts once.
  """
  computations, entry = _computations(text)
  memo: dict[str, Counter] = {}

  def total(name: str) -> Counter:
    if name not in memo:
      memo[name] = Counter()
      for x in computations.get(name, ()):
        memo[name] += _talk(x, total)
    return memo[name]

  found = total(entry)
  codes = {code for code, _ in found}
  return {
    code: (found[code, "times"], found[code, "bytes"]) for code in sorted(codes)
  }


COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all",
               "collective-permute", "collective-broadcast")  # fmt: skip


def _talk(x: "_Operation", total: Callable) -> Counter:
  code = x.code.removesuffix("-start")
  if code in COLLECTIVES:
    # Started apart, the result is (operand, result, ...): the largest counts.
    sizes = [_bytes(kind) for kind in re.findall(r"\w+\[[\d,]*\]", x.kind)]
    size = max(sizes) if code != x.code else sum(sizes)
    return Counter({(code, "times"): 1, (code, "bytes"): size})
  found = Counter()
  times = (_trips(x) or 1) if x.code == "while" else 1
  keys = r"(?:body|condition)=%?([\w.\-]+)"
  names = re.findall(keys, x.rest) if x.code == "while" else [
    name
    for pattern in (_CALLED, _BRANCHES)
    for match in pattern.finditer(x.rest)
    for name in re.findall(r"[\w.\-]+", match[1])
  ]  # fmt: skip
  for name in names:
    for key, value in total(name).items():
      found[key] += times * value
  return found


def _bytes(kind: str) -> int:
  """Of "bf16[2,3]"."""
  name, _, sizes = kind.partition("[")
  bits = re.search(r"\d+", name)
  each = max(int(bits[0]) // 8, 1) if bits else 1  # pred
  return each * math.prod(int(n) for n in sizes.rstrip("]").split(",") if n)


def agreement(
  walked: float, found: XLA, analytic: float | None = None
) -> dict[str, Any]:
  """The three numbers side by side, global, with their ratios to the first.

  Args:
    walked: hardware FLOPs by the walk; what XLA runs includes recompute.
    found: of the same program compiled.
    analytic: closed form, if there is one.
  """
  numbers = {
    "walked": walked,
    "xla_raw": None if found.raw is None else found.raw * found.partitions,
    "xla_corrected": found.corrected * found.partitions,
    "analytic": analytic,
  }
  ratios = {
    f"{name}_ratio": None if value is None or not walked else value / walked
    for name, value in numbers.items()
    if name != "walked"
  }
  return {
    **numbers,
    **ratios,
    "xla_unknown_loops": list(found.unknown_loops),
    "xla_unseen": found.unseen,
  }


class _Operation(NamedTuple):
  """An instruction of HLO."""

  name: str
  code: str
  shape: tuple[int, ...]  # of its result; () for tuples
  operands: tuple[tuple[int, ...], ...]  # shapes of the first two
  rest: str  # its line behind the opening parenthesis
  kind: str  # the type of its result, as written


_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(
  r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$"
)
_CALLED = re.compile(
  r"(?:calls|to_apply|called_computations|async_computation)="
  r"(\{[^}]*\}|%?[\w.\-]+)"
)
_BRANCHES = re.compile(
  r"(?:branch_computations|true_computation|false_computation)="
  r"(\{[^}]*\}|%?[\w.\-]+)"
)


def _computations(text: str) -> tuple[dict[str, list[_Operation]], str]:
  """HLO text -> the operations of each computation, and the entry's name."""
  computations, entry, shapes = {}, "", {}
  for line in text.splitlines():
    if head := _HEAD.match(line):
      operations = computations[head[2]] = []
      shapes = {}
      entry = head[2] if head[1] else entry
    elif found := _LINE.match(line):
      name, kind, code, rest = found.groups()
      shapes[name] = _shape(kind)
      operands = ()
      if code in ("dot", "convolution"):
        # An operand's name may stand behind its type.
        first = re.findall(r"%([\w.\-]+)", rest)[:2]
        operands = tuple(shapes[x] for x in first)
      operations.append(
        _Operation(name, code, shapes[name], operands, rest, kind)
      )
  return computations, entry


def _operation(x: _Operation, counted: bool, total: Callable) -> float:
  """FLOPs of an operation; loops count once unless `counted`."""
  names = lambda pattern: [
    name
    for match in pattern.finditer(x.rest)
    for name in re.findall(r"[\w.\-]+", match[1])
  ]
  if x.code == "dot":
    contract = _numbers(x.rest, "lhs_contracting_dims")
    depth = math.prod(x.operands[0][i] for i in contract)
    return 2.0 * math.prod(x.shape) * depth
  if x.code == "convolution":
    return float(_hlo_convolution(x))
  if x.code == "while":
    trips = _trips(x) if counted else None
    times, tests = (1, 1) if trips is None else (trips, trips + 1)
    test, body = (
      total(re.search(rf"{key}=%?([\w.\-]+)", x.rest)[1], counted)
      for key in ("condition", "body")
    )
    return times * body + tests * test
  if x.code == "conditional":
    return max((total(name, counted) for name in names(_BRANCHES)), default=0)
  return sum(total(name, counted) for name in names(_CALLED))


def _hlo_convolution(x: _Operation) -> int:
  left, right = x.operands
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", x.rest)
  lhs, rhs, out = labels.groups()
  window = re.search(r"window=\{([^}]*)\}", x.rest)
  window = dict(re.findall(r"(\w+)=(\S+)", window[1] if window else ""))
  spatial = [c for c in lhs if c.isdigit()]
  each = lambda key, default: window.get(
    key, "x".join([default] * len(spatial))
  )
  dims = zip(
    (left[lhs.index(c)] for c in spatial),
    (right[rhs.index(c)] for c in spatial),
    (x.shape[out.index(c)] for c in spatial),
    map(int, each("stride", "1").split("x")),
    (int(pad.split("_")[0]) for pad in each("pad", "0_0").split("x")),
    map(int, each("lhs_dilate", "1").split("x")),
    map(int, each("rhs_dilate", "1").split("x")),
    strict=True,
  )
  outputs = x.shape[out.index("b")] * x.shape[out.index("f")]
  return equations.convolution(outputs, right[rhs.index("i")], dims)


def _shape(kind: str) -> tuple[int, ...]:
  """Of "f32[2,3]{1,0}"; () of a tuple."""
  found = re.match(r"\w+\[([\d,<=]*)\]", kind)
  sizes = found[1].replace("<=", "") if found else ""
  return tuple(int(n) for n in sizes.split(",") if n)


def _numbers(rest: str, key: str) -> list[int]:
  found = re.search(rf"{key}=\{{([\d,]*)\}}", rest)
  return [int(n) for n in found[1].split(",") if n] if found else []


def _trips(x: _Operation) -> int | None:
  found = re.search(r'"known_trip_count":\s*\{"n":\s*"?(\d+)', x.rest)
  return int(found[1]) if found else None


def _label(x: _Operation) -> str:
  """The program's own name of it, scopes included, if XLA kept that."""
  found = re.search(r'op_name="([^"]*)"', x.rest)
  return found[1] if found else x.name


def _cost(compiled) -> float | None:
  """A dict, a list of one or nothing, over jax's versions and backends."""
  cost = compiled.cost_analysis()
  cost = cost[0] if isinstance(cost, list | tuple) and cost else cost
  raw = cost.get("flops") if isinstance(cost, dict) else None
  return None if raw is None or not raw >= 0 else float(raw)
