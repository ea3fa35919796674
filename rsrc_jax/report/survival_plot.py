"""How a survival map is drawn: marks as flat dicts in, one figure out."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from rsrc_jax.report.numbers import count, short
from rsrc_jax.report.style import ARMS, FAINT, HEADLINE, INK, Looks
from rsrc_jax.report.survival_layout import (
  HEIGHT,
  TYPE,
  WIDTH,
  Paper,
  iso_life,
  lay_out,
  levels,
  place,
  slot_of,
  span_of,
  title_of,
  width_of,
  x_at,
  y_at,
)

COUNTERS = ("nvml_counter", "rapl")  # energies that were counted, not modelled
KINDS = {"compressor": (INK, "h"), "untrained": (FAINT, "p")}
GUTTER = "#f5f6f7"
Box = tuple[float, float, float, float]  # left, bottom, right, top


def look(point: dict, looks: Looks = ARMS) -> tuple[str, str]:
  """Colour and marker of a mark."""
  if point["kind"] in KINDS:
    return KINDS[point["kind"]]
  known = looks.get(point["name"])
  return (FAINT, "X") if known is None else (known.color, known.marker)


def measured(point: dict) -> bool:
  """Whether a counter has counted all of its joules."""
  return all(part in COUNTERS for part in str(point["source"]).split("+"))


def figure(
  points: list[dict], looks: Looks = ARMS, headline: str | None = HEADLINE
) -> Figure:
  """The map, to be drawn in style.STYLE.

  Args:
    points: marks, by survival_points.COLUMNS.
    looks: of arms.
    headline: the arm that is drawn in front, and named in bold.
  """
  paper, spots = lay_out(points)
  figure = Figure(figsize=((WIDTH + 96) / 72, (HEIGHT + 142) / 72))
  width, height = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
  axes = figure.add_axes(
    (82 / width, 108 / height, WIDTH / width, HEIGHT / height)
  )
  axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
  axes.grid(visible=False)
  _gutters(axes, paper)
  taken = _lines(axes, paper)
  shown = [(p, spot) for p, spot in zip(points, spots, strict=True) if spot]
  for key, style in (("on_front", "-"), ("on_trained_front", (0, (4, 3)))):
    _front(axes, [spot for p, spot in shown if p[key]], style)
  # The headline in front of the others, means in front of their seeds.
  for point, spot in sorted(
    shown, key=lambda s: (s[0]["mark"] != "seed", s[0]["name"] == headline)
  ):
    taken += _mark(axes, paper, point, spot, look(point, looks))
  _names(axes, paper, shown, taken, looks, headline)
  axes.set_title(
    f"Survival map (ours), n = {count(points[0]['samples_served'])} samples "
    f"served"
  )
  axes.set_xlabel("RSRC_i (ours), bit/J: what a joule of use buys")
  axes.set_ylabel("RSRC_t(n) (ours), bit/J of training")
  _legend(figure, points)
  return figure


def absent(points: list[dict]) -> list[str]:
  """Baselines that belong on every map and are not among the marks."""
  names, kinds = ({p[key] for p in points} for key in ("name", "kind"))
  wanted = {
    "identity": "identity" in names,
    "general compressors": bool(
      {p["name"] for p in points if p["kind"] == "compressor"} - {"identity"}
    ),
    "English arms": "english" in kinds,
    "the untrained system": "untrained" in kinds,
  }
  return [name for name, there in wanted.items() if not there]


def _gutters(axes: Axes, paper: Paper) -> None:
  """Shades what is off the logarithm, and names it at the axes."""
  (left, right), (bottom, top) = paper.x, paper.y
  axes.axvspan(0, left, color=GUTTER, lw=0, zorder=0)
  axes.axhspan(0, bottom, color=GUTTER, lw=0, zorder=0)
  axes.axhspan(top, HEIGHT, color=GUTTER, lw=0, zorder=0)
  if right < WIDTH:
    axes.axvspan(right, WIDTH, color=GUTTER, lw=0, zorder=0)
  xs, ys = (range(low, high + 1) for low, high in paper.frame)
  xs, ys = (r[:: max(1, math.ceil(len(r) / 9))] for r in (xs, ys))
  power = lambda k: f"$10^{{{k}}}$"
  across = [(x_at(paper, k), power(k)) for k in xs] + [(left / 2, "0\nno bits")]
  across += [((right + WIDTH) / 2, "∞")] * (right < WIDTH)
  up = [(y_at(paper, k), power(k)) for k in ys]
  up += [(bottom / 2, "≤ 0\nno gain"), ((top + HEIGHT) / 2, "∞\nno training")]
  axes.set_xticks(*zip(*across, strict=True))
  axes.set_yticks(*zip(*up, strict=True))
  axes.tick_params(length=3, labelsize=8.5)
  axes.vlines(
    [x_at(paper, k) for k in xs],
    bottom,
    top,
    color="#eef0f2",
    lw=0.8,
    zorder=0.5,
  )


def _lines(axes: Axes, paper: Paper) -> list[Box]:
  """Equal lives, and where training takes as much as serving; their names."""
  taken = []
  for level in levels(paper.frame):
    path = iso_life(level, paper.frame)
    xs, ys = (
      [x_at(paper, x) for x, _ in path], [y_at(paper, y) for _, y in path]
    )  # fmt: skip
    axes.plot(xs, ys, color="#9fb3c8", lw=0.9, zorder=1)
    plain = 1 <= level < 1e5
    inside = xs[-1] < paper.x[1] - 1  # it leaves through the bottom
    text = f"life {f'{level:,.0f}' if plain else short(level)} bit/J"
    axes.annotate(
      text, (xs[-1] + (3 if inside else -3), ys[-1] + 2), fontsize=7.5,
      ha="left" if inside else "right", va="bottom",
      color="#627d98", fontstyle="italic",
    )  # fmt: skip
    start = xs[-1] - 80 * (not inside)
    taken.append((start, ys[-1], start + 80, ys[-1] + 11))
  low = max(paper.frame.x[0], paper.frame.y[0])
  high = min(paper.frame.x[1], paper.frame.y[1])
  if low < high:
    axes.plot(
      [x_at(paper, k) for k in (low, high)],
      [y_at(paper, k) for k in (low, high)],
      color=FAINT, lw=1.0, ls=(0, (1, 2.5)), zorder=1,
    )  # fmt: skip
  return taken


def _front(axes: Axes, spots: list[tuple[float, float]], style) -> None:
  """The staircase over marks that nothing beats: all below it is beaten."""
  spots = sorted(spots)
  if not spots:
    return
  path = [(0.0, spots[0][1])]
  for x, y in spots:
    path += [(path[-1][0], y), (x, y)]
  path.append((spots[-1][0], 0.0))
  axes.plot(
    *zip(*path, strict=True), color="#829ab1", lw=1.5, ls=style, zorder=2,
    solid_joinstyle="miter",
  )  # fmt: skip


def _mark(
  axes: Axes,
  paper: Paper,
  point: dict,
  spot: tuple[float, float],
  colored: tuple[str, str],
) -> list[Box]:
  """A mark with its bars; returns what they cover."""
  (x, y), (color, marker) = spot, colored
  seed = point["mark"] == "seed"
  taken = [(x - 5, y - 5, x + 5, y + 5)]
  for axis, at in (("i", x_at), ("t", y_at)):
    ends = [point[f"rsrc_{axis}{end}"] for end in ("_p5", "_p95")]
    if seed or point[f"place_{axis}"] != "inside" or None in ends:
      continue
    edges = paper.x if axis == "i" else paper.y
    # An end at 0 or ∞ reaches the gutter.
    low, high = (
      at(paper, math.log10(end)) if place(end) == "inside" else edges[end > 0]
      for end in ends
    )
    bar = ([low, high], [y, y]) if axis == "i" else ([x, x], [low, high])
    axes.plot(*bar, color=color, lw=1.3, zorder=3)
    taken.append((bar[0][0] - 2, bar[1][0] - 2, bar[0][1] + 2, bar[1][1] + 2))
  axes.plot(
    [x], [y], marker=marker, ms=4.5 if seed else 7.0, ls="", mec=color, mew=1.5,
    mfc=color if measured(point) else "white", alpha=0.45 if seed else 1.0,
    zorder=4,
  )  # fmt: skip
  return taken


def _names(
  axes: Axes,
  paper: Paper,
  shown: list[tuple],
  taken: list[Box],
  looks: Looks,
  headline: str | None,
) -> None:
  """Writes every name once, next to its mark, where least is covered."""
  slots = {}
  for point, spot in shown:
    slot = slot_of(point)
    if slot[0] != "inside" or slot[1] or point["mark"] != "seed":
      slots.setdefault(slot, []).append((point, spot))
  for slot, marks in slots.items():
    first, text = marks[0][0], title_of([p for p, _ in marks])
    wide = width_of(text)
    sides = _sides(slot, marks, paper, wide)
    boxes = [(a, b - 5.5, a + wide, b + 5.5) for a, b in sides]
    cost = [
      sum(_overlap(box, other) for other in taken) + 99 * _outside(box) + i / 10
      for i, box in enumerate(boxes)
    ]
    best = cost.index(min(cost))
    taken.append(boxes[best])
    axes.text(
      *sides[best], text, fontsize=TYPE, color=look(first, looks)[0],
      va="center", zorder=5,
      fontweight="bold" if first["name"] == headline else "normal",
      parse_math=False, path_effects=[withStroke(linewidth=2, foreground="w")],
    )  # fmt: skip


def _sides(
  slot: tuple[str, bool, str], marks: list[tuple], paper: Paper, wide: float
) -> list[tuple[float, float]]:
  """Where a name may stand: its left edge and its middle, the best first."""
  x, y = marks[-1][1]
  spans = [span_of(p, spot[0], paper) for p, spot in marks]
  low, high = min(a for a, _ in spans), max(b for _, b in spans)
  if slot[0] != "inside" or slot[1]:
    return [(high + 3, y) if high + wide + 8 <= WIDTH else (low - wide - 3, y)]
  sides = [(x + 8, y + d) for d in (0, 9, -9, 19, -19)]
  sides += [(x - 8 - wide, y + d) for d in (0, 9, -9, 19, -19)]
  sides += [(x - wide / 2, y + d) for d in (12, -12, 24, -24)]
  return [*sides, (high + 4, y), (low - wide - 4, y)]


def _overlap(a: Box, b: Box) -> float:
  """Area that two boxes share."""
  width = min(a[2], b[2]) - max(a[0], b[0])
  height = min(a[3], b[3]) - max(a[1], b[1])
  return max(width, 0.0) * max(height, 0.0)


def _outside(box: Box) -> float:
  """How far a box leaves the axes."""
  over = (-box[0], -box[1], box[2] - WIDTH, box[3] - HEIGHT)
  return sum(max(v, 0.0) for v in over)


def _legend(figure: Figure, points: list[dict]) -> None:
  """What hollow means, what the lines are, and what is not on the map."""
  mark = {"ls": "", "marker": "o", "mec": INK, "mew": 1.5, "ms": 6.5}
  entries = {
    "hollow: energy modelled": Line2D([], [], mfc="white", **mark),
    "filled: energy counted": Line2D([], [], mfc=INK, **mark),
    "5–95 %": Line2D([], [], color=INK, lw=1.3),
    "Pareto front": Line2D([], [], color="#829ab1", lw=1.5),
    "of trained arms": Line2D([], [], color="#829ab1", ls=(0, (4, 3)), lw=1.5),
    "equal RSRC_life (ours)": Line2D([], [], color="#9fb3c8", lw=0.9),
    "training = use": Line2D([], [], color=FAINT, ls=(0, (1, 2.5)), lw=1.0),
  }
  if any(p["mark"] == "seed" for p in points):
    entries["pale: one seed"] = Line2D([], [], mfc="white", alpha=0.45, **mark)
  figure.legend(
    list(entries.values()), list(entries), loc="lower center", ncols=4,
    frameon=False, fontsize=8.5, bbox_to_anchor=(0.5, 0.03), columnspacing=1.6,
  )  # fmt: skip
  notes = []
  if lacking := absent(points):
    notes.append(f"Not computed: {', '.join(lacking)}.")
  unknown = [
    p["label"]
    for p in points
    if p["mark"] != "seed" and "unknown" in (p["place_i"], p["place_t"])
  ]
  if unknown:
    notes.append(f"Not placed, energy unknown: {', '.join(unknown)}.")
  figure.text(
    0.5, 0.012, " ".join(notes), fontsize=8, color=FAINT, ha="center",
    parse_math=False,
  )  # fmt: skip
