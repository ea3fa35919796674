"""FLOPs of a JAX program: its jaxpr walked; a transformer's by closed form.

Conventions: a multiply-add is two, whatever its precision. Products (dot,
convolution, ragged dot) are the primary number; elementwise and reduction
arithmetic on floating values is counted beside them and never added. Figures
are global, over all devices. Source of the rules: "Recursive Self-Referential
Compression (RSRC)", measurement of FLOPs.

The walk counts the program as traced: what XLA drops as dead or merges as
common is still in it, so on an unrolled `jax.checkpoint` XLA may do less.
"""

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from rsrc_jax.accounting import equations

# What AD writes into the name stack of a forward pass that it runs again.
REMAT = "rematted_computation"
TRANSFORMS = frozenset({"jvp", "transpose", "vmap", REMAT})


class Term(NamedTuple):
  """Where work stands, and what multiplies it."""

  scope: str  # known scopes around it, "C/prefill"; "" outside all
  loops: tuple[str, ...]  # dynamic loops around it, outermost first
  remat: bool  # recomputed by jax.checkpoint for a backward pass


class Work(NamedTuple):
  """Operations, exact."""

  products: int
  elementwise: int


class Count(NamedTuple):
  """A polynomial in the trip counts of the program's dynamic loops."""

  terms: dict[Term, Work]
  loops: tuple[str, ...]  # names of the dynamic loops
  branches: dict[str, int]  # scope -> conds whose branches cost unequally
  unseen: dict[str, int]  # primitive -> equations that may hide products


class _Sum(NamedTuple):
  """The count of one jaxpr, relative to whoever calls it."""

  terms: dict[tuple, list[int]]  # (path, loop indices, remat) -> Work
  loops: list[tuple[str, ...]]  # the path of each dynamic loop
  branches: Counter
  unseen: Counter


def count(jaxpr: ClosedJaxpr | Jaxpr, scopes: tuple[str, ...] = ()) -> Count:
  """Counts the operations of a traced program.

  Args:
    jaxpr: of `jax.make_jaxpr(f)(...)` or `jax.jit(f).trace(...).jaxpr`.
    scopes: the names given to `jax.named_scope` that work is attributed to.

  Returns:
    Its work by scope. A scan is multiplied by its length, a kernel by its grid,
    a shard_map by its devices, a counted while loop by its trips; of a cond the
    branch with most products is taken and noted. A dynamic loop carries the
    name of its scope ("while" outside all); further ones in the same scope are
    "C#2" and so on, those with products named first.

  Raises:
    ValueError: a scope can't be told apart in a name stack.
  """
  for name in scopes:
    if not name or re.search(r"[/()]", name) or name in TRANSFORMS:
      raise ValueError(
        f"scopes: {name!r} can't be found in a name stack; use a plain name "
        f"other than {', '.join(sorted(TRANSFORMS))}."
      )
  total = _walk(jaxpr, _places(frozenset(scopes)), {})
  names = _loop_names(total)
  terms = {
    Term("/".join(path), tuple(names[i] for i in loops), remat): Work(*work)
    for (path, loops, remat), work in total.terms.items()
  }
  branches = {"/".join(path): n for path, n in total.branches.items()}
  return Count(terms, tuple(names), branches, dict(total.unseen))


def evaluate(counted: Count, trips: dict[str, float] | None = None) -> dict:
  """The polynomial at given trip counts, ready for JSON.

  Args:
    counted: of `count`.
    trips: loop -> how often its body ran, as the program returned it; for a
      loop inside others, on average each time it was entered. A loop that is
      left out counts as one trip and is listed.

  Returns:
    hardware (products, recompute included), model (without recompute),
    recompute and elementwise (recompute included), in FLOPs; the same by scope
    under "scopes", a scope within another not added to it; unknown_loops,
    branches and unseen say what the figures rest on.

  Raises:
    ValueError: trips names no loop of the program, or is no count.
  """
  trips = {name: float(n) for name, n in (trips or {}).items()}
  for name, n in trips.items():
    if name not in counted.loops:
      raise ValueError(
        f"trips: there is no dynamic loop {name!r}; there are: "
        f"{', '.join(counted.loops) or 'none'}."
      )
    if not (math.isfinite(n) and n >= 0):
      raise ValueError(f"trips: {name}={n} must be finite and at least 0.")
  empty = dict.fromkeys(("hardware", "model", "recompute", "elementwise"), 0.0)
  scopes, total = {}, dict(empty)
  for (scope, loops, remat), work in counted.terms.items():
    times = math.prod(trips.get(name, 1.0) for name in loops)
    for into in (scopes.setdefault(scope, dict(empty)), total):
      into["hardware"] += times * work.products
      into["recompute" if remat else "model"] += times * work.products
      into["elementwise"] += times * work.elementwise
  return {
    **total,
    "scopes": scopes,
    "unknown_loops": [x for x in counted.loops if x not in trips],
    "branches": counted.branches,
    "unseen": counted.unseen,
  }


