"""How a survival map is drawn: marks as flat dicts in, one figure out.

Distances on the paper are in points (1/72 inch), so that a gutter is as wide as
the names that stand in it, whatever the decades are.
"""

import math
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath

from rsrc_jax.report.style import ARMS, FAINT, INK, count, short

UNTRAINED = ("compressor", "untrained")  # kinds without training energy
COUNTERS = ("nvml_counter", "rapl")  # energies that were counted, not modelled
KINDS = {"compressor": (INK, "h"), "untrained": (FAINT, "p")}
WIDTH, HEIGHT = 640.0, 360.0  # of the axes
LEFT, RIGHT, ROW = 116.0, 40.0, 15.0  # gutters at the sides, a line of names
TYPE = 8.5
GUTTER = "#f5f6f7"
Box = tuple[float, float, float, float]  # left, bottom, right, top


class Frame(NamedTuple):
  """The decades that are shown: log10 of bit/J."""

  x: tuple[int, int]  # of RSRC_i
  y: tuple[int, int]  # of RSRC_t


class Paper(NamedTuple):
  """Where the decades lie on the axes: the rest are gutters."""

  frame: Frame
  x: tuple[float, float]
  y: tuple[float, float]


def place(value: float | None) -> str:
  """Where on a logarithmic axis: inside, or in which gutter."""
  if value is None:
    return "unknown"
  return "0" if value <= 0 else "inf" if math.isinf(value) else "inside"


def look(point: dict) -> tuple[str, str]:
  """Colour and marker of a mark."""
  if point["kind"] in KINDS:
    return KINDS[point["kind"]]
  known = ARMS.get(point["name"], ARMS["code"])
  return (known.color, known.marker) if point["name"] in ARMS else (FAINT, "X")


def measured(point: dict) -> bool:
  """Whether a counter has counted all of its joules."""
  return all(part in COUNTERS for part in str(point["source"]).split("+"))


def frame(points: list[dict]) -> Frame:
  """Decades that hold every finite end, and where training equals serving.

  A trained arm climbs with n; its y reaches its x where half of all energy has
  gone into training.
  """
  spans = []
  for axis in ("rsrc_i", "rsrc_t"):
    ends = [p[f"{axis}{end}"] for p in points for end in ("", "_p5", "_p95")]
    logs = [math.log10(v) for v in ends if place(v) == "inside"]
    spans.append([min(logs, default=0.0), max(logs, default=3.0)])
  inside = [
    math.log10(p["rsrc_i"])
    for p in points
    if place(p["rsrc_i"]) == "inside" and place(p["rsrc_t"]) == "inside"
  ]
  spans[1][1] = max([spans[1][1], *inside])
  rounded = [
    (math.floor(low - 0.2), math.ceil(high + 0.2)) for low, high in spans
  ]
  return Frame(*rounded)


def levels(frame: Frame) -> list[float]:
  """Lives, bit/J, whose lines are drawn: powers of ten, at most eight."""
  found = [
    k
    for k in range(frame.y[0] - 1, min(frame.x[1], frame.y[1]))
    if iso_life(10.0**k, frame)
  ]
  step = max(1, math.ceil(len(found) / 8))
  return [10.0**k for k in found if k % step == 0]


def iso_life(level: float, frame: Frame) -> list[tuple[float, float]]:
  """The line 1/x + 1/y = 1/level within the frame, as (log10 x, log10 y).

  x = level (1 + e^t) and y = level (1 + e^-t) satisfy it for every t.
  """
  low, high = -math.inf, math.inf
  for (first, last), sign in ((frame.x, 1), (frame.y, -1)):
    # sign t >= log(first / level - 1), and <= log(last / level - 1).
    edges = [10.0**edge / level - 1 for edge in (first, last)]
    if edges[1] <= 0:
      return []
    least = math.log(edges[0]) if edges[0] > 0 else -math.inf
    most = math.log(edges[1])
    low, high = (
      (max(low, least), min(high, most))
      if sign > 0
      else (max(low, -most), min(high, -least))
    )
  if not low < high:
    return []
  ts = [low + (high - low) * i / 96 for i in range(97)]
  base = math.log10(level)
  return [
    (base + math.log10(1 + math.exp(t)), base + math.log10(1 + math.exp(-t)))
    for t in ts
  ]


