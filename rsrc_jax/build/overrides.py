"""The config of an arm: that of the run with the arm's overrides."""

from typing import Any

import ml_collections

from rsrc_jax import rules
from rsrc_jax.runtime import configs


def arm_config(
  config: ml_collections.ConfigDict, arm: str
) -> ml_collections.ConfigDict:
  """The config of one arm: a copy with the arm's overrides.

  Raises:
    ValueError: an override has a value of another type.
  """
  own = config.copy_and_resolve_references()
  try:
    own.update_from_flattened_dict(dict(pairs(config.arms, arm)))
  except (TypeError, ValueError, KeyError, AttributeError) as error:
    said = " ".join(str(error.args[0] if error.args else error).split())
    raise ValueError(
      f"config.arms.{arm}.overrides: {said}: give values of the same types."
    ) from None
  return own


def applied(settings: dict[str, Any], arm: str) -> dict[str, Any]:
  """`arm_config` of plain dicts, which shares all blocks that it may.

  Raises:
    ValueError: an override is no pair, or goes through what is no block.
  """
  own = dict(settings)
  for name, value in pairs(settings["arms"], arm):
    block, (*path, last) = own, name.split(".")
    for part in path:
      below = block.get(part, {})
      if not isinstance(below, dict):
        raise ValueError(
          f"config.arms.{arm}.overrides: config.{name}: {part} is no block of "
          f"settings but {rules.shown(below)}."
        )
      block[part] = block = dict(below)
    block[last] = value
  return own


def pairs(arms, arm: str) -> list[tuple[str, Any]]:
  """The overrides of an arm: dotted names and values.

  Raises:
    ValueError: something else stands there.
  """
  found = arms[arm].get("overrides") or ()
  if not isinstance(found, tuple | list) or any(
    not isinstance(x, tuple | list) or len(x) != 2 or not isinstance(x[0], str)
    for x in found
  ):
    raise ValueError(
      f"config.arms.{arm}.overrides={rules.shown(found)} must be pairs such as "
      '(("optimizer.learning_rate", 1e-3),).'
    )
  return list(found)


def hearing(settings: dict[str, Any], arms: list[str]) -> list[str]:
  """Those of some arms whose V weighs the reader. settings: plain dicts.

  Codes of a rule have no V. Overrides that can't be are passed over: whoever
  runs the arm says so.
  """
  return [
    arm
    for arm in arms
    if settings["arms"][arm].get("pattern") != "extract"
    and _reader_weight(settings, arm) > 0
  ]


def _reader_weight(settings: dict[str, Any], arm: str) -> float:
  weight = (settings.get("verifier") or {}).get("reader", 0)
  try:
    own = dict(pairs(settings["arms"], arm))
  except ValueError:
    return weight
  own = own.get(
    "verifier.reader", own.get("verifier", {}).get("reader", weight)
  )
  return own if isinstance(own, int | float) else weight


def running(only: str, arms) -> list[str]:
  """The arms of a run: those of config.only, or all.

  Raises:
    ValueError: config.only names an arm that there is not.
  """
  names = [name.strip() for name in only.split(",") if name.strip()]
  for name in names:
    if name not in arms:
      near = configs.nearest(name, [*arms])
      raise ValueError(
        f"config.only={only!r}: {name!r} is none of the arms "
        f"{', '.join(arms)}.{near}"
      )
  return names or [*arms]


def names_of(settings: dict[str, Any], prefix: str = "") -> set[str]:
  """The dotted names of all settings and blocks."""
  found = set()
  for key, value in settings.items():
    found.add(prefix + key)
    if isinstance(value, dict):
      found |= names_of(value, f"{prefix}{key}.")
  return found
