"""The figures of a run: dicts that were read from its files in, SVG out.

One style, one colour and one marker for every arm. Nothing here depends on a
clock, a font outside matplotlib or a random name, so equal runs give equal
bytes.
"""

import io
import math
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


class Arm(NamedTuple):
  """How an arm is called and drawn everywhere."""

  label: str
  color: str
  marker: str
  about: str


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
ENGLISH = tuple(name for name in ARMS if name != "code")
INK, FAINT = "#1f2933", "#7b8794"
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
Series = tuple[np.ndarray, np.ndarray]  # steps [n], values [n]


class Panel(NamedTuple):
  """One quantity over the steps."""

  key: str
  title: str
  unit: str
  split: str = "train"
  noisy: bool = True  # draw a moving average over the single steps
  zero: bool = False  # start the axis at zero
  down: bool = False  # less is better, so less is up
  english: bool = True  # holds for the English arms too


class End(NamedTuple):
  """The last value of a line, which is where its name goes."""

  y: float
  label: str
  color: str


SCORE = Panel(
  "bits_conveyed", "Bits conveyed, validation", "bits a source", "valid",
  noisy=False,
)  # fmt: skip
OPEN_LABEL = "nll of s given c, bits a source (fewer is up)"
OPEN = Panel(
  "nll_bits", "Bits of s that c leaves open, validation", OPEN_LABEL, "valid",
  noisy=False, down=True,
)  # fmt: skip
REWARD = Panel("reward", "Reward of C while it trains", "reward")
NOVEL = Panel(
  "novel_fraction", "Tokens of c that are not in s", "share of c", zero=True
)
HIDDEN = Panel(
  "hidden", "Vocabulary hidden from C", "share of the vocabulary",
  noisy=False, zero=True, english=False,
)  # fmt: skip
LENGTH = Panel("length", "Length of the code", "tokens", zero=True)
ENTROPY = Panel("entropy", "Entropy of C", "nats a token", zero=True)


def arm(name: str) -> Arm:
  """The looks of an arm; one that is not known keeps its own name."""
  return ARMS.get(name, Arm(name, FAINT, ".", ""))


def ordered(names: Iterable[str]) -> list[str]:
  """Known arms in their fixed order, then the others by name."""
  names = set(names)
  return [n for n in ARMS if n in names] + sorted(names - set(ARMS))