def figure(points: list[dict]) -> Figure:
  """The map. points: by survival_map.COLUMNS; to be drawn in drawing.STYLE."""
  paper, spots = _lay_out(points)
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
  # The code in front of the others, means in front of their seeds.
  for point, spot in sorted(
    shown, key=lambda s: (s[0]["mark"] != "seed", s[0]["name"] == "code")
  ):
    taken += _mark(axes, paper, point, spot)
  _names(axes, paper, shown, taken)
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


def _lay_out(
  points: list[dict],
) -> tuple[Paper, list[tuple[float, float] | None]]:
  """The paper, and where each mark lies on it; None where that is unknown."""
  decades = frame(points)
  right = any(p["place_i"] == "inf" for p in points)
  across = (LEFT, WIDTH - RIGHT * right)
  paper = Paper(decades, across, (0.0, HEIGHT))
  x = _columns(points, paper)
  spans = [_span(point, at, paper) for point, at in zip(points, x, strict=True)]
  rows = {gutter: _rows(points, spans, gutter) for gutter in ("0", "inf")}
  # Two lines at least, for the words at the axis.
  tall = {g: ROW * max([2, *(row + 1 for row in r.values())]) + 4.0
          for g, r in rows.items()}  # fmt: skip
  paper = paper._replace(y=(tall["0"], HEIGHT - tall["inf"]))
  spots = []
  for point, at in zip(points, x, strict=True):
    gutter = point["place_t"]
    if at is None or gutter == "unknown":
      spots.append(None)
    elif gutter == "inside":
      spots.append((at, _y(paper, math.log10(point["rsrc_t"]))))
    else:
      down = 2 + ROW * (rows[gutter][_slot(point)] + 0.5)
      spots.append((at, HEIGHT - down if gutter == "inf" else tall["0"] - down))
  return paper, spots


def _columns(points: list[dict], paper: Paper) -> list[float | None]:
  """Where each mark lies across; seeds that save nothing stand in a row."""
  found, queue = [], {}
  for point in points:
    where = point["place_i"]
    if where == "inside":
      found.append(_x(paper, math.log10(point["rsrc_i"])))
    elif where == "0":
      place = queue.setdefault(_slot(point), [])
      found.append(10.0 + 8.5 * len(place))
      place.append(point)
    else:
      found.append(WIDTH - RIGHT / 2 if where == "inf" else None)
  return found


def _span(
  point: dict, at: float | None, paper: Paper
) -> tuple[float, float] | None:
  """How far a mark and its bar reach across."""
  if at is None:
    return None
  ends = [point["rsrc_i_p5"], point["rsrc_i_p95"]]
  if point["mark"] == "seed" or None in ends or point["place_i"] != "inside":
    return at - 6, at + 6
  low, high = (
    _x(paper, math.log10(end)) if place(end) == "inside" else paper.x[end > 0]
    for end in ends
  )
  return min(low, at - 6), max(high, at + 6)


def _rows(
  points: list[dict], spans: list[tuple[float, float] | None], gutter: str
) -> dict[tuple, int]:
  """Slot -> line of a gutter, so that no name runs into another mark."""
  slots = {}
  for point, span in zip(points, spans, strict=True):
    if span is not None and point["place_t"] == gutter:
      slots.setdefault(_slot(point), []).append((point, span))
  rows, ends = {}, []  # ends: of each line, how far it is taken
  for slot in sorted(slots, key=lambda s: min(span for _, span in slots[s])):
    wide = _width(_title([p for p, _ in slots[slot]])) + 8
    low = min(span[0] for _, span in slots[slot])
    high = max(span[1] for _, span in slots[slot])
    low, high = (
      (low - wide, high) if high + wide > WIDTH else (low, high + wide)
    )
    line = next((i for i, end in enumerate(ends) if end <= low), len(ends))
    ends[line : line + 1] = [high]
    rows[slot] = line
  return rows


def _slot(point: dict) -> tuple[str, bool, str]:
  """Marks of an arm that share a line of a gutter, and a name."""
  return point["place_t"], point["place_i"] == "0", point["name"]


