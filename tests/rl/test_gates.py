"""Gates, load and the bonus: by hand, against plain Python, and their bound."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import token_stats_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.random_vocabulary import policies
from rsrc_jax.ops import rewards, token_stats
from rsrc_jax.types import TokenStats

few = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 2**32 - 1)
V0, H0 = 6.0, 2.5  # medians of the golden table
MODES = ("bonus", "multiply")

# Law -> H, V, H2, m, literal, density: K = 32,768, worked out in float64.
GOLDEN = {
  "list 0.999": (0.0152, 0.2120, 0.0020, 0.999, 0.0341, 0.0000),
  "list 0.9": (1.0565, 9.1365, 0.2106, 0.900, 0.6036, 0.0019),
  "list 0.7": (2.8051, 16.9715, 0.7108, 0.700, 0.7388, 0.0589),
  "list 0.5": (4.3502, 18.3469, 1.3727, 0.500, 0.7536, 0.2671),
  "list 0.3": (5.7307, 15.7441, 2.3362, 0.300, 0.7241, 0.6856),
  "dump 0.001": (2.0926, 0.1572, 2.0814, 0.999, 0.0255, 0.0000),
  "dump 0.1": (2.9280, 5.9653, 2.2888, 0.900, 0.4986, 0.0095),
  "dump 0.3": (4.2607, 10.7512, 2.7729, 0.700, 0.6418, 0.1215),
  "dump 0.5": (5.3899, 11.8228, 3.3620, 0.500, 0.6634, 0.3805),
  "spike and tail": (5.8917, 27.0253, 1.3863, 0.500, 0.8183, 0.2919),
  "noise": (10.3972, 0.0, 10.3972, 0.0002, 0.0, 0.0),
  "confident": (2.4445, 9.7462, 0.9819, 0.600, 0.6190, 0.1117),
  "woven": (4.4593, 8.4230, 2.7594, 0.200, 0.5840, 0.7844),
  "content": (3.1445, 7.5338, 1.7280, 0.004, 0.5567, 0.9028),
  "narrow": (5.1910, 4.5800, 3.5288, 0.033, 0.4329, 0.9470),
}
HONEST = ("woven", "content", "narrow")

gate = jax.jit(rewards.gate, static_argnames=("name",))
first_uses = jax.jit(rewards.first_uses)
swap = jax.jit(rewards.swap)
from_logits = jax.jit(token_stats.from_logits)
gated = jax.jit(rewards.gated, static_argnames=("budget", "mode"))


@functools.cache
def measured():
  """The statistics of every law, each [laws], in float32."""
  return from_logits(*logits_of_laws())


@functools.cache
def logits_of_laws():
  p, listed = zip(*policies.laws().values(), strict=True)
  p = np.stack(p)
  logits = np.log(np.where(p > 0, p, 1.0))
  drawn = np.full(len(p), policies.LISTED[0])
  return logits, drawn, np.stack(listed), p > 0


def of_law(name, value):
  return np.asarray(value)[list(policies.laws()).index(name)]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("exact", [True, False], ids=["numpy", "jax"])
def test_golden_values(name, exact):
  if exact:
    found = token_stats_reference.reference(*logits_of_laws())
    assert found.entropy.dtype == np.float64
  else:
    found = measured()
  entropy, varentropy, collision, mass, literal, density = GOLDEN[name]
  stats = TokenStats(*(of_law(name, x) for x in found))
  near = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-4)
  near(stats.entropy, entropy)
  near(stats.varentropy, varentropy)
  near(stats.collision, collision)
  # The mass is given to three digits.
  np.testing.assert_allclose(stats.mass, mass, rtol=0, atol=6e-4)
  stats = TokenStats(*(jnp.float32(x) for x in stats))
  near(gate("literal", stats, v0=V0, h0=H0), literal)
  near(gate("density", stats, v0=V0, h0=H0), density)
  assert gate("none", stats, v0=V0, h0=H0) == 1.0


def test_density_ranks_every_cheat_below_honest_use():
  found = gate("density", measured(), v0=V0, h0=H0)
  honest = [float(of_law(name, found)) for name in HONEST]
  cheats = set(policies.laws()) - {*HONEST, "confident"}
  assert len(cheats) == 11
  for name in cheats:
    assert of_law(name, found) < min(honest), name
  # The known false negative: honest, certain of itself, and hardly paid.
  assert of_law("confident", found) < 0.15 * min(honest)


def test_the_literal_gate_ranks_a_half_learnt_habit_above_honest_use():
  found = gate("literal", measured(), v0=V0, h0=H0)
  best = max(float(of_law(name, found)) for name in HONEST)
  for name in ("list 0.9", "list 0.5", "dump 0.3", "spike and tail"):
    assert of_law(name, found) > best, name


@pytest.mark.parametrize(
  "p", [[1 / 4] * 4, [1, 0, 0, 0], [1 / 2, 0, 1 / 2, 0], [1 / 3] * 3 + [0]]
)
def test_even_and_certain_laws_earn_nothing(p):
  """V = 0 where p is uniform on its support; one allowed id: H = H2 = 0 too."""
  p = np.array([p])
  logits = np.log(np.where(p > 0, p, 1.0))
  drawn, listed = np.zeros(1, np.int32), np.array([[3]])
  stats = from_logits(logits, drawn, listed, p > 0)
  for name in ("literal", "density"):
    np.testing.assert_allclose(gate(name, stats, v0=V0, h0=H0), 0.0, atol=1e-6)
  if p.max() == 1:
    assert gate("density", stats, v0=1e-3, h0=1e-3)[0] == 0.0


def stats_of(**fields):
  zero = {name: jnp.zeros(()) for name in TokenStats._fields}
  return TokenStats(**zero | {k: jnp.asarray(v) for k, v in fields.items()})


def test_density_by_hand():
  # V = v0, H2 = h0, m = 0: 4 * 1/2 * 1/2 = 1. V = 3 v0, H2 = 3 h0: 4 * 9/16 is
  # cut at 1. m = 1/2 leaves a quarter of it: 9/16.
  for v, h, m, expected in [
    (2.0, 5.0, 0.0, 1.0),
    (6.0, 15.0, 0.0, 1.0),
    (6.0, 15.0, 0.5, 9 / 16),
    (6.0, 15.0, 1.0, 0.0),
  ]:
    stats = stats_of(varentropy=v, collision=h, mass=m)
    found = gate("density", stats, v0=2.0, h0=5.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_shuffled_moves_the_gates_between_uses():
  """By hand: four uses in two codes of two sources, each moved on by two."""
  values = jnp.array([[[0.1, 0.2, 0.3]], [[0.4, 0.5, 0.6]]])
  uses = jnp.array([[[True, False, True]], [[True, True, False]]])
  moved = rewards.shuffled(values, uses)
  np.testing.assert_array_equal(
    moved, jnp.array([[[0.4, 0.2, 0.5]], [[0.1, 0.3, 0.6]]])
  )
  one = jnp.zeros_like(uses).at[0, 0, 1].set(True)
  np.testing.assert_array_equal(rewards.shuffled(values, one), values)
  none = jnp.zeros_like(uses)
  np.testing.assert_array_equal(rewards.shuffled(values, none), values)


def test_counterfactual_by_hand():
  # Twice as likely as on average over others: 1 - 1/2. Less likely, or as
  # likely: 0. (1/J) sum p: of 0.1 and 0.3, 0.2.
  own = jnp.log(jnp.array([[[0.4, 0.2, 0.1]]]))
  others = jnp.log(jnp.array([[[[0.1] * 3]], [[[0.3] * 3]]]))
  found = rewards.pmi(own, others)
  np.testing.assert_allclose(found[0, 0], np.log([2, 1, 0.5]), atol=1e-6)
  g = gate("counterfactual", stats_of(), v0=V0, h0=H0, pmi=found)
  np.testing.assert_allclose(g[0, 0], [0.5, 0, 0], atol=1e-6)


def test_pmi_of_what_others_could_not_write_is_finite():
  """An id that a mask takes from all other sources is worth a full gate."""
  found = rewards.pmi(jnp.full((1, 1, 1), -1.0), jnp.full((2, 1, 1, 1), -1e30))
  g = gate("counterfactual", stats_of(), v0=V0, h0=H0, pmi=found)
  assert np.isfinite(found).all() and g.item() == 1.0


def test_gate_names():
  with pytest.raises(
    ValueError, match=r"config.patterns.cdv.gate.name 'dense' is none of"
  ):
    rewards.gate("dense", stats_of(), v0=V0, h0=H0)
  with pytest.raises(ValueError, match="'counterfactual' needs pmi"):
    rewards.gate("counterfactual", stats_of(), v0=V0, h0=H0)


B, G, T, N = 3, 4, 7, 3


def random_codes(seed):
  """Codes in few ids, so that lists, repetitions and decoys meet."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(1, 8, (B, G, T))
  mask = rng.random((B, G, T)) < 0.8
  both = np.stack([rng.permutation(np.arange(1, 13))[: 2 * N] for _ in ids])
  injected, decoys = both[:, None, :N], both[:, None, N:] + 100
  absent = np.arange(N) >= rng.integers(0, N + 1, (B, 1, 1))
  injected = np.where(absent, -1, injected)
  return np.where(mask, ids, 0), mask, injected, np.where(absent, -1, decoys)


