"""A pattern of a user's: one file, named by its path in config.arms.*.pattern.

E -> V: E reads a source and is paid for saying little. Nothing to learn from,
but all that a pattern can have: a role of its own with a section of its own in
the ledger, a carry, an examination.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import rollout
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import joined
from rsrc_jax.types import Context, Episode, Pattern, SupervisedBatch


class Carry(NamedTuple):
  """What goes from step to step."""

  played: jax.Array  # [] int32: steps
  usual: jax.Array  # []: the running mean of how much is said


def make(context: Context, *, group: int, price: float) -> Pattern:
  """Builds the pattern.

  group: outputs of a source; price: of an output at full length.
  """
  policy, roles = context.policy, context.roles
  E = joined(roles["C"], roles["V"], name="E", section="E")

  def init():
    return Carry(jnp.int32(0), jnp.float32(0.0))

  def play(params, frozen, carry, batch, key, controls):
    del controls
    e = rollout.sample(
      policy, params, E, E.prompt(batch.source),
      row_keys(key, batch.row), samples=group,
    )  # fmt: skip
    said = jnp.sum(e.output.mask, -1) / E.length
    reward = carry.usual - price * said
    # And the end of what was said first, by likelihood.
    first = jax.tree.map(lambda x: x[:, :1], e.output)
    sft_batch = SupervisedBatch(e.prompt, first, jnp.ones(first.ids.shape[:2]))
    metrics = rollout.passes((E, e)) | {
      "reward": jnp.mean(reward),
      "toy_said": jnp.mean(said),
      "toy_usual": carry.usual,
      "toy_played": carry.played * 1.0,
      "toy_start": fingerprint(frozen["start"]),
      "toy_params": fingerprint(params),
    }
    usual = 0.5 * (carry.usual + jnp.mean(said))
    carry = Carry(carry.played + 1, usual)
    return Episode({"E": e}, {"E": reward}, {"E": sft_batch}, metrics), carry

  def examine(params, frozen, carry, batch, code, key):
    del key
    said = rollout.greedy(policy, params, E, E.prompt(batch.source))
    scores = {
      "said": jnp.sum(said.mask, -1) * 1.0,
      "code": jnp.sum(code.mask, -1) * 1.0,
      "start": jnp.atleast_1d(fingerprint(frozen["start"])),
      "played": jnp.atleast_1d(carry.played * 1.0),  # as trained
    }
    return scores, {"source": batch.source, "said": said}

  return Pattern(init, play, examine, (("E", E),))


def fingerprint(params) -> jax.Array:
  """The sum of squares of all parameters."""
  return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))
