"""The reader: a frozen language model of its own, by which V is grounded.

It reads a decode d and is asked for s. What d tells it about s, beyond what it
knows without d, is its word.
"""

import jax
import jax.numpy as jnp

from rsrc_jax.lm import likelihood, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.types import Params, Policy, Tokens


def gain(
  policy: Policy, params: Params, role: Role, s: Tokens, decoded: Tokens
) -> jax.Array:
  """The reader's word on decodes. s [B, S], d [B, G, J, T] -> [B, G, J]

  In (-1, 1]: 0 for a d that tells nothing, and never clipped.
  """
  shape = decoded.ids.shape[:3]
  target = tokens.expand(tokens.with_end(s, role.end))  # [B, 1, S + 1]
  read = lambda text, target: rollout.likelihood(
    policy, params, role, role.prompt(text), target
  )
  nothing = tokens.empty(*s.ids.shape)
  base = read(nothing, target)[:, :, None]  # [B, 1, 1]
  d = tokens.flatten(decoded)
  each = jax.tree.map(lambda x: jnp.repeat(x, shape[1] * shape[2], 0), target)
  return likelihood.bounded_gain(read(d, each).reshape(shape), base)
