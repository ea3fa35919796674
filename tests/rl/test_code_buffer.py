"""code_buffer.py: what is stored, drawn and replaced, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.rl import code_buffer
from rsrc_jax.types import Tokens

KEY = jax.random.key(0)


def said(*words):
  """[n, 1]: one word a row."""
  ids = jnp.asarray(words, jnp.int32)[:, None]
  return Tokens(ids, ids > 0)


def filled(count=3, rows=4):
  words = said(*range(8, 8 + count))
  empty = code_buffer.empty(rows, 1, 1)
  return code_buffer.store(empty, words, words, jnp.full(count, 5), KEY)


def test_the_empty_places_are_filled_first():
  found = filled(3)
  assert sorted(found.source.ids[:, 0].tolist()) == [0, 8, 9, 10]
  assert found.step == 1 and found.version.sum() == 15
  more = code_buffer.store(found, said(20), said(21), jnp.array([6]), KEY)
  assert sorted(more.source.ids[:, 0].tolist()) == [8, 9, 10, 20]
  np.testing.assert_array_equal(more.code.ids, more.best.ids)


def test_what_is_drawn_is_there_and_different():
  found = filled(3)
  for seed in range(8):
    rows = code_buffer.draw(found, 3, jax.random.key(seed))
    assert sorted(found.source.ids[rows, 0].tolist()) == [8, 9, 10]


def test_a_rewrite_takes_the_place_of_its_parent_where_it_won():
  found = filled(4)
  rows = jnp.array([2, 0])
  after = code_buffer.replace(
    found, rows, said(20, 21), jnp.array([True, False]), said(22, 23)
  )
  assert after.code.ids[2, 0] == 20
  assert after.code.ids[0, 0] == found.code.ids[0, 0]
  assert after.best.ids[rows, 0].tolist() == [22, 23]
  assert after.passes.tolist() == [0, 0, 1, 0]
  assert after.version.tolist() == [5, 5, 0, 5]
  np.testing.assert_array_equal(after.source.ids, found.source.ids)