def closed_form(
  *,
  params_blocks: int,
  depth: int,
  width: int,
  vocab: int,
  tokens: float,
  keys_seen: float,
  logits_tokens: float,
  training: bool = False,
) -> float:
  """FLOPs of a transformer: 2N a token, attention, logits; x3 in training.

  The usual estimate (arXiv 2001.08361, section 2.1), with attention counted as
  two products of 2 * width for each key that is looked at.

  Args:
    params_blocks: parameters of the blocks, embeddings not among them; times
      the loops where blocks are run more than once.
    depth: layers, times the loops.
    width: of the queries of a layer, all heads together.
    vocab: words.
    tokens: that pass the blocks.
    keys_seen: by a token on average, masked ones included where computed.
    logits_tokens: tokens whose logits are computed.
    training: forward and backward, nothing recomputed.
  """
  token = 2.0 * params_blocks + 4.0 * depth * width * keys_seen
  forward = tokens * token + logits_tokens * 2.0 * vocab * width
  return 3.0 * forward if training else forward


def _places(known: frozenset[str]) -> Callable[[Any], tuple]:
  """name stack -> (known scopes in it, outermost first; recomputed or not).

  A stack reads "transpose(jvp(update))/D": transforms wrap the scope that
  follows them, so the order of the words is the order of the scopes.
  """

  @functools.cache
  def place(stack):
    words = [x for x in re.split(r"[/()]+", str(stack)) if x]
    path = (x for x, _ in itertools.groupby(x for x in words if x in known))
    return tuple(path), REMAT in words

  return place


def _join(outer: tuple[str, ...], inner: tuple[str, ...]) -> tuple[str, ...]:
  """Stacks are relative to the jaxpr; a scope within itself is one scope."""
  if outer and inner and outer[-1] == inner[0]:
    inner = inner[1:]
  return outer + inner


def _walk(jaxpr, place: Callable, memo: dict) -> _Sum:
  """Counts one jaxpr, once however many equations call it."""
  jaxpr = _opened(jaxpr)
  if id(jaxpr) in memo:
    return memo[id(jaxpr)][1]
  total = _Sum({}, [], Counter(), Counter())
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name in equations.MOVES:
      continue
    here = place(eqn.source_info.name_stack)
    key = (here[0], (), here[1])
    if name in equations.PRODUCTS:
      _add(total.terms, key, equations.products(eqn), 0)
      continue
    known = name in equations.ARITHMETIC
    known = known or name.startswith(equations.READING)
    # The jaxpr of a scatter or a reduction is on scalars: its size is the work.
    if not known and (inner := list(_jaxprs(eqn.params))):
      _enter(total, eqn, here, inner, lambda j: _walk(j, place, memo))
      continue
    if not known and equations.touches_floats(eqn):
      total.unseen[name] += 1
    if work := equations.elementwise(eqn):
      _add(total.terms, key, 0, work)
  memo[id(jaxpr)] = (jaxpr, total)  # kept, or its id could come again
  return total


def _opened(jaxpr):
  return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _jaxprs(value) -> Iterator:
  """All jaxprs in an equation's parameters, callables not called."""
  if isinstance(value, Jaxpr | ClosedJaxpr):
    yield value
  elif isinstance(value, dict):
    for x in value.values():
      yield from _jaxprs(x)
  elif isinstance(value, tuple | list):
    for x in value:
      yield from _jaxprs(x)


