"""What metrics.jsonl holds of a quantity over the steps of an arm."""

import numpy as np

from rsrc_jax.report.numbers import number

Series = tuple[np.ndarray, np.ndarray]  # steps [n], values [n]
# What is trained before the arms, in this order: its lines are of no arm.
FIRST = ("reader", "base")
# Every key that a report reads, with the other names that it is logged under: a
# role's quantities have the role before them. A key that training renames
# leaves its figure empty; a test holds these against the library.
LOGGED = {
  "loss": (),
  "reward": ("held_reward",),
  "entropy": ("C_entropy",),
  "gradient_norm": (),
  "mismatch_kl": ("C_mismatch_kl",),
  "steps_per_second": (),
  "length": (),
  "hidden": (),
  "novel_fraction": (),
  "bits_conveyed": (),
  "nll_bits": (),
  "verified_bits": (),
  "flops": (),
  "joules": (),
}


def series(metrics: list[dict], phase: str, split: str, key: str) -> Series:
  """What one phase of metrics.jsonl (an arm, or the base) logged.

  Args:
    metrics: lines of metrics.jsonl.
    phase: name of an arm, or one of FIRST.
    split: "train" or "valid".
    key: of LOGGED.

  Returns:
    Steps, ascending, and values. The last line of a step counts.
  """
  names = (key, *LOGGED[key])
  points = {}
  for line in metrics:
    if line.get("phase") == phase and line.get("split") == split:
      value = number(next((line[n] for n in names if n in line), None))
      step = number(line.get("step"))
      if step is not None and value is not None:
        points[step] = value
  steps = sorted(points)
  return np.asarray(steps), np.asarray([points[step] for step in steps])


def logged_by(metrics: list[dict]) -> set[str]:
  """The arms that logged anything, and those of FIRST that did."""
  return {str(line["phase"]) for line in metrics if line.get("phase")}


def has(metrics: list[dict], key: str) -> bool:
  """Whether any line holds a number under this very key."""
  return any(number(line.get(key)) is not None for line in metrics)
