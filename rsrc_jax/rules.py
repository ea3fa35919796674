"""Rules of settings: what each field of a config block may be.

A module with a make() has its rules beside it, as plain data:

  RULES = {
    "group": whole(2, why="a code is compared with others of its source"),
    "dropout": share(),
    "gate": optional(injection.RULES),
    BLOCK: (lessons_fit_the_group,),
  }

A rule is a function, value -> what it must be, or "" where the value will do; a
dict is the rule of a block, field by field. The functions of BLOCK see a whole
block whose fields are right one by one: (settings, run) -> (field, what it must
be), or None. A rule knows its field alone: who checks adds the path.

rsrc_jax/build/checks.py checks all blocks of a config before data are read.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

BLOCK = "*"  # of a dict of rules: functions of the whole block
HERE = "{here}"  # in what a function of BLOCK says: the path of its block
OTHERS = "..."  # of a dict of rules: the rule of all fields that it lacks
LARGEST = 2**31 - 1  # sizes and counters are int32
HUGE = 1e30  # of a number without a limit of its own: float32 has room above


class NotSet(NamedTuple):
  """The value of a field that a block does not have."""

  def __repr__(self) -> str:
    return "(not set)"


NOT_SET = NotSet()


class Problem(NamedTuple):
  """A setting that can't be used."""

  path: str  # dotted
  value: Any
  said: str  # behind the value

  def __str__(self) -> str:
    return f"{self.path}={shown(self.value)} {self.said}."


class Optional(NamedTuple):
  """The rule of a field that may be None."""

  rule: Any


def whole(
  least: int = 0, most: int = LARGEST, *, why: str = ""
) -> Callable[[Any], str]:
  """A whole number of a range, both ends included.

  why: a remedy or a reason, which follows the range in the message.
  """
  limits = f"at least {least}" if most == LARGEST else f"{least} to {most}"

  def rule(value: Any) -> str:
    real = isinstance(value, Integral) and not isinstance(value, bool)
    if real and least <= value <= most:
      return ""
    over = real and value > most == LARGEST
    return f"a whole number, {limits}{_why(f'at most {most}' if over else why)}"

  return rule


def number(
  least: float = -HUGE,
  most: float = HUGE,
  *,
  above: float | None = None,
  below: float | None = None,
  why: str = "",
) -> Callable[[Any], str]:
  """A finite number of a range, both ends included.

  above, below: an end that is not included, in the place of least and most.
  """
  low = least if above is None else above
  high = most if below is None else below
  needed = _range(low, high, above is not None, below is not None)

  def rule(value: Any) -> str:
    real = isinstance(value, Real) and not isinstance(value, bool)
    # nan is in no range; an int may be too large for a float.
    if real and low <= value <= high and value not in (above, below):
      return ""
    limit = f"at most {HUGE:g} in size"
    over = real and high == HUGE < abs(value) < float("inf")
    return needed + _why(limit if over else why)

  return rule


def share(why: str = "") -> Callable[[Any], str]:
  """A number from 0 to 1."""
  return number(0, 1, why=why)


def one_of(*names: Any) -> Callable[[Any], str]:
  """One of some values."""
  needed = f"one of {', '.join(map(repr, names))}"
  return lambda value: (
    "" if any(type(x) is type(value) and x == value for x in names) else needed
  )


def flag(value: Any) -> str:
  """True or False."""
  return "" if isinstance(value, bool) else "True or False"


def text(value: Any) -> str:
  """A string."""
  return "" if isinstance(value, str) else "a text"


def optional(rule: Any) -> Optional:
  """The rule of a value that may also be None; of a dict too."""
  return Optional(rule)


def items(rule: Callable[[Any], str]) -> Callable[[Any], str]:
  """A tuple, each of whose values has the rule."""

  def each(value: Any) -> str:
    if not isinstance(value, tuple | list):
      return "a tuple"
    for x in value:
      if needed := rule(x):
        return f"a tuple in which {shown(x)} is {needed}"
    return ""

  return each


def anything(value: Any) -> str:
  """Any value whose numbers are finite: the rule where there is no other."""
  if isinstance(value, Mapping):
    value = [*value.values()]
  if isinstance(value, tuple | list):
    return next(filter(None, map(anything, value)), "")
  if isinstance(value, bool) or not isinstance(value, Real):
    return ""
  return "" if -HUGE <= value <= HUGE else "a finite number, at most 1e+30"


def problems(
  rules: Mapping[str, Any],
  settings: Mapping[str, Any],
  path: str,
  run: Mapping[str, Any] | None = None,
) -> Iterator[Problem]:
  """What is wrong with the settings of a block, in their order.

  Args:
    rules: of the block.
    settings: by field.
    path: of the block, such as "config.patterns.cdv".
    run: numbers of the whole run, for the functions of BLOCK.
  """
  found = False
  for name, value in settings.items():
    for problem in _of_field(rules, name, value, f"{path}.{name}", run):
      found = True
      yield problem
  if found:
    return
  for function in rules.get(BLOCK, ()):
    if wrong := function(settings, run or {}):
      name, needed = wrong
      value = settings
      for part in name.split("."):
        value = value.get(part, NOT_SET)  # a field may be at its default
      needed = needed.replace(HERE, path)
      yield Problem(f"{path}.{name}", value, f"must be {needed}")


def check(
  rules: Mapping[str, Any],
  settings: Mapping[str, Any],
  path: str,
  run: Mapping[str, Any] | None = None,
) -> None:
  """Raises ValueError, one line, for the first of `problems`."""
  for problem in problems(rules, settings, path, run):
    raise ValueError(str(problem))


def check_some(
  rules: Mapping[str, Any], arguments: Mapping[str, Any], path: str
) -> None:
  """`check` of those of a make()'s arguments that have a rule."""
  check(rules, {k: v for k, v in arguments.items() if k in rules}, path)


def shown(value: Any) -> str:
  """A value in a message, of at most a line."""
  said = " ".join(repr(value).split())
  return said if len(said) <= 80 else f"{said[:60]}...{said[-10:]}"


def _of_field(rules, name, value, path, run) -> Iterator[Problem]:
  rule = rules.get(name, rules.get(OTHERS))
  if isinstance(rule, Optional):
    rule = anything if value is None else rule.rule
  if rule is None or name == BLOCK:
    near = difflib.get_close_matches(name, [*rules], n=1, cutoff=0.5)
    hint = (
      f"; the nearest is {path.removesuffix(name)}{near[0]}" if near else ""
    )
    yield Problem(path, value, f"is no setting{hint}")
  elif isinstance(rule, Mapping):
    if not isinstance(value, Mapping):
      yield Problem(path, value, "must be a block of settings")
    else:
      yield from problems(rule, value, path, run)
  elif needed := rule(value):
    yield Problem(path, value, f"must be {needed}")


def _range(low: float, high: float, above: bool, below: bool) -> str:
  if low == -HUGE and high == HUGE:
    return "a finite number"
  if high == HUGE:
    return f"a finite number {'above' if above else 'of at least'} {low:g}"
  if not above and not below:
    return f"a number from {low:g} to {high:g}"
  left, right = "(" if above else "[", ")" if below else "]"
  return f"a number in {left}{low:g}, {high:g}{right}"


def _why(why: str) -> str:
  return f": {why}" if why else ""
