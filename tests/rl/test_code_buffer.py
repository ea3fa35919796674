"""code_buffer.py: what is stored, drawn and replaced, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.rl import code_buffer, fragments
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


def group(*rows):
  """[n, G, 1]: one word a code; 0 is an empty code."""
  ids = jnp.asarray(rows, jnp.int32)[..., None]
  return Tokens(ids, ids > 0)


def test_several_codes_of_a_source_are_kept_the_newest_first():
  empty = code_buffer.empty(3, 1, 1, count=3)
  words, ages = said(8, 9), jnp.array([5, -1])
  more = code_buffer.More(
    group([10, 11], [12, 13]), jnp.array([[5, -1], [-1, 5]])
  )
  found = code_buffer.store(empty, words, words, ages, KEY, more)
  rows = jnp.array([found.source.ids[:, 0].tolist().index(x) for x in (8, 9)])
  codes, versions = code_buffer.codes_of(found, rows)
  assert codes.ids[..., 0].tolist() == [[8, 10, 11], [9, 12, 13]]
  assert versions.tolist() == [[5, 5, -1], [-1, -1, 5]]
  after = code_buffer.replace(
    found, rows, said(20, 21), jnp.array([True, False]), said(22, 23)
  )
  codes, versions = code_buffer.codes_of(after, rows)
  assert codes.ids[..., 0].tolist() == [[20, 8, 10], [9, 12, 13]]
  assert versions.tolist() == [[0, 5, 5], [-1, -1, 5]]
  assert after.passes[rows].tolist() == [1, 0]
  # Of one code nothing more is kept, and old checkpoints fit.
  assert filled().more is None and len(jax.tree.leaves(filled())) == 9


def test_codes_of_a_source_in_one_prompt():
  codes = group([8, 0, 9], [8, 8, 10])
  text = fragments.join(codes, 6)
  assert text.ids.tolist() == [[8, 6, 0, 6, 9], [8, 6, 8, 6, 10]]
  assert text.mask.tolist() == [[True, True, False, True, True], [True] * 5]
  assert fragments.join(codes, (6, 7)).ids.shape == (2, 7)
  one = fragments.join(group([8], [9]), 6)
  assert one.ids.tolist() == [[8], [9]]
  assert fragments.different(codes).tolist() == [2, 2]
  others = fragments.beside(codes, jnp.array([0, 1]), 2)
  assert others.ids[..., 0].tolist() == [[0, 9], [8, 10]]


def test_a_prompt_of_as_many_codes_as_fit_is_no_longer_than_its_places():
  for places in range(1, 60):
    for budget in range(1, 9):
      needed = lambda n, k=budget: 2 + n * (k + 1) + k - 1
      most = fragments.longest(places, budget)
      assert needed(most + 1) > places
      assert most < 1 or needed(most) <= places
