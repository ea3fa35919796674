"""What a code is worth: fidelity, and a length that is priced on success."""

import jax
import jax.numpy as jnp


def rarity(ids: jax.Array, mask: jax.Array, vocab_size: int) -> jax.Array:
  """How seldom the batch writes these tokens at these places, in nats.

  The mean over the tokens of an output of -ln(share of the batch's outputs that
  have this token at this position). Paid as a bonus it raises the entropy of
  the code over sources, H(c), of which the entropy given a source, H(c|s), is
  only the part that says nothing: I(s; c) = H(c) - H(c|s).

  ids, mask [B, G, T] -> [B, G]
  """
  place = jnp.broadcast_to(jnp.arange(ids.shape[-1]), ids.shape)
  counts = jnp.zeros((ids.shape[-1], vocab_size)).at[place, ids].add(mask)
  share = counts[place, ids] / (ids.shape[0] * ids.shape[1])
  surprise = -jnp.log(jnp.where(mask, share, 1.0))
  return jnp.sum(surprise, -1) / jnp.maximum(jnp.sum(mask, -1), 1)


def priced(
  fidelity: jax.Array, length: jax.Array, *, budget: int, price: float
) -> jax.Array:
  """fidelity * (1 - price * length / budget), elementwise.

  Multiplicative, so that a failed code is never better for being short
  (additive prices teach a policy to fail fast); `budget` is a constant of the
  run, so that one more useless token always costs.

  Args:
    fidelity: [...] in [0, 1]; clipped at 0 below, where a price would turn into
      a subsidy.
    length: [...] tokens of the code, the end token not counted.
    budget: the most tokens that a code can have.
    price: share of the reward that a code at full budget gives up, in [0, 1].
  """
  used = length.astype(jnp.float32) / budget
  return jnp.maximum(fidelity, 0.0) * (1.0 - price * used)
