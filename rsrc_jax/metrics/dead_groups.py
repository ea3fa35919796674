"""Groups without any spread of reward teach nothing: when that is to be said.

A watch follows the windows of an arm's training. It is a function of their
lines in metrics.jsonl alone, so that a resumed run goes on with it and a report
finds the same. Plain Python.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rsrc_jax.metrics import reward_record

MOST = 0.5  # of a role's groups
STEPS = 100  # in a row


class Stretch(NamedTuple):
  """Steps in a row in which most groups of a role were dead."""

  role: str
  step: int  # the last of them so far
  steps: int  # how many
  dead: float  # the groups' sum over them; the mean is dead / steps


class Watch(NamedTuple):
  """What was seen of an arm up to a step."""

  step: int = 0
  going: tuple[Stretch, ...] = ()  # stretches that have not ended
  told: tuple[Stretch, ...] = ()  # the first of each role to reach STEPS
  new: tuple[Stretch, ...] = ()  # of these, what the last window has added


def follow(watch: Watch, step: int, metrics: Mapping[str, Any]) -> Watch:
  """The watch after a window of training.

  Args:
    watch: after the window before.
    step: the window's last one.
    metrics: its means; of a role's groups, ROLE_dead_groups. A role that was
      not played in the window keeps its stretch.
  """
  length, going = step - watch.step, {x.role: x for x in watch.going}
  for role in reward_record.roles([metrics]):
    share = metrics[f"{role}_dead_groups"]
    before = going.pop(role, Stretch(role, step, 0, 0.0))
    if share is not None and share > MOST:
      going[role] = Stretch(
        role, step, before.steps + length, before.dead + share * length
      )
  known = {x.role for x in watch.told}
  new = tuple(
    x for x in going.values() if x.steps >= STEPS and x.role not in known
  )
  return Watch(step, tuple(going.values()), watch.told + new, new)


def followed(lines: Iterable[Mapping[str, Any]], arm: str) -> Watch:
  """The watch after all training windows of an arm in metrics.jsonl."""
  watch = Watch()
  for line in reward_record.of_arm(lines, arm):
    watch = follow(watch, int(line["step"]), line)
  return watch


def warning(arm: str, pattern: str, stretch: Stretch) -> str:
  """What a user is told of a stretch, with the remedy.

  pattern: config.arms.NAME.pattern.
  """
  role, share = stretch.role, stretch.dead / stretch.steps
  *names, last = [f"config.{name}" for name in remedies(role, pattern)]
  return (
    f"Warning: {arm}: {100 * share:.0f} % of {role}'s groups were dead over "
    f"{stretch.steps} steps up to step {stretch.step}: their rewards are all "
    f"equal and teach nothing. Raise {', '.join(names)} or {last}."
  )


def remedies(role: str, pattern: str) -> tuple[str, ...]:
  """Settings, below `config`, that spread the rewards of a role's groups."""
  block = pattern.rpartition("/")[2].removesuffix(".py")
  own = {
    "D": ("loss.lesson_weights.D",),  # without lessons D turns deterministic
    "A": (f"patterns.{block}.answers",),
  }
  others = (f"patterns.{block}.group", "shaping.gain")
  return (
    f"loss.entropy_bonus.{role}", "temperature", *own.get(role, others),
  )  # fmt: skip
