"""A policy that says what a function of its prompt and step wants."""

import jax
import jax.numpy as jnp

from rsrc_jax.types import Cache, Policy, Tokens


def policy(wanted, init, vocab) -> Policy:
  """wanted(params, prompt, step) -> logits [vocab]; init(key) -> params."""

  def apply(params, tokens, positions, *, prefix=None, cache=None, index=0):
    """hidden [B, G, T, vocab] holds the logits; a prompt is its own segment."""
    del positions
    read = tokens if prefix is None else prefix.k
    steps = jnp.arange(tokens.ids.shape[2]) + index + 1
    if prefix is None:
      steps *= 0

    def say(ids, mask):
      return jax.vmap(lambda t: wanted(params, Tokens(ids, mask), t))(steps)

    logits = jax.vmap(say)(read.ids[:, 0], read.mask[:, 0])
    hidden = jnp.broadcast_to(logits[:, None], (*tokens.ids.shape, vocab))
    return hidden, cache if cache is not None else Cache(read, (), ())

  return Policy(
    init=init,
    apply=apply,
    unembed=lambda params, hidden: hidden,
    init_cache=lambda batch, group, length: Cache((), (), ()),
  )
