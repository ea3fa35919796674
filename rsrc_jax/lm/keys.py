"""Random keys: a draw is a function of seed, step, row, sample and position."""

import jax
import jax.numpy as jnp


def prompt_keys(key, rows, group):
  """One key a code: [B] rows -> [B * G] keys."""
  per_code = lambda k: jax.vmap(lambda g: jax.random.fold_in(k, g))(
    jnp.arange(group)
  )
  return jax.vmap(per_code)(row_keys(key, rows)).reshape(-1)


def row_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
  """One key a row, folded in by its number: no batch shows in it. -> [B]"""
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def fold(keys, number):
  return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def step_key(seed: int | jax.Array, step: jax.Array) -> jax.Array:
  """The key of a step's rollouts: resuming needs nothing but the step."""
  return jax.random.fold_in(jax.random.key(seed), step)
