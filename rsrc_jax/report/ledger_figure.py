"""The figure of the ledger: seconds and FLOPs of every arm, phase by phase."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rsrc_jax.report import style
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.numbers import number
from rsrc_jax.report.style import INK, PHASES, phases_of


def ledger(block: dict, arms: Arms) -> Figure:
  """Bars of seconds and FLOPs. block: summary["ledger"]."""
  names = style.arms_of(block["phases"], arms.looks)
  shown = {n: block["phases"][n] or {} for n in names}
  figure = Figure(figsize=(10.8, 1.35 + 0.34 * len(names)))
  figure.subplots_adjust(
    left=0.125, right=0.985, bottom=0.62 / figure.get_figheight(),
    top=1 - 0.28 / figure.get_figheight(), wspace=0.1,
  )  # fmt: skip
  both = figure.subplots(1, 2, sharey=True)
  power = thousands(max((_total(by, "flops") for by in shown.values()),
                        default=0.0))  # fmt: skip
  titles = {"seconds": "Seconds", "flops": f"FLOPs{times(power)}"}
  seen = {}
  for axes, key in zip(both, titles, strict=True):
    scale = 10.0**power if key == "flops" else 1.0
    seen |= _bars(axes, shown, key, scale)
    axes.set_title(titles[key])
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
  labels = [style.arm_label(name, arms.looks) for name in names]
  both[0].set_yticks(range(len(names)), labels, parse_math=False)
  both[0].set_ylim(len(names) - 0.45, -0.55)
  legend = [Patch(color=seen[phase], label=phase) for phase in phases_of(seen)]
  figure.legend(
    handles=legend, loc="lower center", ncols=max(len(legend), 1),
    frameon=False, fontsize=8.5, handlelength=1.0, columnspacing=1.1,
    borderaxespad=0.1,
  )  # fmt: skip
  return figure


def thousands(top: float) -> int:
  """A power of ten in thousands; matplotlib's offset would be overlooked."""
  return 3 * math.floor(math.log10(top) / 3) if top > 0 else 0


def times(power: int) -> str:
  """The power of ten of an axis, to go on its label."""
  return f", $10^{{{power}}}$" if power else ""


def _bars(
  axes: Axes, shown: dict[str, dict], key: str, scale: float
) -> dict[str, str]:
  """A bar an arm, its phases end to end; -> phase -> its colour."""
  seen = {}
  for row, by in enumerate(shown.values()):
    left = 0.0
    for phase in phases_of(by):
      entry = by[phase] or {}
      value = (number(entry.get(key)) or 0.0) / scale
      if value > 0:
        seen[phase] = PHASES.get(phase, INK)
        # Seconds within one program are shares of it, not readings.
        shared = key == "seconds" and entry.get("measured") is False
        axes.barh(
          row, value, 0.68, left, color=seen[phase], edgecolor="white",
          lw=0.6, hatch="//////" if shared else "",
        )  # fmt: skip
      left += value
  return seen


def _total(phases: dict, key: str) -> float:
  return sum(number((entry or {}).get(key)) or 0.0 for entry in phases.values())
