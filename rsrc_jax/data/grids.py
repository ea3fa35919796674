"""Grids to be completed: what every kind of puzzle returns.

A kind is a file with puzzles(*, seed, **settings) -> PuzzleData, which takes
what it needs of config.data. See sudoku, maze and arc.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Puzzles(NamedTuple):
  """Questions and answers, cell by cell in reading order.

  question, answer: [N, cells] int32; 0 is a blank, or outside the grid.
  order: [N, cells] int32. 0 for cells that question and answer share, else
    when a solver that goes step by step fills the cell: 1, 2, ... A stable sort
    of it is a path from question to answer.
  """

  question: np.ndarray
  answer: np.ndarray
  order: np.ndarray


class PuzzleData(NamedTuple):
  """Puzzles of one kind, split so that no symmetry of one is in another."""

  name: str  # never that of a published set, unless it is that set
  side: int
  cells: int
  vocab_size: int
  identities: int  # tasks that have an embedding; 0: none
  train: Puzzles
  valid: Puzzles
  test: Puzzles
  train_identity: np.ndarray  # [N] int32: the task of each puzzle
  valid_identity: np.ndarray
  test_identity: np.ndarray
  # (Puzzles, rng) -> Puzzles: each row under a random symmetry of its own.
  permuted: Callable[[Puzzles, np.random.Generator], Puzzles]


def take(puzzles: Puzzles, rows: np.ndarray | slice) -> Puzzles:
  """Those rows, by numbers, by a mask or by a slice."""
  return Puzzles(*(field[rows] for field in puzzles))


def join(parts: list[Puzzles]) -> Puzzles:
  """The rows of all parts, in their order."""
  return Puzzles(*map(np.concatenate, zip(*parts, strict=True)))


def without_identity(
  name: str,
  side: int,
  vocab_size: int,
  train: Puzzles,
  valid: Puzzles,
  test: Puzzles,
  permuted: Callable[[Puzzles, np.random.Generator], Puzzles],
) -> PuzzleData:
  """PuzzleData of one task: no puzzle has an embedding."""
  nobody = lambda puzzles: np.zeros(len(puzzles.question), np.int32)
  return PuzzleData(
    name=name,
    side=side,
    cells=side * side,
    vocab_size=vocab_size,
    identities=0,
    train=train,
    valid=valid,
    test=test,
    train_identity=nobody(train),
    valid_identity=nobody(valid),
    test_identity=nobody(test),
    permuted=permuted,
  )


def turned(puzzles: Puzzles, side: int, rng: np.random.Generator) -> Puzzles:
  """Every row under one of the 8 symmetries of the square, at random."""
  turn = rng.integers(8, size=len(puzzles.question))

  def one(field):
    grids = field.reshape(-1, side, side).copy()
    for quarter in range(4):
      for flip in (0, 1):
        rows = turn == quarter + 4 * flip
        new = np.rot90(grids[rows], quarter, axes=(1, 2))
        grids[rows] = new.swapaxes(1, 2) if flip else new
    return grids.reshape(field.shape)

  return Puzzles(*map(one, puzzles))
