"""What a code is worth: fidelity, and a length that is priced on success."""

import jax
import jax.numpy as jnp


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