def _enter(total: _Sum, eqn, here: tuple, inner: list, walk: Callable) -> None:
  """Adds what an equation of higher order runs."""
  name, params = eqn.primitive.name, eqn.params
  times = 1
  if name == "while":
    _enter_while(total, eqn, here, walk)
    return
  if name == "cond":
    _enter_cond(total, here, [walk(x) for x in inner])
    return
  if name == "scan":
    times = params["length"]
  elif name == "shard_map":
    mesh = params["mesh"].shape
    axes = params.get("newly_manual_axes", params.get("manual_axes", mesh))
    times = math.prod(mesh[axis] for axis in axes)
  elif name == "pallas_call":
    for size in params["grid_mapping"].grid:
      if isinstance(size, int):
        times *= size
      else:
        total.unseen["pallas_call with a dynamic grid"] += 1
  elif name == "custom_linear_solve":
    # It carries its matvec, transposes and solvers; only the solver runs.
    inner = [params["jaxprs"].solve]
  elif name in ("core_map", "mpmd_map"):
    total.unseen[name] += 1  # runs on an unknown number of cores
  for jaxpr in inner:
    _absorb(total, walk(jaxpr), here, times)


def _enter_while(total: _Sum, eqn, here: tuple, walk: Callable) -> None:
  """The test of a dynamic loop runs once more often than its body."""
  test, body = (walk(eqn.params[k]) for k in ("cond_jaxpr", "body_jaxpr"))
  trips = _static_trips(eqn)
  if trips is not None:
    _absorb(total, body, here, trips)  # the test compares two integers
    return
  loop = len(total.loops)
  total.loops.append(here[0])
  _absorb(total, body, here, 1, ((loop,),))
  _absorb(total, test, here, 1, ((), (loop,)))


def _enter_cond(total: _Sum, here: tuple, parts: list[_Sum]) -> None:
  """The branch with most products, its dynamic loops at one trip each."""
  costs = [
    tuple(map(sum, zip((0, 0), *part.terms.values(), strict=True)))
    for part in parts
  ]
  most = max(range(len(parts)), key=costs.__getitem__)
  if len({products for products, _ in costs}) > 1:
    total.branches[here[0]] += 1
  _absorb(total, parts[most], here)


def _static_trips(eqn) -> int | None:
  """Trips of `while i < n` from literals by literal steps; None if dynamic."""
  test, body = (_opened(eqn.params[k]) for k in ("cond_jaxpr", "body_jaxpr"))
  n_test, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
  if [e.primitive.name for e in test.eqns] not in (["lt"], ["le"]):
    return None
  (compare,) = test.eqns
  counter, bound = compare.invars
  constants, carried = test.invars[:n_test], test.invars[n_test:]
  if counter not in carried or compare.outvars[0] is not test.outvars[0]:
    return None
  i = carried.index(counter)
  if bound in constants:
    bound = eqn.invars[constants.index(bound)]
  before, after = body.invars[n_body + i], body.outvars[i]
  steps = [
    x
    for e in body.eqns
    if e.primitive.name == "add" and e.outvars[0] is after
    for x in e.invars
    if x is not before
  ]
  found = [eqn.invars[n_test + n_body + i], bound, *steps]
  if len(found) != 3 or not all(isinstance(x, Literal) for x in found):
    return None
  start, stop, step = (np.asarray(x.val) for x in found)
  if start.dtype.kind not in "iu" or step < 1:
    return None
  stop = int(stop) + (compare.primitive.name == "le")
  return max(0, -((int(start) - stop) // int(step)))


def _add(terms: dict, key: tuple, products: int, elementwise: int) -> None:
  work = terms.setdefault(key, [0, 0])
  work[0] += products
  work[1] += elementwise


def _absorb(
  total: _Sum,
  part: _Sum,
  here: tuple,
  times: int = 1,
  around: tuple[tuple[int, ...], ...] = ((),),
) -> None:
  """Adds a callee's count, moved to where it is called.

  around: the dynamic loops that stand around it; several are summed.
  """
  path, remat = here
  first = len(total.loops)
  total.loops.extend(_join(path, inner) for inner in part.loops)
  for (inner, loops, again), (products, elementwise) in part.terms.items():
    moved = tuple(first + i for i in loops)
    for outer in around:
      key = (_join(path, inner), outer + moved, remat or again)
      _add(total.terms, key, times * products, times * elementwise)
  for inner, n in part.branches.items():
    total.branches[_join(path, inner)] += n
  total.unseen.update(part.unseen)


def _loop_names(total: _Sum) -> list[str]:
  """Those with products first, each as they stand in the program."""
  busy = {
    i for (_, loops, _), work in total.terms.items() if work[0] for i in loops
  }
  seen, names = Counter(), [""] * len(total.loops)
  for i in sorted(range(len(names)), key=lambda i: (i not in busy, i)):
    name = "/".join(total.loops[i]) or "while"
    seen[name] += 1
    names[i] = name if seen[name] == 1 else f"{name}#{seen[name]}"
  return names
