"""Checkpoints by orbax: atomic, exact, and verified when they are read.

A checkpoint holds the train state (parameters, optimizer, step, carry,
curriculum) and the state of the host (data iterator, metrics not yet logged).
It holds no random keys, because they are functions of the seed and the step.
Its content is compared with its digests when it is read (checksums.py).
"""

import contextlib
import itertools
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from rsrc_jax import rules
from rsrc_jax.output import files
from rsrc_jax.runtime import checksums, processes, sharding
from rsrc_jax.types import TrainState

# Fields of a train state with another name in older checkpoints: new end of a
# path -> old end.
RENAMED = {".level": ".phase"}
# The curriculum's state holds its schedule, which older checkpoints have too,
# and what it has seen. Of that they have other leaves, which nothing reads.
CURRICULUM, SCHEDULE = ".curriculum.", ".curriculum.schedule."
FORMER = {
  f"{CURRICULUM}{name}": dtype
  for name, dtype in (
    ("average", "float32"), ("best", "float32"), ("waited", "int32"),
    ("age", "int32"), ("seen", "int32"),
  )
}  # fmt: skip
# Of errors that say nothing about a checkpoint's content.
PASSING = ("RESOURCE_EXHAUSTED", "MemoryError", "PERMISSION_DENIED",
           "PermissionError")  # fmt: skip


class Saver(NamedTuple):
  """Saves and restores the checkpoints of one stage of a run."""

  manager: ocp.CheckpointManager
  directory: Path
  read_only: bool = False


# The rules of config.checkpoint; `every` is read by the loop.
RULES = {
  "every": rules.whole(1),
  "keep_last": rules.whole(1),
  "keep_best": rules.whole(),
}


def open_saver(
  directory: Path, *, keep_last: int, keep_best: int, metric: str
) -> Saver:
  """Opens `directory`, which is made where missing.

  Args:
    directory: it holds one folder for each checkpoint.
    keep_last: how many of the newest are kept.
    keep_best: how many with the smallest validation `metric` are kept too.
    metric: its name among the metrics given to `save`.
  """
  value = lambda metrics: float((metrics or {}).get(metric, float("inf")))
  keep = policies.AnyPreservationPolicy(
    [
      policies.LatestN(keep_last),
      policies.BestN(
        get_metric_fn=lambda metrics: -value(metrics),
        n=keep_best,
        keep_checkpoints_without_metrics=False,
      ),
    ]
  )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=keep,
    # Without it the metrics are not written, and a resumed run would not know
    # the best checkpoint.
    best_fn=value,
    best_mode="min",
    enable_async_checkpointing=False,
    cleanup_tmp_directories=True,
    create=True,
  )
  directory = Path(directory).resolve()
  if processes.first():
    _mend_metrics(directory)
  processes.any_of(False)  # the others wait for it
  return Saver(ocp.CheckpointManager(directory, options=options), directory)


def open_reader(directory: Path) -> Saver:
  """Opens a folder of checkpoints for reading, without any change to it.

  Its run may still be running, and may belong to another user.
  """
  directory = Path(directory).resolve()
  # orbax's own read_only option warns at every opening, so it is not used.
  options = ocp.CheckpointManagerOptions(
    create=False, save_root_metadata=False, lightweight_initialize=True
  )
  manager = ocp.CheckpointManager(directory, options=options)
  return Saver(manager, directory, read_only=True)


def save(
  saver: Saver, state: TrainState, host: dict, metrics: dict[str, float]
) -> None:
  """Writes a checkpoint of state.step, atomically, with its checksums."""
  leaves = _as_dict(state)
  saver.manager.save(
    int(state.step),
    args=ocp.args.Composite(
      state=ocp.args.StandardSave(leaves),
      host=ocp.args.JsonSave(checksums.seal(host, leaves, metrics)),
    ),
    metrics=metrics,
    force=True,
  )
  saver.manager.wait_until_finished()


def newest(saver: Saver) -> int | None:
  """The step of the newest checkpoint; None where there is none."""
  return saver.manager.latest_step()


def restore(
  saver: Saver, like: TrainState, *, best: str = ""
) -> tuple[TrainState, dict] | None:
  """The newest checkpoint that is whole, or None if there is none.

  A damaged checkpoint (a disk that was full, a changed bit, a file that is
  gone) is set aside with a warning, and the one before it is read. Nothing is
  read whose content is not what was saved. Checkpoints of before there were
  digests are read with a warning.

  Args:
    saver: from open_saver or open_reader; a reader sets nothing aside.
    like: a state of the same structure, shapes and shardings, arrays or
      ShapeDtypeStructs.
    best: name of a validation metric. If set, the checkpoint with its smallest
      value is read instead of the newest.

  Raises:
    ValueError: memory or a permission is missing, which says nothing about the
      checkpoint.
  """
  target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_dict(like))
  steps, of = _in_turn(saver, best), saver.directory.name
  for step, before in itertools.zip_longest(steps, steps[1:]):
    reason, found = "", None
    try:
      found = _read(saver, step, target)
    except Exception as error:
      reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
    # Processes that go on from different checkpoints would wait for ever.
    if not processes.any_of(bool(reason)):
      leaves, host = found
      return _as_state(like, leaves), host
    reason = reason or "another process can't read it"
    if any(word in reason for word in PASSING):
      raise ValueError(
        f"checkpoint {step} of {of} can't be read now ({reason}). It is left "
        "as it is: free memory, or make its files readable, and start again."
      )
    back = "taking the next best" if best else "going back to the one before it"
    onward = f"{back}, {before}"
    if before is None:
      onward = "there is no other one"
    warnings.warn(
      f"checkpoint {step} of {of} can't be read ({reason}); {onward}.",
      stacklevel=2,
    )
    if not saver.read_only:
      _set_aside(saver, step)
  return None


