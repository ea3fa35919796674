"""Mazes with a single, long shortest path: the question is a maze, the answer
its path.

A maze is carved depth first, some walls are opened again, and the path is
searched breadth first. With side 30 and paths of more than 110 steps the
criterion is the published one of Maze-Hard. The mazes are our own, so that
numbers on them can't be compared with numbers on that set.
"""

import numpy as np

from rsrc_jax import rules
from rsrc_jax.data.grids import (
  PuzzleData,
  Puzzles,
  take,
  turned,
  without_identity,
)

# 0 is for cells outside a grid.
WALL, FLOOR, START, GOAL, PATH = 1, 2, 3, 4, 5
# Share of the remaining walls that are opened, so that there are loops and more
# than one way to walk.
OPENINGS = 0.02
# The criterion is too hard if so many mazes in a row don't meet it.
PATIENCE = 300


def _carved(side: int, rng: np.random.Generator) -> list[bool]:
  """Which cells are floor, in reading order. [side * side]

  Rooms are at even rows and columns. A walk that turns back where it is stuck
  opens the walls between them, so that all rooms are connected.
  """
  floor = [False] * (side * side)
  floor[0], path = True, [(0, 0)]
  while path:
    row, column = path[-1]
    ways = [
      (row + 2 * down, column + 2 * right)
      for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0))
      if 0 <= row + 2 * down < side
      and 0 <= column + 2 * right < side
      and not floor[(row + 2 * down) * side + column + 2 * right]
    ]
    if not ways:
      path.pop()
      continue
    to = ways[int(rng.random() * len(ways))]
    floor[to[0] * side + to[1]] = True
    floor[(row + to[0]) // 2 * side + (column + to[1]) // 2] = True
    path.append(to)
  opened = rng.random(side * side) < OPENINGS
  return [a or bool(b) for a, b in zip(floor, opened, strict=True)]


def _steps(cell: int, side: int) -> list[int]:
  """The neighbours of a cell, in reading order."""
  beside = [cell - side] if cell >= side else []
  beside += [cell - 1] if cell % side else []
  beside += [cell + 1] if (cell + 1) % side else []
  return beside + ([cell + side] if cell < side * (side - 1) else [])


def distances(
  floor: list[bool], side: int, start: int
) -> tuple[dict[int, int], dict[int, int]]:
  """Searches breadth first.

  Returns:
    cell -> steps from the start, of all cells that can be reached, nearest
    first; and cell -> how many shortest paths lead there.
  """
  far, ways, queue = {start: 0}, {start: 1}, [start]
  for cell in queue:
    for to in _steps(cell, side):
      if not floor[to]:
        continue
      if to not in far:
        far[to], ways[to] = far[cell] + 1, 0
        queue.append(to)
      if far[to] == far[cell] + 1:
        ways[to] += ways[cell]
  return far, ways


def _drawn(
  side: int, at_least: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
  """Question, answer and order of a maze; None where no goal is far enough."""
  floor = _carved(side, rng)
  start = int(rng.choice(np.flatnonzero(floor)))
  far, ways = distances(floor, side, start)
  goals = [x for x in far if far[x] > max(at_least, 0) and ways[x] == 1]
  if not goals:
    return None
  cell = goal = goals[int(rng.random() * len(goals))]
  question = np.where(floor, FLOOR, WALL).astype(np.int32)
  question[start], question[goal] = START, GOAL
  answer, order = question.copy(), np.zeros_like(question)
  while far[cell] > 1:
    cell = next(x for x in _steps(cell, side) if far.get(x) == far[cell] - 1)
    answer[cell], order[cell] = PATH, far[cell]
  return question, answer, order


def _path(settings, run):
  """The rule of how long a path can be."""
  del run
  cells = settings["side"] ** 2
  if settings.get("at_least", 0) >= cells:
    return "at_least", (
      f"less than {cells}, the cells of {rules.HERE}.side={settings['side']}"
    )
  return None


RULES = {
  "side": rules.whole(2, 1_024),
  **dict.fromkeys(("train", "heldout"), rules.whole(1)),
  "at_least": rules.whole(),
  rules.BLOCK: (_path,),
}


def puzzles(
  *, seed: int, side: int, train: int, heldout: int, at_least: int = 0
) -> PuzzleData:
  """Different mazes in three splits.

  Args:
    seed: of the mazes.
    side: rows and columns.
    train: mazes to learn from, beside their symmetries.
    heldout: mazes of the validation split, and of the test split.
    at_least: every shortest path has more steps than this.

  Raises:
    ValueError: a split would be empty, or see `generate`.
  """
  rules.check_some(RULES, locals(), "config.data")
  found = generate(train + 2 * heldout, side, seed, at_least=at_least)
  a, b = train, train + heldout
  parts = (take(found, slice(*ends)) for ends in ((0, a), (a, b), (b, None)))
  return without_identity(
    f"maze-{side}x{side}", side, int(found.answer.max()) + 1, *parts,
    lambda puzzles, rng: turned(puzzles, side, rng),
  )  # fmt: skip


def generate(count: int, side: int, seed: int, *, at_least: int) -> Puzzles:
  """`count` different mazes whose shortest path has more than `at_least` steps.

  The start is drawn at random, and the goal from the cells to which only one
  shortest path leads, so that there is one right answer.

  Args:
    count: how many.
    side: rows and columns; 30 as published. With an even side the last row and
      column are walls, except for openings.
    seed: which mazes.
    at_least: steps; 110 for side 30 as published.

  Returns:
    question [count, side * side] int32 of WALL, FLOOR, START and GOAL; answer
    the same with the cells between start and goal PATH; order their distance
    from the start, 0 elsewhere.

  Raises:
    ValueError: PATIENCE mazes in a row have no such path or were drawn before,
      or count or side is too small.
  """
  if count < 1 or side < 2:
    raise ValueError(f"count={count}, side={side}: at least 1 and at least 2.")
  rng = np.random.default_rng(seed)
  rows, known, idle = [], set(), 0
  while len(rows) < count:
    drawn = _drawn(side, at_least, rng)
    idle += 1
    if drawn is not None and drawn[0].tobytes() not in known:
      known.add(drawn[0].tobytes())
      rows.append(drawn)
      idle = 0
    if idle >= PATIENCE:
      raise ValueError(
        f"at_least={at_least}: {len(rows)} mazes of side {side} found, then "
        f"none in {idle}: ask for shorter paths, fewer mazes or a larger side."
      )
  return Puzzles(*map(np.stack, zip(*rows, strict=True)))


def show(grid: np.ndarray, side: int) -> str:
  """[cells] as text: # a wall, S and G start and goal, o the path."""
  marks = np.array([*" #.SGo"])
  return "\n".join("".join(x) for x in marks[np.reshape(grid, (side, side))])
