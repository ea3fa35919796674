"""Forced vocabulary: what a source's codes may be written in."""

import functools
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.lm import rollout
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role
from rsrc_jax.rl import constraints
from rsrc_jax.types import Batch, Constraints, Tokens

VOCAB, SPECIALS, BYTES = 64, 8, 12
# Specials, then byte pieces, then 52 ids that codes are made of.
CODE = np.arange(VOCAB) >= BYTES
CODE_IDS = set(np.flatnonzero(CODE).tolist())
ROWS, SOURCE = 400, 5
ROLE = Role(3, 6, 1, 4, CODE | (np.arange(VOCAB) == 1))
masks = jax.jit(lambda limits: rollout.allowed_ids(ROLE, limits))
few = settings(deadline=None, max_examples=20)


@functools.cache
def constrain(mode, **asked):
  return jax.jit(constraints.make(mode, CODE, **asked))


def batch(rows, seed=0):
  """Sources of 1 to 5 tokens, byte pieces and unknowns among them."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(SPECIALS - 1, VOCAB, (ROWS, SOURCE))
  mask = np.arange(SOURCE) < rng.integers(1, SOURCE + 1, (ROWS, 1))
  rows = np.asarray(rows, np.int32)
  return Batch(Tokens(np.where(mask, ids, 0)[rows], mask[rows]), rows)


EVERYONE = batch(range(ROWS))


def sets(limits):
  """Checked Constraints [B, 1, V] as the allowed set of each source's codes."""
  shape = limits.allowed.shape
  assert shape[1:] == (1, VOCAB) and limits.banned.shape[:2] == shape[:2]
  assert limits.allowed.dtype == limits.banned.dtype == jnp.int32
  assert (np.asarray(limits.banned) == -1).all()
  rows = np.asarray(limits.allowed).reshape(-1, VOCAB)
  return [set(row[row >= 0].tolist()) for row in rows]


def allowed(mode, batch=EVERYONE, *, hidden=0.0, seed=0):
  """The allowed ids, a set for each of the B lists."""
  key = jax.random.key(seed)
  found = constrain(mode)(key, batch, tiny.schedule(hidden=hidden))
  limits = found.constraints
  assert limits.injected is limits.avoided is limits.budget is None
  assert found.decoys.shape == (len(batch.row), 1, 0)
  assert len(limits.allowed) == len(batch.row)
  return sets(limits)


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


@few
@given(st.permutations(range(6)), st.integers(0, 2**32 - 1))
def test_force_does_not_see_the_batch(order, seed):
  """Neither the company of a row nor its place: only its number."""
  settings = {"hidden": 0.5, "seed": seed}
  whole = allowed("force", **settings)
  company = [[17, 3, 399, 0, 4, 5][i] for i in order]
  some = allowed("force", batch(company, 1), **settings)
  assert some == [whole[row] for row in company]


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


@pytest.mark.parametrize("mode", ["Force", "", "surprising"])
def test_unknown_mode(mode):
  with pytest.raises(ValueError, match=rf"{mode!r} is none of .*'force'"):
    constraints.make(mode, CODE)


def test_row_keys():
  """All different, also from those of another key; the row alone decides."""
  key, other = jax.random.split(jax.random.key(0))
  data = lambda keys: [tuple(k) for k in jax.random.key_data(keys).tolist()]
  one = data(row_keys(key, jnp.arange(1000)))
  two = data(row_keys(other, jnp.arange(1000)))
  assert len({*one, *two}) == 2000
  some = data(row_keys(key, jnp.array([999, 5, 5])))
  assert some == [one[999], one[5], one[5]]


def test_golden_lists():
  """What a run drew before ids were injected is what it draws today."""
  for hidden, expected in (
    (0.5, "34429c5f4c8a8e37"),
    (0.9, "afd465b925f99e60"),
  ):
    limits = constrain("force")(
      jax.random.key(3), EVERYONE, tiny.schedule(hidden=hidden)
    ).constraints
    found = np.asarray(limits.allowed)
    assert found.dtype == np.int32
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == expected


INJECT, BAN = 6, 3
ASKED = {"inject": INJECT, "ban": BAN}


def ask(mode="force", batch=EVERYONE, seed=0, changes=(), **asked):
  """-> Controls of NumPy arrays. changes: of the schedule."""
  found = constrain(mode, **asked)(
    jax.random.key(seed), batch, tiny.schedule(**dict(changes))
  )
  return jax.device_get(found)