@few
@given(seeds)
def test_first_uses_and_swap_against_plain_python(seed):
  ids, mask, injected, decoys = random_codes(seed)
  uses = np.asarray(first_uses(ids, mask, injected))
  swapped = np.asarray(swap(ids, uses, injected, decoys))
  back = swap(swapped, first_uses(swapped, mask, decoys), decoys, injected)
  np.testing.assert_array_equal(back, ids)
  for b, g in np.ndindex(B, G):
    row, listed = ids[b, g].tolist(), injected[b, 0].tolist()
    seen, expected = set(), []
    for token, real in zip(row, mask[b, g], strict=True):
      new = bool(real and token in listed and token not in seen)
      expected.append(new)
      seen |= {token} if new else set()
    assert uses[b, g].tolist() == expected
    other = dict(zip(listed, decoys[b, 0].tolist(), strict=True))
    replaced = [other[x] if x in seen else x for x in row]
    assert swapped[b, g].tolist() == replaced


def test_uses_by_hand():
  # The list is 7 and 9; 0 pads the code and -1 the list.
  ids = jnp.array([[[7, 4, 7, 9, 0, 0]]])
  injected = jnp.array([[[9, 7, -1]]])
  chosen = ids > 0
  found = first_uses(ids, chosen, injected)
  assert found.tolist() == [[[True, False, False, True, False, False]]]
  # Had the first 7 been forced, the second would be the first that was chosen.
  found = first_uses(ids, chosen.at[0, 0, 0].set(False), injected)
  assert found.tolist() == [[[False, False, True, True, False, False]]]
  # Pads of a list match nothing, whatever stands in the code.
  empty = jnp.full((1, 1, 3), -1)
  assert not first_uses(jnp.full((1, 1, 6), -1), chosen, empty).any()


