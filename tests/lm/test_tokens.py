"""Fixed-shape prompts: where pads stand and what they must not touch."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.lm import tokens
from rsrc_jax.types import Tokens

END, LENGTH = 1, 5
few = settings(deadline=None, max_examples=50)
# Rows of 0 to 5 words; no word is the pad (0) or the end (1).
texts = st.lists(
  st.lists(st.integers(2, 9), max_size=LENGTH), min_size=3, max_size=3
)
masks = st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH)

with_end = jax.jit(tokens.with_end, static_argnums=1)
without_end = jax.jit(tokens.without_end, static_argnums=1)
positions = jax.jit(tokens.positions)
cut = jax.jit(tokens.cut)


def made_tokens(rows, length=LENGTH):
  """Lists of ids as Tokens, padded on the right."""
  ids = [row + [0] * (length - len(row)) for row in rows]
  mask = [[i < len(row) for i in range(length)] for row in rows]
  return Tokens(jnp.array(ids, jnp.int32), jnp.array(mask, bool))


def equal(a, b):
  return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_concat_keeps_pads_where_they_stood():
  a, b = made_tokens([[5, 6], [7]], 2), made_tokens([[8], []], 2)
  found = tokens.concat(tokens.constant(3, 2), a, b)
  np.testing.assert_array_equal(found.ids, [[3, 5, 6, 8, 0], [3, 7, 0, 0, 0]])
  expected = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], bool)
  np.testing.assert_array_equal(found.mask, expected)
  assert found.ids.dtype == jnp.int32 and found.mask.dtype == bool


@few
@given(masks, st.integers(0, 7))
def test_positions_skip_pads(mask, start):
  found = np.asarray(positions(jnp.array([mask]), start))[0]
  assert found.dtype == np.int32
  # Real tokens are numbered as if the pads were not there.
  assert found[np.array(mask, bool)].tolist() == list(
    range(start, start + sum(mask))
  )
  # A pad's own position is a legal one.
  assert found.min() >= start and found.max() < start + LENGTH


def test_positions_start_for_each_row():
  mask = jnp.array([[[True, False, True]], [[True, True, False]]])
  found = tokens.positions(mask, jnp.array([4, 0])[:, None, None])
  np.testing.assert_array_equal(found, [[[4, 4, 5]], [[0, 1, 1]]])


def test_with_end_by_hand():
  """Behind the last word: of a full row, a short row and an empty one."""
  found = with_end(made_tokens([[5, 6, 7], [8], []], 3), END)
  expected = made_tokens([[5, 6, 7, END], [8, END], [END]], 4)
  assert equal(found, expected)


@few
@given(texts)
def test_end_comes_and_goes(rows):
  text = made_tokens(rows)
  ended = with_end(text, END)
  assert equal(ended, made_tokens([[*row, END] for row in rows], LENGTH + 1))
  assert equal(without_end(ended, END), made_tokens(rows, LENGTH + 1))
  # What never stopped, cut off at its full length, loses nothing.
  assert equal(without_end(text, END), text)


@few
@given(texts, st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_cut(rows, lengths):
  found = cut(made_tokens(rows), jnp.array(lengths))
  expected = [row[:n] for row, n in zip(rows, lengths, strict=True)]
  assert equal(found, made_tokens(expected))


def test_cut_counts_slots_and_not_words():
  text = Tokens(jnp.array([[0, 5, 6]]), jnp.array([[False, True, True]]))
  found = tokens.cut(text, jnp.array([2]))
  assert equal(found, (jnp.array([[0, 5, 0]]), [[False, True, False]]))


def test_flatten_makes_a_row_of_every_code():
  # [B, G, T] = [2, 3, 2], numbered in order: row b * G + g holds code (b, g).
  ids = jnp.arange(12).reshape(2, 3, 2)
  found = tokens.flatten(Tokens(ids, ids % 5 > 0))
  np.testing.assert_array_equal(found.ids, np.arange(12).reshape(6, 2))
  np.testing.assert_array_equal(found.mask, found.ids % 5 > 0)


# The algebra: against plain lists.


def lists(found):
  """ids and mask of any shape, nested lists."""
  return np.asarray(found.ids).tolist(), np.asarray(found.mask).tolist()


def grouped():
  """[2, 3, 2]: two sources with three codes each."""
  rows = [[2, 3], [4], [5, 6], [7], [8, 9], []]
  return tokens.reshape(made_tokens(rows, 2), 2, 3)


def test_empty_says_nothing():
  found = tokens.empty(2, 3)
  assert lists(found) == ([[0] * 3] * 2, [[False] * 3] * 2)
  assert found.ids.dtype == jnp.int32 and found.mask.dtype == bool
  assert tokens.empty(4).ids.shape == (4, 0)


def test_concat_joins_groups():
  codes, more = grouped(), tokens.expand(made_tokens([[9], [2, 2]], 2))
  found = tokens.concat(codes, more, axis=1)
  assert lists(found)[0] == [
    [[2, 3], [4, 0], [5, 6], [9, 0]],
    [[7, 0], [8, 9], [0, 0], [2, 2]],
  ]
  assert np.asarray(found.mask[:, -1]).tolist() == [[True, False], [True] * 2]


def test_expand_and_at_undo_each_other():
  text = made_tokens([[2, 3], [4]])
  for axis in (0, 1):
    wide = tokens.expand(text, axis)
    assert wide.ids.shape == ((1, 2, 5), (2, 1, 5))[axis]
    assert equal(tokens.at(wide, 0, axis), text)
  assert lists(tokens.at(grouped(), 1))[0] == [[4, 0], [8, 9]]
  assert equal(tokens.at(grouped(), -1), tokens.at(grouped(), 2))


def test_pick_is_one_of_each_group_and_take_are_some():
  codes = grouped()
  found = tokens.pick(codes, jnp.array([2, 0]))
  assert lists(found) == ([[5, 6], [7, 0]], [[True, True], [True, False]])
  found = tokens.take(codes, jnp.array([[2, 1], [0, 2]]))
  assert lists(found)[0] == [[[5, 6], [4, 0]], [[7, 0], [0, 0]]]
  assert np.asarray(found.mask[1, 1]).tolist() == [False, False]


def test_where_takes_rows_or_all():
  a, b = made_tokens([[2], [3]], 2), made_tokens([[4, 5], [6, 7]], 2)
  found = tokens.where(jnp.array([True, False]), a, b)
  assert lists(found) == ([[2, 0], [6, 7]], [[True, False], [True, True]])
  assert equal(tokens.where(jnp.bool_(True), a, b), a)
  assert equal(tokens.where(jnp.bool_(False), a, b), b)


def test_put_writes_over_rows():
  old = made_tokens([[2], [3], [4]], 2)
  found = tokens.put(old, jnp.array([2, 0]), made_tokens([[8, 8], []], 2))
  assert lists(found)[0] == [[0, 0], [3, 0], [8, 8]]
  assert np.asarray(found.mask).sum(-1).tolist() == [0, 1, 2]


def test_repeat_and_roll_move_rows():
  text = made_tokens([[2], [3], [4]], 1)
  assert lists(tokens.repeat(text, 2))[0] == [[2], [2], [3], [3], [4], [4]]
  assert lists(tokens.roll(text))[0] == [[4], [2], [3]]
  assert lists(tokens.roll(text, 2))[0] == [[3], [4], [2]]


def test_reshape_and_flatten():
  codes = grouped()
  assert codes.ids.shape == codes.mask.shape == (2, 3, 2)
  flat = tokens.flatten(codes)
  assert lists(flat)[0] == [[2, 3], [4, 0], [5, 6], [7, 0], [8, 9], [0, 0]]
  assert equal(tokens.reshape(flat, 2, -1), codes)


def test_keep_blanks_the_rest():
  text = made_tokens([[2, 3], [4, 5]], 2)
  found = tokens.keep(text, jnp.array([[True, False], [False, True]]))
  assert lists(found) == ([[2, 0], [0, 5]], [[True, False], [False, True]])
  rows = tokens.keep(text, jnp.array([[True], [False]]))
  assert lists(rows)[0] == [[2, 3], [0, 0]] and not rows.mask[1].any()