def number(value: Any) -> float | None:
  """A finite float, or None for whatever else a file may hold."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  return float(value) if math.isfinite(value) else None


def series(metrics: list[dict], phase: str, split: str, key: str) -> Series:
  """What one phase logged under `key`. The last word on a step counts."""
  points = {}
  for line in metrics:
    if line.get("phase") == phase and line.get("split") == split:
      # What concerns one role is logged under its name.
      value = number(line.get(key, line.get(f"C_{key}")))
      step = number(line.get("step"))
      if step is not None and value is not None:
        points[step] = value
  steps = sorted(points)
  return np.asarray(steps), np.asarray([points[step] for step in steps])


def draw(summary: dict, metrics: list[dict]) -> dict[str, Callable[[], Figure]]:
  """File name -> a function that draws it, in the order of the report."""
  return {
    "budget": lambda: budget(summary),
    "learning": lambda: learning(metrics),
    "vocabulary": lambda: over_steps(metrics, NOVEL, HIDDEN),
    "length": lambda: over_steps(metrics, LENGTH, ENTROPY),
  }


def save(name: str, make: Callable[[], Figure], folder: pathlib.Path) -> str:
  """Writes folder/name.png and .svg; returns the SVG to put into a page.

  A figure without a line in it is not written, and its SVG is empty.
  """
  # The salt names the clip paths; without it they are random.
  with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
    figure, stream = make(), io.StringIO()
    if not any(axes.lines for axes in figure.axes):
      return ""
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    figure.savefig(folder / f"{name}.png", dpi=160, metadata={"Software": None})
  svg = stream.getvalue()
  (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
  # The figures of one page share its ids.
  drawing = svg[svg.index("<svg") :]
  return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", drawing)


def budget(summary: dict) -> Figure:
  """What each arm conveys, and how well d reads, against the budget k."""
  curves = (summary.get("heldout") or {}).get("budget_curve") or {}
  figure, (left, right) = _panels()
  bits = any(
    number((m or {}).get("bits_conveyed")) is not None
    for points in curves.values()
    for m in points.values()
  )
  if bits:
    ends = _curves(left, curves, "bits_conveyed")
    ends += _bounds(left, summary, sorted(_budgets(curves)))
    left.set(title="Bits conveyed", ylabel="bits a source")
    left.set_ylim(bottom=min(0.0, left.get_ylim()[0]))
  else:
    ends = _curves(left, curves, "nll_bits")
    left.set(title="Bits of s that c leaves open", ylabel=OPEN_LABEL)
    left.invert_yaxis()
  _label(left, ends)
  ends = _curves(right, curves, "edit_similarity")
  right.set(
    title="How close the free-running d is to s", ylabel="edit similarity"
  )
  right.set_ylim(0.0, 1.03)
  _label(right, ends)
  for axes in (left, right):
    axes.set_xlabel("budget k, tokens of the code")
    axes.set_xticks(sorted(_budgets(curves)))
  return figure


def learning(metrics: list[dict]) -> Figure:
  """Held-out score and reward of every arm over its steps."""
  bits = any(number(m.get("bits_conveyed")) is not None for m in metrics)
  return over_steps(metrics, SCORE if bits else OPEN, REWARD)


def over_steps(metrics: list[dict], *panels: Panel) -> Figure:
  """All arms over their steps, one panel beside the other."""
  figure, both = _panels()
  phases = {str(m["phase"]) for m in metrics if m.get("phase")} - {"base"}
  for axes, panel in zip(both, panels, strict=True):
    ends = []
    # Every arm logs the schedule of the curriculum; only codes are under it.
    for name in ordered(phases - set(() if panel.english else ENGLISH)):
      # Rules without a policy log some quantities in validation only.
      for split in (panel.split, "valid"):
        steps, values = series(metrics, name, split, panel.key)
        if steps.size:
          if panel.noisy:
            axes.plot(steps, values, color=arm(name).color, alpha=0.2, lw=0.9)
            values = _smooth(values)
          ends.append(_line(axes, name, steps, values))
          break
    axes.set(title=panel.title, ylabel=panel.unit, xlabel="step of the arm")
    if panel.zero and ends:
      # A little below, so that a line at zero can be seen.
      top = max(axes.dataLim.y1, 0.0) or 1.0
      axes.set_ylim(-0.03 * top, 1.07 * top)
    if panel.down:
      axes.invert_yaxis()
    _label(axes, ends)
  return figure


def _panels() -> tuple[Figure, np.ndarray]:
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


def _budgets(curves: dict) -> set[int]:
  return {int(k) for points in curves.values() for k in points}


def _curves(axes: Axes, curves: dict, key: str) -> list[End]:
  """A line an arm over k."""
  ends = []
  for name in ordered(curves):
    points = {
      int(k): number((m or {}).get(key)) for k, m in curves[name].items()
    }
    k = sorted(k for k, value in points.items() if value is not None)
    if k:
      ends.append(_line(axes, name, k, [points[i] for i in k]))
  return ends


def _line(axes: Axes, name: str, x: Any, y: Any) -> End:
  """Draws an arm; at most about eight markers, the code in front."""
  look, code = arm(name), name == "code"
  axes.plot(
    x, y, color=look.color, marker=look.marker, markeredgecolor="white",
    markeredgewidth=0.7, markevery=max(1, math.ceil(len(x) / 8)),
    lw=2.6 if code else 1.7, zorder=4 if code else 3,
  )  # fmt: skip
  return End(float(y[-1]), look.label, look.color)


def _bounds(axes: Axes, summary: dict, ks: list[int]) -> list[End]:
  """What no code, and no extract, of k tokens can exceed."""
  bounds, ends = summary.get("bounds") or {}, []
  top = number(summary.get("budget_tokens")) or ks[-1]
  capacity = number(bounds.get("channel_bits"))
  extract = number(bounds.get("english_extract_bits"))
  entropy = number(summary.get("entropy_bits"))
  by_k = bounds.get("english_extract_bits_by_k") or {}
  by_k = {int(k): number(v) for k, v in by_k.items()}
  by_k = {k: by_k[k] for k in ks if by_k.get(k) is not None}
  dashed = {"color": INK, "lw": 1.2, "ls": (0, (5, 3)), "zorder": 2}
  if capacity is not None:
    # log2 of the number of codes: proportional to k but for 0.01 bits.
    line = [capacity * k / top for k in ks]
    axes.plot(ks, line, **dashed)
    ends.append(End(line[-1], "channel capacity", INK))
  dotted = dashed | {"color": FAINT, "ls": (0, (1.5, 2))}
  if by_k:
    axes.plot(list(by_k), list(by_k.values()), **dotted, marker="_")
    ends.append(End(list(by_k.values())[-1], "any extract of s", FAINT))
  elif extract is not None:
    axes.plot([ks[0], ks[-1]], [extract] * 2, **dotted)
    ends.append(End(extract, f"any extract, k = {top:.0f}", FAINT))
  if entropy is not None:
    axes.axhline(entropy, color="#cbd2d9", lw=1.2, zorder=1)
    ends.append(End(entropy, "all of s", FAINT))
  return ends


def _label(axes: Axes, ends: list[End]) -> None:
  """Names lines at their right end, in their colour, moved apart."""
  if not ends:
    axes.set(xticks=[], yticks=[])
    axes.text(
      0.5, 0.5, "nothing recorded", color=FAINT, ha="center", va="center",
      transform=axes.transAxes,
    )  # fmt: skip
    return
  ends = sorted(ends, key=lambda e: _height(axes, e))
  # 0.062 of an axis is a line of this type.
  heights = _apart([_height(axes, e) for e in ends], 0.062)
  for end, y in zip(ends, heights, strict=True):
    axes.annotate(
      end.label, (1.0, y), xycoords="axes fraction", xytext=(7, 0),
      textcoords="offset points", va="center", color=end.color, fontsize=9,
      parse_math=False,
      fontstyle="italic" if end.color in (INK, FAINT) else "normal",
      fontweight="bold" if end.label == ARMS["code"].label else "normal",
    )  # fmt: skip


def _height(axes: Axes, end: End) -> float:
  """Where a value is, as a fraction of the axis."""
  low, high = axes.get_ylim()
  return (end.y - low) / (high - low)


def _apart(heights: list[float], gap: float) -> list[float]:
  """Heights from 0 to 1, ascending, moved until they are `gap` apart.

  They move as little as that takes (least squares: neighbours in conflict are
  pooled around their mean), and stay beside the axis.
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


def _smooth(values: np.ndarray) -> np.ndarray:
  """Mean over a window of a twentieth of the run, cut off at the ends."""
  half = len(values) // 40
  total = np.concatenate([[0.0], np.cumsum(values)])
  i = np.arange(len(values))
  low, high = np.maximum(i - half, 0), np.minimum(i + half + 1, len(values))
  return (total[high] - total[low]) / (high - low)