def test_swap_takes_every_copy_of_what_is_used():
  ids = jnp.array([[[7, 4, 7, 9]]])
  injected, decoys = jnp.array([[[9, 7]]]), jnp.array([[[30, 31]]])
  uses = jnp.array([[[True, False, False, True]]])
  assert swap(ids, uses, injected, decoys).tolist() == [[[31, 4, 31, 30]]]
  # One alone: the other stays.
  alone = uses.at[0, 0, 3].set(False)
  assert swap(ids, alone, injected, decoys).tolist() == [[[31, 4, 31, 9]]]
  # An id without a decoy stays.
  short = jnp.array([[[-1, 31]]])
  assert swap(ids, uses, injected, short).tolist() == [[[31, 4, 31, 9]]]


def test_load_by_hand():
  # (2.5 - 0.5) / (0.5 * 8) = 1/2; below the threshold 0, far above it 1.
  gap = jnp.array([[2.5, 0.4, -3.0, 50.0, 50.0]])
  count = jnp.array([[8, 8, 8, 8, 0]])
  settings = dict(threshold=0.5, nats_per_token=0.5)
  found = rewards.load_bearing(gap, count, **settings)
  np.testing.assert_allclose(found, [[0.5, 0, 0, 1, 0]])
  # One at a time: (0.75 - 0.5) / 0.5 = 1/2. The last is no use.
  gaps = jnp.array([[[0.75, 0.0, 9.0, 9.0]]])
  uses = jnp.array([[[True, True, True, False]]])
  found = rewards.load_bearing_tokens(gaps, uses, **settings)
  np.testing.assert_allclose(found, [[[0.5, 0, 1, 0]]])


