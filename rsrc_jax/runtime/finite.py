"""Numbers that are not finite stop a run before anything of them is saved."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rsrc_jax.runtime import processes
from rsrc_jax.types import Metrics, Params


def check_losses(
  title: str, step: int, window: Sequence[Metrics], *, saved: int | None,
  block: str,
) -> None:  # fmt: skip
  """Checks the loss of every step of a window.

  Args:
    title: of the stage, for the message.
    step: the last one of the window.
    window: the metrics of each step, arrays [] or numbers; "loss" is one.
    saved: the step of the newest checkpoint; None where there is none.
    block: the settings of its optimizer, as the user wrote them.

  Raises:
    FloatingPointError: names the first step whose loss is not finite, what is
      saved and the remedy.
  """
  losses = jax.device_get([metrics["loss"] for metrics in window])
  for number, loss in enumerate(losses, step + 1 - len(window)):
    if not np.isfinite(loss):
      found = f"the loss is {float(loss)} at step {number}"
      raise FloatingPointError(_said(title, found, saved, block))


def check_params(
  title: str, step: int, params: Params, *, saved: int | None, block: str
) -> None:
  """Checks parameters that are to be saved after a step.

  A gradient that is not finite shows in the loss of the next step only. See
  `check_losses`. With several processes all must call it.
  """
  if not finite(params):
    found = f"parameters are not finite after step {step}"
    raise FloatingPointError(_said(title, found, saved, block))


def _said(title: str, found: str, saved: int | None, block: str) -> str:
  kept = "nothing of it is saved, and the same command begins it again"
  if saved is not None:
    kept = (
      f"its checkpoint of step {saved} is kept, and the same command goes on "
      "from there"
    )
  return (
    f"{title}: {found}; {kept}. If it ends here again, lower learning_rate or "
    f"clip_norm of {block}, in another --workdir."
  )


def finite(tree: Any) -> bool:
  """Whether all floating-point numbers in a pytree of arrays are finite.

  With several processes all must call it.
  """
  good = all(
    _finite(np.asarray(part))
    for x in jax.tree.leaves(tree)
    for part in _local(x)
  )
  return not processes.any_of(not good)


def _local(x: Any) -> list[Any]:
  """What this process holds of an array."""
  if isinstance(x, jax.Array) and not x.is_fully_addressable:
    return [shard.data for shard in x.addressable_shards]
  return [x]


def _finite(x: np.ndarray) -> bool:
  if not jax.numpy.issubdtype(x.dtype, np.inexact):
    return True
  with np.errstate(over="ignore", invalid="ignore"):
    # The sum is fast and shows what is not finite; it may also overflow.
    total = np.sum(x, dtype=np.complex64 if np.iscomplexobj(x) else np.float32)
    return bool(np.isfinite(total) or np.isfinite(x).all())
