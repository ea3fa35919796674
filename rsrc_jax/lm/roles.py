"""Roles: the capitals of the notation. A template and a length over one policy.

C reads a source and writes a code; D reads a code and writes a source. Both are
the same weights: the first token of the prompt says who is speaking.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import tokens
from rsrc_jax.types import Constraints, Tokens


class Role(NamedTuple):
  """How a role asks and how it answers.

  The sampling settings belong to the role because scoring must repeat them.
  """

  tag: int | tuple[int, ...]  # what a prompt begins with
  separator: int | tuple[int, ...]  # what it ends with
  end: int  # ends an output
  length: int  # most tokens of an output, T
  support: np.ndarray  # [V] bool: ids that the role may ever write
  temperature: float = 1.0  # 0: greedy
  top_p: float = 1.0
  # What announces an ask; None where the role hears none of that kind.
  use: int | tuple[int, ...] | None = None
  avoid: int | tuple[int, ...] | None = None
  slot: int | None = None

  def prompt(
    self, text: Tokens, constraints: Constraints | None = None
  ) -> Tokens:
    """text [N, S] -> prompt [N, P]: tag, text, what is asked for, separator.

    Of the constraints, those that the role hears: the injected ids behind
    `use`, the avoided ones behind `avoid`, the budget as that many `slot`s. An
    ask of nothing is masked: such a prompt is one without it.
    """
    rows = text.ids.shape[0]
    pieces = [tokens.constant(self.tag, rows), text]
    if constraints is not None:
      for words, ids in (
        (self.use, constraints.injected),
        (self.avoid, constraints.avoided),
      ):
        if words is not None and ids is not None:
          pieces.append(_ask(words, ids[:, 0]))
      if self.slot is not None and constraints.budget is not None:
        slots = Tokens(
          jnp.full((rows, self.length), self.slot, jnp.int32),
          jnp.ones((rows, self.length), bool),
        )
        pieces.append(tokens.cut(slots, constraints.budget[:, 0]))
    return tokens.concat(*pieces, tokens.constant(self.separator, rows))

  def greedy(self) -> "Role":
    """The same role, always taking its most likely token."""
    return self._replace(temperature=0.0)


def joined(first: Role, second: Role) -> Role:
  """The first role under both tags: another role that needs no new id."""
  tag = (*np.atleast_1d(first.tag), *np.atleast_1d(second.tag))
  return first._replace(tag=tuple(int(x) for x in tag))


def _ask(words: int | tuple[int, ...], ids) -> Tokens:
  """`words` and the ids [N, K] behind them, -1 pads; all masked if all pads."""
  said = tokens.constant(words, ids.shape[0])
  heard = jnp.any(ids >= 0, -1, keepdims=True)
  said = Tokens(jnp.where(heard, said.ids, 0), said.mask & heard)
  listed = Tokens(jnp.where(ids >= 0, ids, 0).astype(jnp.int32), ids >= 0)
  return tokens.concat(said, listed)