def random_parts(seed, rows=64, width=8):
  """Arguments of gated, extremes among them; a fixed L for each code."""
  rng = np.random.default_rng(seed)
  unit = lambda *shape: np.where(
    rng.random(shape) < 0.3, rng.integers(0, 2, shape), rng.random(shape)
  ).astype(np.float32)
  listed = rng.integers(1, width + 1, rows)
  # One fewer than listed at most, so that one more can be appended.
  uses = np.arange(width) < rng.integers(0, listed)[:, None]
  budget, sign = 16, rng.choice(np.float32([1, 1, 1, -2]), (rows, 1))
  return {
    "fidelity": unit(rows, 1) * sign,
    "length": uses.sum(-1)[:, None]
    + rng.integers(0, budget - width, (rows, 1)),
    "gates": unit(rows, 1, width),
    "uses": uses[:, None],
    "load": unit(rows, 1),
    "listed": listed,
    "budget": budget,
    "price": rng.choice([0.0, 1.0, rng.random()]).astype(np.float32),
    "share": rng.random(dtype=np.float32),
  }


def reward_of(parts, *, bonus, mode="bonus", **changed):
  parts = parts | changed
  first = ("fidelity", "length", "gates", "uses", "load")
  rest = {k: v for k, v in parts.items() if k not in first}
  return gated(*(parts[k] for k in first), bonus=bonus, mode=mode, **rest)


def appended(parts):
  """One more use at the end, one token longer."""
  uses = parts["uses"].copy()
  rows = np.arange(len(uses))
  uses[rows, 0, uses.sum(-1)[:, 0]] = True
  return {"uses": uses, "length": parts["length"] + 1}


def bound_of(parts):
  found = rewards.largest_bonus(
    price=parts["price"], listed=parts["listed"], budget=parts["budget"]
  )
  return found[:, None].astype(np.float32)


@few
@given(seeds)
def test_under_the_bound_appending_never_pays_and_replacing_never_costs(seed):
  parts = random_parts(seed)
  before, _ = reward_of(parts, bonus=bound_of(parts))
  more = appended(parts)
  longer, _ = reward_of(parts, bonus=bound_of(parts), **more)
  replaced, _ = reward_of(parts, bonus=bound_of(parts), uses=more["uses"])
  assert (np.asarray(longer) <= np.asarray(before) + 1e-6).all()
  assert (np.asarray(replaced) >= np.asarray(before) - 1e-6).all()
  # At each token's own L it is no different.
  load = np.broadcast_to(parts["load"][..., None], parts["gates"].shape)
  again, _ = reward_of(parts, bonus=bound_of(parts), load=load, **more)
  np.testing.assert_allclose(again, longer, atol=1e-6)


