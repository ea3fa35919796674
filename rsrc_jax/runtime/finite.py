"""Numbers that are not finite stop a run before anything of them is saved."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rsrc_jax.runtime import processes
from rsrc_jax.types import Metrics, Params

CHECKED = {"loss": "loss", "gradient_norm": "gradient's norm"}


def check_steps(
  title: str, step: int, window: Sequence[Metrics], *, saved: int | None,
  block: str,
) -> None:  # fmt: skip
  """Checks the loss and the gradient of every step of a window.

  A loss alone may stay finite where parameters are not, since the logarithm of
  a probability is bounded.

  Args:
    title: of the stage, for the message.
    step: the last one of the window.
    window: the metrics of each step, arrays [] or numbers: "loss", and
      "gradient_norm" where there is one.
    saved: the step of the newest checkpoint; None where there is none.
    block: the settings of its optimizer, as the user wrote them.

  Raises:
    FloatingPointError: names the first step at which one is not finite, what
      is saved and the remedy.
  """
  known = [{k: m[k] for k in CHECKED if k in m} for m in window]
  for number, metrics in enumerate(
    jax.device_get(known), step + 1 - len(known)
  ):
    for name, value in metrics.items():
      if not np.isfinite(value):
        what = CHECKED[name]
        found = f"the {what} is {float(value)} at step {number}"
        raise FloatingPointError(_said(title, found, saved, block))


def check_params(
  title: str, step: int, params: Params, *, saved: int | None, block: str
) -> None:
  """Checks parameters that are to be saved after a step.

  Where a step reports no gradient, they show in the loss of the next step only.
  See `check_steps`. With several processes all must call it.
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
