"""Several codes of one source, which a rewrite gathers into one.

"Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)" calls
C -> C -> V defragmentation: what is known of s lies scattered over codes that
were written at different times, each of which has kept another part of it, and
is brought together in one place. The codes of a source have an order, the
newest first.
"""

import jax
import jax.numpy as jnp

from rsrc_jax.lm import tokens
from rsrc_jax.types import Tokens


def join(codes: Tokens, separator: int | tuple[int, ...]) -> Tokens:
  """The codes of each source in one text, a separator between two of them.

  codes [N, n, k] -> [N, n * k + (n - 1) * separators]; of one code, the code.
  """
  count = codes.ids.shape[1]
  line = tokens.constant(separator, codes.ids.shape[0])
  pieces = [tokens.at(codes, 0)]
  for i in range(1, count):
    pieces += [line, tokens.at(codes, i)]
  return tokens.concat(*pieces)


def longest(places: int, budget: int) -> int:
  """The most codes that can be read, and rewritten, in a context of `places`.

  A role of two tags reads them with `budget` tokens each, a separator behind
  each, and writes `budget` tokens, of which the last is not read again:
  2 + n (budget + 1) + budget - 1 places.
  """
  return places // (budget + 1) - 1


def beside(codes: Tokens, chosen: jax.Array, count: int) -> Tokens:
  """The first `count` codes of each group other than the chosen one.

  codes [B, G, k], chosen [B] int32, count below G -> [B, count, k]
  """
  index = jnp.arange(count)[None]
  return tokens.take(codes, index + (index >= chosen[:, None]))


def newest_first(codes: Tokens, new: Tokens, won: jax.Array) -> Tokens:
  """Puts a new code before the others, the last of which falls out.

  codes [N, n, k], new [N, k], won [N] bool: where it does -> [N, n, k]
  """
  others = jax.tree.map(lambda x: x[:, :-1], codes)
  after = tokens.concat(tokens.expand(new), others, axis=1)
  return tokens.where(won[:, None], after, codes)


def different(codes: Tokens) -> jax.Array:
  """How many different codes there are that hold a token. [N, n, k] -> [N]

  A code that is there twice tells nothing the second time.
  """
  ids = jnp.where(codes.mask, codes.ids, -1)
  same = jnp.all(ids[:, :, None] == ids[:, None], -1)  # [N, n, n]
  before = jnp.tril(jnp.ones(same.shape[1:], bool), -1)
  first = ~jnp.any(same & before, -1)
  return jnp.sum(first & jnp.any(codes.mask, -1), -1)
