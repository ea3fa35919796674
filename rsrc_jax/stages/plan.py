"""The stages of a run in their order."""

from rsrc_jax.build.setup import Setup
from rsrc_jax.stages import pretrain, rl, stage


def make_stages(setup: Setup) -> list[stage.Stage]:
  """The base, then every arm, those that others start from before them."""
  arms = setup.config.arms
  only = [name for name in setup.config.only.split(",") if name]
  if set(only) - set(arms):
    raise ValueError(
      f"config.only={setup.config.only!r}: the arms are {', '.join(arms)}."
    )
  step_of = {}  # arms that train alike share one compiled program
  names = in_order(
    {name: rl.start_of(setup.config, name) for name in only or arms}
  )
  return [
    pretrain.make(setup),
    *(rl.make(setup, name, step_of) for name in names),
  ]


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
