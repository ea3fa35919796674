"""Roles: the capitals of the notation. A template and a length over one policy.

C reads a source and writes a code; D reads a code and writes a source. Both are
the same weights: the first token of the prompt says who is speaking.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rsrc_jax import prompts
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
  # Tokens that announce an ask; None where the role hears none of that kind.
  use: int | None = None
  avoid: int | None = None
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
    pieces = [prompts.constant(self.tag, rows), text]
    if constraints is not None:
      for token, ids in (
        (self.use, constraints.injected),
        (self.avoid, constraints.avoided),
      ):
        if token is not None and ids is not None:
          pieces.append(_ask(token, ids[:, 0]))
      if self.slot is not None and constraints.budget is not None:
        slots = Tokens(
          jnp.full((rows, self.length), self.slot, jnp.int32),
          jnp.ones((rows, self.length), bool),
        )
        pieces.append(prompts.cut(slots, constraints.budget[:, 0]))
    return prompts.concat(*pieces, prompts.constant(self.separator, rows))

  def greedy(self) -> "Role":
    """The same role, always taking its most likely token."""
    return self._replace(temperature=0.0)


def joined(first: Role, second: Role) -> Role:
  """The first role under both tags: another role that needs no new id."""
  tag = (*np.atleast_1d(first.tag), *np.atleast_1d(second.tag))
  return first._replace(tag=tuple(int(x) for x in tag))


def _ask(token: int, ids) -> Tokens:
  """`token` and the ids [N, K] behind it, -1 pads; all masked if all pads."""
  real = ids >= 0
  ids = jnp.pad(jnp.where(real, ids, 0), ((0, 0), (1, 0)), constant_values=0)
  mask = jnp.concatenate([jnp.any(real, -1, keepdims=True), real], -1)
  ids = ids.at[:, 0].set(jnp.where(mask[:, 0], token, 0))
  return Tokens(ids.astype(jnp.int32), mask)