@few
@given(seeds)
def test_the_bound_is_tight(seed):
  """Half as much again pays a useless token where gate and load allow it."""
  parts = random_parts(seed) | {"price": np.float32(0.5)}
  parts["fidelity"] = np.maximum(parts["fidelity"], 0.1)
  parts["gates"], parts["load"] = (
    np.ones_like(parts[k]) for k in ("gates", "load")
  )
  bonus = 1.5 * bound_of(parts)
  before, _ = reward_of(parts, bonus=bonus)
  after, _ = reward_of(parts, bonus=bonus, **appended(parts))
  assert (after > before).all()
  # Without load it is worth its price and no more, whatever the bonus.
  free = {"bonus": 1e3 * bonus, "load": np.zeros_like(parts["load"])}
  before, _ = reward_of(parts, **free)
  after, _ = reward_of(parts, **free, **appended(parts))
  price = parts["fidelity"] * parts["price"] / parts["budget"]
  np.testing.assert_allclose(before - after, price, atol=1e-6)


@few
@given(seeds, st.sampled_from(MODES), st.booleans())
def test_the_reward_and_its_parts_against_numpy(seed, mode, of_token):
  parts = random_parts(seed)
  rng = np.random.default_rng(seed)
  shape = parts["gates"].shape
  parts["uses"] = rng.random(shape) < 0.5
  if of_token:
    parts["load"] = rng.random(shape).astype(np.float32)
  reward, found = reward_of(parts, bonus=0.7, mode=mode)
  x = {k: np.asarray(v, np.float64) for k, v in parts.items()}
  n = x["listed"][:, None]
  load = x["load"] if of_token else x["load"][..., None] * np.ones(shape)
  count = x["uses"].sum(-1)
  mean = lambda v: (x["uses"] * v).sum(-1) / np.maximum(count, 1)
  gained = np.maximum(x["fidelity"], 0)
  priced = gained * (1 - x["price"] * x["length"] / x["budget"])
  priced += np.minimum(x["fidelity"], 0)
  if mode == "bonus":
    earned = (x["uses"] * load * x["gates"]).sum(-1) / n
    expected = priced + 0.7 * gained * earned
  else:
    factor = 1 - x["share"] + x["share"] * mean(x["gates"])
    expected = np.where(priced > 0, priced * factor, priced)
  near = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  near(reward, expected)
  assert set(found) == {"fidelity", "priced", "bonus", "gate", "load", "uses"}
  assert {v.shape for v in found.values()} == {reward.shape}
  # The parts make the reward again, from the sum and from their definitions.
  np.testing.assert_array_equal(reward, found["priced"] + found["bonus"])
  p = {k: np.asarray(v, np.float64) for k, v in found.items()}
  near(p["priced"], priced)
  near(p["gate"], mean(x["gates"]))
  near(p["load"], mean(load))
  near(p["uses"], count)
  near(p["fidelity"], gained)
  if mode == "multiply":
    less = 1 - x["share"] * (1 - p["gate"])
    near(reward, p["priced"] * np.where(p["priced"] > 0, less, 1))
  elif not of_token:
    paid = 0.7 * p["fidelity"] * p["load"] * p["gate"] * p["uses"] / n
    near(reward, p["priced"] + paid)


def parts_by_hand():
  """F = 0.5, price 0.4, length 8 of 16; two uses of four ids."""
  return {
    "fidelity": np.full((1, 1), 0.5, np.float32),
    "length": np.full((1, 1), 8),
    "gates": np.array([[[0.2, np.nan, 0.6]]], np.float32),
    "uses": np.array([[[True, False, True]]]),
    "load": np.full((1, 1), 0.5, np.float32),
    "listed": np.array([4]),
    "budget": 16,
    "price": 0.4,
    "share": 0.25,
  }


