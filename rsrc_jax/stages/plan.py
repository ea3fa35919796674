"""The stages of a run: the reader if V asks one, the base, then every arm."""

from rsrc_jax.build import overrides
from rsrc_jax.build.setup import Setup
from rsrc_jax.runtime import named
from rsrc_jax.stages import pretrain, reader, rl
from rsrc_jax.stages.stage import BASE, READER, UNTRAINED, Stage


def make_stages(setup: Setup) -> list[Stage]:
  """The base, then every arm. An arm comes after the arm that it starts from.

  The reader comes before all, if the V of an arm weighs it.
  `config.arms.NAME.stage` names the module of an arm: a file of this folder, by
  default "rl", or the path of a .py file. Either has make(setup, name) ->
  Stage.

  Raises:
    ValueError: an arm does not exist or cannot be made.
  """
  only = overrides.running(setup.config.only, setup.config.arms)
  if taken := {READER, BASE, UNTRAINED} & set(only):
    raise ValueError(
      f"config.arms.{min(taken)}: a run has something else of this name; call "
      "the arm otherwise."
    )
  programs = {}  # arms with the same training share one compiled program
  names = in_order({name: rl.start_of(setup.config, name) for name in only})
  heard = overrides.hearing(setup.config.to_dict(), only)
  return [
    *([reader.make(setup)] if heard else []),
    pretrain.make(setup),
    *(_make_arm(setup, name, programs) for name in names),
  ]


def _make_arm(setup: Setup, name: str, programs: dict) -> Stage:
  kind = setup.config.arms[name].get("stage") or "rl"
  make = named.find("stages", kind, "make", f"config.arms.{name}.stage")
  if make is rl.make:
    return make(setup, name, programs)
  return make(setup, name)


def in_order(starts: dict[str, str]) -> list[str]:
  """The arms in an order in which each follows the arm that it starts from.

  Raises:
    ValueError: an arm starts from no such arm, or two from each other.
  """
  names, left = [], dict(starts)
  while left:
    ready = [x for x, start in left.items() if start in ("base", *names)]
    if not ready:
      name, start = next(iter(left.items()))
      raise ValueError(
        f"config.arms.{name}.start={start!r} is no arm that is trained before "
        f"it: there are base, {', '.join(x for x in starts if x != name)}."
      )
    names += ready[:1]
    del left[ready[0]]
  return names