def own(row, batch=EVERYONE):
  s = batch.source
  return set(np.asarray(s.ids)[row][np.asarray(s.mask)[row]].tolist())


def ids(row):
  """Ids of a list, no pads, all different."""
  row = [i for i in np.ravel(row).tolist() if i >= 0]
  assert len(set(row)) == len(row)
  return set(row)


@few
@given(st.integers(0, 2**32 - 1))
def test_injected_ids_are_strangers(seed):
  """No token of s, no special, no byte piece, nothing banned, no decoy."""
  found = ask(seed=seed, changes=[("hidden", 0.9)], **ASKED)
  limits = found.constraints
  assert limits.injected.shape == found.decoys.shape == (ROWS, 1, INJECT)
  for row in range(ROWS):
    used, decoys = ids(limits.injected[row]), ids(found.decoys[row])
    assert len(used) == len(decoys) == INJECT and used | decoys <= CODE_IDS
    assert not used & decoys and not (used | decoys) & own(row)
    assert not used & set(limits.banned[row].ravel().tolist())


def test_every_id_has_its_turn_to_be_injected():
  found = ask(**ASKED)
  turns = np.bincount(found.constraints.injected.ravel(), minlength=VOCAB)
  strangers = sum(CODE_IDS - own(row) != set() for row in range(ROWS))
  assert strangers == ROWS
  # A row injects an id that is not its own with 6 / (52 less its own).
  chance = np.zeros(VOCAB)
  for row in range(ROWS):
    free = sorted(CODE_IDS - own(row))
    chance[free] += INJECT / len(free)
  assert np.abs(turns - chance)[CODE].max() < 5 * math.sqrt(ROWS * 0.12 * 0.88)
  assert turns[~CODE].sum() == 0


def test_everything_may_be_hidden_but_what_is_injected():
  """At 0.999 next to nothing but U is shown; without bans U is all there is."""
  found = ask(changes=[("hidden", 0.999)], inject=INJECT).constraints
  lists = [ids(row) for row in found.allowed]
  used = [ids(row) for row in found.injected]
  assert all(u <= shown for u, shown in zip(used, lists, strict=True))
  extra = sum(len(shown) for shown in lists) / ROWS - INJECT
  assert extra < 0.5  # 46 * 0.001 on average


def test_a_pool_is_the_last_ids_of_the_code():
  """Of the injected; decoys are any other ids, and never one of them."""
  found = ask(inject=3, pool=6)
  last, beyond = set(range(VOCAB - 6, VOCAB)), 0
  for row in range(ROWS):
    used, decoys = ids(found.constraints.injected[row]), ids(found.decoys[row])
    # Where s has four of the last six tokens, there are but two to give.
    assert used <= last and len(used) == min(3, len(last - own(row)))
    assert len(decoys) == 3 and decoys <= CODE_IDS - own(row) - used
    beyond += len(decoys - last)
  # All alike: 46 of 52 ids stand outside, of which s has some.
  assert 0.8 < beyond / (3 * ROWS) < 1.0
  # A pool of N: the same ids for every source that has none of them.
  fixed = ask(inject=4, pool=4).constraints.injected
  whole = [row for row in range(ROWS) if not own(row) & set(range(60, 64))]
  assert len(whole) > 100
  assert all(ids(fixed[row]) == {60, 61, 62, 63} for row in whole)


def test_bans_are_tokens_of_the_source():
  found = ask(**ASKED).constraints
  assert found.banned.shape == found.avoided.shape == (ROWS, 1, BAN)
  np.testing.assert_array_equal(found.banned, found.avoided)
  s = EVERYONE.source
  for row in range(ROWS):
    listed = [i for i in found.avoided[row].ravel().tolist() if i >= 0]
    assert set(listed) <= own(row) & CODE_IDS
    tokens = np.asarray(s.ids)[row][np.asarray(s.mask)[row]]
    assert len(listed) == min(BAN, CODE[tokens].sum())
  # They are drawn, and not the first: with all five there, each is banned.
  places = np.zeros(SOURCE)
  full = np.flatnonzero((np.asarray(s.mask) & CODE[s.ids]).all(-1))
  for row in full:
    tokens = s.ids[row].tolist()
    places += [i in found.avoided[row] for i in tokens]
  assert len(full) > 30
  assert (np.abs(places / len(full) - 0.6) < 0.3).all()


