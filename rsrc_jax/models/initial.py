"""Random initial parameters: the key of a leaf is a fold by its path.

Adding or removing a leaf or a layer leaves all others as they were.
"""

import math
import zlib
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.types import Params

Draw = Callable[..., jax.Array]  # key, shape -> values
# How the leaves of a block are drawn.
BLOCK: Mapping[str, Draw] = {
  "kernel": nn.initializers.lecun_normal(),
  "bias": nn.initializers.zeros,
  "scale": nn.initializers.ones,
}


def named(key: jax.Array, name: str) -> jax.Array:
  """The child of a key with this name: its CRC-32 is folded in."""
  return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


def stack(
  key: jax.Array,
  shapes: Params,
  draws: Mapping[str, Draw],
  count: tuple[int, ...],
  path: str,
) -> Params:
  """Parameters of many equal blocks, [*count, ...].

  Args:
    key: of all parameters.
    shapes: of one block, a tree of ShapeDtypeStructs.
    draws: how a leaf is drawn, by the last part of its path.
    count: the leading axes. A block's draws depend on its number alone.
    path: of the blocks in the tree of all parameters.
  """
  numbers = jnp.arange(math.prod(count))

  def one(place, leaf):
    *_, kind = names = [part.key for part in place]
    own = named(key, "/".join([path, *names]))
    draw = lambda i: draws[kind](jax.random.fold_in(own, i), leaf.shape)
    return jax.vmap(draw)(numbers).reshape(*count, *leaf.shape)

  return jax.tree_util.tree_map_with_path(one, shapes)
