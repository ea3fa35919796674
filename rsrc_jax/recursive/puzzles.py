"""Which puzzles a recursive model is trained and tested on, from a config."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rsrc_jax.data import arc, maze, sudoku
from rsrc_jax.data.grids import Puzzles, join, take
from rsrc_jax.recursive.train_step import Items

NAMES = ("sudoku", "maze", "arc")


class Data(NamedTuple):
  """Puzzles of one kind, split so that no symmetry of one is in another."""

  name: str  # ours: never that of a published set
  side: int
  cells: int
  vocab_size: int
  identities: int  # tasks that have an embedding; 0: none
  train: Puzzles
  valid: Puzzles
  test: Puzzles
  train_identity: np.ndarray  # [N] int32
  valid_identity: np.ndarray
  test_identity: np.ndarray
  permuted: Any  # (Puzzles, rng) -> Puzzles, another of the same class a row

  def batch(self, puzzles, identity, rows, rng) -> Items:
    """Those rows, each under a symmetry of its own."""
    return _items(self.permuted(take(puzzles, rows), rng), identity[rows])

  def items(self, puzzles, identity) -> Items:
    """All of them, as they are."""
    return _items(puzzles, identity)


def load(
  *,
  name: str,
  side: int,
  train: int,
  heldout: int,
  clues: int = 0,
  at_least: int = 0,
  copies: int = 8,
  version: str = "arcagi1",
  hard: bool = False,
  seed: int,
) -> Data:
  """Makes or reads them.

  Args:
    name: "sudoku", "maze" or "arc".
    side: 4, 6 or 9 of Sudokus; of a maze; the largest grid of ARC.
    train: puzzles to learn from, beside their symmetries. Of ARC: all there
      are.
    heldout: puzzles of the validation and of the test split, each.
    clues: of Sudokus, to stop removing at; 0: as few as can be.
    at_least: steps of a maze's path.
    copies: of ARC's tasks, each under a symmetry and an embedding of its own.
    version: of ARC: "arcagi1" or "arcagi2".
    hard: Sudokus of side 9 from the package larsdoku, ours being "Sudoku-Hard".
    seed: of the puzzles.

  Raises:
    ValueError: no such name, fewer than one puzzle a split, or what the
      generator refuses.
  """
  if name not in NAMES:
    raise ValueError(
      f"config.data.name={name!r} is none of {', '.join(NAMES)}."
    )
  if name != "arc" and (train < 1 or heldout < 1):
    raise ValueError(
      f"config.data: train={train} and heldout={heldout} must be at least 1."
    )
  if name == "sudoku":
    return _sudoku(side, train, heldout, clues, hard, seed)
  if name == "maze":
    return _maze(side, train, heldout, at_least, seed)
  return _arc(side, version, copies, seed)


def _sudoku(side, train, heldout, clues, hard, seed):
  if hard and side != 9:
    raise ValueError(f"config.data.hard asks for side 9, not side={side}.")
  # Some of the training puzzles share a grid with a held-out one, and go.
  room = train + 2 * heldout if side == 4 else int(1.3 * train) + 2 * heldout
  found = (
    sudoku.from_larsdoku(room, seed)
    if hard
    else sudoku.make(room, side, seed, clues=clues)
  )
  rest, test = sudoku.split(found, heldout, seed)
  rest, valid = sudoku.split(rest, heldout, seed + 1)
  if len(rest.question) < min(train, 1):
    raise ValueError(
      f"config.data: of side={side} no puzzle is left to train on beside "
      f"heldout={heldout}: make heldout smaller."
    )
  kind = "sudoku-hard" if hard else "sudoku"
  return _plain(
    f"{kind}-{side}x{side}", side, side + 1, take(rest, slice(train)), valid,
    test, sudoku.permuted,
  )  # fmt: skip


def _maze(side, train, heldout, at_least, seed):
  found = maze.make(train + 2 * heldout, side, seed, at_least=at_least)
  a, b = train, train + heldout
  parts = (take(found, slice(*ends)) for ends in ((0, a), (a, b), (b, None)))
  return _plain(
    f"maze-{side}x{side}", side, int(found.answer.max()) + 1, *parts,
    lambda puzzles, rng: turned(puzzles, side, rng),
  )  # fmt: skip


def _arc(side, version, copies, seed):
  found, rng = arc.load(version, "train", side), np.random.default_rng(seed)
  tasks = len(found.names)
  shown, asked = arc.split(found)
  more = [arc.split(arc.permuted(found, rng))[0] for _ in range(copies - 1)]
  parts = [shown, *more]
  identity = [part.task + tasks * n for n, part in enumerate(parts)]
  rows = np.random.default_rng((seed, 1)).permutation(len(asked.task))
  half = len(rows) // 2
  valid, test = rows[:half], rows[half:]
  return Data(
    f"{version}-{side}x{side}", side, side * side, arc.COLOURS + 1,
    tasks * copies, join([part.puzzles for part in parts]),
    take(asked.puzzles, valid), take(asked.puzzles, test),
    np.concatenate(identity), asked.task[valid], asked.task[test],
    lambda puzzles, rng: puzzles,  # each copy stays what it is
  )  # fmt: skip


def turned(puzzles: Puzzles, side: int, rng: np.random.Generator) -> Puzzles:
  """Every row under one of the 8 symmetries of the square."""
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


def _plain(name, side, vocab_size, train, valid, test, permuted):
  nobody = lambda puzzles: np.zeros(len(puzzles.question), np.int32)
  return Data(
    name, side, side * side, vocab_size, 0, train, valid, test,
    nobody(train), nobody(valid), nobody(test), permuted,
  )  # fmt: skip


def _items(puzzles: Puzzles, identity: np.ndarray) -> Items:
  return Items(*(jnp.asarray(x, jnp.int32) for x in (*puzzles, identity)))
