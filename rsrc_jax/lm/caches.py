"""Keys and values of prompts, as outputs go on from them."""

import jax
import jax.numpy as jnp

from rsrc_jax.types import Cache


def prompts_of(prefix: Cache, rows: jax.Array) -> Cache:
  """The prompts' segments of these rows."""

  def pick(kept):
    if isinstance(kept, jax.Array):  # layers that a scan has stacked
      return kept[:, rows]
    return jax.tree.map(lambda x: x[rows], kept)

  mask = jax.tree.map(lambda x: x[rows], prefix.mask)
  return Cache(pick(prefix.k), pick(prefix.v), mask)


def extended(segment: Cache, length: int) -> Cache:
  """A segment followed by `length` empty slots, to be written from its end on.

  One product a layer then covers both, which a decoding step of small heads
  spends half its time on.
  """
  more = lambda x, axis: jnp.pad(
    x, [(0, length if n == axis else 0) for n in range(x.ndim)]
  )
  return Cache(
    tuple(more(k, 4) for k in segment.k),
    tuple(more(v, 3) for v in segment.v),
    more(segment.mask, 2),
  )


def folded(cache: Cache) -> Cache:
  """A cache of prompts with one output each, without the axis of outputs.

  With an axis of length one XLA writes each layer twice, once for its product
  and once for the next step, and copies it for that.
  """
  drop = lambda kept: tuple(jnp.squeeze(x, 2) for x in kept)
  return Cache(drop(cache.k), drop(cache.v), cache.mask)


def unfolded(cache: Cache) -> Cache:
  """Back from `folded`."""
  add = lambda kept: tuple(x[:, :, None] for x in kept)
  return Cache(add(cache.k), add(cache.v), cache.mask)
