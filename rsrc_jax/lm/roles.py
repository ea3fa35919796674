"""Roles (C, D, V, ...): prompt templates and sampling settings over one policy.

C reads a source and writes a code; D reads a code and writes a source. Both
have the same weights; the first token of the prompt selects the role.
"""

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import tokens
from rsrc_jax.types import Constraints, Tokens


class Role(NamedTuple):
  """The prompt template and the sampling settings of a role.

  The sampling settings are part of the role, because scoring must repeat them.
  """

  tag: int | tuple[int, ...]  # what a prompt begins with
  separator: int | tuple[int, ...]  # what it ends with
  end: int  # ends an output
  length: int  # most tokens of an output, T
  support: np.ndarray  # [V] bool: ids that the role may ever write
  temperature: float = 1.0  # 0: greedy
  top_p: float = 1.0
  # The tags that precede constraints in the prompt; None where the prompt of
  # this role omits constraints of that kind.
  use_tag: int | tuple[int, ...] | None = None
  avoid_tag: int | tuple[int, ...] | None = None
  length_tag: int | None = None  # repeated once for each token of the budget
  name: str = ""
  section: str = ""  # of the ledger: where its sampling is charged; "": name
  # How many batch sizes an output batch is decoded at: each is a quarter of the
  # one before, and takes over when no more rows than that go on. One pays for
  # the longest output, several for little more than the mean.
  shapes: int = 1

  @property
  def scope(self) -> str:
    """The section of the ledger that this role's work is charged to."""
    return self.section or self.name

  def charged(self) -> contextlib.AbstractContextManager:
    """A context: operations traced inside are charged to the role's section."""
    named = jax.named_scope
    return named(self.scope) if self.scope else contextlib.nullcontext()

  def prompt(
    self, text: Tokens, constraints: Constraints | None = None
  ) -> Tokens:
    """text [N, S] -> prompt [N, P]: tag, text, constraints, separator.

    Appends the constraints for which this role has tags: the injected ids after
    `use_tag`, the avoided ids after `avoid_tag`, and the budget as that many
    `length_tag`s where it is announced. An empty constraint is masked, so that
    the prompt equals the prompt without it.
    """
    rows = text.ids.shape[0]
    pieces = [tokens.constant(self.tag, rows), text]
    if constraints is not None:
      for tag, ids in (
        (self.use_tag, constraints.injected),
        (self.avoid_tag, constraints.avoided),
      ):
        if tag is not None and ids is not None:
          pieces.append(_listed(tag, ids[:, 0]))
      if self.length_tag is not None and constraints.budget is not None:
        unary = tokens.constant((self.length_tag,) * self.length, rows)
        told = constraints.budget
        if constraints.announced is not None:
          told = jnp.where(constraints.announced, told, 0)
        pieces.append(tokens.cut(unary, told[:, 0]))
    return tokens.concat(*pieces, tokens.constant(self.separator, rows))

  def greedy(self) -> "Role":
    """The same role with greedy decoding."""
    return self._replace(temperature=0.0)


def joined(first: Role, second: Role, name: str, section: str = "") -> Role:
  """The first role with the tags of both: a new role without new ids.

  section: of the ledger; "": the first role's.
  """
  tag = (*np.atleast_1d(first.tag), *np.atleast_1d(second.tag))
  return first._replace(
    tag=tuple(int(x) for x in tag), name=name, section=section or first.scope
  )


def _listed(tag: int | tuple[int, ...], ids: jax.Array) -> Tokens:
  """`tag` and then the ids [N, K], -1 pads; all masked if all are pads."""
  some = jnp.any(ids >= 0, -1, keepdims=True)
  head = tokens.keep(tokens.constant(tag, ids.shape[0]), some)
  listed = Tokens(jnp.where(ids >= 0, ids, 0).astype(jnp.int32), ids >= 0)
  return tokens.concat(head, listed)