def _read(
  saver: Saver, step: int, target: dict[str, Any]
) -> tuple[dict[str, Any], dict]:
  """The leaves of a checkpoint, and the state of the host, both checked.

  target: path -> ShapeDtypeStruct. Paths are read under their present names, or
  else under those of older checkpoints. What the curriculum had not seen yet in
  those begins at 0.
  """
  own = {x for x in target if x.startswith(CURRICULUM)}
  former = {
    x: jax.ShapeDtypeStruct((), dtype, sharding=target[".step"].sharding)
    for x, dtype in FORMER.items()
    if own
  }

  def load(names, older=False):
    wanted = {names[x]: target[x] for x in names}
    loaded = saver.manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(wanted | (former if older else {})),
        host=ocp.args.JsonRestore(),
      ),
    )
    sealed = checksums.unseal(loaded["host"])
    if sealed.crc32 is not None:
      checksums.check(loaded["state"], sealed)
    elif processes.first():
      warnings.warn(
        f"checkpoint {step} of {saver.directory.name} has no digests: it is of "
        "an older version, and is read without a check of its content.",
        stacklevel=2,
      )
    found = {x: _zeros(target[x]) for x in target}
    found |= {x: loaded["state"][names[x]] for x in names}
    return found, sealed.host

  now = {x: x for x in target}
  try:
    return load(now)
  except Exception as error:
    if not own:
      raise
    kept = [x for x in target if x not in own or x.startswith(SCHEDULE)]
    for paths, named, older in (
      (target, _old_name, False),
      (kept, lambda x: x, True),
      (kept, _old_name, True),
    ):
      with contextlib.suppress(Exception):
        return load({x: named(x) for x in paths}, older)
    raise error from None


def _zeros(like: jax.ShapeDtypeStruct) -> Any:
  """An array of zeros in its place."""
  return sharding.put(np.zeros(like.shape, like.dtype), like.sharding)


def _old_name(path: str) -> str:
  for new, old in RENAMED.items():
    if path.endswith(new):
      return path.removesuffix(new) + old
  return path


def _in_turn(saver: Saver, best: str) -> list[int]:
  """Steps with a checkpoint, in the order in which to try them."""
  newest = sorted(saver.manager.all_steps(), reverse=True)
  if not best:
    return newest
  found = {step: _metrics(saver.directory / str(step)) or {} for step in newest}
  named = [step for step in newest if best in found[step]]
  return sorted(named, key=lambda step: found[step][best])


def _metrics(folder: Path) -> dict[str, float] | None:
  """The validation metrics of a checkpoint; None if they are unreadable."""
  sealed = _sealed_metrics(folder)
  return _written_metrics(folder) if sealed is None else sealed


def _sealed_metrics(folder: Path) -> dict[str, float] | None:
  """Their copy in the host's part; None if it has none, or is damaged."""
  try:
    stored = json.loads((folder / "host" / "metadata").read_text())
    return checksums.unseal(stored).metrics
  except (OSError, ValueError, TypeError):
    return None


def _written_metrics(folder: Path) -> dict[str, float] | None:
  """Those that orbax reads."""
  try:
    return json.loads((folder / "metrics" / "metrics").read_text())
  except (OSError, ValueError):
    return None


def _mend_metrics(directory: Path) -> None:
  """Writes damaged metrics again from their copy.

  Orbax would keep or remove the wrong checkpoints, or open none of them. Of a
  checkpoint without a copy, metrics that can't be read are removed.
  """
  for folder in directory.glob("*"):
    if not folder.name.isdigit():
      continue
    path = folder / "metrics" / "metrics"
    sealed, written = _sealed_metrics(folder), _written_metrics(folder)
    if sealed is None:
      if written is None:
        path.unlink(missing_ok=True)
    elif json.dumps(written) != json.dumps(sealed):
      warnings.warn(
        f"the metrics of checkpoint {folder.name} of {directory.name} were "
        "damaged: they are written again from their copy.",
        stacklevel=3,
      )
      files.write_text(path, json.dumps(sealed))


def close(saver: Saver) -> None:
  """Waits for pending writes and closes the saver."""
  saver.manager.close()


def _set_aside(saver: Saver, step: int) -> None:
  """Renames a checkpoint, so that the manager ignores it."""
  folder = saver.directory / str(step)
  if processes.first():
    names = (f"unreadable-{step}-{number}" for number in itertools.count())
    free = (x for name in names if not (x := saver.directory / name).exists())
    with contextlib.suppress(FileNotFoundError):
      folder.rename(next(free))
  processes.any_of(False)  # the others wait for it
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
