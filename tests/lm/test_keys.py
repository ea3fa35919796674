"""keys.py: children have different numbers, and a split makes the same ones."""

import enum
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsrc_jax.lm import keys

# Classes whose members are children of one key, in one program.
SIBLINGS = (
  (keys.Step, keys.Cdv),  # also of ccv, which plays cdv beside its own child
  (keys.Step, keys.Qa),
  (keys.Supervised,),
  (keys.Rewrite,),
  (keys.Stream,),
  (keys.Round,),
  (keys.HeldOut,),
  (keys.SupervisedConstraints,),
  (keys.Demonstration,),
  (keys.Row,),
  (keys.Chains,),
  (keys.DBatch,),
  (keys.QuestionDraw,),
  (keys.Reader,),
  (keys.Judged,),
  (keys.Fresh,),
  (keys.Answers,),
  (keys.Entering,),
  (keys.Examined,),
)
KEY = jax.random.key(7)


def data(key):
  return np.asarray(jax.random.key_data(key)).tolist()


def test_every_class_of_children_is_listed():
  named = {
    x
    for x in vars(keys).values()
    if isinstance(x, type) and issubclass(x, enum.IntEnum)
  }
  assert named - {enum.IntEnum} == {x for group in SIBLINGS for x in group}


@pytest.mark.parametrize("group", SIBLINGS, ids=lambda x: x[-1].__name__)
def test_no_two_children_of_a_key_have_one_number(group):
  numbers = [int(x) for children in group for x in children]
  names = [x for children in group for x in children.__members__]
  # An alias is a member that `for` passes over.
  assert len(numbers) == len(set(numbers)) == len(names)


def test_nothing_draws_by_its_place_in_a_split():
  for path in (Path(keys.__file__).parents[1]).rglob("*.py"):
    assert "random.split(" not in path.read_text(), path


@pytest.mark.parametrize("count", [2, 3, 4, 5, 20])
def test_a_split_makes_children_by_their_place(count):
  split = jax.random.split(KEY, count)
  for i in range(count):
    assert data(split[i]) == data(jax.random.fold_in(KEY, i))
    assert data(split[i]) == data(keys.child(KEY, i))


def test_a_child_by_name_in_and_out_of_a_program():
  split = jax.random.split(KEY, 4)
  jitted = jax.jit(lambda key: keys.child(key, keys.Cdv.D))
  assert data(keys.child(KEY, keys.Cdv.D)) == data(split[3])
  assert data(jitted(KEY)) == data(split[3])
  traced = jax.jit(keys.child)(KEY, jnp.int32(3))
  assert data(traced) == data(split[3])
  rows = jax.random.split(KEY, 3)
  assert data(keys.fold(rows, keys.Row.DECOYS)) == [
    data(keys.child(row, 4)) for row in rows
  ]


def test_keys_of_rows_and_of_their_prompts():
  """A row's keys are its own, wherever it stands."""
  rows = jnp.array([5, 2, 9])
  mine = keys.row_keys(KEY, rows)
  assert data(mine) == [data(jax.random.fold_in(KEY, i)) for i in (5, 2, 9)]
  each = keys.prompt_keys(KEY, rows, 2)
  assert data(each) == [data(keys.child(k, i)) for k in mine for i in range(2)]


def test_a_steps_key():
  step = keys.step_key(3, jnp.int32(8))
  assert data(step) == data(jax.random.fold_in(jax.random.key(3), 8))
