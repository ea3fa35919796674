"""Where everything lies on a survival map.

Distances on the paper are in points (1/72 inch), so that a gutter is as wide as
the names that stand in it, whatever the decades are.
"""

import math
from typing import NamedTuple

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

WIDTH, HEIGHT = 640.0, 360.0  # of the axes
LEFT, RIGHT, ROW = 116.0, 40.0, 15.0  # gutters at the sides, a line of names
TYPE = 8.5  # size of the names


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


def lay_out(
  points: list[dict],
) -> tuple[Paper, list[tuple[float, float] | None]]:
  """The paper, and where each mark lies on it; None where that is unknown."""
  decades = frame(points)
  right = any(p["place_i"] == "inf" for p in points)
  across = (LEFT, WIDTH - RIGHT * right)
  paper = Paper(decades, across, (0.0, HEIGHT))
  x = _columns(points, paper)
  spans = [
    span_of(point, at, paper) for point, at in zip(points, x, strict=True)
  ]
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
      spots.append((at, y_at(paper, math.log10(point["rsrc_t"]))))
    else:
      down = 2 + ROW * (rows[gutter][slot_of(point)] + 0.5)
      spots.append((at, HEIGHT - down if gutter == "inf" else tall["0"] - down))
  return paper, spots


def _columns(points: list[dict], paper: Paper) -> list[float | None]:
  """Where each mark lies across; seeds that save nothing stand in a row."""
  found, queue = [], {}
  for point in points:
    where = point["place_i"]
    if where == "inside":
      found.append(x_at(paper, math.log10(point["rsrc_i"])))
    elif where == "0":
      place = queue.setdefault(slot_of(point), [])
      found.append(10.0 + 8.5 * len(place))
      place.append(point)
    else:
      found.append(WIDTH - RIGHT / 2 if where == "inf" else None)
  return found


def span_of(
  point: dict, at: float | None, paper: Paper
) -> tuple[float, float] | None:
  """How far a mark and its bar reach across."""
  if at is None:
    return None
  ends = [point["rsrc_i_p5"], point["rsrc_i_p95"]]
  if point["mark"] == "seed" or None in ends or point["place_i"] != "inside":
    return at - 6, at + 6
  low, high = (
    x_at(paper, math.log10(end)) if place(end) == "inside" else paper.x[end > 0]
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
      slots.setdefault(slot_of(point), []).append((point, span))
  rows, ends = {}, []  # ends: of each line, how far it is taken
  for slot in sorted(slots, key=lambda s: min(span for _, span in slots[s])):
    wide = width_of(title_of([p for p, _ in slots[slot]])) + 8
    low = min(span[0] for _, span in slots[slot])
    high = max(span[1] for _, span in slots[slot])
    low, high = (
      (low - wide, high) if high + wide > WIDTH else (low, high + wide)
    )
    line = next((i for i, end in enumerate(ends) if end <= low), len(ends))
    ends[line : line + 1] = [high]
    rows[slot] = line
  return rows


def slot_of(point: dict) -> tuple[str, bool, str]:
  """Marks of an arm that share a line of a gutter, and a name."""
  return point["place_t"], point["place_i"] == "0", point["name"]


def title_of(points: list[dict]) -> str:
  """The name of the marks of one slot."""
  whole = next((p for p in points if p["mark"] != "seed"), None)
  if whole is None:
    seeds = ", ".join(str(p["seed"]) for p in points)
    return f"{points[0]['label']}, seed {seeds}"
  zero, seeds = whole["seeds_at_zero"] or 0, whole["seeds"] or 1
  note = f" ({zero} of {seeds} seeds at 0)" if 0 < zero < seeds else ""
  return f"{whole['label']}{note}"


def width_of(text: str) -> float:
  """Of a name, in points."""
  path = TextPath((0, 0), text or " ", size=TYPE, prop=FontProperties())
  return path.get_extents().width


def x_at(paper: Paper, decade: float) -> float:
  """Where log10 of a value stands on the horizontal axis, in SVG units."""
  (low, high), (left, right) = paper.frame.x, paper.x
  return left + (right - left) * (decade - low) / (high - low)


def y_at(paper: Paper, decade: float) -> float:
  """Where log10 of a value stands on the vertical axis, in SVG units."""
  (low, high), (bottom, top) = paper.frame.y, paper.y
  return bottom + (top - bottom) * (decade - low) / (high - low)
