"""What all drawings share: arms' looks, one style, files.

Nothing here depends on a clock, a font outside matplotlib or a random name, so
that equal runs give equal bytes.
"""

import io
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rsrc_jax.output import files

# Tables of the experiments take their numbers from here too.
from rsrc_jax.report.numbers import count as count
from rsrc_jax.report.numbers import short as short
from rsrc_jax.report.series import FIRST


class Arm(NamedTuple):
  """How an arm is called and drawn everywhere."""

  label: str
  color: str
  marker: str
  about: str


Looks = Mapping[str, Arm]  # in the order in which arms are shown

HEADLINE = "code"  # the arm a report is about, where no config names another
INK, FAINT = "#1f2933", "#7b8794"
# Okabe and Ito's palette, two of its colours darkened to be legible as text.
ARMS = {
  "code": Arm(
    "code", "#d55e00", "o", "our codes: C by RL under forced vocabulary"
  ),
  "english_rl": Arm(
    "English RL", "#0072b2", "s", "C by RL, tokens of the source only"
  ),
  "sft": Arm("SFT", "#00855f", "^", "C by supervision only"),
  "surprising": Arm(
    "surprising k", "#a8487f", "D", "the k most surprising tokens, in order"
  ),
  "lead": Arm("lead k", "#6b6b6b", "v", "the first k tokens"),
}
ENGLISH = tuple(name for name in ARMS if name != HEADLINE)
# Phases of a ledger in the order in which they run, and their colours.
PHASES = {
  "data": "#3e4c59",
  "compile": "#8a96a3",
  "prefill": "#f0a35e",
  "C": "#d55e00",
  "D": "#0072b2",
  "V": "#00855f",
  "reference": "#a8487f",
  "update": "#e0b400",
  "evaluation": "#56a8d6",
  "checkpoint": "#b9a3c9",
  "test": "#7fbfa5",
  "service": "#c9a27a",
  "idle": "#dde2e7",
}
STYLE = {
  "font.family": "DejaVu Sans",
  "font.size": 9.5,
  "text.color": INK,
  "axes.edgecolor": "#9aa5b1",
  "axes.labelcolor": "#3e4c59",
  "axes.titlesize": 10.5,
  "axes.titleweight": "bold",
  "axes.titlelocation": "left",
  "axes.titlepad": 10.0,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.grid.axis": "y",
  "grid.color": "#e4e7eb",
  "xtick.color": "#616e7c",
  "ytick.color": "#616e7c",
  "lines.linewidth": 1.7,
  "lines.markersize": 5.0,
  "lines.solid_capstyle": "round",
  "svg.fonttype": "path",
}


class End(NamedTuple):
  """The last value of a line, which is where its name goes."""

  y: float
  label: str
  color: str
  bold: bool = False


def arm(name: str, looks: Looks = ARMS) -> Arm:
  """The looks of an arm; one that has none is grey, under its own name."""
  return looks.get(name, Arm(name, FAINT, ".", ""))


def ordered(names: Iterable[str], looks: Looks = ARMS) -> list[str]:
  """Arms in the order of their looks, then the others by name."""
  names = set(names)
  return [n for n in looks if n in names] + sorted(names - set(looks))


def phases_of(names: Iterable[str]) -> list[str]:
  """Phases in the order in which they run, then those that are not known."""
  names = set(names)
  return [n for n in PHASES if n in names] + sorted(names - set(PHASES))


def arms_of(names: Iterable[str], looks: Looks = ARMS) -> list[str]:
  """Arms of a ledger: what they share, FIRST, then the order of looks."""
  names = set(names)
  first = [name for name in ("", *FIRST) if name in names]
  return first + ordered(names - set(first), looks)


def arm_label(name: str, looks: Looks = ARMS) -> str:
  """An arm of the ledger: the empty name is what all of them share."""
  return arm(name, looks).label or "shared"


def save(name: str, make: Callable[[], Figure], folder: pathlib.Path) -> str:
  """Writes folder/name.png and .svg; returns the SVG to put into a page.

  A figure without data in it is not written, and its SVG is empty.
  """
  # The salt names the clip paths; without it they are random.
  with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
    figure, stream = make(), io.StringIO()
    if not any(axes.has_data() for axes in figure.axes):
      return ""
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=160, metadata={"Software": None})
  files.write_bytes(folder / f"{name}.png", image.getvalue())
  files.write_text(folder / f"{name}.svg", stream.getvalue())
  return inline(name, stream.getvalue())


