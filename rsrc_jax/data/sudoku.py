"""Sudoku with 4, 6 or 9 digits: puzzles, their symmetries, splits by them.

A symmetry of the rules relabels the digits and permutes bands, the rows of a
band, stacks and the columns of a stack; where boxes are square it may also
transpose. Puzzles that a symmetry turns into each other are one class: to a
learner that trains under random symmetries they are the same puzzle.
"""

import functools
import gzip
import importlib.util
import itertools
import pathlib
import re

import numpy as np

from rsrc_jax.data import sudoku_search
from rsrc_jax.data.puzzles import Puzzles, join, take

# Puzzles that are made, or brought into canonical form, at a time.
CHUNK, CANONICAL_CHUNK = 1024, 64
# Candidates drawn in a row without one new class: then no more are looked for.
PATIENCE = 4096


def solve(question: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """A solution of each [n, cells] question and how many it has.

  Returns [n, cells] int32, all 0 where none, and [n] counts of 0, 1 or 2,
  which stands for more than one. ValueError where cells are not 16, 36 or 81.
  """
  return sudoku_search.search(sudoku_search.masks(question), limit=2)


def singles_order(question: np.ndarray, answer: np.ndarray) -> np.ndarray:
  """When a solver by singles fills each cell, [n, cells] int32.

  0 for clues. Round r holds every cell that is a naked single (one digit left)
  or a hidden one (the only place for a digit in a row, column or box) by the
  rules alone, given the clues and all rounds before r. What singles never
  reach shares one round more, the last; a stable sort has it in reading order.
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
  """Removes clues in random order, each if the solution stays the only one.

  Without it another solution must have another digit there: no search finds
  one in the grids with that digit struck out. A clue that had to stay once has
  to stay for good, so that one turn makes a puzzle minimal.
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


def make(count: int, side: int, seed: int, *, clues: int = 0) -> Puzzles:
  """`count` puzzles with one solution, no two of one class.

  Grids are filled at random by the search, which is not quite uniform.

  Args:
    side: 4, 6 (boxes of 2 rows and 3 columns) or 9.
    clues: no clue is removed where so many are left. Puzzles that are minimal
      before have more. 0: all are minimal, every clue is needed.

  Raises:
    ValueError: for another side, or where no new class turns up any more: of
      minimal puzzles with side 4 there are 36.
  """
  full = (1 << side) - 1
  sudoku_search.boxes(side)
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


def _shuffle(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
  """Independent permutations of 0 ... shape[-1] - 1 in the last axis."""
  return rng.random(shape).argsort(-1)


def _lines(
  count: int, bands: int, tall: int, rng: np.random.Generator
) -> np.ndarray:
  """[count, bands * tall]: bands permuted, and the lines in each."""
  band = _shuffle((count, bands), rng)[..., None] * tall
  return (band + _shuffle((count, bands, tall), rng)).reshape(count, -1)


def permuted(puzzles: Puzzles, rng: np.random.Generator) -> Puzzles:
  """Every row under a random symmetry of its own, uniform; order goes along."""
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


@functools.cache
def _symmetries(side: int) -> np.ndarray:
  """All symmetries but those of digits: [g, cells], where each cell is from."""

  def lines(bands: int, tall: int) -> np.ndarray:
    inner = list(itertools.permutations(range(tall)))
    return np.array(
      [
        [b * tall + i for b, order in zip(band, orders, strict=True)
         for i in order]
        for band in itertools.permutations(range(bands))
        for orders in itertools.product(inner, repeat=bands)
      ]
    )  # fmt: skip

  tall, wide = sudoku_search.boxes(side)
  row, column = lines(side // tall, tall), lines(side // wide, wide)
  cell = row[:, None, :, None] * side + column[None, :, None, :]
  cell = cell.reshape(-1, side, side)
  if tall == wide:
    cell = np.concatenate([cell, cell.swapaxes(1, 2)])
  return cell.reshape(-1, side * side)


def _relabelled(grids: np.ndarray, side: int) -> np.ndarray:
  """Digits of [n, cells] in the order in which they turn up: 1, 2, ..."""
  rows, result = np.arange(len(grids)), np.zeros_like(grids)
  label = np.zeros((len(grids), side + 1), grids.dtype)
  for cell, digit in enumerate(grids.T):
    new = (digit > 0) & (label[rows, digit] == 0)
    label[rows[new], digit[new]] = label[new].max(1) + 1
    result[:, cell] = label[rows, digit]
  return result


def _canonical(question: np.ndarray, side: int) -> list[bytes]:
  """The least grid of each class: clues as early as can be, then digits.

  Where clues stand decides first and is cheap, as a product of matrices; most
  symmetries are out by then, and only the others are written out.
  """
  cell = _symmetries(side)
  power = 2.0 ** np.arange(side * side)[::-1]  # sums are exact below 2**53
  early = np.take(power, cell.argsort(1)).T  # [cells, g]
  best = (question > 0) @ early
  row, which = np.nonzero(best == best.max(1, keepdims=True))
  grids = question.astype(np.int8)[row[:, None], cell[which]]
  grids = _relabelled(grids, side)
  grids = grids[np.lexsort((*grids.T[::-1], row))]
  return [x.tobytes() for x in grids[np.searchsorted(row, range(len(best)))]]


def _mix(x: np.ndarray) -> np.ndarray:
  """Scrambles uint64, so that sums of it stand for multisets."""
  x = (x ^ (x >> np.uint64(31))) * np.uint64(0x7FB5D329728EA185)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x81DADEF4BC2DD44D)
  return x ^ (x >> np.uint64(33))


def _invariant(question: np.ndarray) -> np.ndarray:
  """[n] uint64 for side 9, the same for all puzzles of a class.

  Colours are refined: a clue is told by the multisets of clues in its lines,
  their bands, its box and of its digit, again and again. Lines of both kinds
  are treated alike, as transposition asks.
  """
  clue = (question > 0).astype(np.uint64)
  same = question[:, None, :] == np.arange(10)[None, :, None]  # [n, 10, 81]
  colour, salt = clue, np.arange(1, 7, dtype=np.uint64) << np.uint64(40)
  for _ in range(5):
    grid = (_mix(colour + salt[0]) * clue).reshape(-1, 3, 3, 3, 3)

    def line(sums: np.ndarray) -> np.ndarray:  # [n, bands, lines of a band]
      band = _mix(_mix(sums + salt[1]).sum(2, keepdims=True))
      return _mix(_mix(sums + salt[2]) + band)

    row, column = line(grid.sum((3, 4))), line(grid.sum((1, 2)))
    lines = row[:, :, :, None, None] + column[:, None, None]
    box = _mix(grid.sum((2, 4), keepdims=True) + salt[3])
    digit = (same * grid.reshape(-1, 1, 81)).sum(2)
    digit = _mix(np.take_along_axis(digit, question, 1) + salt[4])
    near = (_mix(lines + salt[5]) + box).reshape(-1, 81)
    colour = _mix(near + digit + _mix(colour))
  return (_mix(colour) * clue).sum(1)


def symmetry_class(question: np.ndarray) -> list[bytes]:
  """A name of each question's class, [n, cells] -> n.

  Sides 4 and 6: the canonical form, equal exactly where a symmetry leads from
  one puzzle to the other. Side 9: an invariant. One class has one name, but
  two classes may share it: a split by it keeps too much apart, never too
  little.
  """
  side = sudoku_search.side_of(question)
  names = []
  for first in range(0, len(question), CANONICAL_CHUNK):
    part = question[first : first + CANONICAL_CHUNK]
    if side == 9:
      names += [x.tobytes() for x in _invariant(part)]
    else:
      names += _canonical(part, side)
  return names


def split(
  puzzles: Puzzles, heldout: int, seed: int
) -> tuple[Puzzles, Puzzles]:
  """Training puzzles and `heldout` others, drawn at random.

  Rows that share a class or a solution grid with a held-out one are dropped
  from training. So no symmetry makes a held-out question of a training one.
  Of solutions less is sure: they differ as they stand, but a symmetry may
  lead from one to another, as complete grids are of 2 classes for side 4, of
  few hundred at most for side 6.

  Raises:
    ValueError: where nothing is left to train on, or to hold out.
  """
  names = np.array([x.hex() for x in symmetry_class(puzzles.question)])
  grids = np.array([x.tobytes().hex() for x in puzzles.answer.astype(np.int8)])
  order = np.random.default_rng(seed).permutation(len(names))
  held, rest = order[: max(heldout, 0)], order[max(heldout, 0) :]
  apart = ~np.isin(names[rest], names[held]) & ~np.isin(grids[rest], grids[held])
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