def test_rewards_by_hand():
  parts = parts_by_hand()
  # priced: 0.5 (1 - 0.4 * 8/16) = 0.4; bonus: 2 * 0.5 * 0.5 * 0.8 / 4 = 0.1.
  np.testing.assert_allclose(reward_of(parts, bonus=2.0)[0], 0.5, rtol=1e-6)
  # Not compiled, nothing hides what stands in the place of no use.
  first = [parts[k] for k in ("fidelity", "length", "gates", "uses", "load")]
  rest = {k: parts[k] for k in ("listed", "budget", "price", "share")}
  plain, _ = rewards.gated(*first, bonus=2.0, mode="bonus", **rest)
  np.testing.assert_allclose(plain, 0.5, rtol=1e-6)
  column = {"listed": parts["listed"][:, None]}
  again = reward_of(parts, bonus=jnp.full((1, 1), 2.0), **column)
  np.testing.assert_allclose(again[0], 0.5, rtol=1e-6)
  # multiply: 0.4 (0.75 + 0.25 * 0.4) = 0.34, whatever the load and the bonus.
  found = reward_of(parts, bonus=2.0, mode="multiply")
  np.testing.assert_allclose(found[0], 0.34, rtol=1e-6)


@pytest.mark.parametrize(
  "changed, bonus, multiply",
  [
    # Nothing was listed: priced alone.
    ({"listed": np.array([0]), "uses": np.zeros((1, 1, 3), bool)}, 0.4, 0.4),
    # Nothing listed was used: no bonus, and a mean gate of 0: 0.4 * 0.75.
    ({"uses": np.zeros((1, 1, 3), bool)}, 0.4, 0.3),
    # What conveys nothing is worth 0; what misleads has no price, no bonus.
    ({"fidelity": np.zeros((1, 1), np.float32)}, 0.0, 0.0),
    ({"fidelity": np.full((1, 1), -3, np.float32)}, -3.0, -3.0),
  ],
)
def test_conventions(changed, bonus, multiply):
  for mode, expected in zip(MODES, (bonus, multiply), strict=True):
    reward, parts = reward_of(parts_by_hand(), bonus=2.0, mode=mode, **changed)
    np.testing.assert_allclose(reward, expected, rtol=1e-6)
    assert all(np.isfinite(x).all() for x in parts.values())


def test_budgets_of_each_prompt():
  """As an array, budgets price each source's codes by its own."""
  row = parts_by_hand() | {"budget": jnp.array([[16], [32]])}
  first = [
    np.concatenate([row[k]] * 2)
    for k in ("fidelity", "length", "gates", "uses", "load")
  ]
  rest = {k: row[k] for k in ("budget", "price", "share")}
  _, parts = jax.jit(rewards.gated, static_argnames="mode")(
    *first, bonus=2.0, mode="bonus", listed=np.array([4, 4]), **rest
  )
  # 0.5 (1 - 0.4 * 8/16), 0.5 (1 - 0.4 * 8/32); the bonus is as it was.
  np.testing.assert_allclose(parts["priced"], [[0.4], [0.45]], rtol=1e-6)
  np.testing.assert_allclose(parts["bonus"], [[0.1], [0.1]], rtol=1e-6)


def test_modes():
  with pytest.raises(
    ValueError, match=r"config.patterns.cdv.gate.mode 'add' is none of"
  ):
    reward_of(parts_by_hand(), bonus=1.0, mode="add")


def test_forced_banned_and_repeated_tokens_earn_nothing():
  """7 is listed. It is forced, then the only id allowed, then said freely."""
  vocab, listed = 12, jnp.array([[[7]]])
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(1, 1, 4, vocab)), jnp.float32)
  ids = jnp.full((1, 1, 4), 7)
  allowed = jnp.ones(logits.shape, bool)
  only = allowed.at[0, 0, 1].set(jnp.arange(vocab) == 7)
  chosen = jnp.array([[[False, True, True, True]]])

  def earned(allowed, chosen):
    lists = jnp.broadcast_to(listed, (1, 1, 4, 1))
    stats = from_logits(logits, ids, lists, allowed)
    g = gate("density", stats, v0=0.1, h0=0.1)
    uses = first_uses(ids, chosen, listed)
    parts = parts_by_hand() | {"listed": jnp.array([1]), "gates": g}
    parts["load"] = jnp.ones((1, 1))
    return float(reward_of(parts, bonus=1.0, uses=uses)[1]["bonus"][0, 0])

  # The first that was chosen had no alternative, and the copies do not count.
  assert earned(only, chosen) == 0.0
  assert earned(allowed, jnp.zeros_like(chosen)) == 0.0
  once = earned(allowed, chosen & (jnp.arange(4) == 1))
  assert earned(allowed, chosen) == once > 0.0


