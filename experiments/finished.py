"""What experiments read of a run that has ended: config and parameters."""

import json
from pathlib import Path
from typing import Any

import jax
import ml_collections

from rsrc_jax.build.setup import Setup, initial_params
from rsrc_jax.runtime import checkpoint
from rsrc_jax.stages import plan, stage


def config(workdir: Path) -> ml_collections.ConfigDict:
  """What the run was told, with tuples where JSON has lists."""

  def read(x):
    if isinstance(x, dict):
      return {name: read(value) for name, value in x.items()}
    return tuple(map(read, x)) if isinstance(x, list) else x

  stored = json.loads((workdir / "config.json").read_text())
  return ml_collections.ConfigDict(read(stored))


def restore_base(setup: Setup, workdir: Path) -> Any:
  """The parameters that all arms start from."""
  base, *_ = plan.make_stages(setup)
  params = initial_params(setup)
  return _last(base, params, workdir) if base.steps else params


def restore(
  setup: Setup, arm: stage.Stage, workdir: Path, frozen: dict[str, Any]
) -> Any:
  """The last parameters of an arm, on those of frozen["base"].

  Raises:
    ValueError: its last checkpoint is not that of its end.
  """
  return arm.bind(_last(arm, frozen["base"], workdir), frozen)


def _last(phase: stage.Stage, params, workdir: Path):
  saver = checkpoint.open_saver(
    workdir / "checkpoints" / phase.name, keep_last=2, keep_best=1,
    metric="nll_bits",
  )  # fmt: skip
  found = checkpoint.restore(saver, jax.eval_shape(phase.init, params))
  checkpoint.close(saver)
  step = int(found[0].step) if found else 0
  if step != phase.steps:
    raise ValueError(
      f"{workdir}: {phase.name} is at step {step} of {phase.steps}; run its "
      "config again with this --workdir to go on."
    )
  return found[0].params
