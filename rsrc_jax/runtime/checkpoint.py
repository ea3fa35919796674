"""Checkpoints by orbax: atomic, verified on the way back, exact.

A checkpoint is one value: the train state (parameters, optimizer, step, carry,
curriculum) and what the host holds (data iterator, metrics not yet logged).
Random keys need no place in it: they are functions of the seed and the step.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from rsrc_jax.runtime import processes
from rsrc_jax.types import TrainState


class Saver(NamedTuple):
  """Saves and restores the checkpoints of one phase of a run."""

  manager: ocp.CheckpointManager
  directory: Path


def open_saver(
  directory: Path, *, keep_last: int, keep_best: int, metric: str
) -> Saver:
  """Opens `directory`, which is made where missing.

  Args:
    directory: one folder a checkpoint will stand in it.
    keep_last: how many of the newest stay.
    keep_best: how many with the smallest validation `metric` stay beside them.
    metric: its name among the metrics given to `save`.
  """
  score = lambda metrics: -float((metrics or {}).get(metric, float("inf")))
  keep = policies.AnyPreservationPolicy(
    [
      policies.LatestN(keep_last),
      policies.BestN(
        get_metric_fn=score, n=keep_best, keep_checkpoints_without_metrics=False
      ),
    ]
  )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=keep,
    enable_async_checkpointing=False,
    cleanup_tmp_directories=True,
    create=True,
  )
  directory = Path(directory).resolve()
  return Saver(ocp.CheckpointManager(directory, options=options), directory)


def save(
  saver: Saver, state: TrainState, host: dict, metrics: dict[str, float]
) -> None:
  """Writes a checkpoint of state.step; atomic: all of it or none of it."""
  saver.manager.save(
    int(state.step),
    args=ocp.args.Composite(
      state=ocp.args.StandardSave(_as_dict(state)),
      host=ocp.args.JsonSave(host),
    ),
    metrics=metrics,
    force=True,
  )
  saver.manager.wait_until_finished()


def restore(saver: Saver, like: TrainState) -> tuple[TrainState, dict] | None:
  """The newest checkpoint that can be read, or None where there is none.

  like: a state of the same structure, shapes and shardings, arrays or
  ShapeDtypeStructs. A checkpoint that can't be read (cut short by a full disk
  or a lost machine) is set aside with a warning and the one before it is taken.
  """
  target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_dict(like))
  for step in sorted(saver.manager.all_steps(), reverse=True):
    try:
      loaded = saver.manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(target),
          host=ocp.args.JsonRestore(),
        ),
      )
      return _as_state(like, loaded["state"]), loaded["host"]
    except Exception as error:
      reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
      warnings.warn(
        f"checkpoint {step} in {saver.directory.name} can't be read "
        f"({reason}); going back to the one before it.",
        stacklevel=2,
      )
      if processes.first():
        _set_aside(saver, step)
  return None


def close(saver: Saver) -> None:
  """Waits for what is being written."""
  saver.manager.close()


def _set_aside(saver: Saver, step: int) -> None:
  """Out of the manager's sight, but not lost."""
  folder = saver.directory / str(step)
  for number in range(100):
    target = saver.directory / f"unreadable-{step}-{number}"
    if folder.exists() and not target.exists():
      folder.rename(target)
  saver.manager.reload()


def _as_dict(state: TrainState) -> dict[str, Any]:
  # Empty subtrees can't be stored; they are rebuilt from `like`.
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _as_state(like: TrainState, leaves: dict[str, Any]) -> TrainState:
  paths, treedef = jax.tree_util.tree_flatten_with_path(like)
  return jax.tree_util.tree_unflatten(
    treedef, [leaves[jax.tree_util.keystr(path)] for path, _ in paths]
  )
