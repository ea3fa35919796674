"""The figure of the curve: what codes are worth against their mean length."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rsrc_jax.report import curve_table, heldout_figure, style
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.curve_table import FREE
from rsrc_jax.report.numbers import number
from rsrc_jax.report.style import End


def curve(summary: dict, arms: Arms) -> Figure:
  """Bits conveyed, or exact copies, and edit similarity against tokens."""
  rows = curve_table.rows(summary, arms)
  known = any(number(x.get("bits_conveyed")) is not None for x in rows)
  key = "bits_conveyed" if known else "exact"
  figure, (left, right) = style.panels()
  tops = [_length(x) for x in rows if _length(x)]
  ends = _lines(left, rows, arms, key)
  if known:
    left.set(title="Bits conveyed", ylabel="bits a source")
    budgets = range(1, int(number(summary.get("budget_tokens")) or 1) + 1)
    low, high = left.get_ylim()
    ends += heldout_figure.bounds(left, summary, [*budgets])
    # Long codes may carry far more than there is to say.
    entropy = number(summary.get("entropy_bits")) or high
    left.set_ylim(min(0.0, low), 1.1 * max(high, entropy))
  else:
    left.set(title="Sources of which d is a copy", ylabel="share of sources")
  style.label(left, ends)
  ends = _lines(right, rows, arms, "edit_similarity")
  right.set(
    title="How close the free-running d is to s", ylabel="edit similarity",
    ylim=(0.0, 1.03),
  )  # fmt: skip
  style.label(right, ends)
  for axes in (left, right):
    _by_length(axes, tops)
  return figure


def _lines(axes: Axes, rows: list[dict], arms: Arms, key: str) -> list[End]:
  """A line an arm; a length that nobody asked for is a hollow mark."""
  ends = []
  for name in dict.fromkeys(str(x.get("arm")) for x in rows):
    look, front = style.arm(name, arms.looks), name == arms.headline
    told, free = [], []
    for row in rows:
      x, y = _length(row), number(row.get(key))
      if str(row.get("arm")) == name and x and y is not None:
        (free if curve_table.asked(row) == FREE else told).append((x, y))
    told = sorted(told)
    if told:
      ends.append(style.line(axes, look, *zip(*told, strict=True), front))
    elif free:
      ends.append(End(free[0][1], look.label, look.color, front))
    for x, y in free:
      axes.plot(
        [x], [y], color=look.color, marker=look.marker, markersize=9,
        markerfacecolor="none", markeredgewidth=1.6, zorder=5,
      )  # fmt: skip
  return ends


def _length(row: dict) -> float | None:
  """Mean tokens; None for empty codes, which have no place on the axis."""
  tokens = number(row.get("mean_tokens"))
  return tokens if tokens else None


def _by_length(axes: Axes, lengths: list[float]) -> None:
  """The axis of lengths, in powers of two."""
  axes.set_xscale("log", base=2)
  top = max(lengths, default=1.0)
  ticks = [2**i for i in range(16) if 2**i <= 1.2 * top] or [1]
  ticks += [3 * 2**i for i in range(14) if 3 * 2**i <= 1.2 * top]
  axes.set_xticks(sorted(ticks), [str(x) for x in sorted(ticks)])
  axes.xaxis.set_minor_locator(NullLocator())
  axes.set_xlabel("mean tokens of the code")
