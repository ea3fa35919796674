"""What an arm's codes are worth at each length: the block `curve`."""

import math
from typing import Any

Scores = dict[str, float | None]  # code_judge.judge_split's


def asked(config, *, rule: bool) -> list[int | None]:
  """The budgets at which the codes of an arm are measured.

  They are those of config.eval.budgets that the arm covers. An arm whose
  config.budgets is empty has one budget, to which longer codes are cut; a rule
  has all. None comes first, the length that C finds best, where training leaves
  the budget of some sources unannounced.

  Args:
    config: of the arm.
    rule: its codes are a rule's, which has no length of its own.
  """
  wanted = [int(k) for k in config.eval.budgets]
  if rule:
    return wanted
  own = tuple(config.budgets)
  free = config.augment.get("unannounced", 0.0) > 0
  return [None] * bool(free) + [k for k in wanted if not own or k in own]


def row(
  arm: str, budget: int | None, scores: Scores, symbols: int | None
) -> dict[str, Any]:
  """The row of an arm at a budget, JSON of docs/run_directory.md.

  Args:
    arm: its name.
    budget: in tokens; None where none was announced.
    scores: of its codes at this budget.
    symbols: size of the arm's own alphabet, of which each token is charged
      log2; None where it is not known.

  Returns: A ratio is null where the bits are not known or nothing was spent.
  """
  bits, tokens = scores["bits_conveyed"], scores["mean_tokens"]
  channel = None if symbols is None else tokens * math.log2(symbols)
  return {
    "arm": arm,
    "budget": budget,
    "mean_tokens": tokens,
    "bits_conveyed": bits,
    "exact": scores["exact_match"],
    "edit_similarity": scores["edit_similarity"],
    "novel_fraction": scores["novel_fraction"],
    "bits_per_token": _ratio(bits, tokens),
    "channel_bits": channel,
    "bits_per_channel_bit": _ratio(bits, channel),
  }


def _ratio(bits: float | None, spent: float | None) -> float | None:
  return bits / spent if bits is not None and spent else None