def _title(points: list[dict]) -> str:
  """The name of the marks of one slot."""
  whole = next((p for p in points if p["mark"] != "seed"), None)
  if whole is None:
    seeds = ", ".join(str(p["seed"]) for p in points)
    return f"{points[0]['label']}, seed {seeds}"
  zero, seeds = whole["seeds_at_zero"] or 0, whole["seeds"] or 1
  note = f" ({zero} of {seeds} seeds at 0)" if 0 < zero < seeds else ""
  return f"{whole['label']}{note}"


def _width(text: str) -> float:
  """Of a name, in points."""
  path = TextPath((0, 0), text or " ", size=TYPE, prop=FontProperties())
  return path.get_extents().width


def _x(paper: Paper, decade: float) -> float:
  (low, high), (left, right) = paper.frame.x, paper.x
  return left + (right - left) * (decade - low) / (high - low)


def _y(paper: Paper, decade: float) -> float:
  (low, high), (bottom, top) = paper.frame.y, paper.y
  return bottom + (top - bottom) * (decade - low) / (high - low)


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
  across = [(_x(paper, k), power(k)) for k in xs] + [(left / 2, "0\nno bits")]
  across += [((right + WIDTH) / 2, "∞")] * (right < WIDTH)
  up = [(_y(paper, k), power(k)) for k in ys]
  up += [(bottom / 2, "≤ 0\nno gain"), ((top + HEIGHT) / 2, "∞\nno training")]
  axes.set_xticks(*zip(*across, strict=True))
  axes.set_yticks(*zip(*up, strict=True))
  axes.tick_params(length=3, labelsize=8.5)
  axes.vlines(
    [_x(paper, k) for k in xs], bottom, top, color="#eef0f2", lw=0.8, zorder=0.5
  )


def _lines(axes: Axes, paper: Paper) -> list[Box]:
  """Equal lives, and where training takes as much as serving; their names."""
  taken = []
  for level in levels(paper.frame):
    path = iso_life(level, paper.frame)
    xs, ys = (
      [_x(paper, x) for x, _ in path], [_y(paper, y) for _, y in path]
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
      [_x(paper, k) for k in (low, high)], [_y(paper, k) for k in (low, high)],
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
  axes: Axes, paper: Paper, point: dict, spot: tuple[float, float]
) -> list[Box]:
  """A mark with its bars; returns what they cover."""
  (x, y), (color, marker) = spot, look(point)
  seed = point["mark"] == "seed"
  taken = [(x - 5, y - 5, x + 5, y + 5)]
  for axis, at in (("i", _x), ("t", _y)):
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
  axes: Axes, paper: Paper, shown: list[tuple], taken: list[Box]
) -> None:
  """Writes every name once, beside its mark, where least is covered."""
  slots = {}
  for point, spot in shown:
    slot = _slot(point)
    if slot[0] != "inside" or slot[1] or point["mark"] != "seed":
      slots.setdefault(slot, []).append((point, spot))
  for slot, marks in slots.items():
    points = [p for p, _ in marks]
    text, color = _title(points), look(points[0])[0]
    wide, (x, y) = _width(text), marks[-1][1]
    spans = [_span(p, spot[0], paper) for p, spot in marks]
    low, high = min(a for a, _ in spans), max(b for _, b in spans)
    # Left edge and middle of the name.
    if slot[0] != "inside" or slot[1]:
      sides = [
        (high + 3, y) if high + wide + 8 <= WIDTH else (low - wide - 3, y)
      ]
    else:
      sides = [(x + 8, y + d) for d in (0, 9, -9, 19, -19)]
      sides += [(x - 8 - wide, y + d) for d in (0, 9, -9, 19, -19)]
      sides += [(x - wide / 2, y + d) for d in (12, -12, 24, -24)]
      sides += [(high + 4, y), (low - wide - 4, y)]
    boxes = [(a, b - 5.5, a + wide, b + 5.5) for a, b in sides]
    cost = [
      sum(_overlap(box, other) for other in taken) + 99 * _outside(box) + i / 10
      for i, box in enumerate(boxes)
    ]
    best = cost.index(min(cost))
    taken.append(boxes[best])
    axes.text(
      *sides[best], text, fontsize=TYPE, color=color, va="center", zorder=5,
      fontweight="bold" if points[0]["name"] == "code" else "normal",
      parse_math=False, path_effects=[withStroke(linewidth=2, foreground="w")],
    )  # fmt: skip


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
