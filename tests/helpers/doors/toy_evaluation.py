"""An evaluation: how far a stage's parameters went, and what its carry says."""

import jax
import jax.numpy as jnp


def make(setup, *, factor):
  """factor: of the norm."""
  del setup

  def evaluate(stage, params, carry):
    leaves = jax.tree.leaves(params)
    norm = jnp.sqrt(sum(jnp.sum(x**2) for x in leaves))
    numbers = [float(jnp.sum(x)) for x in jax.tree.leaves(carry)]
    return {
      "norm": factor * float(norm), "carry": sum(numbers), "arm": stage.name
    }  # fmt: skip

  return evaluate
