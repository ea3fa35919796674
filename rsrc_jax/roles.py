"""Roles: the capitals of the notation. A template and a length over one policy.

C reads a source and writes a code; D reads a code and writes a source. Both are
the same weights: the first token of the prompt says who is speaking.
"""

from typing import NamedTuple

import numpy as np

from rsrc_jax import prompts
from rsrc_jax.types import Tokens


class Role(NamedTuple):
  """How a role asks and how it answers.

  The sampling settings belong to the role because scoring must repeat them.
  """

  tag: int  # first token of the prompt
  separator: int  # last token of the prompt
  end: int  # ends an output
  length: int  # most tokens of an output, T
  support: np.ndarray  # [V] bool: ids that the role may ever write
  temperature: float = 1.0  # 0: greedy
  top_p: float = 1.0

  def prompt(self, text: Tokens) -> Tokens:
    """text [N, S] -> prompt [N, S + 2]."""
    rows = text.ids.shape[0]
    return prompts.concat(
      prompts.constant(self.tag, rows),
      text,
      prompts.constant(self.separator, rows),
    )

  def greedy(self) -> "Role":
    """The same role, always taking its most likely token."""
    return self._replace(temperature=0.0)
