"""A writer: the last tokens of s, in their order."""

import jax.numpy as jnp

from rsrc_jax.build.writers import Writer, budget_of
from rsrc_jax.lm import extracts


def _make(setup, config, name):
  del setup, name

  def last(batch, budget=None):
    score = jnp.broadcast_to(
      jnp.arange(batch.source.ids.shape[-1]) * 1.0, batch.source.ids.shape
    )
    return extracts.keep(batch.source, score, config.budget, budget)

  def prepare(frozen, batch, key, schedule):
    del frozen, key, schedule
    return last(batch)

  def write(params, frozen, batch, key, budget=None):
    del params, frozen, key
    return last(batch, budget_of(config, batch, budget))

  return prepare, write


WRITER = Writer(_make, english=True, words=True, rule=True)
