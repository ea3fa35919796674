"""E -> D: codes by a rule instead of a policy; only D learns.

These are the English arms that RL is compared with, and the warm-up of both
roles. An extract keeps tokens of s in their order, at most as many as its row's
budget. The hash is no extract but the control of all codes: a code that says
nothing of s but which s it is, so that D can only memorise.
"""

import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import likelihood, rollout, tokens
from rsrc_jax.types import Batch, Context, Episode, Pattern, Tokens

RULES = {
  "lessons": rules.whole(1, why="D learns by nothing else"),
  "dropout": rules.share(),
  "empty": rules.flag,
}


def make(
  context: Context, *, lessons: int, dropout: float, empty: bool = False
) -> Pattern:
  """Builds the pattern; the controls of `play` are codes [B, k].

  Nothing is sampled and nothing verified. D learns `lessons` pairs a source, as
  in C -> D -> V: every arm trains D on equally many, here on the same code.
  """
  C, D = context.roles["C"], context.roles["D"]

  def play(params, frozen, carry, batch: Batch, key, controls: Tokens):
    del params, frozen
    code = tokens.repeat(controls, lessons)
    sft_batches = {
      "D": likelihood.decode_batch(D, batch.source, code, key, dropout, empty)
    }
    metrics = {"length": jnp.mean(jnp.sum(controls.mask, -1) * 1.0)}
    metrics |= rollout.passes((C, rollout.loops_at_most(controls)))
    return Episode({}, {}, sft_batches, metrics), carry

  return Pattern(tuple, play)