def test_masks_are_what_the_lists_say():
  """In what C may write: nothing banned, all that is injected."""
  found = ask(changes=[("hidden", 0.9)], **ASKED).constraints
  may = np.asarray(masks(found))[:, 0]
  for row in range(ROWS):
    assert may[row][sorted(ids(found.injected[row]))].all()
    assert not may[row][[i for i in found.banned[row].ravel() if i >= 0]].any()
  assert may[:, ROLE.end].all()
  shut = ask(changes=[("hidden", 0.9)], end=ROLE.end, **ASKED).constraints
  assert not np.asarray(masks(shut))[..., ROLE.end].any()
  np.testing.assert_array_equal(shut.allowed, found.allowed)


def test_a_dead_end_is_left_by_the_end():
  """All that is allowed is banned, the end too: nothing could be sampled."""
  only = jnp.array([[[20, 21]], [[20, 22]]])
  banned = jnp.array([[[20, 21, ROLE.end]], [[20, 21, ROLE.end]]])
  may = masks(Constraints(banned, only))[:, 0]
  assert [np.flatnonzero(x).tolist() for x in may] == [[ROLE.end], [22]]


def test_only_asking_masks_nothing():
  asked = ask(changes=[("hidden", 0.9)], force=False, **ASKED).constraints
  forced = ask(changes=[("hidden", 0.9)], **ASKED).constraints
  assert sets(asked) == [CODE_IDS] * ROWS  # none banned, all shown
  np.testing.assert_array_equal(asked.injected, forced.injected)
  np.testing.assert_array_equal(asked.avoided, forced.avoided)
  # Of fixed length they still are.
  shut = ask(force=False, end=1, **ASKED).constraints
  assert {*shut.banned.ravel().tolist()} == {-1, 1}


@few
@given(st.permutations(range(6)), st.integers(0, 2**32 - 1))
def test_asks_do_not_see_the_batch(order, seed):
  """Neither the company of a row nor its place: only its number."""
  asked = ASKED | {
    "budgets": (1, 2, 4),
    "unannounced": 0.5,
    "cut": 0.5,
    "ease": 0.5,
  }
  whole = ask(seed=seed, **asked)
  company = [[17, 3, 399, 0, 4, 5][i] for i in order]
  some = ask(batch=batch(company), seed=seed, **asked)
  for name in (
    "banned", "allowed", "injected", "avoided", "budget", "announced",
  ):  # fmt: skip
    x, y = getattr(whole.constraints, name), getattr(some.constraints, name)
    np.testing.assert_array_equal(x[company], y, err_msg=name)
  np.testing.assert_array_equal(whole.decoys[company], some.decoys)


def test_keys_draw_other_asks():
  a, b = ask(**ASKED), ask(seed=1, **ASKED)
  same = (a.constraints.injected == b.constraints.injected).all(-1)
  assert same.mean() < 0.02
  assert (a.decoys != b.decoys).any() and (
    a.constraints.avoided != b.constraints.avoided
  ).any()


@pytest.mark.parametrize("share", [1.0, 0.75, 0.5, 0.25, 0.0])
def test_the_schedule_shrinks_the_lists(share):
  """Each id and each ban stays with the probability of the share.

  In every row by its own chance, so that no length of list is ever new to C.
  """
  asked = {"inject": 8, "ban": 4}
  whole = ask(**asked)
  some = ask(changes=[("inject", share), ("ban", share)], **asked)
  for x, y in (
    (whole.constraints.injected, some.constraints.injected),
    (whole.decoys, some.decoys),
    (whole.constraints.avoided, some.constraints.avoided),
  ):
    x, y = np.asarray(x), np.asarray(y)
    np.testing.assert_array_equal(y[y >= 0], x[y >= 0])
    was = x >= 0
    bound = 4 * math.sqrt(share * (1 - share) / was.sum())
    assert abs((y[was] >= 0).mean() - share) <= bound
  # A decoy stands for every id that is left, and for no other.
  kept = np.asarray(some.constraints.injected) >= 0
  np.testing.assert_array_equal(kept, np.asarray(some.decoys) >= 0)
  if 0 < share < 1:
    assert len(set(kept.sum(-1).ravel().tolist())) > 3
  np.testing.assert_array_equal(
    some.constraints.banned, some.constraints.avoided
  )


