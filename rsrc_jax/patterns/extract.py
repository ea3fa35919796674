"""E -> D: codes by a rule instead of a policy; only D learns.

The English arms that RL is compared with, and the warm-up of both roles. An
extract keeps tokens of s in their order, at most as many as its row's budget.
The hash is no extract but the control of all codes: nothing but memory.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from rsrc_jax.lm import likelihood, rollout
from rsrc_jax.lm.roles import Role
from rsrc_jax.types import (
  Batch,
  Episode,
  Pattern,
  Policy,
  SourceInfo,
  Tokens,
)


def make(
  policy: Policy,
  roles: dict[str, Role],
  verify: Callable[..., Any],
  *,
  lessons: int,
  dropout: float,
  empty: bool = False,
  info: SourceInfo | None = None,
) -> Pattern:
  """Builds the pattern; what is given to `play` are codes [B, k].

  Nothing is sampled and nothing verified. D sees `lessons` pairs a source, as
  in C -> D -> V: every arm trains D on equally many, here on the same code.
  """
  del policy, verify, info

  def play(params, frozen, carry, batch: Batch, key, given: Tokens):
    del params, frozen
    code = Tokens(*(jnp.repeat(x, lessons, 0) for x in given))
    lesson = likelihood.decode_batch(
      roles["D"], batch.source, code, key, dropout, empty
    )
    metrics = {"length": jnp.mean(jnp.sum(given.mask, -1) * 1.0)}
    metrics["C_loops"] = rollout.loops_at_most(given)
    return Episode({}, {}, {"D": lesson}, metrics), carry

  return Pattern(tuple, play)