@pytest.mark.parametrize("name", rewards.GATES)
@pytest.mark.parametrize("mode", MODES)
def test_no_gradient_reaches_logits_or_parameters(name, mode):
  rng = np.random.default_rng(0)
  hidden = jnp.asarray(rng.normal(size=(1, 2, 3, 5)), jnp.float32)
  weights = jnp.asarray(rng.normal(size=(5, 12)), jnp.float32)
  ids = jnp.asarray(rng.integers(6, 9, (1, 2, 3)))
  listed = jnp.array([[[6, 7, 8]]])

  def total(hidden, weights, fidelity):
    logits = hidden @ weights
    lists = jnp.broadcast_to(listed, (1, 2, 3, 3))
    stats = token_stats.from_logits(logits, ids, lists)
    pmi = rewards.pmi(stats.log_prob, 2.0 * stats.log_prob[None])
    g = rewards.gate(name, stats, v0=1.0, h0=1.0, pmi=pmi)
    uses = rewards.first_uses(ids, jnp.ones(ids.shape, bool), listed)
    gap = jnp.sum(logits, (-1, -2)) + 50.0
    load = rewards.load_bearing(
      gap, jnp.sum(uses, -1), threshold=0.1, nats_per_token=30.0
    )
    reward, parts = rewards.gated(
      fidelity,
      jnp.full((1, 2), 3),
      g,
      uses,
      load,
      budget=8,
      price=0.1,
      listed=jnp.array([3]),
      bonus=0.5,
      mode=mode,
      share=0.5,
    )
    return jnp.sum(reward) + sum(jnp.sum(x) for x in parts.values())

  fidelity = jnp.full((1, 2), 0.5)
  found = jax.jit(jax.grad(total, (0, 1, 2)))(hidden, weights, fidelity)
  for gradient in found:
    np.testing.assert_array_equal(gradient, 0.0)
  # It is not for want of a reward that depends on them.
  value = jax.jit(total)
  moved = value(hidden, weights * 1.5, fidelity)
  assert moved != value(hidden, weights, fidelity)


def test_largest_bonus():
  # A token costs 0.3 R / 32 and earns beta R / 8: equal at 0.075.
  settings = dict(price=0.3, listed=8, budget=32)
  assert rewards.largest_bonus(**settings) == pytest.approx(0.075)
  rewards.check_bonus(bonus=0.075, beyond=False, **settings)
  rewards.check_bonus(bonus=0.3, beyond=True, **settings)
  rewards.check_bonus(bonus=0.3, beyond=False, price=0.3, listed=0, budget=32)
  with pytest.raises(ValueError) as error:
    rewards.check_bonus(bonus=0.3, beyond=False, **settings)
  for part in (
    "config.patterns.cdv.gate.bonus 0.3 is above 0.075",
    "config.patterns.cdv.length_price (0.3)",
    "config.augment.inject (8)",
    "config.budget (32)",
    "earn up to 0.0375 R and cost 0.00937 R",  # 0.3 / 8 and 0.3 / 32
    "gate * load is above 0.25",
    "config.patterns.cdv.gate.beyond_bound=True",
  ):
    assert part in str(error.value)
  # Without a price nothing is bounded: any bonus pays.
  with pytest.raises(ValueError, match="above 0, which"):
    rewards.check_bonus(
      bonus=1e-3, beyond=False, price=0.0, listed=8, budget=32
    )
