"""The figure of the budget: what the first k tokens of each code convey."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsrc_jax.report import held_out, style
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.numbers import number
from rsrc_jax.report.style import FAINT, INK, End

OPEN_LABEL = "nll of s given c, bits a source (fewer is up)"
Curves = dict[str, dict[int, held_out.Scores]]  # arm -> k -> scores


def budget(summary: dict, arms: Arms) -> Figure:
  """What each arm conveys, and how well d reads, against the budget k."""
  curves = held_out.budget_curves(summary)
  budgets = sorted({k for points in curves.values() for k in points})
  figure, (left, right) = style.panels()
  bits = any(
    number(m.get("bits_conveyed")) is not None
    for points in curves.values()
    for m in points.values()
  )
  if bits:
    ends = _curves(left, curves, arms, "bits_conveyed")
    ends += bounds(left, summary, budgets)
    left.set(title="Bits conveyed", ylabel="bits a source")
    left.set_ylim(bottom=min(0.0, left.get_ylim()[0]))
  else:
    ends = _curves(left, curves, arms, "nll_bits")
    left.set(title="Bits of s that c leaves open", ylabel=OPEN_LABEL)
    left.invert_yaxis()
  style.label(left, ends)
  ends = _curves(right, curves, arms, "edit_similarity")
  right.set(
    title="How close the free-running d is to s", ylabel="edit similarity"
  )
  right.set_ylim(0.0, 1.03)
  style.label(right, ends)
  for axes in (left, right):
    axes.set_xlabel("budget k, tokens of the code")
    axes.set_xticks(budgets)
  return figure


def _curves(axes: Axes, curves: Curves, arms: Arms, key: str) -> list[End]:
  """A line an arm over k."""
  ends = []
  for name in style.ordered(curves, arms.looks):
    points = {k: number(m.get(key)) for k, m in curves[name].items()}
    k = sorted(k for k, value in points.items() if value is not None)
    if k:
      look = style.arm(name, arms.looks)
      values = [points[i] for i in k]
      ends.append(style.line(axes, look, k, values, name == arms.headline))
  return ends


def bounds(axes: Axes, summary: dict, ks: list[int]) -> list[End]:
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