def test_the_schedule_is_handed_on():
  found = ask(changes=[("temperature", 1.5), ("bonus", 0.25)], **ASKED)
  assert found.constraints.temperature.tolist() == [[1.5]] * ROWS
  assert found.bonus == 0.25 and found.level == 0
  later = constrain("force", **ASKED)(
    jax.random.key(0), EVERYONE, tiny.schedule(level=3)
  )
  assert later.level == 3


@pytest.mark.parametrize("share, admitted", [(1.0, 4), (0.5, 2), (0.01, 1)])
def test_budgets_are_drawn_from_the_list(share, admitted):
  budgets = (2, 3, 5, 9)
  found = ask(changes=[("budgets", share)], budgets=budgets).constraints.budget
  assert found.shape == (ROWS, 1) and found.dtype == np.int32
  counts = [(found == k).sum() for k in budgets]
  assert sum(counts) == ROWS and not any(counts[admitted:])
  # Equally often, within four deviations.
  chance = 1 / admitted
  bound = 4 * math.sqrt(ROWS * chance * (1 - chance))
  assert all(abs(x - ROWS * chance) <= bound for x in counts[:admitted])


LENGTHS = (1, 3, 5)


def test_less_is_hidden_from_long_codes():
  """At most 5 tokens, ease .5: .8 hidden at 1, .8 (1 - .5 * 2 / 4) at 3."""
  changes = [("hidden", 0.8)]
  eased = ask(changes=changes, budgets=LENGTHS, ease=0.5).constraints
  shown = np.array([len(row) for row in sets(eased)]) / len(CODE_IDS)
  for k, hidden in ((1, 0.8), (3, 0.6), (5, 0.4)):
    own = shown[eased.budget[:, 0] == k]
    # Four deviations of a share of 52 draws in each of these rows.
    bound = 4 * math.sqrt(hidden * (1 - hidden) / (own.size * len(CODE_IDS)))
    assert abs(own.mean() - (1 - hidden)) < bound
  # The longest code may be longer than any of this arm's: k = 5 of 9.
  more = ask(changes=changes, budgets=(5,), longest=9, ease=0.5).constraints
  shown = np.mean([len(row) for row in sets(more)]) / len(CODE_IDS)
  assert abs(shown - (1 - 0.8 * 0.75)) < 4 * math.sqrt(0.24 / ROWS / 52)
  # The draws are the same, so that more is shown where less is hidden.
  plain = ask(changes=changes, budgets=LENGTHS).constraints
  pairs = zip(sets(plain), sets(eased), strict=True)
  assert all(a <= b for a, b in pairs)
  np.testing.assert_array_equal(plain.budget, eased.budget)


def test_a_share_of_the_budgets_is_not_announced():
  plain = ask(budgets=LENGTHS)
  assert plain.priced is plain.constraints.announced is None
  found = ask(budgets=LENGTHS, unannounced=0.4)
  limits = found.constraints
  assert limits.announced.shape == (ROWS, 1) and limits.announced.dtype == bool
  told = limits.announced[:, 0]
  # Four deviations of 400 draws.
  assert abs(told.mean() - 0.6) < 4 * math.sqrt(0.24 / ROWS)
  # Those alone pay for their length, and may be as long as any.
  np.testing.assert_array_equal(found.priced, ~limits.announced)
  assert (limits.budget[~told] == 5).all()
  np.testing.assert_array_equal(
    limits.budget[told], plain.constraints.budget[told]
  )
  assert set(limits.budget[told].ravel().tolist()) == set(LENGTHS)
  # A source's budget says nothing about whether it is announced.
  drawn = plain.constraints.budget[:, 0]
  rates = [told[drawn == k].mean() for k in LENGTHS]
  assert max(rates) - min(rates) < 0.25


@pytest.mark.parametrize("cut", [0.5, 1.0])
def test_a_share_of_those_is_cut_all_the_same(cut):
  """At a budget that is drawn as for the others, and is not announced."""
  plain = ask(budgets=LENGTHS).constraints.budget
  found = ask(budgets=LENGTHS, unannounced=0.5, cut=cut)
  limits, told = found.constraints, found.constraints.announced
  np.testing.assert_array_equal(found.priced, ~told)
  assert ((limits.budget == plain) | (limits.budget == 5))[~told].all()
  short = (limits.budget < 5)[~told].mean()
  bound = 4 * math.sqrt(0.25 / (~told).sum())
  assert abs(short - cut * 2 / 3) < bound  # a third of the draws is 5


