"""What training paid its roles for, averaged from the lines of metrics.jsonl.

The learner logs for each role with a rollout the share of the reward's spread
within groups that each part of the reward pays (`C_share_verifier` and so on,
sum 1), the share of groups that are dead, whose rewards are all equal
(`C_dead_groups`), the mean deviation of reward in a group (`C_reward_std`) and
that of each part as a share of it (`C_spread_bonus`). Plain Python.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Parts of a reward, in the order in which they are shown; price is <= 0.
PARTS = ("verifier", "reader", "shaping", "bonus", "price")
# A frozen verifier's word on what was sampled; shaping is not.
WORD = ("verifier", "reader")
# The role that a record is about: the first that the arm has. D is read beside
# the role that writes.
ROLES = ("C", "R", "CC", "A")
# How much of a mechanism an arm met, where it was logged: the share of its
# vocabulary that was hidden, what the curriculum kept of the injected ids and
# the bans, and how far injected ids were used; of a memory how often it was
# read, changed, passed over and carried on; how many different codes R has read
# at once, and the share of its rewrites that were shorter than the parent; how
# far the probes of Q were answerable, and what they were paid.
DOSES = (
  "hidden", "inject", "ban", "use_rate", "decoy_rate", "swap_bits", "cc_read",
  "cc_changed", "cc_rolled_back", "cc_carried", "cc_worse_than_none",
  "CC_dead_groups", "R_codes", "R_shorter", "A_dead_groups", "Q_dead_groups",
  "Q_answerable", "Q_paid",
)  # fmt: skip
Line = Mapping[str, Any]


def record(lines: Sequence[Line], arms: Iterable[str]) -> dict[str, Any]:
  """The blocks of summary.json on rewards.

  Args:
    lines: of metrics.jsonl.
    arms: their names; one that was paid nothing is left out.

  Returns:
    reward_shares: arm -> part -> share, sum 1; an arm all of whose groups were
      dead has no shares. dead_groups: arm -> share of groups. doses: arm ->
      name of DOSES -> mean over the steps that logged it; what a writer does
      not obey (a writer of English hides nothing) has a mean all the same.
      Beside them ROLE_word of the rewarded roles that the shares are not about
      (but D): what V's word pays of the spread of their reward, as `word`.
  """
  shares, dead, spreads, doses = {}, {}, {}, {}
  for arm in arms:
    own = of_arm(lines, arm)
    role = role_of(own)
    if role is None:
      continue
    if found := shares_of(own, role):
      shares[arm] = found
    if (value := mean(own, f"{role}_dead_groups")) is not None:
      dead[arm] = value
    if (value := offered(own, role=role)) is not None:
      spreads[arm] = value
    means = {name: mean(own, name) for name in DOSES}
    for other in set(roles(own)) - {role, "D"}:
      if found := shares_of(own, other):
        means[f"{other}_word"] = word(found)
    if means := {k: x for k, x in means.items() if x is not None}:
      doses[arm] = means
  found = {"reward_shares": shares, "dead_groups": dead, "doses": doses}
  return found | ({"bonus_spread": spreads} if spreads else {})


def of_arm(lines: Iterable[Line], arm: str) -> list[Line]:
  """The training windows of an arm by step; the last line of a step counts."""
  found = {
    line["step"]: line
    for line in lines
    if line.get("phase") == arm
    and line.get("split") == "train"
    and _number(line.get("step")) is not None
  }
  return [found[step] for step in sorted(found)]


def roles(lines: Iterable[Line]) -> list[str]:
  """The rewarded roles of an arm: those of ROLES, then the others by name."""
  ending = "_dead_groups"
  names = {
    key.removesuffix(ending)
    for line in lines
    for key in line
    if key.endswith(ending)
  }
  return [x for x in ROLES if x in names] + sorted(names - set(ROLES))


def role_of(lines: Iterable[Line]) -> str | None:
  """The role that writes; None where none is rewarded but D."""
  return next((x for x in roles(lines) if x != "D"), None)


def shares_of(lines: Sequence[Line], role: str) -> dict[str, float]:
  """Share of the spread of a role's reward that each part pays, sum 1.

  Means over the steps of of_arm's windows. {} where no group had a spread.
  """
  start = f"{role}_share_"
  keys = {key for line in lines for key in line if key.startswith(start)}
  names = {key.removeprefix(start) for key in keys}
  order = [x for x in PARTS if x in names] + sorted(names - set(PARTS))
  means = {part: mean(lines, start + part) for part in order}
  means = {part: x for part, x in means.items() if x is not None}
  total = sum(means.values())
  if total < 1e-6:  # of all-dead windows: there is nothing to be shared
    return {}
  return {part: x / total for part, x in means.items()}


def word(shares: Mapping[str, float]) -> float:
  """The share of V's word on sampled outputs."""
  return sum(shares.get(part, 0.0) for part in WORD)


def mean(lines: Sequence[Line], key: str) -> float | None:
  """Mean of a metric over the steps of the windows that have it; or None.

  lines: of of_arm. A window's mean counts as often as it has steps.
  """
  total, steps, before = 0.0, 0.0, 0.0
  for line in lines:
    length, before = line["step"] - before, line["step"]
    value = _number(line.get(key))
    if value is not None and length > 0:
      total, steps = total + length * value, steps + length
  return total / steps if steps else None


def offered(
  lines: Sequence[Line], part: str = "bonus", role: str = "C"
) -> float | None:
  """A part's spread over the reward's, over the steps with injected ids.

  lines: of of_arm. A window counts as long as the curriculum kept any of the
  ids (`inject`); None where no such window has ROLE_spread_PART.
  """
  key = f"{role}_spread_{part}"
  kept = [
    line if (_number(line.get("inject")) or 0) > 0 else {**line, key: None}
    for line in lines
  ]
  return mean(kept, key)


def _number(value: Any) -> float | None:
  """A finite number, or None for whatever else a line may hold."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  return float(value) if math.isfinite(value) else None
