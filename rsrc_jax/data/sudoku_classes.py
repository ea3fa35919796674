"""The classes of Sudokus under symmetries."""

import functools
import itertools

import numpy as np

from rsrc_jax.data import sudoku_search

# Questions at a time: a full grid of side 6 has 3,456 forms to compare.
CHUNK = 64


@functools.cache
def _symmetries(side: int) -> np.ndarray:
  """All symmetries of cells: [g, cells], the origin of each cell."""

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
  """Relabels digits of [n, cells] in order of appearance: 1, 2, ..."""
  rows, result = np.arange(len(grids)), np.zeros_like(grids)
  label = np.zeros((len(grids), side + 1), grids.dtype)
  for cell, digit in enumerate(grids.T):
    new = (digit > 0) & (label[rows, digit] == 0)
    label[rows[new], digit[new]] = label[new].max(1) + 1
    result[:, cell] = label[rows, digit]
  return result


def _canonical(question: np.ndarray, side: int) -> list[bytes]:
  """The least grid of each class, by the places of clues, then by digits.

  The places of clues are compared first, cheaply, by a matrix product. Only the
  few symmetries that remain are written out.
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
  """Hashes uint64, so that sums of hashes represent multisets."""
  x = (x ^ (x >> np.uint64(31))) * np.uint64(0x7FB5D329728EA185)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x81DADEF4BC2DD44D)
  return x ^ (x >> np.uint64(33))


def _invariant(question: np.ndarray) -> np.ndarray:
  """[n] uint64 for side 9, the same for all puzzles of a class.

  It is a colour refinement: in each round the colour of a clue depends on the
  multisets of colours in its lines, their bands, its box and of its digit. Rows
  and columns are treated alike, because of transposition.
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

  Sides 4 and 6: the canonical form, equal exactly if a symmetry maps one puzzle
  to the other. Side 9: an invariant. A class has one name, but two classes may
  share it, so a split by name may separate too much, never too little.
  """
  side = sudoku_search.side_of(question)
  names = []
  for first in range(0, len(question), CHUNK):
    part = question[first : first + CHUNK]
    if side == 9:
      names += [x.tobytes() for x in _invariant(part)]
    else:
      names += _canonical(part, side)
  return names
