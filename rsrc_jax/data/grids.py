"""Grids to be completed: what Sudoku, mazes and ARC have in common."""

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


def take(puzzles: Puzzles, rows: np.ndarray) -> Puzzles:
  """Those rows, by numbers or by a mask."""
  return Puzzles(*(field[rows] for field in puzzles))


def join(parts: list[Puzzles]) -> Puzzles:
  """The rows of all parts, in their order."""
  return Puzzles(*map(np.concatenate, zip(*parts, strict=True)))
