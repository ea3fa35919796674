"""Sudoku with 4, 6 or 9 digits: puzzles, symmetries, and splits by class.

A symmetry of the rules relabels the digits and permutes bands, the rows of a
band, stacks and the columns of a stack. If boxes are square it may also
transpose. Puzzles that a symmetry maps to each other are one class. Training
under random symmetries does not distinguish them.
"""

import gzip
import importlib.util
import itertools
import pathlib
import re

import numpy as np

from rsrc_jax import rules
from rsrc_jax.data import sudoku_search
from rsrc_jax.data.grids import (
  PuzzleData,
  Puzzles,
  join,
  take,
  without_identity,
)
from rsrc_jax.data.sudoku_classes import symmetry_class

# Puzzles made at a time.
CHUNK = 1024
# The search ends after this many candidates without a new class.
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

  It is 0 for clues. Round r has all cells that are a naked single (one digit
  left) or a hidden single (the only place for a digit in a row, column or box),
  given the clues and all earlier rounds. Cells that singles never reach are in
  one last round. A stable sort puts the cells of a round in reading order.
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
      # Each row has its own number of rounds.
      last = order.max(1, keepdims=True) + 1
      return np.where(order < 0, last, order).astype(np.int32)
    order[single] = step


def _reduced(
  answer: np.ndarray, clues: int, rng: np.random.Generator
) -> np.ndarray:
  """Removes clues in random order, as long as there is only one solution.

  Another solution would have another digit in the removed cell, so the search
  is for a solution without that digit. A clue that cannot be removed now cannot
  be removed later either, so one pass makes a puzzle minimal.
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


def _of_side(settings, run):
  """The rule of what depends on the side."""
  del run
  side = settings["side"]
  if settings.get("hard") and side != 9:
    return "hard", f"False: it asks for {rules.HERE}.side=9, not {side}"
  if settings.get("clues", 0) > side * side:
    return "clues", f"0 to {side * side}, the cells of {rules.HERE}.side={side}"
  return None


RULES = {
  "side": rules.one_of(4, 6, 9),
  **dict.fromkeys(("train", "heldout"), rules.whole(1)),
  "clues": rules.whole(),
  "hard": rules.flag,
  rules.BLOCK: (_of_side,),
}


def puzzles(
  *,
  seed: int,
  side: int,
  train: int,
  heldout: int,
  clues: int = 0,
  hard: bool = False,
) -> PuzzleData:
  """Sudokus of different classes, split by class and by solution.

  Args:
    seed: of the puzzles and of the split.
    side: 4, 6 or 9.
    train: number of training puzzles, before symmetries.
    heldout: number of puzzles of the validation split, and of the test split.
    clues: removal stops at this number; 0: all puzzles are minimal.
    hard: puzzles of side 9 from the package larsdoku ("Sudoku-Hard").

  Raises:
    ValueError: a split would be empty, or see `generate` and `from_larsdoku`.
  """
  rules.check_some(RULES, locals(), "config.data")
  # More than needed, since training puzzles that share a solution with a
  # held-out one are dropped.
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
      f"config.data: with side={side} and heldout={heldout} no puzzle is left "
      "to train on: make heldout smaller."
    )
  kind = "sudoku-hard" if hard else "sudoku"
  return without_identity(
    f"{kind}-{side}x{side}", side, side + 1, take(rest, slice(train)), valid,
    test, permuted,
  )  # fmt: skip


def generate(count: int, side: int, seed: int, *, clues: int = 0) -> Puzzles:
  """`count` puzzles with one solution each, of different classes.

  The search fills grids at random, not quite uniformly.

  Args:
    count: how many.
    side: 4, 6 (boxes of 2 rows and 3 columns) or 9.
    seed: which puzzles.
    clues: removal stops at this number; puzzles that are minimal earlier have
      more clues. 0: all puzzles are minimal, so every clue is needed.

  Raises:
    ValueError: another side, count < 1, or no further class is found: there are
      36 minimal puzzles with side 4.
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

  They are drawn at random. The first of each `symmetry_class` is kept, and is
  checked to have one solution. The package is AGPL: only its data file is read
  from the installation; nothing of it is imported or stored.

  Raises:
    ValueError: it is not installed, or holds too few.
  """
  spec = importlib.util.find_spec("larsdoku")
  if spec is None or spec.origin is None:
    raise ValueError("larsdoku is not installed: pip install larsdoku")
  path = pathlib.Path(spec.origin).with_name("puzzle_collection.json.gz")
  text = gzip.decompress(path.read_bytes())
  # 250 MB of JSON, which a JSON parser would expand tenfold in memory.
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
  """Permutes bands, and the lines of each: [count, bands * tall] int."""
  band = _shuffle((count, bands), rng)[..., None] * tall
  return (band + _shuffle((count, bands, tall), rng)).reshape(count, -1)


def permuted(puzzles: Puzzles, rng: np.random.Generator) -> Puzzles:
  """Applies to every row a uniformly random symmetry of its own."""
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
  from training. So no symmetry maps a training question to a held-out one. A
  symmetry may still map a training solution to a held-out one, since complete
  grids have only 2 classes for side 4 and 49 for side 6.

  Raises:
    ValueError: the training or the held-out part is empty.
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
