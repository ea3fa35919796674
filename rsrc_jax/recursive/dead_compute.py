"""Dead compute: which supersteps and calls of a trained recursion still count.

Seed: "Rethinking Recursive Models: A Leap Forward or Dead Compute?". A step can
be dead in four senses, which need not agree, so all are measured, on held-out
items and per item: it does not change what is said (KL, flips), it does not
make the answer likelier (advantage, margin), no more items come out right
(outcome), or leaving it out changes nothing (causal).
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


class Look(NamedTuple):
  """Of n items after each of S supersteps; index 0 is before the first."""

  exact: np.ndarray  # [S + 1, n] bool: all cells right
  cell: np.ndarray  # [S + 1, n]: share of them
  log_prob: np.ndarray  # [S + 1, n]: of the answer, nats, summed over cells
  steps: steps.Steps  # each [S, n], means over cells
  above: np.ndarray  # [S, n]: share of cells whose margin is above 0
  own_margin: np.ndarray  # [S, n]: margin of what is said itself
  halt: np.ndarray  # [S, n]: the halting head
  guided_nll: np.ndarray  # [W, S, n]: of the answer under guidance, a cell
  guided_exact: np.ndarray  # [W, S, n] bool
  said: np.ndarray  # [S + 1, n, L] int


def make(model: Recursive, supersteps: int) -> Callable[..., Look]:
  """Builds look(params, items, skip): all that is measured of some items.

  skip: [] int32, a superstep that is left out, its state passed on as it was;
  NOBODY: none. Steps keep the index that they were trained with.
  """

  def look(params: Params, items: Items, skip: jax.Array) -> Look:
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
    return Look(
      **{k: whole(k) for k in ("exact", "cell", "log_prob", "said")},
      **{k: found[k] for k in ("steps", "above", "own_margin", "halt")},
      **{k: found[k].swapaxes(0, 1) for k in ("guided_nll", "guided_exact")},
    )

  return look


def make_calls(model: Recursive, supersteps: int) -> Callable[..., steps.Steps]:
  """Builds calls(params, items) -> Steps, each [S, calls]: of every net call.

  Means over items and cells. A call is compared with the readout before it; for
  one that changes z_L alone that is read through one more call (see
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
  look: Callable[..., Any], params: Params, items: Items, batch_size: int, *rest
) -> Look:
  """`look` over all items, batch by batch; the last batch is filled up."""
  total, parts = len(items.question), []
  batch_size = min(batch_size, total)
  for start in range(0, total, batch_size):
    rows = np.arange(start, start + batch_size) % total
    part = jax.tree.map(lambda x: x[rows], items)  # noqa: B023
    parts.append(jax.device_get(look(params, part, *rest)))
  axis = dict.fromkeys(Look._fields, 1) | {"guided_nll": 2, "guided_exact": 2}
  join = lambda name: jax.tree.map(
    lambda *x: np.take(np.concatenate(x, axis[name]), range(total), axis[name]),
    *[getattr(p, name) for p in parts],
  )
  return Look(**{name: join(name) for name in Look._fields})


def summary(look: Look, *, calls: int, call_flops: float) -> dict[str, Any]:
  """What is told of a look, ready for JSON.

  Args:
    look: of n items.
    calls: of the net in a superstep.
    call_flops: of one call on one item, forward.
  """
  exact, S = look.exact.mean(1), len(look.exact) - 1
  bits = look.log_prob / np.log(2)
  flops = np.full(S, calls * call_flops)
  # Whether a step still adds bits of the answer, with a paired interval.
  paid = recursion.passes(bits, flops, None)
  gain = look.steps.advantage  # [S, n]
  per_item = _first_within(look.exact * 1.0, 0.0)
  found = {
    "exact": exact, "cell": look.cell.mean(1),
    "nats": -look.log_prob.mean(1) / look.said.shape[-1],
    "above": look.above.mean(1),
    "alive_steps": (gain > ALIVE).sum(0).mean(),
    "dead_steps": [p.dead for p in paid.passes],
    "dead_flops": paid.dead_fraction,
    "s_star": int(_first_within(exact[:, None], TOLERANCE)[0]),
    "s_star_items": per_item.mean(),
    "stop": stops(look),
    "guided_nll": look.guided_nll.mean(-1),
    "guided_exact": look.guided_exact.mean(-1),
    "gain": [interval(d) for d in np.diff(look.exact * 1.0, axis=0)],
  }  # fmt: skip
  found["dead_fraction"] = 1.0 - found["s_star"] / S
  right = look.exact[-1]
  for name, x in look.steps._asdict().items():
    found[name] = x.mean(1)
  for name, rows in (("solved", right), ("unsolved", ~right)):
    found[f"advantage_{name}"] = gain[:, rows].mean(1) if rows.any() else None
  return _plain(found)


def stops(look: Look) -> dict[str, list[dict[str, float]]]:
  """What stopping early costs: supersteps used and items right, by rule.

  An item stops at the first superstep whose statistic, a mean over its cells,
  is under a threshold: the KL of the step, the varentropy of what is said, or
  the margin of what is said itself; "head": the halting head, as it was
  trained. "all" runs them all.
  """
  S = len(look.halt)
  rules = {
    "head": (look.halt > 0)[None],
    "kl": _under(look.steps.kl, RULES["kl"]),
    "varentropy": _under(look.steps.varentropy, RULES["varentropy"]),
    "own_margin": _under(look.own_margin, RULES["own_margin"]),
    "all": np.zeros((1, *look.halt.shape), bool),
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
        "exact": float(look.exact[stop + 1, rows].mean()),
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
  """curve [S + 1, m] -> the first step from which all stay within of the end.

  So a value that is passed through on the way does not count as reached.
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
