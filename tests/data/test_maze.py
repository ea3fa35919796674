"""The path of a maze is its one shortest, by a flood of our own."""

import numpy as np
import pytest

from rsrc_jax.data import maze

SIDE, LEAST, COUNT = 12, 18, 20


@pytest.fixture(scope="module")
def made():
  return maze.generate(COUNT, SIDE, seed=0, at_least=LEAST)


def steps(floor, start, goal):
  """Length of a shortest path on [side, side] bool, by flooding; inf if none.

  A ring of walls keeps the flood from running over the edge.
  """
  floor = np.pad(floor, 1)
  wet = np.zeros_like(floor)
  wet[start[0] + 1, start[1] + 1] = True
  for step in range(floor.size):
    if wet[goal[0] + 1, goal[1] + 1]:
      return step
    spread = wet.copy()
    for axis in (0, 1):
      spread |= np.roll(wet, 1, axis) | np.roll(wet, -1, axis)
    spread &= floor
    if (spread == wet).all():
      break
    wet = spread
  return np.inf


def place(grid, token):
  found = np.argwhere(grid == token)
  assert len(found) == 1
  return tuple(found[0])


def test_tokens(made):
  for field in made:
    assert field.shape == (COUNT, SIDE * SIDE) and field.dtype == np.int32
  question, answer = made.question, made.answer
  assert set(np.unique(question)) == {1, 2, 3, 4}
  path = answer == maze.PATH
  assert (question[path] == maze.FLOOR).all() and path.any(1).all()
  np.testing.assert_array_equal(question[~path], answer[~path])
  np.testing.assert_array_equal(made.order > 0, path)
  assert len(np.unique(question, axis=0)) == COUNT


def test_the_answer_is_the_one_shortest_path(made):
  for question, answer, order in zip(
    *(x.reshape(-1, SIDE, SIDE) for x in made), strict=True
  ):
    floor = question != maze.WALL
    start, goal = place(question, maze.START), place(question, maze.GOAL)
    length = steps(floor, start, goal)
    assert LEAST < length < np.inf
    # order leads from start to goal, one cell to the next.
    walk = [start, *np.argwhere(order)[np.argsort(order[order > 0])], goal]
    assert sorted(order[order > 0]) == list(range(1, length))
    assert np.abs(np.diff(np.array(walk), axis=0)).sum(1).tolist() == (
      [1] * length
    )
    # Were there another as short, it would do without some cell of this one.
    for cell in np.argwhere(answer == maze.PATH):
      closed = floor.copy()
      closed[tuple(cell)] = False
      assert steps(closed, start, goal) > length


def test_mazes_are_connected_and_have_loops():
  """Rooms hang together; floor has more pairs of neighbours than a tree."""
  made = maze.generate(40, 15, seed=1, at_least=10)
  loops = []
  for grid in made.question.reshape(-1, 15, 15):
    floor = grid != maze.WALL
    assert floor[::2, ::2].all()
    start = place(grid, maze.START)
    if not (start[0] % 2 or start[1] % 2):
      assert steps(floor, start, (14, 14)) < np.inf
      assert steps(floor, start, (0, 0)) < np.inf
    edges = (floor[1:] & floor[:-1]).sum() + (
      floor[:, 1:] & floor[:, :-1]
    ).sum()
    loops.append(edges - floor.sum() + 1)
  # 113 walls are left, 84 of them between two rooms: 1.7 openings a maze.
  assert 0.7 < np.mean(loops) < 3


def test_the_published_criterion():
  made = maze.generate(3, 30, seed=0, at_least=110)
  assert made.question.shape == (3, 900)
  assert (made.order.max(1) + 1 > 110).all()


def test_a_seed_is_a_draw():
  draw = lambda seed: maze.generate(2, 9, seed, at_least=8).question.tolist()
  assert draw(3) == draw(3) != draw(4)


def test_make_refuses():
  with pytest.raises(ValueError, match=r"at_least=110: 0 mazes of side 8 .*"):
    maze.generate(1, 8, seed=0, at_least=110)
  with pytest.raises(ValueError, match=r"at_least=1: .* fewer mazes"):
    maze.generate(10_000, 3, seed=0, at_least=1)  # there are not so many
  with pytest.raises(ValueError, match=r"count=0, side=9"):
    maze.generate(0, 9, seed=0, at_least=1)


def test_show():
  assert maze.show(np.array([1, 2, 3, 5, 4, 0, 1, 1, 1]), 3) == "#.S\noG \n###"
