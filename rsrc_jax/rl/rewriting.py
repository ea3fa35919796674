"""What rewrites of codes are worth to today's D and V, beside their parents.

A rewrite has one parent, or several codes of one source that R has read
together (fragments.py). It is held against the one that V values most.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import keys, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.rl import fragments, judging
from rsrc_jax.types import Metrics, Params, Rollout, SupervisedBatch, Tokens

TARGETS = ("none", "next", "final")


class Rewritten(NamedTuple):
  """M times n codes, G rewrites of each n, and what all are worth."""

  parents: Tokens  # [M, n, k], read together
  parent: Tokens  # [M, k], the one that V values most
  rewrites: Tokens  # [M, G, k]
  winner: Tokens  # [M, k], the best rewrite
  best: Tokens  # [M, k], the best code known by now
  value: jax.Array  # [M, G], of the rewrites
  parts: dict[str, jax.Array]  # [M, G] by name, whose sum that is
  gained: jax.Array  # [M, G], on `parent`
  parent_value: jax.Array  # [M], of `parent`
  anew_value: jax.Array  # [M], of a code that C writes of s today
  best_value: jax.Array  # [M]
  won: jax.Array  # [M] bool: the winner is better than the parent
  sampled: Rollout | None  # D's, of all these codes


def judge(
  how: judging.Hearing,
  params: Params,
  frozen: dict[str, Params],
  s: Tokens,
  parents: Tokens,
  rewrites: Tokens,
  known_best: Tokens,
  anew: Tokens,
  rows: jax.Array,
  key: jax.Array,
  *,
  budget: int,
  price: float | jax.Array,
) -> Rewritten:
  """Values all codes of s [M, S] by today's D.

  parents [M, n, k], rewrites [M, G, k], known_best and anew [M, k]. rows [M]:
  their places in the buffer. key: of D's samples. budget, price: see
  rewards.priced.
  """
  others = map(tokens.expand, (known_best, anew))
  every = tokens.concat(rewrites, parents, *others, axis=1)
  G, read = rewrites.ids.shape[1], parents.ids.shape[1]
  k_each, k_empty = (keys.child(key, x) for x in keys.Judged)
  each = keys.prompt_keys(k_each, rows, G + read + 2)
  found = judging.judge(how, params, frozen, s, every, each, k_empty)
  value, parts = judging.priced(found, every, budget=budget, price=price)
  old, top, new = value[:, G:-2], value[:, -2], value[:, -1]
  parent, old = tokens.pick(parents, jnp.argmax(old, -1)), jnp.max(old, -1)
  value, parts = jax.tree.map(lambda x: x[:, :G], (value, parts))
  best = tokens.where(new > top, anew, known_best)
  top = jnp.maximum(top, new)
  gained, highest = value - old[:, None], jnp.max(value, -1)
  winner = tokens.pick(rewrites, jnp.argmax(value, -1))
  best = tokens.where(highest > top, winner, best)
  return Rewritten(
    parents, parent, rewrites, winner, best, value, parts, gained, old, new,
    jnp.maximum(top, highest), jnp.max(gained, -1) > 0, found.sampled,
  )  # fmt: skip


def measure(found: Rewritten, was_start: jax.Array) -> Metrics:
  """Means over the parents, or over their rewrites.

  was_start [M, n] bool: which codes are the starting policy's. R_codes: the
  different codes that R has read; R_shorter: rewrites shorter than the parent.
  """
  length = lambda x: jnp.sum(x.mask, -1) * 1.0
  own, parent = length(found.rewrites), length(found.parent)
  return {
    "R_gain_over_parent": jnp.mean(found.gained),
    "R_gain_best": jnp.mean(jnp.max(found.gained, -1)),
    "R_dead": jnp.mean(~found.won * 1.0),
    "R_codes": jnp.mean(fragments.different(found.parents) * 1.0),
    "R_length": jnp.mean(own),
    "R_length_parent": jnp.mean(parent),
    "R_shorter": jnp.mean((own < parent[:, None]) * 1.0),
    "R_left": jnp.mean(was_start * 1.0),
    "R_over_anew": jnp.mean(jnp.max(found.value, -1) - found.anew_value),
  }


def rewrite_batch(
  R: Role, targets: str, found: Rewritten, warm: jax.Array
) -> SupervisedBatch:
  """R learns to write a better code for the parent, or to copy it first.

  targets: one of TARGETS, see patterns/ccv.py. warm: [] bool.
  """
  target, weight = {
    "none": (found.parent, jnp.zeros_like(found.won)),
    "next": (found.winner, found.won),
    "final": (found.best, found.best_value > found.parent_value),
  }[targets]
  target, weight = tokens.where(warm, found.parent, target), weight | warm
  target = tokens.expand(tokens.with_end(target, R.end))
  prompt = R.prompt(fragments.join(found.parents, R.separator))
  return SupervisedBatch(prompt, target, weight[:, None] * 1.0)
