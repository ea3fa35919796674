"""Forced vocabulary: what a source's codes may be written in."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax import augment
from rsrc_jax.types import Batch, Tokens

VOCAB, SPECIALS, BYTES = 64, 8, 12
# Specials, then byte pieces, then 52 ids that codes are made of.
CODE = np.arange(VOCAB) >= BYTES
CODE_IDS = set(np.flatnonzero(CODE).tolist())
ROWS, SOURCE = 400, 5
few = settings(deadline=None, max_examples=20)


@functools.cache
def constrain(mode, draws=1):
  return jax.jit(augment.make(mode, CODE, draws=draws))


def batch(rows, seed=0):
  """Sources of 1 to 5 tokens, byte pieces and unknowns among them."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(SPECIALS - 1, VOCAB, (ROWS, SOURCE))
  mask = np.arange(SOURCE) < rng.integers(1, SOURCE + 1, (ROWS, 1))
  rows = np.asarray(rows, np.int32)
  return Batch(Tokens(np.where(mask, ids, 0)[rows], mask[rows]), rows)


EVERYONE = batch(range(ROWS))


def sets(limits, draws):
  """Checked Constraints [B, draws, V] as the allowed set of each code."""
  shape = limits.allowed.shape
  assert shape[1:] == (draws, VOCAB) and limits.banned.shape[:2] == shape[:2]
  assert limits.allowed.dtype == limits.banned.dtype == jnp.int32
  assert (np.asarray(limits.banned) == -1).all()
  rows = np.asarray(limits.allowed).reshape(-1, VOCAB)
  return [set(row[row >= 0].tolist()) for row in rows]


def allowed(mode, batch=EVERYONE, *, hidden=0.0, seed=0, draws=1):
  """The allowed ids, a set for each of the B * draws lists."""
  key = jax.random.key(seed)
  limits = constrain(mode, draws)(key, batch, np.float32(hidden))
  assert len(limits.allowed) == len(batch.row)
  return sets(limits, draws)


def test_free_restricts_nothing():
  """Empty lists: the support of the role is all there is."""
  assert allowed("free", hidden=0.9) == [set()] * ROWS


def test_force_hides_nothing_at_0():
  assert allowed("force", hidden=0.0) == [CODE_IDS] * ROWS


@pytest.mark.parametrize("hidden", [0.25, 0.5, 0.9])
def test_force_shows_the_rest(hidden):
  lists = allowed("force", hidden=hidden)
  # Specials and byte pieces are never among them.
  assert all(row <= CODE_IDS for row in lists)
  # A share of 400 * 52 draws: four deviations of sqrt(p (1 - p) / n), < 0.015.
  draws = ROWS * len(CODE_IDS)
  bound = 4 * math.sqrt(hidden * (1 - hidden) / draws)
  assert abs(sum(map(len, lists)) / draws - (1 - hidden)) < bound
  # Every id has its turn: within five deviations over 400 sources.
  turns = np.bincount([i for row in lists for i in row], minlength=VOCAB)
  spread = math.sqrt(hidden * (1 - hidden) * ROWS)
  assert np.abs(turns[CODE] - (1 - hidden) * ROWS).max() < 5 * spread


def test_force_draws_for_each_row_and_each_key():
  lists = allowed("force", hidden=0.5)
  # Two of 400 rows agree on 52 fair coins with probability 80000 / 2**52.
  assert len({frozenset(row) for row in lists}) == ROWS
  other = allowed("force", hidden=0.5, seed=1)
  assert not any(a == b for a, b in zip(lists, other, strict=True))


def test_force_draws_for_each_code():
  """One subset a code: a group of 3 has 3, and other rows have others."""
  lists = allowed("force", hidden=0.5, draws=3)
  assert len(lists) == 3 * ROWS == len({frozenset(row) for row in lists})
  assert all(row <= CODE_IDS for row in lists)
  draws = len(lists) * len(CODE_IDS)
  shown = sum(map(len, lists)) / draws
  assert abs(shown - 0.5) < 4 * math.sqrt(0.25 / draws)


@few
@given(
  st.permutations(range(6)),
  st.integers(0, 2**32 - 1),
  st.sampled_from([1, 3]),
)
def test_force_does_not_see_the_batch(order, seed, draws):
  """Neither the company of a row nor its place: only its number."""
  settings = {"hidden": 0.5, "seed": seed, "draws": draws}
  whole = allowed("force", **settings)
  company = [[17, 3, 399, 0, 4, 5][i] for i in order]
  some = allowed("force", batch(company, 1), **settings)
  of = lambda row: whole[draws * row : draws * (row + 1)]
  assert some == [x for row in company for x in of(row)]


def test_force_where_everything_is_hidden_the_row_is_free():
  """At 0.999 about exp(-0.052) = 95 % of the rows keep nothing."""
  lists = allowed("force", hidden=0.999)
  empty = sum(not row for row in lists) / ROWS
  chance = 0.999 ** len(CODE_IDS)
  assert abs(empty - chance) < 4 * math.sqrt(chance * (1 - chance) / ROWS)


def test_source_allows_its_own_code_tokens():
  lists = allowed("source", hidden=0.9)
  s = EVERYONE.source
  for row, ids, mask in zip(lists, s.ids, s.mask, strict=True):
    # 0, the pad, is what no role can write: nothing but the end is left.
    assert row == (set(ids[mask].tolist()) & CODE_IDS or {0})
  # The case that matters is there: tokens that no code may hold.
  assert (~CODE[s.ids] & s.mask).any()


def test_source_depends_on_nothing_else():
  one = allowed("source", seed=0)
  assert one == allowed("source", seed=1)
  assert [x for x in one for _ in range(2)] == allowed("source", draws=2)


@pytest.mark.parametrize("mode", ["Force", "", "surprising"])
def test_unknown_mode(mode):
  with pytest.raises(ValueError, match=rf"{mode!r} is none of .*'force'"):
    augment.make(mode, CODE)


def test_row_keys():
  """All different, also from those of another key; the row alone decides."""
  key, other = jax.random.split(jax.random.key(0))
  data = lambda keys: [tuple(k) for k in jax.random.key_data(keys).tolist()]
  one = data(augment.row_keys(key, jnp.arange(1000)))
  two = data(augment.row_keys(other, jnp.arange(1000)))
  assert len({*one, *two}) == 2000
  some = data(augment.row_keys(key, jnp.array([999, 5, 5])))
  assert some == [one[999], one[5], one[5]]
