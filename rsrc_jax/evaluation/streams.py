"""Codes on the streams of cc, no memory: config.evals.NAME.type "streams".

An arm of the pattern cc examines itself on streams of the test split: what a
memory and a code are worth together. This evaluation reads the codes of every
other arm on the same sources, so that memory M and code k can be compared with
a code of M + k tokens, of an arm that was trained for that length.
"""

import functools
from collections.abc import Callable

import jax

from rsrc_jax.build import overrides
from rsrc_jax.build.patterns import block_of
from rsrc_jax.build.setup import Setup, make_info
from rsrc_jax.evaluation import code_judge, samples
from rsrc_jax.lm import memory, tokens
from rsrc_jax.rl import unfolding
from rsrc_jax.runtime import sharding
from rsrc_jax.types import Batch, Tokens

NAMES = {
  "nll_bits": "nll_bits", "exact_match": "exact", "edit_similarity": "edit",
  "mean_tokens": "tokens",
}  # fmt: skip


def make(setup: Setup, *, arm: str) -> Callable[..., dict[str, float]]:
  """Builds evaluate(stage, params, carry, frozen) -> scores of an arm's codes.

  {} for arms of the pattern cc, and for those that write no codes. Means over
  the rounds behind the first, greedy, named as in rl/unfolding.py: `nll_bits`,
  `exact`, `edit`, `tokens`, on the streams that share facts, and with the
  prefix "alone_" on those that share nothing.

  Args:
    setup: of the run.
    arm: the arm of the pattern cc whose streams are read.

  Raises:
    ValueError: there is no such arm, or it has another pattern.
  """
  arms, _, cut = of_arm(setup, arm, "streams: arm")
  D = setup.roles["D"]
  read = jax.jit(code_judge.make_reader(setup.policy, D))
  judge = jax.jit(code_judge.make_judge(setup.policy, D))

  def evaluate(stage, params, carry, frozen) -> dict[str, float]:
    if stage.write is None or arms.get(stage.name) == "cc":
      return {}

    def look(params, frozen, carry, batch, code, key):
      """Pattern.examine of codes without a memory; scores [n * (R - 1)]."""
      del carry, code
      found = {}
      for prefix, s in cut(batch.source, key).items():
        # Rows are of a rule's draws: any will do, as long as they differ.
        own = Batch(s, batch.row[: len(s.ids)])
        c = stage.write(params, frozen, own, key)
        scores = judge(params, s, c, read(params, c))
        found |= {f"{prefix}{new}": scores[old] for old, new in NAMES.items()}
      return found, {}

    found, _ = samples.examine(
      setup, stage._replace(examine=look), params, frozen, carry, None,
      lambda batch: sharding.rows(setup.mesh, batch),
    )  # fmt: skip
    return found

  return evaluate


def of_arm(
  setup: Setup, arm: str, field: str
) -> tuple[dict[str, str], int, Callable[..., dict[str, Tokens]]]:
  """The streams on which an arm of the pattern cc examines itself.

  Args:
    setup: of the run.
    arm: its name.
    field: of config.evals, for the message.

  Returns:
    The pattern of each arm; the rounds of a stream, R; and later(source
    [B, S], key) -> by prefix the sources behind the first rounds, of the same
    streams where source and key are those of the arm's own examination.

  Raises:
    ValueError: there is no such arm, or it has another pattern.
  """
  arms = {k: block_of(x["pattern"]) for k, x in setup.config.arms.items()}
  if arms.get(arm) != "cc":
    names = ", ".join(k for k, x in arms.items() if x == "cc") or "none"
    raise ValueError(
      f"config.evals: {field}={arm!r} must be an arm of the pattern cc: "
      f"{names}."
    )
  settings = overrides.arm_config(setup.config, arm).patterns.cc
  places = memory.places(make_info(setup.corpus), tuple(settings.shared))
  later = functools.partial(
    _later, rounds=settings.rounds, places=places, drift=settings.drift
  )
  return arms, settings.rounds, jax.jit(later)


def _later(source: Tokens, key, *, rounds, places, drift) -> dict[str, Tokens]:
  """Sources of the rounds behind the first, [n * (R - 1), S], by prefix.

  The streams are those of cc's own examination: source [B, S] and key are a
  batch's of samples.examine.
  """
  found = unfolding.streams(source, rounds, places, drift, key)
  return {
    prefix: tokens.flatten(jax.tree.map(lambda x: x[:, 1:], s))
    for prefix, s in found.items()
  }
