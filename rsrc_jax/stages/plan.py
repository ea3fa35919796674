"""The stages of a run in their order: the base, then every arm."""

import importlib
from types import ModuleType

from rsrc_jax.build.setup import Setup
from rsrc_jax.runtime import configs
from rsrc_jax.stages import pretrain, rl
from rsrc_jax.stages.stage import Stage


def make_stages(setup: Setup) -> list[Stage]:
  """The base, then every arm, those that others start from before them.

  `config.arms.NAME.stage` names the module that makes an arm: a file of this
  folder ("rl" where it is left out), or a Python file of the user's; either has
  make(setup, name) -> Stage.

  Raises:
    ValueError: an arm that is not there, or can't be made.
  """
  arms = setup.config.arms
  only = [name for name in setup.config.only.split(",") if name]
  if set(only) - set(arms):
    raise ValueError(
      f"config.only={setup.config.only!r}: the arms are {', '.join(arms)}."
    )
  programs = {}  # arms that train alike share one compiled program
  names = in_order(
    {name: rl.start_of(setup.config, name) for name in only or arms}
  )
  return [
    pretrain.make(setup),
    *(_make_arm(setup, name, programs) for name in names),
  ]


def _make_arm(setup: Setup, name: str, programs: dict) -> Stage:
  module = _module(setup.config, name)
  if module is rl:
    return rl.make(setup, name, programs)
  return module.make(setup, name)


def _module(config, name: str) -> ModuleType:
  kind = config.arms[name].get("stage") or "rl"
  if kind.endswith(".py"):
    return configs.module(kind)
  try:
    return importlib.import_module(f"rsrc_jax.stages.{kind}")
  except ModuleNotFoundError:
    raise ValueError(
      f"config.arms.{name}.stage={kind!r} is neither a file of "
      "rsrc_jax/stages, as 'rl' is, nor a path that ends in .py."
    ) from None


def in_order(starts: dict[str, str]) -> list[str]:
  """Arms, each behind the one that it starts from."""
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
