"""The settings of a tiny recursive model, and what they may be."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.rules import BLOCK, flag, one_of, whole

CORES = ("mixer", "attention")


class Architecture(NamedTuple):
  """The settings of the model."""

  vocab_size: int  # V, what a cell can hold
  cells: int  # L of a question and of its answer
  width: int  # D
  depth: int  # blocks of the net
  hidden: int  # of the gated MLP over channels
  # What mixes positions: "mixer", a gated MLP over them, or "attention".
  core: str = "mixer"
  cell_hidden: int = 0  # width of the mixer's; 0: as `hidden`
  heads: int = 1  # of the attention; a head is even
  cycles: int = 3  # T of a superstep
  cycles_with_gradient: int = 1  # the last so many; TRM and DIS have one
  inner: int = 6  # n, updates of z_L in a cycle
  # Supersteps with an embedding each, added to x, as in DIS; 0: none, as in
  # TRM.
  steps: int = 0
  # Tasks with an embedding each, which begins at 0; 0: none.
  identities: int = 0
  # Every call of a superstep has a net of its own. With one superstep and all
  # cycles with gradient it is a feed-forward net of T (n + 1) depth blocks.
  untied: bool = False
  halting: bool = False  # a head predicts whether the answer is right
  # The calls with gradient are unrolled: faster on CPU than a loop, slower to
  # compile.
  unroll: bool = True
  dtype: Any = "float32"  # of the blocks; logits are float32


def _sizes(settings, run):
  """The rule of sizes that depend on each other."""
  del run
  arch = Architecture(**{"vocab_size": 1, "cells": 1, **settings})
  heads, cycles, graded = arch.heads, arch.cycles, arch.cycles_with_gradient
  if arch.core == "attention" and arch.width % (2 * heads):
    return "width", f"{rules.HERE}.heads={heads} times an even number"
  if graded > cycles or (arch.untied and graded != cycles):
    return "cycles_with_gradient", (
      f"1 to {rules.HERE}.cycles={cycles}, and all of them in an untied net"
    )
  return None


RULES = {
  # Limits keep a slip from a trace that takes minutes.
  **dict.fromkeys(("width", "hidden", "heads"), whole(1, 2**24)),
  **dict.fromkeys(
    ("depth", "cycles", "cycles_with_gradient", "inner"), whole(1, 4_096)
  ),
  **dict.fromkeys(("cell_hidden", "steps"), whole(0, 2**24)),
  **dict.fromkeys(("untied", "halting", "unroll"), flag),
  "core": one_of(*CORES),
  "dtype": one_of("float32", "bfloat16", "float16"),
  BLOCK: (_sizes,),
}


def resolved(arch: Architecture) -> Architecture:
  """Checks the settings and replaces the zeros that stand for a default.

  Raises:
    ValueError: see `make`.
  """
  given = arch._asdict()
  if not isinstance(arch.dtype, str):
    given["dtype"] = jnp.dtype(arch.dtype).name
  rules.check_some(RULES, given, "config.model")
  return arch._replace(
    cell_hidden=arch.cell_hidden or arch.hidden, dtype=jnp.dtype(arch.dtype)
  )
