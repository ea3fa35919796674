"""Jitted functions whose work is charged to the ledger.

A program is compiled in a phase of its own, its FLOPs are counted once from its
jaxpr, and every call after that adds what it executed: loops that end early are
counted by how often they ran.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rsrc_jax.accounting import flops, hlo
from rsrc_jax.accounting.ledger import SCOPES, Ledger
from rsrc_jax.runtime import processes
from rsrc_jax.types import Tokens

LOOPS = "_loops"  # ends the names of metrics that say how often a loop ran


class Charged(NamedTuple):
  """A jitted function whose calls are charged."""

  call: Callable  # awaited and charged
  uncharged: Callable  # jitted; to be timed by itself
  loops: Callable[[Any], dict[str, float]]  # output -> passes of its loops

  def __call__(self, *args: Any) -> Any:
    return self.call(*args)


def compiled(
  ledger: Ledger,
  name: str,
  f: Callable,
  *args: Any,
  loops: dict[str, float] | None = None,
  closed_form: float | None = None,
  arm: str = "",
  sections: tuple[str, ...] = (),
) -> flops.Count:
  """Traces and compiles a jitted f for these arguments, and notes its figures.

  The call that follows finds the program in jax's cache. Arguments may be
  donated ones: nothing is executed.

  Args:
    ledger: where compiling is charged.
    name: of the program.
    f: jitted.
    *args: of a call.
    loops: by scope, how often its dynamic loops can run at most, for the note.
    closed_form: FLOPs of such a call on paper, noted beside the others.
    arm: whose program it is; see Ledger.phase.
    sections: of its roles, told apart beside ledger.SCOPES.
  """
  with ledger.phase("compile", arm, program=name):
    traced = f.trace(*args)
    executable = traced.lower().compile()
    count = flops.count(traced.jaxpr, scopes_of(sections))
    facts = figures(count, executable, loops or {}, closed_form)
  ledger.program(arm, name=name, **facts)
  return count


def scopes_of(sections: tuple[str, ...]) -> tuple[str, ...]:
  """What a program's work is told apart by: the ledger's scopes, then these."""
  return tuple(dict.fromkeys((*SCOPES, *sections)))


def figures(
  count: flops.Count,
  executable: Any,
  loops: dict[str, float],
  closed_form: float | None = None,
  lanes: int = 1,
) -> dict[str, Any]:
  """What the ledger notes of a program; see `compiled`.

  lanes: of how many runs this is one program. `count` is of one of them, and
    what XLA says of all is divided by their number.
  """
  once, most = flops.evaluate(count), _evaluate(count, loops)
  found = hlo.xla(executable)
  found = found._replace(
    raw=None if found.raw is None else found.raw / lanes,
    corrected=found.corrected / lanes,
  )
  said = hlo.agreement(most["hardware"], found, closed_form)
  peak = peak_bytes(executable)
  return {
    "walker": said["walked"],
    "walker_once": once["hardware"],
    "xla_raw": said["xla_raw"],
    "xla_corrected": said["xla_corrected"],
    "closed_form": closed_form,
    "xla_unknown_loops": said["xla_unknown_loops"],
    "xla_unseen": said["xla_unseen"],
    "recompute": most["recompute"],
    "elementwise": most["elementwise"],
    "loops_unknown": most["unknown_loops"],
    "branches_at_most": most["branches"],
    "peak_bytes": None if peak is None else peak // lanes,
  } | ({"lanes": lanes} if lanes > 1 else {})


def charged(
  ledger: Ledger,
  phase: str,
  f: Callable,
  loops: Callable[[Any], dict[str, float]] = lambda out: {},
  arm: str = "",
  sections: tuple[str, ...] = (),
) -> Charged:
  """A jitted f as a call that is awaited and charged to `phase`.

  Args:
    ledger: one that keeps nothing leaves f as it is.
    phase: of the ledger.
    f: jitted.
    loops: output -> how often each dynamic loop ran, by scope.
    arm: whose work a call is; see Ledger.phase.
    sections: as for `compiled`.
  """
  if ledger.path is None:
    return Charged(f, f, loops)
  count = None

  def call(*args):
    nonlocal count
    if count is None:
      count = compiled(ledger, phase, f, *args, arm=arm, sections=sections)
    with ledger.phase(phase, arm) as spend:
      out = spend(f(*args))
      jax.block_until_ready(out)
      spend(**work([(count, loops(out), 1)]))
    return out

  return Charged(call, f, loops)


def work(
  calls: list[tuple[flops.Count, dict[str, float], float]],
) -> dict[str, Any]:
  """Facts for a ledger line: what calls of programs have executed.

  calls: of each program its FLOPs, how often its loops ran, and its calls.
  """
  spent, again = {}, 0.0
  for count, loops, times in calls:
    found = _evaluate(count, loops)
    for scope, value in found["scopes"].items():
      spent[scope] = spent.get(scope, 0.0) + times * value["hardware"]
    again += times * found["recompute"]
  return {"flops": spent, "recompute": again}


def loops_of(
  window: list[dict[str, Any]], prefix: str = ""
) -> dict[str, float]:
  """Mean passes through each dynamic loop, from the metrics of some steps.

  prefix: what the names of the metrics begin with, before the loop's.
  """
  names = [k for k in window[0] if k.startswith(prefix) and k.endswith(LOOPS)]
  values = jax.device_get([{k: m[k] for k in names} for m in window])
  mean = lambda k: float(np.mean([v[k] for v in values]))
  return {k.removeprefix(prefix).removesuffix(LOOPS): mean(k) for k in names}


def held_loops(out: tuple[Any, dict[str, Any]]) -> dict[str, float]:
  """Loops of a look at held-out reward, (state, metrics): Stage.observe."""
  return loops_of([out[1]], prefix="held_")


def decoding(scope: str, length: int) -> Callable[[Tokens], dict[str, float]]:
  """Loops of rollout.sample, from its outputs [B, T] with their end cut off.

  length: the most tokens that the role may write, end included.
  """

  def loops(out: Tokens) -> dict[str, float]:
    longest = int(np.max(np.sum(processes.fetch(out.mask), -1)))
    return {scope: min(longest + 1, length) - 1}

  return loops


def _evaluate(count: flops.Count, loops: dict[str, float]) -> dict[str, Any]:
  """flops.evaluate, for loops of which the program may have only some."""
  known = {k: v for k, v in loops.items() if k in count.loops}
  return flops.evaluate(count, known)


def peak_bytes(executable: Any) -> int | None:
  """Arguments, outputs and temporaries of one device, what is shared once."""
  memory = executable.memory_analysis()
  if memory is None:
    return None
  return int(
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )
