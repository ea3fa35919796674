"""Dead compute: which supersteps and calls of a trained recursion still count.

After "Rethinking Recursive Models: A Leap Forward or Dead Compute?". A step can
be dead in four senses: it does not change the output (KL, flips), it does not
make the answer likelier (advantage, margin), it solves no more items (outcome),
or nothing changes when it is left out (causal). These need not agree, so all
are measured, per held-out item.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.metrics import recursion, statistics
from rsrc_jax.models.recursive import Recursive
from rsrc_jax.ops import stablemax, steps
from rsrc_jax.recursive.train_step import Items
from rsrc_jax.types import Params

GUIDANCE = (0.0, 0.5, 1.0, 1.5, 2.0)  # w of steps.guided
ALIVE = 0.01  # nat a cell: a step that adds less is dead
TOLERANCE = 0.01  # of the exact share, for s*
RULES = {
  "kl": (0.1, 0.03, 0.01, 0.003, 0.001),
  "varentropy": (4.0, 2.0, 1.0, 0.5, 0.25),  # tails of stablemax are fat
  "own_margin": (0.1, 0.03, 0.01, 0.003, 0.001),
}
NOBODY = -1  # skips no superstep


class Readouts(NamedTuple):
  """Of n items after each of S supersteps; index 0 is before the first.

  NumPy arrays from `over`, JAX arrays from read().
  """

  exact: np.ndarray  # [S + 1, n] bool: all cells right
  cell: np.ndarray  # [S + 1, n]: share of them
  log_prob: np.ndarray  # [S + 1, n]: of the answer, nats, summed over cells
  steps: steps.Steps  # each [S, n], means over cells
  above: np.ndarray  # [S, n]: share of cells whose margin is above 0
  own_margin: np.ndarray  # [S, n]: margin of the output itself
  halt: np.ndarray  # [S, n]: the halting head
  guided_nll: np.ndarray  # [W, S, n]: of the answer under guidance, a cell
  guided_exact: np.ndarray  # [W, S, n] bool
  said: np.ndarray  # [S + 1, n, L] int


def make(model: Recursive, supersteps: int) -> Callable[..., Readouts]:
  """Builds read(params, items, skip) -> Readouts of n items.

  skip: [] int32, a superstep that is left out, so that its state passes on
  unchanged; NOBODY: none. The other steps keep their index.

  Args:
    model: from models.recursive.make.
    supersteps: S.
  """

  def read(params: Params, items: Items, skip: jax.Array) -> Readouts:
    count = len(items.question)
    state = model.begin(count)
    first = stablemax.log_probs(model.read(params, state).logits)

    def body(carry, s):
      state, before = carry
      new, said = model.superstep(
        params, items.question, state, jnp.full(count, s), items.identity
      )
      left_out = s == skip
      new = jax.tree.map(lambda a, b: jnp.where(left_out, b, a), new, state)
      after = jnp.where(left_out, before, stablemax.log_probs(said.logits))
      return (new, after), _measure(before, after, said.halt, items.answer)

    _, found = jax.lax.scan(body, (state, first), jnp.arange(supersteps))
    start = _measure(first, first, jnp.zeros(count), items.answer)
    whole = lambda name: jnp.concatenate([start[name][None], found[name]])
    return Readouts(
      **{k: whole(k) for k in ("exact", "cell", "log_prob", "said")},
      **{k: found[k] for k in ("steps", "above", "own_margin", "halt")},
      **{k: found[k].swapaxes(0, 1) for k in ("guided_nll", "guided_exact")},
    )

  return read


def make_calls(model: Recursive, supersteps: int) -> Callable[..., steps.Steps]:
  """Builds calls(params, items) -> Steps [S, calls], one for each net call.

  They are means over items and cells. A call is compared with the readout
  before it. A call that changes z_L alone is read through one more call (see
  Recursive.probe).
  """

  def calls(params: Params, items: Items):
    count = len(items.question)
    state = model.begin(count)
    first = stablemax.log_probs(model.read(params, state).logits)

    def body(carry, s):
      state, before = carry
      at = (params, items.question, state, jnp.full(count, s), items.identity)
      after = stablemax.log_probs(model.probe(*at))
      state, _ = model.superstep(*at)
      chain = jnp.concatenate([before[None], after])
      target = jnp.broadcast_to(items.answer, after.shape[:-1])
      found = steps.between(chain[:-1], chain[1:], target)
      return (state, after[-1]), jax.tree.map(
        lambda x: jnp.mean(x, (-2, -1)), found
      )

    return jax.lax.scan(body, (state, first), jnp.arange(supersteps))[1]

  return calls


def over(
  read: Callable[..., Any], params: Params, items: Items, batch_size: int, *rest
) -> Readouts:
  """Applies `read` to all items [n], batch by batch, and joins the results.

  The last batch is filled up with the first items, so that shapes don't change.
  rest: further arguments of `read`.
  """
  total, parts = len(items.question), []
  batch_size = min(batch_size, total)
  for start in range(0, total, batch_size):
    rows = np.arange(start, start + batch_size) % total
    part = jax.tree.map(lambda x: x[rows], items)  # noqa: B023
    parts.append(jax.device_get(read(params, part, *rest)))
  axis = dict.fromkeys(Readouts._fields, 1) | {
    "guided_nll": 2,
    "guided_exact": 2,
  }
  join = lambda name: jax.tree.map(
    lambda *x: np.take(np.concatenate(x, axis[name]), range(total), axis[name]),
    *[getattr(p, name) for p in parts],
  )
  return Readouts(**{name: join(name) for name in Readouts._fields})


def summary(
  readouts: Readouts, *, calls: int, call_flops: float
) -> dict[str, Any]:
  """The numbers that are reported of an arm, as JSON values.

  Args:
    readouts: of n items.
    calls: of the net in a superstep.
    call_flops: of one call on one item, forward.
  """
  exact, S = readouts.exact.mean(1), len(readouts.exact) - 1
  bits = readouts.log_prob / np.log(2)
  flops = np.full(S, calls * call_flops)
  # Whether a step still adds bits of the answer, with a paired interval.
  paid = recursion.passes(bits, flops, None)
  gain = readouts.steps.advantage  # [S, n]
  per_item = _first_within(readouts.exact * 1.0, 0.0)
  found = {
    "exact": exact, "cell": readouts.cell.mean(1),
    "nats": -readouts.log_prob.mean(1) / readouts.said.shape[-1],
    "above": readouts.above.mean(1),
    "alive_steps": (gain > ALIVE).sum(0).mean(),
    "dead_steps": [p.dead for p in paid.passes],
    "dead_flops": paid.dead_fraction,
    "s_star": int(_first_within(exact[:, None], TOLERANCE)[0]),
    "s_star_items": per_item.mean(),
    "stop": stops(readouts),
    "guided_nll": readouts.guided_nll.mean(-1),
    "guided_exact": readouts.guided_exact.mean(-1),
    "gain": [interval(d) for d in np.diff(readouts.exact * 1.0, axis=0)],
  }  # fmt: skip
  found["dead_fraction"] = 1.0 - found["s_star"] / S
  right = readouts.exact[-1]
  for name, x in readouts.steps._asdict().items():
    found[name] = x.mean(1)
  for name, rows in (("solved", right), ("unsolved", ~right)):
    found[f"advantage_{name}"] = gain[:, rows].mean(1) if rows.any() else None
  return _plain(found)


def stops(readouts: Readouts) -> dict[str, list[dict[str, float]]]:
  """The supersteps used and the items right under each stopping rule.

  An item stops at the first superstep whose statistic, a mean over its cells,
  is below a threshold. The statistic is the KL of the step, the varentropy of
  the output, or the margin of the output itself. "head" stops where the halting
  head says so. "all" runs all supersteps.
  """
  S = len(readouts.halt)
  rules = {
    "head": (readouts.halt > 0)[None],
    "kl": _under(readouts.steps.kl, RULES["kl"]),
    "varentropy": _under(readouts.steps.varentropy, RULES["varentropy"]),
    "own_margin": _under(readouts.own_margin, RULES["own_margin"]),
    "all": np.zeros((1, *readouts.halt.shape), bool),
  }
  found = {}
  for name, fired in rules.items():
    fired[:, -1] = True
    at = fired.argmax(1)  # [thresholds, n]: the superstep from 0
    rows = np.arange(at.shape[1])
    found[name] = [
      {
        "threshold": t,
        "steps": float(stop.mean() + 1),
        "exact": float(readouts.exact[stop + 1, rows].mean()),
      }
      for t, stop in zip(RULES.get(name, (None,)), at, strict=True)
    ]
  found["all"][0]["steps"] = float(S)
  return found


def _measure(before, after, halt, answer) -> dict[str, Any]:
  """before, after [n, L, V] log-probabilities, answer [n, L]."""
  found = steps.between(before, after, answer)
  said = jnp.argmax(after, -1)
  own = steps.between(before, after, said)
  right = said == answer
  guided = jnp.stack([steps.guided(before, after, w) for w in GUIDANCE])
  logp = jax.nn.log_softmax(guided)
  at_answer = jnp.take_along_axis(logp, answer[None, ..., None], -1)[..., 0]
  return {
    "exact": jnp.all(right, -1),
    "cell": jnp.mean(right, -1),
    "log_prob": jnp.sum(found.log_prob, -1),
    "steps": jax.tree.map(lambda x: jnp.mean(x, -1), found),
    "above": jnp.mean(found.margin > 0, -1),
    "own_margin": jnp.mean(own.margin, -1),
    "halt": halt,
    "guided_nll": -jnp.mean(at_answer, -1),
    "guided_exact": jnp.all(jnp.argmax(guided, -1) == answer, -1),
    "said": said,
  }


def _first_within(curve: np.ndarray, tolerance: float) -> np.ndarray:
  """curve [S + 1, m] -> [m], the first step after which it stays near its end.

  Near is at most `tolerance` below. A value that the curve only passes through
  does not count as reached.
  """
  near = curve >= curve[-1] - tolerance
  stays = np.flip(np.logical_and.accumulate(np.flip(near, 0), 0), 0)
  return stays.argmax(0)


def _under(statistic, thresholds):
  return statistic[None] < np.asarray(thresholds)[:, None, None]


def interval(each: np.ndarray) -> dict[str, float]:
  """Mean of [n] items and its 95 % interval, by the bootstrap."""
  drawn = statistics.resampled_means(each[None], draws=1_000)
  low, high = np.quantile(drawn, (0.025, 0.975))
  return {"mean": each.mean(), "low": low, "high": high}


def _plain(tree):
  plain = lambda x: x if x is None or isinstance(x, (str, bool)) else (
    np.asarray(x).tolist()
  )  # fmt: skip
  return jax.tree.map(plain, tree, is_leaf=lambda x: x is None)
