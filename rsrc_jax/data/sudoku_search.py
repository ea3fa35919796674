"""Exact search for the solutions of many Sudokus at once.

A grid is a mask of candidates for each cell, [cells, n] uint16 with bit d - 1
for digit d. Puzzles are along the last axis, so every step is a few operations
on whole arrays, and plain NumPy is fast enough.
"""

import functools
import math

import numpy as np

# Rows and columns of a box.
BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
# Nodes opened at a time, even if fewer puzzles are left, so that the search of
# the last puzzles does not proceed node by node.
WIDTH = 128


def boxes(side: int) -> tuple[int, int]:
  """Rows and columns of a box; ValueError for a side that is not in BOXES."""
  if side not in BOXES:
    raise ValueError(f"side={side}: one of {', '.join(map(str, BOXES))}.")
  return BOXES[side]


def side_of(grids: np.ndarray) -> int:
  """The side of grids [..., cells]; ValueError if it is not in BOXES."""
  side = math.isqrt(grids.shape[-1])
  if side * side != grids.shape[-1]:
    raise ValueError(f"cells={grids.shape[-1]}: 16, 36 or 81.")
  boxes(side)
  return side


@functools.cache
def units(side: int) -> tuple[np.ndarray, np.ndarray]:
  """The cells of each row, column and box, and the units of each cell.

  Returns cells [3 side, side] and member [3, cells], which holds the row,
  the column and the box of each cell as indices into the former.
  """
  tall, wide = boxes(side)
  cell = np.arange(side * side).reshape(side, side)
  box = cell.reshape(side // tall, tall, side // wide, wide).swapaxes(1, 2)
  cells = np.concatenate([cell, cell.T, box.reshape(side, side)])
  member = np.empty((3, side * side), int)
  for kind, of in enumerate(cells.reshape(3, side, side)):
    member[kind, of] = kind * side + np.arange(side)[:, None]
  return cells, member


def at_cells(of_units: np.ndarray, side: int) -> np.ndarray:
  """[3 side, n] masks of the units -> [cells, n], joined over the three."""
  row, column, box = units(side)[1]
  return of_units[row] | of_units[column] | of_units[box]


def masks(grids: np.ndarray) -> np.ndarray:
  """[n, cells] digits -> [cells, n] uint16 masks; blanks may be anything."""
  side = side_of(grids)
  bits = 1 << np.arange(-1, side).clip(0)
  bits[0] = (1 << side) - 1
  return bits.astype(np.uint16)[grids.T]


def digits(masks: np.ndarray) -> np.ndarray:
  """[cells, n] masks of at most one bit -> [n, cells] int32; 0 where none."""
  return np.bitwise_count((masks << 1) - (masks > 0)).T.astype(np.int32)


def once(masks: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
  """Digits with one place left in a unit, and those with any: [3 side, n]."""
  one = np.zeros((3 * side, masks.shape[1]), np.uint16)
  two = one.copy()
  for cells in units(side)[0].T:
    x = masks[cells]
    two |= one & x
    one |= x
  return one & ~two, one


def _narrow(masks: np.ndarray, side: int) -> np.ndarray:
  """One pass of naked and hidden singles; all 0 where they contradict."""
  single = np.where(np.bitwise_count(masks) == 1, masks, np.uint16(0))
  alone = single[units(side)[0]]
  taken = np.bitwise_or.reduce(alone, axis=1)
  # A sum of bits is their union unless one of them is there twice.
  bad = (alone.sum(1, dtype=np.uint16) != taken).any(0)
  masks = np.where(single > 0, masks, masks & ~at_cells(taken, side))
  hidden, there = once(masks, side)
  bad |= (there != (1 << side) - 1).any(0) | (masks == 0).any(0)
  hidden = masks & at_cells(hidden, side)
  masks = np.where(hidden > 0, hidden, masks)
  masks[:, bad] = 0
  return masks


def narrow(masks: np.ndarray, side: int) -> np.ndarray:
  """Naked and hidden singles until nothing changes; 0 where impossible."""
  result, active = masks.copy(), np.arange(masks.shape[1])
  while active.size:
    before = result[:, active]
    after = _narrow(before, side)
    result[:, active] = after
    active = active[(before != after).any(0) & after[0].astype(bool)]
  return result


def _pick(values: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
  """One bit of each mask [n]: the lowest, or a random one."""
  if rng is None:
    return values & (~values + np.uint16(1))
  bits = np.uint16(1) << np.arange(16, dtype=np.uint16)
  keys = rng.random((len(values), 16)) * ((values[:, None] & bits) > 0)
  return bits[keys.argmax(1)]


def search(
  masks: np.ndarray,
  limit: int,
  rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Depth-first search in all grids at once.

  Open nodes of all puzzles are on one stack, whose top is expanded in batches.
  A node is split in two at the cell with the fewest candidates: one digit, or
  the others. So no solution is found twice.

  Args:
    masks: [cells, n] uint16.
    limit: the search of a puzzle ends at this number of solutions.
    rng: tries digits in random order; None: in ascending order.

  Returns:
    One solution of each, [n, cells] int32, all 0 where there is none, and the
    number found, [n] int, at most `limit`.
  """
  side = side_of(masks.T)
  first = np.zeros_like(masks)
  found = np.zeros(masks.shape[1], int)
  nodes, owner = masks, np.arange(masks.shape[1])
  while owner.size:
    cut = max(0, owner.size - max(WIDTH, np.unique(owner).size))
    top, who = narrow(nodes[:, cut:], side), owner[cut:]
    left = np.bitwise_count(top)
    done = (left == 1).all(0)
    first[:, who[done]] = top[:, done]
    np.add.at(found, who[done], 1)
    split = ~done & (left[0] > 0)
    top, who, left = top[:, split], who[split], left[:, split]
    place = np.where(left > 1, left, side + 1).argmin(0), np.arange(who.size)
    value, other = top[place], top.copy()
    top[place] = _pick(value, rng)
    other[place] = value ^ top[place]
    nodes = np.concatenate([nodes[:, :cut], other, top], axis=1)
    owner = np.concatenate([owner[:cut], who, who])
    keep = found[owner] < limit
    if not keep.all():
      nodes, owner = nodes[:, keep], owner[keep]
  return digits(first), np.minimum(found, limit)