@pytest.mark.parametrize("mode", ["free", "force", "source", "words"])
def test_what_is_withheld_is_never_written(mode):
  """Nor injected, nor a decoy; not even where a draw hides all the rest."""
  kept = constraints.withhold(CODE, 20, seed=3)
  assert kept.sum() == 20 and not (kept & ~CODE).any()
  np.testing.assert_array_equal(kept, constraints.withhold(CODE, 20, seed=3))
  assert (kept != constraints.withhold(CODE, 20, seed=4)).any()
  run = jax.jit(constraints.make(mode, CODE, inject=4, withheld=kept))
  for hidden in (0.0, 0.999):
    found = run(jax.random.key(0), EVERYONE, tiny.schedule(hidden=hidden))
    limits = found.constraints
    drawn = np.concatenate([limits.injected, found.decoys], -1)
    assert not kept[drawn[drawn >= 0]].any() and (drawn >= 0).any()
    assert not np.asarray(masks(limits))[..., kept].any()
  # What bare rows may write, where nothing is listed and all is hidden.
  run = jax.jit(constraints.make(mode, CODE, withheld=kept))
  limits = run(jax.random.key(0), EVERYONE, tiny.schedule(hidden=0.999))
  assert not np.asarray(masks(limits.constraints))[..., kept].any()


def test_withholding_nothing_or_too_much():
  assert constraints.withhold(CODE, 0, seed=0) is None
  with pytest.raises(ValueError, match=r"withheld=51: .* 0 to 50"):
    constraints.withhold(CODE, 51, seed=0)


def test_a_share_of_the_sources_has_no_list():
  whole, found = ask(**ASKED), ask(**ASKED, bare=0.3)
  lists = found.constraints.injected
  bare = (lists == -1).all((1, 2))
  assert abs(bare.mean() - 0.3) < 4 * math.sqrt(0.21 / ROWS)
  # Its decoys go too, and what is avoided stays; the other rows are as before.
  np.testing.assert_array_equal((found.decoys == -1).all((1, 2)), bare)
  for name in ("injected", "avoided"):
    a, b = (getattr(x.constraints, name) for x in (whole, found))
    np.testing.assert_array_equal(a[~bare], b[~bare])
  np.testing.assert_array_equal(
    whole.constraints.avoided, found.constraints.avoided
  )


def test_without_budgets_there_is_nothing_to_announce():
  found = ask(unannounced=0.5)
  assert found.priced is found.constraints.announced is None
  assert found.constraints.budget is None


def test_words_are_the_same_for_every_source():
  words = np.arange(VOCAB) < 40
  limit = constraints.make("words", CODE, words=words)
  found = limit(jax.random.key(0), EVERYONE, tiny.schedule(hidden=0.9))
  assert sets(found.constraints) == [set(range(BYTES, 40))] * ROWS


@pytest.mark.parametrize("mode", constraints.MODES)
def test_at_last_nothing_is_forced(mode):
  """Evaluation writes in what is left at the end of training, in a budget."""
  words = np.arange(VOCAB) < 40
  limits = constraints.relaxed(mode, CODE, words=words, end=1)
  found = limits(EVERYONE, np.arange(1, ROWS + 1))
  assert found.injected is found.avoided is found.temperature is None
  assert found.budget.tolist() == [[k] for k in range(1, ROWS + 1)]
  assert (np.asarray(found.banned)[..., -1] == 1).all()
  expected = {
    "words": [set(range(BYTES, 40))] * ROWS,
    "source": allowed("source"),
  }.get(mode, [set()] * ROWS)
  assert sets(found._replace(banned=found.banned[..., :1])) == expected
  assert limits(EVERYONE, None).budget is None
  assert found.announced is limits(EVERYONE, None, False).announced is None
  unsaid = limits(EVERYONE, np.full(ROWS, 3), False)
  assert not unsaid.announced.any() and (unsaid.budget == 3).all()


@pytest.mark.parametrize(
  "asked, message",
  [
    ({"inject": 27}, "config.augment.inject=27: .* 52 ids"),
    ({"inject": 8, "pool": 7}, "config.augment.inject=8: .*pool=7 keeps 7"),
    ({"inject": -1}, "config.augment.inject=-1"),
    ({"ban": -1}, "config.augment.ban=-1"),
    ({"pool": -1}, "config.augment.pool=-1"),
  ],
)
def test_asks_that_can_not_be_met(asked, message):
  with pytest.raises(ValueError, match=message):
    constraints.make("force", CODE, **asked)
