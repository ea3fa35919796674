"""The figure of the plateaus: a reward, its noise, and where levels ended."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsrc_jax.report import style
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.numbers import number
from rsrc_jax.report.run_files import Run
from rsrc_jax.report.series import series


def arms_of(summary: Mapping[str, Any], arms: Arms) -> list[str]:
  """The arms whose reward was watched: the headline first, then by looks."""
  names = style.ordered(summary.get("plateaus") or {}, arms.looks)
  return sorted(names, key=lambda name: name != arms.headline)


def plateaus(run: Run) -> Figure:
  """The reward of the first two watched arms, and how their levels ended."""
  figure, both = style.panels()
  names = arms_of(run.summary, run.arms)
  for axes, name in zip(both, names, strict=False):
    _arm(axes, run, name)
  if len(names) == 1:  # it has the room of both
    left, right = (axes.get_position() for axes in both)
    both[1].remove()
    both[0].set_position([left.x0, left.y0, right.x1 - left.x0, left.height])
  return figure


def noise_of(error: float, window: int) -> float:
  """The deviation of one reward, from the error of a slope through `window`.

  error: of a slope from one reward to the next.
  """
  return error * math.sqrt(window * (window * window - 1) / 12)


def _arm(axes: Axes, run: Run, name: str) -> None:
  look, block = style.arm(name, run.arms.looks), _curriculum(run.config, name)
  every, window = block.get("every") or 0, block.get("window") or 0
  split = "held" if every else "train"
  steps, values = series(run.metrics, name, split, "reward")
  axes.set(
    title=f"{look.label}: reward and its plateaus", ylabel="reward",
    xlabel="step of the arm",
  )  # fmt: skip
  if not steps.size:
    style.label(axes, [])
    return
  axes.plot(steps, values, color=look.color, alpha=0.45, lw=0.9)
  for row in run.summary["plateaus"][name]:
    _end(axes, look, row, window, max(every, 1), steps, values)


def _end(axes: Axes, look, row, window, every, steps, values) -> None:
  """One end of a level: when, by what, and the line that the rule saw."""
  step, slope, error = (number(row.get(x)) for x in ("step", "slope", "error"))
  by_rule = row.get("by") == "plateau"
  axes.axvline(
    step, color=look.color if by_rule else style.FAINT, lw=1.3,
    ls="-" if by_rule else ":",
  )  # fmt: skip
  axes.annotate(
    str(row.get("by")), (step, 0.0), xycoords=("data", "axes fraction"),
    xytext=(3, 4), textcoords="offset points", rotation=90, ha="left",
    va="bottom", fontsize=7.5, color=style.INK if by_rule else style.FAINT,
  )  # fmt: skip
  inside = (steps > step - window * every) & (steps <= step)
  if slope is None or error is None or not inside.any():
    return
  at = np.array([step - window * every, step])
  line = values[inside].mean() + slope * (at - steps[inside].mean())
  noise = noise_of(error * every, window)
  axes.fill_between(
    at, line - noise, line + noise, color=look.color, alpha=0.18, lw=0
  )
  axes.plot(at, line, color=look.color, lw=2.2)


def _curriculum(config: Mapping[str, Any], arm: str) -> dict[str, Any]:
  """config.curriculum of an arm, as config.json has both."""
  block = dict(config.get("curriculum") or {})
  own = (config.get("arms") or {}).get(arm) or {}
  for name, value in own.get("overrides") or ():
    if name.startswith("curriculum."):
      block[name.removeprefix("curriculum.")] = value
  return block
