"""Sudoku with 4, 6 or 9 digits: puzzles, their symmetries, splits by them.

A symmetry of the rules relabels the digits and permutes bands, the rows of a
band, stacks and the columns of a stack. Where boxes are square it may also
transpose. Puzzles that a symmetry turns into each other are one class: training
under random symmetries makes no difference between them.
"""

import gzip
import importlib.util
import itertools
import pathlib
import re

import numpy as np

from rsrc_jax.data import sudoku_search
from rsrc_jax.data.grids import (
  PuzzleData,
  Puzzles,
  check_sizes,
  join,
  take,
  without_identity,
)
from rsrc_jax.data.sudoku_classes import symmetry_class

# Puzzles that are made at once.
CHUNK = 1024
# The search ends after so many candidates in a row without a new class.
PATIENCE = 4096


def solve(question: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """A solution of each [n, cells] question, and how many it has.

  Returns:
    [n, cells] int32, all 0 where there is none, and [n] counts: 0, 1, or 2 for
    more than one.

  Raises:
    ValueError: cells are not 16, 36 or 81.
  """
  return sudoku_search.search(sudoku_search.masks(question), limit=2)


def singles_order(question: np.ndarray, answer: np.ndarray) -> np.ndarray:
  """The round in which a solver by singles fills each cell, [n, cells] int32.

  It is 0 for clues. Round r has every cell that is a naked single (one digit
  left) or a hidden one (the only place for a digit in a row, column or box),
  given the clues and all rounds before r. Cells that singles never reach are in
  one more round, the last. A stable sort puts them in reading order.
  """
  side = sudoku_search.side_of(question)
  order = np.where(question > 0, 0, -1)
  for step in itertools.count(1):
    known = sudoku_search.masks(np.where(order >= 0, answer, 0))
    full = (order < 0).T
    given = np.where(full, np.uint16(0), known)
    taken = np.bitwise_or.reduce(
      given[sudoku_search.units(side)[0]], axis=1
    )  # [3 side, n]
    left = np.where(
      full, known & ~sudoku_search.at_cells(taken, side), np.uint16(0)
    )
    hidden, _ = sudoku_search.once(left, side)
    hidden = left & sudoku_search.at_cells(hidden, side)
    single = ((np.bitwise_count(left) == 1) | (hidden > 0)).T
    if not single.any():
      # The rounds of each row are its own.
      last = order.max(1, keepdims=True) + 1
      return np.where(order < 0, last, order).astype(np.int32)
    order[single] = step


def _reduced(
  answer: np.ndarray, clues: int, rng: np.random.Generator
) -> np.ndarray:
  """Removes clues in random order, as long as there is only one solution.

  Another solution would have another digit in the removed cell. So the search
  is for a solution without that digit. A clue that can't be removed now can't
  be removed later either, so that one pass makes a puzzle minimal.
  """
  question, rows = answer.copy(), np.arange(len(answer))
  for place in rng.random(answer.shape).argsort(1).T:
    masks = sudoku_search.masks(question)
    masks[place, rows] ^= (1 << sudoku_search.side_of(answer)) - 1
    todo = np.flatnonzero((question > 0).sum(1) > clues)
    _, others = sudoku_search.search(masks[:, todo], limit=1)
    gone = todo[others == 0]
    question[gone, place[gone]] = 0
  return question


def puzzles(
  *,
  seed: int,
  side: int,
  train: int,
  heldout: int,
  clues: int = 0,
  hard: bool = False,
) -> PuzzleData:
  """Sudokus of which no two are one class, split by class and by solution.

  Args:
    seed: of the puzzles and of the split.
    side: 4, 6 or 9.
    train: puzzles to learn from, beside their symmetries.
    heldout: puzzles of the validation split, and of the test split.
    clues: where to stop removing clues; 0: no clue is left that can go.
    hard: puzzles of side 9 from the package larsdoku ("Sudoku-Hard").

  Raises:
    ValueError: a split would be empty, or see `generate` and `from_larsdoku`.
  """
  check_sizes(train, heldout)
  if hard and side != 9:
    raise ValueError(f"config.data.hard asks for side 9, not side={side}.")
  # Training puzzles that share a grid with a held-out one are dropped: make
  # more than are asked for.
  room = train + 2 * heldout if side == 4 else int(1.3 * train) + 2 * heldout
  found = (
    from_larsdoku(room, seed)
    if hard
    else generate(room, side, seed, clues=clues)
  )
  rest, test = split(found, heldout, seed)
  rest, valid = split(rest, heldout, seed + 1)
  if len(rest.question) < min(train, 1):
    raise ValueError(
      f"config.data: of side={side} no puzzle is left to train on beside "
      f"heldout={heldout}: make heldout smaller."
    )
  kind = "sudoku-hard" if hard else "sudoku"
  return without_identity(
    f"{kind}-{side}x{side}", side, side + 1, take(rest, slice(train)), valid,
    test, permuted,
  )  # fmt: skip


def generate(count: int, side: int, seed: int, *, clues: int = 0) -> Puzzles:
  """`count` puzzles with one solution, no two of one class.

  Grids are filled at random by the search, which is not quite uniform.

  Args:
    count: how many.
    side: 4, 6 (boxes of 2 rows and 3 columns) or 9.
    seed: which puzzles.
    clues: where to stop removing. Puzzles that are minimal before have more. 0:
      all puzzles are minimal, so that every clue is needed.

  Raises:
    ValueError: another side, count < 1, or no new class is found any more:
      there are 36 minimal puzzles with side 4.
  """
  sudoku_search.boxes(side)
  if count < 1:
    raise ValueError(f"count={count}: at least 1.")
  full = (1 << side) - 1
  rng = np.random.default_rng(seed)
  parts, classes, made, idle = [], set(), 0, 0
  while made < count:
    size = min(CHUNK, max(2 * (count - made), 64) if idle else count - made)
    masks = np.full((side * side, size), full, np.uint16)
    answer, _ = sudoku_search.search(masks, 1, rng)
    question = _reduced(answer, clues, rng)
    new = []
    for row, name in enumerate(symmetry_class(question)):
      if name not in classes and made + len(new) < count:
        classes.add(name)
        new.append(row)
    made, idle = made + len(new), 0 if new else idle + size
    if idle > PATIENCE:
      raise ValueError(
        f"count={count}: of side {side} with clues={clues} only {made} puzzles "
        "that differ by more than a symmetry were found: ask for fewer."
      )
    question, answer = question[new], answer[new]
    parts.append(Puzzles(question, answer, singles_order(question, answer)))
  return join(parts)


def from_larsdoku(count: int, seed: int) -> Puzzles:
  """`count` hard puzzles of side 9 from the collection of package larsdoku.

  They are drawn at random. Of each `symmetry_class` the first is kept, and each
  is checked to have one solution. The package is AGPL: its file is read where
  it is installed, and nothing of it is imported or stored.

  Raises:
    ValueError: it is not installed, or holds too few.
  """
  spec = importlib.util.find_spec("larsdoku")
  if spec is None or spec.origin is None:
    raise ValueError("larsdoku is not installed: pip install larsdoku")
  path = pathlib.Path(spec.origin).with_name("puzzle_collection.json.gz")
  text = gzip.decompress(path.read_bytes())
  # 250 MB of JSON: parsed as such it would take ten times the memory.
  entry = re.compile(rb'"mask": "([01]{81})", "solution": "([1-9]{81})"')
  starts = np.array([found.start() for found in entry.finditer(text)], int)
  np.random.default_rng(seed).shuffle(starts)
  parts, classes = [], set()
  for first in range(0, len(starts), CHUNK):
    pairs = [entry.match(text, x).groups() for x in starts[first:][:CHUNK]]
    mask, answer = (
      np.frombuffer(b"".join(column), np.uint8).reshape(-1, 81).astype(np.int32)
      - ord("0")
      for column in zip(*pairs, strict=True)
    )
    new = []
    for row, name in enumerate(symmetry_class(mask * answer)):
      if name not in classes and len(classes) < count:
        classes.add(name)
        new.append(row)
    question, answer = (mask * answer)[new], answer[new]
    solved, ways = solve(question)
    if (ways != 1).any() or (solved != answer).any():
      raise ValueError(f"{path}: holds a puzzle without one solution.")
    parts.append(Puzzles(question, answer, singles_order(question, answer)))
    if len(classes) == count:
      return join(parts)
  raise ValueError(f"count={count}: {path} holds {len(classes)} classes.")


def _shuffle(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
  """Independent permutations of 0 ... shape[-1] - 1 along the last axis."""
  return rng.random(shape).argsort(-1)


def _lines(
  count: int, bands: int, tall: int, rng: np.random.Generator
) -> np.ndarray:
  """[count, bands * tall]: bands are permuted, and the lines in each."""
  band = _shuffle((count, bands), rng)[..., None] * tall
  return (band + _shuffle((count, bands, tall), rng)).reshape(count, -1)


def permuted(puzzles: Puzzles, rng: np.random.Generator) -> Puzzles:
  """Every row, its order too, under a uniformly random symmetry of its own."""
  count, side = len(puzzles.question), sudoku_search.side_of(puzzles.question)
  tall, wide = sudoku_search.boxes(side)
  row = _lines(count, side // tall, tall, rng)
  column = _lines(count, side // wide, wide, rng)
  cell = row[:, :, None] * side + column[:, None, :]
  if tall == wide:
    turn = rng.random(count) < 0.5
    cell[turn] = cell[turn].swapaxes(1, 2)
  cell = cell.reshape(count, -1)
  label = np.zeros((count, side + 1), np.int32)  # a blank stays blank
  label[:, 1:] = _shuffle((count, side), rng) + 1
  moved = Puzzles(*(np.take_along_axis(x, cell, 1) for x in puzzles))
  return moved._replace(
    question=np.take_along_axis(label, moved.question, 1),
    answer=np.take_along_axis(label, moved.answer, 1),
  )


def split(puzzles: Puzzles, heldout: int, seed: int) -> tuple[Puzzles, Puzzles]:
  """Training puzzles and `heldout` others, drawn at random.

  Rows that share a class or a solution grid with a held-out one are dropped
  from training. No symmetry then turns a training question into a held-out one.
  The solutions only differ as they are: a symmetry may turn one into another,
  since complete grids are of 2 classes for side 4 and of 49 for side 6.

  Raises:
    ValueError: nothing is left to train on, or to hold out.
  """
  names = np.array([x.hex() for x in symmetry_class(puzzles.question)])
  grids = np.array([x.tobytes().hex() for x in puzzles.answer.astype(np.int8)])
  order = np.random.default_rng(seed).permutation(len(names))
  held, rest = order[: max(heldout, 0)], order[max(heldout, 0) :]
  apart = ~np.isin(names[rest], names[held]) & ~np.isin(
    grids[rest], grids[held]
  )
  if not len(held) or not apart.any():
    raise ValueError(
      f"heldout={heldout}: of {len(names)} puzzles some must be held out and "
      "some share nothing with those: hold out fewer, or make more."
    )
  return take(puzzles, rest[apart]), take(puzzles, held)


def show(grid: np.ndarray, side: int) -> str:
  """[cells] as text, blanks as dots, with lines between the boxes."""
  tall, wide = sudoku_search.boxes(side)
  marks = np.array([*".123456789"])[np.reshape(grid, (side, side))]
  lines = []
  for row, line in enumerate(marks):
    if row and not row % tall:
      lines.append("-+-".join(["-" * (2 * wide - 1)] * (side // wide)))
    parts = np.split(line, side // wide)
    lines.append(" | ".join(" ".join(part) for part in parts))
  return "\n".join(lines)
