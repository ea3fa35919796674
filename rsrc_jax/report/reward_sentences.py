"""Which V was used, what it paid, and where groups were dead, in sentences."""

from collections.abc import Iterable, Mapping
from typing import Any

from rsrc_jax.metrics import dead_groups
from rsrc_jax.report.numbers import number, short
from rsrc_jax.report.run_files import Run
from rsrc_jax.report.verdict import WARNING

HALF = 0.5  # of the spread of reward, that V's word has to pay
# These are D's likelihood and no word of V, also where an older run has them
# in config.verifier.
SHAPING = ("gain", "ratio")


def sentences(run: Run, paid: Iterable[Any]) -> list[str]:
  """All sentences on the rewards of a run.

  paid: rows of reward_table.
  """
  paid = list(paid)
  return [
    *used(run.config, {row.arm: row.label for row in paid}),
    *_reader(run.summary.get("reader")),
    *_halves(paid),
    *(
      dead_groups.warning(row.label, _pattern(run.config, row.arm), stretch)
      for row in paid
      for stretch in row.stretches
    ),
  ]


def used(config: dict, labels: Mapping[str, str]) -> list[str]:
  """Which V was used, with its weights; a sentence for each that there is.

  labels: of the rewarded arms.
  """
  arms = {}
  for arm, label in labels.items():
    arms.setdefault(_said(weights(config, arm)), []).append(label)
  who = {
    text: f" of {', '.join(labels)}" if len(arms) > 1 else ""
    for text, labels in arms.items()
  }
  return [f"V{who[text]} {text}." for text in arms if text]


def weights(config: dict, arm: str) -> dict[str, float]:
  """The weight of each scorer above 0 in an arm's reward, sum 1."""
  found = {}
  for block in ("verifier", "shaping"):
    own = dict(config.get(block) or {})
    for name, value in _overrides(config, arm):
      if name.startswith(f"{block}."):
        own[name.removeprefix(f"{block}.")] = value
    found |= {k: x for k, v in own.items() if (x := number(v)) and x > 0}
  total = sum(found.values())
  return {name: x / total for name, x in found.items()}


def _said(found: dict[str, float]) -> str:
  """What V weighs, to go on after its name; "" where it is not known."""
  each = lambda names: ", ".join(f"{name} {found[name]:.2f}" for name in names)
  words = each(x for x in found if x not in SHAPING)
  shaping = each(x for x in found if x in SHAPING)
  if not found:
    return ""
  if not shaping:
    return f"weighs {words}; D's likelihood is not paid"
  if not words:
    return f"is not heard; all is shaping by D's likelihood ({shaping})"
  return f"weighs {words}; D's likelihood is shaping ({shaping})"


def _reader(block: Any) -> list[str]:
  """What the frozen reader is worth, from the block `reader` of a summary."""
  block = block if isinstance(block, dict) else {}
  attacks = {
    name: value
    for name, x in (block.get("attacks") or {}).items()
    if (value := number(x)) is not None
  }
  word = number(block.get("word"))
  if word is None or not attacks:
    return []
  worst = max(attacks, key=attacks.get)
  return [
    f"The frozen reader's word is {word:.2f} for s itself, at least "
    f"{short(block.get('least'))} being needed, and {short(attacks[worst])} at "
    f"most for a d that says nothing of s ({worst}), up to "
    f"{short(block.get('tolerance'))} being allowed."
  ]


def _halves(paid: list[Any]) -> list[str]:
  """Whether V's word paid at least half of the spread, arm by arm."""
  known = [row for row in paid if row.word is not None]
  less = [row for row in known if row.word < HALF]
  found = [
    f"{WARNING} V's word on sampled outputs paid {row.word:.2f} of the spread "
    f"of reward of {row.label}, less than one half."
    for row in less
  ]
  if known and not less:
    lowest = min(row.word for row in known)
    found.append(
      "V's word on sampled outputs paid at least one half of the spread of "
      f"reward in every arm: {lowest:.2f} or more."
    )
  return found


def _pattern(config: dict, arm: str) -> str:
  """The pattern of an arm; NAME where the config does not say."""
  block = (config.get("arms") or {}).get(arm) or {}
  return str(block.get("pattern") or "NAME")


def _overrides(config: dict, arm: str) -> list[tuple[str, Any]]:
  block = (config.get("arms") or {}).get(arm) or {}
  pairs = block.get("overrides") or ()
  return [
    (str(x[0]), x[1]) for x in pairs
    if isinstance(x, list | tuple) and len(x) == 2
  ]  # fmt: skip
