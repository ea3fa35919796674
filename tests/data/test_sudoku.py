"""Sudokus are what they are said to be, by a solver of a few lines."""

import gzip
import importlib.util
import json

import numpy as np
import pytest

from rsrc_jax.data import sudoku, sudoku_search
from rsrc_jax.data.grids import Puzzles, join, take

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
SIDES = sorted(BOXES)


def near(side, cell):
  """The other cells of its row, column and box, straight from the rules."""
  tall, wide = BOXES[side]
  place = lambda x: (x // side, x % side)
  box = lambda x: (x // side // tall, x % side // wide)
  return [
    x
    for x in range(side * side)
    if x != cell
    and (
      place(x)[0] == place(cell)[0]
      or place(x)[1] == place(cell)[1]
      or box(x) == box(cell)
    )
  ]


NEAR = {side: [near(side, x) for x in range(side * side)] for side in SIDES}


def open_digits(grid, side, cell):
  taken = {grid[x] for x in NEAR[side][cell]}
  return [d for d in range(1, side + 1) if d not in taken]


def solutions(grid, side, limit=2):
  """All solutions of a list of digits, by trying them out."""
  grid, blanks = list(grid), [i for i, x in enumerate(grid) if not x]
  for cell, digit in enumerate(grid):
    if digit and digit in [grid[x] for x in NEAR[side][cell]]:
      return []
  if not blanks:
    return [grid]
  cell = min(blanks, key=lambda x: len(open_digits(grid, side, x)))
  found = []
  for digit in open_digits(grid, side, cell):
    grid[cell] = digit
    found += solutions(grid, side, limit - len(found))
    if len(found) >= limit:
      break
  return found


@pytest.fixture(scope="module")
def made():
  counts = {4: 30, 6: 60, 9: 30}
  return {side: sudoku.generate(n, side, seed=0) for side, n in counts.items()}


@pytest.mark.parametrize("side", SIDES)
def test_puzzles_have_one_solution_and_need_every_clue(made, side):
  found = made[side]
  count = {4: 30, 6: 60, 9: 30}[side]
  for field in found:
    assert field.shape == (count, side * side) and field.dtype == np.int32
  clue = found.question > 0
  np.testing.assert_array_equal(found.question[clue], found.answer[clue])
  for question, answer in zip(
    found.question[:2].tolist(), found.answer[:2].tolist(), strict=True
  ):
    assert solutions(question, side) == [answer]
    for cell in np.flatnonzero(question):
      fewer = [0 if x == cell else d for x, d in enumerate(question)]
      assert len(solutions(fewer, side)) == 2
  # The rest by the solver of the module, which the next test judges.
  answer, ways = sudoku.solve(found.question)
  assert (ways == 1).all()
  np.testing.assert_array_equal(answer, found.answer)


@pytest.mark.parametrize("side", SIDES)
def test_solutions_are_counted(made, side):
  """Puzzles with clues taken away, with a wrong clue, and as they are."""
  rng = np.random.default_rng(side)
  question = made[side].question[:24].copy()
  for row, grid in enumerate(question):
    clues = rng.permutation(np.flatnonzero(grid))
    if row % 3 == 1:
      grid[clues[: 1 + row % 2]] = 0
    elif row % 3 == 2:
      grid[clues[0]] = grid[clues[0]] % side + 1
  answer, ways = sudoku.solve(question)
  expected = [solutions(grid, side) for grid in question.tolist()]
  np.testing.assert_array_equal(ways, [len(x) for x in expected])
  assert {0, 1, 2} <= set(ways.tolist()) or side == 9  # by chance not 0
  for grid, given, some, n in zip(
    answer, question, expected, ways, strict=True
  ):
    if n == 0:
      assert not grid.any()
    else:
      assert solutions(grid.tolist(), side) == [grid.tolist()]
      assert (grid[given > 0] == given[given > 0]).all()
    if n == 1:
      assert grid.tolist() == some[0]


def test_a_search_with_many_nodes_loses_none():
  """All 288 grids of side 4, and both kinds of limit."""
  empty = np.zeros((2, 16), np.int32)
  masks = sudoku_search.masks(empty)
  _, ways = sudoku_search.search(masks, limit=10**6)
  assert ways.tolist() == [288, 288]
  _, ways = sudoku_search.search(masks, limit=5)
  assert ways.tolist() == [5, 5]


@pytest.mark.parametrize("side", SIDES)
def test_order_is_that_of_singles(made, side):
  """Each round by definition, from clues and the rounds before it."""
  tall, wide = BOXES[side]
  cell = np.arange(side * side)
  unit = [cell // side, cell % side]
  unit.append(cell // side // tall * side + cell % side // wide)
  stuck = 0
  for question, answer, order in zip(*take(made[side], range(12)), strict=True):
    assert ((order == 0) == (question > 0)).all()
    for step in range(1, order.max() + 1):
      grid = np.where(order < step, answer, 0).tolist()
      left = {
        x: set(open_digits(grid, side, x)) for x in cell if order[x] >= step
      }
      single = set()
      for x, options in left.items():
        hidden = [
          not any(d in left[y] for y in left if y != x and kind[y] == kind[x])
          for kind in unit
          for d in options
        ]
        if len(options) == 1 or any(hidden):
          single.add(x)
      if single:
        assert single == set(np.flatnonzero(order == step))
      else:  # what singles never reach is one round, the last
        assert step == order.max() and (order[list(left)] == step).all()
        stuck += 1
  assert stuck or side < 9  # with fewer digits singles nearly always do


@pytest.mark.parametrize("side", SIDES)
def test_permuted_puzzles_are_puzzles(made, side):
  found, rng = made[side], np.random.default_rng(1)
  moved = sudoku.permuted(found, rng)
  answer, ways = sudoku.solve(moved.question)
  assert (ways == 1).all()
  np.testing.assert_array_equal(answer, moved.answer)
  clues = lambda x: (x.question > 0).sum(1)
  np.testing.assert_array_equal(clues(moved), clues(found))
  np.testing.assert_array_equal(
    sudoku.singles_order(moved.question, moved.answer), moved.order
  )
  assert (moved.question != found.question).any(1).all()
  # Each row has a symmetry of its own.
  row = take(found, np.zeros(64, int))
  assert len(np.unique(sudoku.permuted(row, rng).question, axis=0)) > 60


def test_all_symmetries_of_side_4_are_drawn():
  """288 grids in two orbits, of 96 and 192, and all of both are reached."""
  grids = np.unique(sudoku.generate(36, 4, 0).answer, axis=0)
  orbits = {}
  for name, grid in zip(sudoku.symmetry_class(grids), grids, strict=True):
    rows = np.repeat(grid[None], 4_000, 0)
    moved = sudoku.permuted(Puzzles(rows, rows, rows), np.random.default_rng(0))
    orbits.setdefault(name, set()).update(map(tuple, moved.answer.tolist()))
  assert sorted(map(len, orbits.values())) == [96, 192]


@pytest.mark.parametrize("side", SIDES)
def test_a_class_has_one_name(made, side):
  rng, found = np.random.default_rng(2), made[side]
  names = sudoku.symmetry_class(found.question)
  assert len(set(names)) == len(names)
  for _ in range(4):
    assert sudoku.symmetry_class(sudoku.permuted(found, rng).question) == names
  # One clue moved to a cell beside it, or another digit: another puzzle.
  other = found.question.copy()
  for grid, answer in zip(other, found.answer, strict=True):
    old, new = np.flatnonzero(grid)[0], np.flatnonzero(grid == 0)[-1]
    grid[old], grid[new] = 0, answer[new]
  # Where symmetric by chance both may be of one class: seldom.
  again = sudoku.symmetry_class(other)
  same = sum(a == b for a, b in zip(names, again, strict=True))
  assert same <= {4: 8, 6: 2, 9: 0}[side]


def test_names_do_not_depend_on_their_batch(made):
  for found in made.values():
    names = sudoku.symmetry_class(found.question)
    assert sudoku.symmetry_class(found.question[7:9]) == names[7:9]


def test_classes_of_side_4_are_all_found_and_no_more():
  """36 minimal puzzles: 13 of 4 clues, 22 of 5 and one of 6, as is known."""
  found = sudoku.generate(36, 4, seed=1)
  clues = np.bincount((found.question > 0).sum(1))
  assert clues.tolist() == [0, 0, 0, 0, 13, 22, 1]
  with pytest.raises(ValueError, match=r"count=37: .* only 36 .* ask for few"):
    sudoku.generate(37, 4, seed=1)


def test_clues_stop_the_removal():
  found = sudoku.generate(20, 6, seed=0, clues=16)
  assert ((found.question > 0).sum(1) == 16).all()
  few = sudoku.generate(40, 6, seed=0, clues=10)
  clues = (few.question > 0).sum(1)
  assert clues.min() == 10 < clues.max()  # minimal before


def test_parts_are_told_apart_too(monkeypatch):
  """Side 4 has so few classes that every part repeats some."""
  monkeypatch.setattr(sudoku, "CHUNK", 8)
  found = sudoku.generate(30, 4, seed=0)
  assert len(found.question) == 30
  assert len(set(sudoku.symmetry_class(found.question))) == 30


def test_a_seed_is_a_draw():
  draw = lambda seed: sudoku.generate(5, 6, seed).question.tolist()
  assert draw(3) == draw(3) != draw(4)


def test_split_shares_nothing(made):
  """Copies under symmetries, and other puzzles of the same grids, go too."""
  rng = np.random.default_rng(0)
  base = made[6]
  fuller = np.where(base.order == 1, base.answer, base.question)
  other = base._replace(question=fuller)  # another class, the same solution
  found = join([base, sudoku.permuted(base, rng), other])
  train, held = sudoku.split(found, 15, seed=0)
  assert len(held.question) == 15 and len(train.question) > 15
  names = lambda x: set(sudoku.symmetry_class(x.question))
  assert not names(train) & names(held)
  grids = lambda x: set(map(tuple, x.answer.tolist()))
  assert not grids(train) & grids(held)
  whole = set(map(tuple, found.question.tolist()))
  for part in (train, held):
    assert set(map(tuple, part.question.tolist())) <= whole
  # Nothing is dropped without a reason.
  kept = set(map(tuple, train.question.tolist()))
  classes, solved = names(held), grids(held)
  for name, question, answer in zip(
    sudoku.symmetry_class(found.question),
    found.question.tolist(),
    found.answer.tolist(),
    strict=True,
  ):
    apart = name not in classes and tuple(answer) not in solved
    assert (tuple(question) in kept) == apart
  again, _ = sudoku.split(found, 15, seed=0)
  np.testing.assert_array_equal(train.question, again.question)


@pytest.mark.parametrize("heldout", [-1, 0, 60, 100])
def test_split_refuses(made, heldout):
  with pytest.raises(ValueError, match=rf"heldout={heldout}: of 60 puzzles"):
    sudoku.split(made[6], heldout, seed=0)


def test_errors():
  with pytest.raises(ValueError, match=r"side=5: one of 4, 6, 9"):
    sudoku.generate(1, 5, seed=0)
  with pytest.raises(ValueError, match=r"count=0: at least 1"):
    sudoku.generate(0, 4, seed=0)
  with pytest.raises(ValueError, match=r"cells=15: 16, 36 or 81"):
    sudoku.solve(np.zeros((1, 15), np.int32))


def test_show():
  grid = np.array([1, 2, 3, 4, 5, 6, 0, 0, 0, 1, 2, 3, *[0] * 24])
  assert sudoku.show(grid, 6).splitlines() == [
    "1 2 3 | 4 5 6",
    ". . . | 1 2 3",
    "------+------",
    ". . . | . . .",
    ". . . | . . .",
    "------+------",
    ". . . | . . .",
    ". . . | . . .",
  ]


def package(folder, found):
  """What larsdoku's collection looks like; importing it would fail."""
  text = lambda row: "".join(map(str, row))
  entries = [
    {"mask": text((q > 0).astype(int)), "solution": text(a), "fn": 5}
    for q, a in zip(found.question, found.answer, strict=True)
  ]
  said = {"meta": {"total_puzzles": 9}, "one": entries[:9], "two": entries[9:]}
  (folder / "larsdoku").mkdir()
  (folder / "larsdoku" / "__init__.py").write_text("raise SystemExit")
  path = folder / "larsdoku" / "puzzle_collection.json.gz"
  path.write_bytes(gzip.compress(json.dumps(said).encode()))


def test_larsdoku_is_read_where_it_is(made, tmp_path, monkeypatch):
  base = made[9]
  copies = sudoku.permuted(base, np.random.default_rng(0))
  package(tmp_path, join([base, copies]))
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(sudoku, "CHUNK", 8)  # copies are told over chunks too
  found = sudoku.from_larsdoku(30, seed=0)
  names = lambda x: set(sudoku.symmetry_class(x.question))
  assert names(found) == names(base) and len(found.question) == 30
  answer, ways = sudoku.solve(found.question)
  assert (ways == 1).all()
  np.testing.assert_array_equal(answer, found.answer)
  assert [field.dtype for field in found] == [np.int32] * 3
  assert len(sudoku.from_larsdoku(7, seed=0).question) == 7
  with pytest.raises(ValueError, match=r"count=31: .* holds 30 classes"):
    sudoku.from_larsdoku(31, seed=0)


def test_larsdoku_is_checked(made, tmp_path, monkeypatch):
  question = made[9].question.copy()
  question[0, np.flatnonzero(question[0])[0]] = 0
  package(tmp_path, made[9]._replace(question=question))
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ValueError, match="a puzzle without one solution"):
    sudoku.from_larsdoku(30, seed=0)


def test_larsdoku_is_asked_for(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match="pip install larsdoku"):
    sudoku.from_larsdoku(1, seed=0)
