"""What each loop of a policy adds, and what stopping after fewer would cost.

A policy whose blocks run R times (models/transformer.py, `loops`) can be read
after each loop. Under teacher forcing, these readouts show which loops are
dead: those that do not change ln p of the target ("Rethinking Recursive
Models"). A token may stop at the first loop that changes little (small KL) or
after which little is uncertain (small varentropy).

The numbers have two limits:

- Only the last readout has been trained. An earlier one is read through the
  same norm and table ("logit lens"). If it is bad, it is not aligned with them;
  its loop may still have been of use to later loops.
- All loops of all tokens have been run. Later tokens attend to states that a
  token which had stopped would not have. The cost of a stop is therefore a
  lower bound, and what it saves counts loops alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import distributions, steps, token_stats
from rsrc_jax.types import Params, Policy, Tokens

ALIVE = 0.01  # nats of a token's ln p that a live loop adds on average


class Readouts(NamedTuple):
  """Of each readout r = 1 ... R and each target token; 0 where masked."""

  log_prob: jax.Array  # [R, N, T] of the target
  right: jax.Array  # [R, N, T] bool: the target is the likeliest
  entropy: jax.Array  # [R, N, T]
  varentropy: jax.Array  # [R, N, T]
  steps: steps.Steps  # [R - 1, N, T]: from each readout to the next
  mask: jax.Array  # [N, T] bool


def make(policy: Policy, role: Role, *, layers: bool = False) -> Callable:
  """Builds a jitted read(params, prompt [N, P], target [N, T]) -> Readouts.

  They are of the role's distribution, untempered and untruncated.

  Args:
    policy: with a trace of its loops.
    role: whose prompt and target they are.
    layers: read after each layer of each loop, for a stack that is not looped.

  Raises:
    ValueError: a policy that can't be traced.
  """
  if policy.trace is None:
    raise ValueError("model: this policy has no trace of its loops.")

  def run(*args, **kwargs):
    return policy.trace(*args, **kwargs, layers=layers)

  def read(params: Params, prompt: Tokens, target: Tokens) -> Readouts:
    states = rollout.hidden(run, params, prompt, tokens.expand(target))[:, :, 0]
    logits = policy.unembed(params, states)  # [R, N, T, V]
    logits = jnp.where(role.support, logits, distributions.NEG_INF)
    ids = jnp.broadcast_to(target.ids, logits.shape[:-1])
    nothing = jnp.zeros((*ids.shape, 0), jnp.int32)
    stats = token_stats.from_logits(logits, ids, nothing)
    found = Readouts(
      stats.log_prob,
      jnp.argmax(logits, -1) == ids,
      stats.entropy,
      stats.varentropy,
      steps.between(logits[:-1], logits[1:], ids[1:]),
      target.mask,
    )
    # Under a False mask there may be an id that the role never writes, which
    # has no probability.
    hide = lambda x: jnp.where(target.mask, x, jnp.zeros_like(x))
    return jax.tree.map(hide, found)

  return jax.jit(read)


def gather(batches: Sequence[Readouts]) -> Readouts:
  """Joins one or more batches along N, on the host, in float64."""

  def join(*xs):
    xs = [np.asarray(x) for x in xs]
    found = np.concatenate(xs, axis=-2)
    return found if found.dtype == bool else found.astype(np.float64)

  return jax.tree.map(join, *batches)


def loops(readouts: Readouts) -> dict[str, Any]:
  """Summaries of each readout, and of each step from one to the next.

  Returns:
    bits: [R] of ln p of the whole target, a row's mean, in bits (at most 0).
    accuracy, entropy, varentropy: [R], means over tokens.
    steps: [R - 1] of each field of steps.Steps, means over tokens.
    live: how many of the steps add more than ALIVE to ln p of a token.
    settled: r of the first readout whose bits are within ALIVE a token of the
      last one's: the loops after it are dead.
  """
  mean = lambda x: _mean(x, readouts.mask).tolist()
  held = _mean(readouts.log_prob, readouts.mask)
  near = held >= held[-1] - ALIVE
  return {
    "bits": (_rows(readouts.log_prob) / np.log(2)).tolist(),
    "accuracy": mean(readouts.right),
    "entropy": mean(readouts.entropy),
    "varentropy": mean(readouts.varentropy),
    "steps": {k: mean(v) for k, v in readouts.steps._asdict().items()},
    "live": int(np.sum(np.diff(held) > ALIVE)),
    "settled": int(np.argmax(near)) + 1,
  }


def stopped(readouts: Readouts, rule: str, threshold: float) -> np.ndarray:
  """The readout that each token is taken from, 0 ... R - 1. -> [N, T] int

  rule: "kl": the first r > 0 with KL(p_{r-1} || p_r) < threshold, so that two
  loops are the least; "varentropy": the first r whose varentropy is below it.
  Where there is none, the last.

  Raises:
    ValueError: another rule.
  """
  if rule == "kl":
    never = np.full((1, *readouts.mask.shape), np.inf)
    # Rounding may leave a KL of nothing below 0.
    signal = np.concatenate([never, np.maximum(readouts.steps.kl, 0.0)])
  elif rule == "varentropy":
    signal = np.asarray(readouts.varentropy)
  else:
    raise ValueError(f"rule={rule!r} is neither 'kl' nor 'varentropy'.")
  stops = signal < threshold
  stops[-1] = True
  return np.argmax(stops, 0)


def stopping(
  readouts: Readouts, rule: str, thresholds: Sequence[float]
) -> list[dict[str, Any]]:
  """What a rule saves and costs: one row for each threshold.

  loops: mean over tokens of the loops run until the stop; share: [R] of the
  tokens, by the loop they stop at; bits_lost: of a row's whole target, against
  all loops; accuracy, and accuracy_lost, of tokens.
  """
  rows, last = len(readouts.log_prob), readouts.log_prob[-1]
  found = []
  for threshold in thresholds:
    at = stopped(readouts, rule, threshold)
    taken, right = (
      np.take_along_axis(np.asarray(x), at[None], 0)[0]
      for x in (readouts.log_prob, readouts.right)
    )
    accuracy = float(_mean(right, readouts.mask))
    full = float(_mean(readouts.right[-1], readouts.mask))
    found.append(
      {
        "threshold": float(threshold),
        "loops": float(_mean(at + 1, readouts.mask)),
        "share": [float(_mean(at == r, readouts.mask)) for r in range(rows)],
        "bits_lost": float(_rows(last - taken) / np.log(2)),
        "accuracy": accuracy,
        "accuracy_lost": full - accuracy,
      }
    )
  return found


def _mean(x, mask) -> np.ndarray:
  """[..., N, T] -> [...], over the tokens of the mask."""
  total = np.sum(np.where(mask, x, 0.0), axis=(-2, -1))
  return total / max(int(np.sum(mask)), 1)


def _rows(x) -> np.ndarray:
  """[..., N, T], 0 where hidden -> [...]: sums of rows, their mean."""
  return np.mean(np.sum(x, -1), -1)