def inline(name: str, svg: str) -> str:
  """matplotlib's SVG for a page, whose policy takes no styles from it.

  Args:
    name: put before its ids, which the figures of one page share.
    svg: the text of a file.
  """
  drawing = svg[svg.index("<svg") :]
  drawing = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", drawing)
  # What its style element says of all elements is inherited from the root.
  drawing = re.sub(r"<style.*?</style>", "", drawing, flags=re.S)
  root = '<svg stroke-linejoin="round" stroke-linecap="butt"'
  drawing = drawing.replace("<svg", root, 1)
  return re.sub(r' style="([^"]*)"', _attributes, drawing)


def _attributes(style: re.Match) -> str:
  """The properties of a style as attributes, which SVG has for each of them."""
  pairs = (x.split(":", 1) for x in style[1].split(";") if ":" in x)
  last = {k.strip(): v.strip() for k, v in pairs}
  return "".join(f' {k}="{v}"' for k, v in last.items())


def panels() -> tuple[Figure, np.ndarray]:
  """Two panels, each with room for the names of its lines on the right."""
  figure = Figure(figsize=(10.8, 3.7))
  figure.subplots_adjust(
    left=0.072, right=0.885, bottom=0.14, top=0.9, wspace=0.53
  )
  both = figure.subplots(1, 2)
  for axes in both:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6))
  return figure, both


def line(axes: Axes, look: Arm, x: Any, y: Any, front: bool = False) -> End:
  """Draws an arm with at most about eight markers; `front` is the headline."""
  axes.plot(
    x, y, color=look.color, marker=look.marker, markeredgecolor="white",
    markeredgewidth=0.7, markevery=max(1, math.ceil(len(x) / 8)),
    lw=2.6 if front else 1.7, zorder=4 if front else 3,
  )  # fmt: skip
  return End(float(y[-1]), look.label, look.color, front)


def label(axes: Axes, ends: list[End]) -> None:
  """Names lines at their right end, in their colour, moved apart."""
  if not ends:
    axes.set(xticks=[], yticks=[])
    axes.text(
      0.5, 0.5, "nothing recorded", color=FAINT, ha="center", va="center",
      transform=axes.transAxes,
    )  # fmt: skip
    return
  ends = sorted(ends, key=lambda e: _height(axes, e))
  # 0.062 of an axis is a line of this type; many names are set closer.
  gap = min(0.062, 1 / max(len(ends) - 1, 1))
  heights = apart([_height(axes, e) for e in ends], gap)
  for end, y in zip(ends, heights, strict=True):
    axes.annotate(
      end.label, (1.0, y), xycoords="axes fraction", xytext=(7, 0),
      textcoords="offset points", va="center", color=end.color, fontsize=9,
      parse_math=False,
      fontstyle="italic" if end.color in (INK, FAINT) else "normal",
      fontweight="bold" if end.bold else "normal",
    )  # fmt: skip


def apart(heights: list[float], gap: float) -> list[float]:
  """Heights from 0 to 1, ascending, moved until they are `gap` apart.

  They move as little as that takes (least squares: neighbours in conflict are
  pooled around their mean), and stay within the axis.
  """
  groups = []  # [[sum of wished starts, members]]
  for i, y in enumerate(heights):
    groups.append([y - i * gap, 1])
    while len(groups) > 1 and (
      groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]
    ):
      total, members = groups.pop()
      groups[-1] = [groups[-1][0] + total, groups[-1][1] + members]
  starts = [total / n for total, n in groups for _ in range(n)]
  top = 1 - (len(starts) - 1) * gap
  return [min(max(y, 0.0), top) + i * gap for i, y in enumerate(starts)]


def smooth(values: np.ndarray) -> np.ndarray:
  """Mean over a window of a twentieth of the run, cut off at the ends."""
  half = len(values) // 40
  total = np.concatenate([[0.0], np.cumsum(values)])
  i = np.arange(len(values))
  low, high = np.maximum(i - half, 0), np.minimum(i + half + 1, len(values))
  return (total[high] - total[low]) / (high - low)


def _height(axes: Axes, end: End) -> float:
  """Where a value is, as a fraction of the axis."""
  low, high = axes.get_ylim()
  return (end.y - low) / (high - low)
