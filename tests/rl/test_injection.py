"""injection.py: what using the injected ids is worth, by hand and in a step."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.data import tokenizer
from rsrc_jax.lm import rollout
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.ops import rewards
from rsrc_jax.patterns import cdv
from rsrc_jax.rl import (
  constraints,
  curriculum,
  injected_ids,
  injection,
  learner,
  verifier,
)
from rsrc_jax.types import (
  Constraints,
  Context,
  Controls,
  Given,
  Rollout,
  Tokens,
  TokenStats,
)

K, PRICE, BETA, TAU, NATS = 4, 0.4, 0.3, 0.2, 4.0
SETTINGS = {
  "name": "density",
  "load_bearing": "message",
  "bonus": BETA,
  "mode": "bonus",
  "share": 0.5,
  "threshold": TAU,
  "nats_per_token": NATS,
  "others": 1,
  "decay": 0.9,
}
ROLE = tiny.ROLES["C"]._replace(length=K)
# Injected are 15 and 16, in their place come 17 and 18.
CODES = [
  [8, 9, 15, 16],  # appended
  [15, 8, 9, 10],  # woven: the one place where D reads 15
  [8, 9, 10, 11],  # without
  [16, 15],  # nothing else: no tail, there is nothing to append to
]
FIDELITY = np.array([[0.5, 0.8, -0.1, 0.6]], np.float32)
MEANING = 2.0  # nats that 15 is worth to D as the first token


def tokens(rows):
  ids = np.array([[*row, *[0] * (K - len(row))] for row in rows], np.int32)
  mask = np.arange(K) < np.array([len(row) for row in rows])[:, None]
  return Tokens(jnp.asarray(ids[None]), jnp.asarray(mask[None]))


CODE = tokens(CODES)
SOURCE = Tokens(
  jnp.asarray(np.array([[8, 9, 10, 11]], np.int32)),
  jnp.asarray(np.ones((1, 4), bool)),
)


def likelihood(params, s, code):
  """A D to whom 15 means something as the first token, and no copy does."""
  del params, s
  return -9.0 + MEANING * (code.ids[..., 0] == 15)


def stats(seed=0, scale=1.0):
  rng = np.random.default_rng(seed)
  draw = lambda: jnp.asarray(rng.uniform(0.1, 0.9, (1, 4, K)) * scale)
  found = TokenStats(*(draw().astype(jnp.float32) for _ in range(6)))
  return found._replace(log_prob=-found.entropy)


def ask(level=0, share=1.0, budget=None, used=((15, 16),), decoys=((17, 18),)):
  none = jnp.full((1, 1, 1), -1, jnp.int32)
  lists = lambda x: jnp.asarray(x, jnp.int32)[:, None]
  limits = Constraints(
    none, none, lists(used), None, jnp.ones((1, 1)),
    None if budget is None else jnp.full((1, 1), budget, jnp.int32),
  )  # fmt: skip
  return Controls(limits, lists(decoys), jnp.float32(share), jnp.int32(level))


def pay(
  asked=None, code=CODE, found=None, carry=None, monitor=False, price=PRICE,
  **changes,
):  # fmt: skip
  """-> reward [4], metrics, carry; numpy."""
  asked = asked or ask()
  gate = injection.make(
    tiny.POLICY, ROLE, monitor=monitor, **{**SETTINGS, **changes}
  )
  found = stats() if found is None else found
  c = Rollout(SOURCE, code, found.log_prob, asked.constraints, found)
  carry = gate.init() if carry is None else carry

  @jax.jit
  def run(carry):
    known = likelihood(None, None, code)
    return gate.pay(
      None, carry, SOURCE, c, code, jnp.asarray(FIDELITY), known, likelihood,
      price, asked,
    )  # fmt: skip

  reward, bonus, metrics, carry = jax.device_get(run(carry))
  np.testing.assert_allclose(metrics["pay_bonus"], bonus.mean(), rtol=1e-5)
  return reward[0], metrics, carry


def priced(price=PRICE):
  """The reward without a bonus: what misleads has no price."""
  value, length = FIDELITY[0], np.array([4, 4, 4, 2])
  return np.where(value > 0, value * (1 - price * length / K), value)


def by_hand(found, load, share=1.0, count=2):
  """Reward of each code; load of each: the formula, in numpy."""
  plain = np.array([
    [1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0],
  ], bool)  # fmt: skip
  uses = np.array([
    [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0],
  ], bool)  # fmt: skip
  V, H, m = (
    np.asarray(getattr(found, x), np.float64)[0]
    for x in ("varentropy", "collision", "mass")
  )
  v0, h0 = np.median(V[plain]), np.median(H[plain])
  g = np.minimum(1, 4 * (1 - m) ** 2 * H / (H + h0) * V / (V + v0))
  fidelity = np.maximum(FIDELITY[0], 0)
  sums = np.array([row[use].sum() for row, use in zip(g, uses, strict=True)])
  bonus = BETA * share * fidelity * np.array(load) * sums / count
  return priced() + bonus, bonus, (v0, h0)


WOVEN = (MEANING - TAU) / NATS  # L of the second code: 1.8 nats of 4


def test_woven_ids_are_paid_and_appended_ones_are_not():
  found = stats()
  reward, metrics, carry = pay(found=found)
  expected, bonus, (v0, h0) = by_hand(found, [0, WOVEN, 0, 0])
  np.testing.assert_allclose(reward, expected, rtol=1e-5)
  assert (bonus > 0).tolist() == [False, True, False, False]
  np.testing.assert_allclose(metrics["pay_bonus"], bonus.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["pay_load"], WOVEN / 4, rtol=1e-5)
  assert metrics["pay_uses"] == 5 / 4
  # Means of the parts recombine to the mean of the reward.
  np.testing.assert_allclose(
    metrics["pay_priced"] + metrics["pay_bonus"], reward.mean(), rtol=1e-5
  )
  np.testing.assert_allclose([carry.v0, carry.h0], [v0, h0], rtol=1e-6)
  assert metrics["v0"] == carry.v0 and metrics["h0"] == carry.h0


def test_the_curriculum_takes_the_bonus_away():
  found = stats()
  for share in (0.5, 0.0):
    reward, _, _ = pay(ask(share=share), found=found)
    expected, _, _ = by_hand(found, [0, WOVEN, 0, 0], share)
    np.testing.assert_allclose(reward, expected, rtol=1e-5)


def test_length_is_priced_by_the_longest_code_whatever_was_asked_for():
  """Else one more useless token could pay, where it lifts the budget."""
  reward, _, _ = pay(ask(budget=2))
  expected, _, _ = by_hand(stats(), [0, WOVEN, 0, 0])
  np.testing.assert_allclose(reward, expected, rtol=1e-5)
  # The price may be each source's own.
  free, _, _ = pay(price=np.zeros((1, 1), np.float32))
  np.testing.assert_allclose(
    reward - free, priced() - FIDELITY[0], rtol=1e-4, atol=1e-6
  )


def test_without_the_factors_rote_is_paid():
  """The ablations: no gate pays each use the same, no load pays rote."""
  reward, metrics, _ = pay(name="none", load_bearing="none")
  fidelity = np.maximum(FIDELITY[0], 0)
  expected = priced() + BETA * fidelity * np.array([2, 1, 0, 2]) / 2
  np.testing.assert_allclose(reward, expected, rtol=1e-5)
  assert "rote_share" not in metrics  # nothing was swapped
  # The seed's wording multiplies, and knows no load.
  _, metrics, _ = pay(mode="multiply", load_bearing="none")
  assert metrics["pay_bonus"] < 0


def test_each_token_bears_its_own_load():
  """One that works carries no other: [15 works, 8, 9, 16 is rote]."""
  code = tokens([[15, 8, 9, 16]] * 4)
  load = lambda kind: pay(
    code=code, name="none", load_bearing=kind, nats_per_token=1.0
  )[1]["pay_load"]
  np.testing.assert_allclose(load("token"), (1 + 0) / 2)
  # As a message both are credited: 1.8 nats of the 2 that two need.
  np.testing.assert_allclose(load("message"), 0.9, rtol=1e-5)


def test_nothing_injected_is_nothing_paid():
  asked = ask(used=((-1, -1),), decoys=((-1, -1),))
  reward, metrics, _ = pay(asked, monitor=True)
  np.testing.assert_allclose(reward, priced(), rtol=1e-6)
  assert metrics["use_rate"] == metrics["tail_share"] == 0
  assert all(np.isfinite(x) for x in metrics.values())


def test_monitors_by_hand():
  """Users are the codes 0, 1 and 3."""
  found = stats()
  _, metrics, _ = pay(found=found, monitor=True, load_bearing="none")
  assert metrics["use_rate"] == 3 / 4 and metrics["used"] == 5 / 4
  np.testing.assert_allclose(metrics["tail_share"], 1 / 3, rtol=1e-6)
  np.testing.assert_allclose(metrics["rote_share"], 2 / 3, rtol=1e-6)
  bits = MEANING / 1 / 3 / math.log(2)
  np.testing.assert_allclose(metrics["swap_bits"], bits, rtol=1e-5)
  uses = [(0, 2), (0, 3), (1, 0), (3, 0), (3, 1)]
  other = [(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), *((2, t) for t in range(4))]
  for name in ("mass", "varentropy", "collision"):
    x = np.asarray(getattr(found, name))[0]
    for where, places in (("used", uses), ("other", other)):
      want = np.mean([x[i] for i in places])
      np.testing.assert_allclose(metrics[f"{name}_{where}"], want, rtol=1e-5)


def test_use_that_costs_less_than_a_bit_an_id_is_junk():
  """15 is worth `bits` to D as the first token; no other id is worth any."""

  def of(bits, row):
    worth = lambda params, s, code: (
      -9.0 + bits * math.log(2.0) * (code.ids[..., 0] == 15)
    )
    code, asked = tokens([row] * 4), ask()
    gate = injection.make(tiny.POLICY, ROLE, monitor=True, **SETTINGS)
    c = Rollout(SOURCE, code, None, asked.constraints, stats())
    _, _, metrics, _ = gate.pay(
      None, gate.init(), SOURCE, c, code, jnp.asarray(FIDELITY),
      worth(None, None, code), worth, PRICE, asked,
    )  # fmt: skip
    return [float(metrics[x]) for x in ("junk_share", "swap_bits",
                                        "delete_bits")]  # fmt: skip

  close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
  close(of(1.1, [15, 8, 9, 10]), [0, 1.1, 1.1])
  close(of(0.9, [15, 8, 9, 10]), [1, 0.9, 0.9])
  # Two ids share what both are worth: 1.1 bits, .55 each.
  np.testing.assert_allclose(
    of(1.1, [15, 16, 9, 10]), [1, 0.55, 0.55], rtol=1e-5
  )
  # Nobody uses any: no user is junk.
  np.testing.assert_allclose(of(1.1, [8, 9, 10, 11]), [0, 0, 0])


def shown(code, injected, end=1, rows=1, seed=0):
  """-> ids [rows, N, T] and which hold an id; every row has the same code."""
  one = tokens([code])
  many = jax.tree.map(lambda x: jnp.repeat(x[0], rows, 0), one)
  lists = jnp.full((rows, 1, len(injected)), jnp.asarray(injected))
  keys = row_keys(jax.random.key(seed), jnp.arange(rows))
  found, some = jax.device_get(injected_ids.shown(many, lists, end, keys))
  np.testing.assert_array_equal(
    found.mask, np.broadcast_to(many.mask[:, None], found.mask.shape)
  )
  return found.ids, some


def test_each_listed_id_is_shown_in_any_place():
  """Of the code: its end and what follows it stay."""
  found, some = shown([8, 9, 1], [15, 16], rows=200)
  assert some.all() and found.shape == (200, 2, K)
  places = {tuple(row) for row in found.reshape(-1, K).tolist()}
  assert places == {
    (15, 9, 1, 0), (8, 15, 1, 0), (16, 9, 1, 0), (8, 16, 1, 0)
  }  # fmt: skip
  assert 60 < (found[:, 0, 0] == 15).sum() < 140  # each place half of the time
  assert ((found[:, 0] == 15) != (found[:, 1] == 16)).any()  # each its own
  # A list with holes shows what it has, and an empty code nothing.
  found, some = shown([8, 9, 1], [-1, 16])
  assert some.tolist() == [[False, True]]
  assert found[0, 0].tolist() == [8, 9, 1, 0] and 16 in found[0, 1]
  for code, listed in (([1], [15, 16]), ([], [15, 16]), ([8, 1], [-1, -1])):
    found, some = shown(code, listed)
    assert not some.any() and found[0, 0].tolist() == [
      *code,
      *[0] * (K - len(code)),
    ]


@pytest.mark.parametrize(
  "code, tail",
  [
    ([8, 15], True),
    ([8, 15, 16, 15], True),  # repeated, but a run at the end
    ([15, 8, 16], False),  # two runs
    ([8, 15, 9], False),
    ([15, 16], False),
    ([], False),
  ],
)
def test_a_tail_is_one_run_at_the_end(code, tail):
  _, metrics, _ = pay(code=tokens([code] * 4))
  assert metrics["tail_share"] == tail


def test_a_repeated_id_is_used_once():
  _, metrics, _ = pay(code=tokens([[15, 8, 15, 15]] * 4), name="none")
  assert metrics["pay_uses"] == metrics["used"] == 1


def test_norms_stay_within_a_level():
  """v0 and h0 are the running medians of when the level began."""
  one, two = stats(1), stats(2, scale=3.0)
  _, _, a = pay(ask(level=0), found=one)
  assert a.v == a.v0 and a.level == 0  # the first batch is all that is known
  _, metrics, b = pay(ask(level=0), found=two, carry=a)
  assert b.v0 == a.v0 == metrics["v0"] and b.h0 == a.h0 and b.v != a.v
  _, _, (v_two, h_two) = by_hand(two, [0, 0, 0, 0])
  np.testing.assert_allclose(
    [b.v, b.h], [0.9 * a.v + 0.1 * v_two, 0.9 * a.h + 0.1 * h_two], rtol=1e-5
  )
  _, metrics, c = pay(ask(level=1), found=two, carry=b)
  assert c.v0 == c.v == metrics["v0"] and c.h0 == c.h and c.level == 1
  assert c.v0 != a.v0
  # A batch without a single plain token moves nothing; a floor holds.
  _, _, d = pay(ask(level=1), code=tokens([[15, 16]] * 4), carry=c)
  np.testing.assert_allclose([d.v, d.h], [c.v, c.h], rtol=1e-6)
  _, _, e = pay(ask(level=0), found=stats(scale=0.0))
  np.testing.assert_allclose([e.v0, e.h0], injection.FLOOR)


def test_counterfactual_compares_with_the_next_sources():
  """Scored under the source of another row; U and masks stay the code's."""
  batch, params = tiny.batch(), tiny.params()
  C = tiny.ROLES["C"]._replace(use_tag=23)
  limit = constraints.make("free", tiny.CODE, inject=2)

  @jax.jit
  def play(params):
    asked = limit(jax.random.key(0), batch, tiny.schedule())
    c = rollout.sample(
      tiny.POLICY, params, C, C.prompt(batch.source, asked.constraints),
      row_keys(jax.random.key(1), batch.row), samples=tiny.GROUP,
      constraints=asked.constraints, stats=True,
    )  # fmt: skip
    gate = injection.make(
      tiny.POLICY, C,
      **{**SETTINGS, "name": "counterfactual", "load_bearing": "none",
         "others": 2},
    )  # fmt: skip
    code = c.output._replace(mask=c.output.mask & (c.output.ids != C.end))
    flat = jnp.zeros(c.output.ids.shape[:2])
    unread = lambda params, s, code: None  # no load is measured
    _, _, metrics, _ = gate.pay(
      params, gate.init(), batch.source, c, code, flat, flat, unread, 0.0, asked
    )
    logp = lambda shift: rollout.score(
      tiny.POLICY, params, C,
      C.prompt(Tokens(*(jnp.roll(x, shift, 0) for x in batch.source)),
               asked.constraints),
      c.output, asked.constraints,
    )[0]  # fmt: skip
    return asked, code, metrics, logp(0), jnp.stack([logp(1), logp(2)])

  asked, code, metrics, own, others = jax.device_get(play(params))
  pmi = own - np.log(np.exp(others.astype(np.float64)).mean(0))
  g = 1 - np.exp(-np.maximum(pmi, 0))
  uses = rewards.first_uses(code.ids, code.mask, asked.constraints.injected)
  uses = np.asarray(uses)
  count = uses.sum(-1)
  want = np.where(uses, g, 0).sum(-1) / np.maximum(count, 1)
  assert count.sum() > 3 and want.max() > 0.01
  np.testing.assert_allclose(metrics["pay_gate"], want.mean(), atol=1e-5)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"name": "varentropy"}, r"config\.patterns\.cdv\.gate\.name='varentropy'"),
    ({"load_bearing": "all"}, "load_bearing='all'"),
    ({"name": "counterfactual", "others": 0}, r"gate\.others=0"),
  ],
)
def test_unknown_settings(changes, message):
  with pytest.raises(ValueError, match=message):
    injection.make(tiny.POLICY, ROLE, **{**SETTINGS, **changes})


@functools.cache
def paid_by(mode):
  """cdv.pay of (parts, price, priced), by the gate of a mode or none."""
  gate = mode and injection.make(
    tiny.POLICY, ROLE, **{**SETTINGS, "mode": mode, "load_bearing": "none"}
  )
  p = cdv.Parts(**dict.fromkeys(cdv.Parts._fields))._replace(gate=gate, C=ROLE)
  asked, found = ask(), stats()
  c = Rollout(SOURCE, CODE, found.log_prob, asked.constraints, found)

  @jax.jit
  def pay(parts, price, priced):
    return cdv.pay(
      p._replace(length_price=price), None, None, gate and gate.init(),
      SOURCE, c, CODE, parts, jnp.zeros((1, 4)), asked._replace(priced=priced),
    )[:2]  # fmt: skip

  return pay


@pytest.mark.parametrize("mode", [*rewards.MODES, None])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1, width=32), st.booleans())
def test_the_parts_of_a_reward_add_up(mode, seed, price, announced):
  rng = np.random.default_rng(seed)
  worth = {
    name: rng.uniform(-1, 0.5, (1, 4)).astype(np.float32)
    for name in ("verifier", "reader", "shaping")
  }
  reward, parts = jax.device_get(
    paid_by(mode)(worth, np.float32(price), np.full((1, 1), not announced))
  )
  more = {"price"} | ({"bonus"} if mode else set())
  assert set(parts) == set(worth) | more
  np.testing.assert_allclose(sum(parts.values()), reward, atol=1e-6)
  for name, value in worth.items():
    np.testing.assert_array_equal(parts[name], value)
  # What is announced has no price; nor has what misleads, or a bonus.
  value = sum(worth.values())
  assert (parts["price"] <= 0).all()
  if announced or price == 0:
    np.testing.assert_allclose(parts["price"], 0.0, atol=1e-7)
  for name in more:
    np.testing.assert_array_equal(parts[name][value <= 0], 0.0)
  if mode:
    sign = 1 if mode == "bonus" else -1
    assert (sign * parts["bonus"] >= 0).all()


USE, AVOID, SLOT = 20, 21, 22
ROLES = tiny.ROLES | {
  "C": tiny.ROLES["C"]._replace(use_tag=USE, avoid_tag=AVOID, length_tag=SLOT)
}


@functools.cache
def limit():
  """What the pattern's codes are held to."""
  return constraints.make(
    "force", tiny.CODE & tiny.WORDS, inject=2, ban=1, budgets=(2, 3)
  )


@functools.cache
def frozen():
  """A base and a reader that are not what is trained."""
  return {"base": tiny.params(9), "reader": tiny.params(9)}


def pattern(**changes):
  verify = verifier.make(
    tiny.POLICY, ROLES["V"], weights={"edit": 1.0}, shaping={"gain": 1.0},
    positions=None,
  )  # fmt: skip
  return cdv.make(
    Context(tiny.POLICY, ROLES, verify), group=tiny.GROUP, decodes=2,
    length_price=0.1, lessons=1, dropout=0.0, **{"gate": SETTINGS} | changes,
  )  # fmt: skip


@pytest.mark.slow
def test_multiply_trains():
  """The founding document's form: reward, scaled by the gate, is learnt."""
  rewarded, metrics = [], {}
  gated = pattern(gate=SETTINGS | {"mode": "multiply", "bonus": 0.0})
  for _, metrics in steps_of(gated, 150, rate=3e-2):
    assert all(np.isfinite(x) for x in jax.tree.leaves(metrics))
    np.testing.assert_allclose(
      metrics["pay_priced"] + metrics["pay_bonus"], metrics["reward"],
      atol=1e-5,
    )  # fmt: skip
    assert metrics["pay_bonus"] <= 0.0  # it only takes
    rewarded.append(float(metrics["reward"]))
  assert np.mean(rewarded[-20:]) > np.mean(rewarded[:20]) + 0.02


def steps_of(gated, count, rate=1e-2):
  """Yields the state and the metrics after each of `count` steps."""
  relax = curriculum.linear(hidden=0.5, steps=10_000, explore_steps=10_000)
  tx = optax.adam(rate)
  loss = learner.make_loss(
    tiny.POLICY, ROLES, weights={"C": 1.0, "D": 1.0},
    lesson_weights={"D": 1.0}, entropy_bonus={"C": 0.01}, clip_low=0.2,
    clip_high=0.28, importance_cap=2.0, per_token=False,
  )  # fmt: skip
  step = jax.jit(learner.make_step(tiny.POLICY, ROLES, gated, tx, loss=loss))
  params = tiny.params()
  state = learner.TrainState(
    jnp.int32(0), params, tx.init(params), gated.init(), relax.init(),
    jnp.uint32(0),
  )  # fmt: skip
  for seed in range(count):
    batch = tiny.batch(seed % 4)
    asked = limit()(jax.random.key(seed), batch, tiny.schedule(hidden=0.5))
    asked = Given(asked, relax.update(state.curriculum, state.step))
    state, metrics = step(state, frozen(), batch, asked)
    yield state, metrics


def test_a_gated_step():
  """Finite, of one shape over steps; v0 is carried; the reward is constant."""
  relax = curriculum.linear(hidden=0.5, steps=10, explore_steps=20)
  tx = optax.adam(1e-2)
  loss = learner.make_loss(
    tiny.POLICY, ROLES, weights={"C": 1.0, "D": 1.0},
    lesson_weights={"D": 1.0}, entropy_bonus={"C": 0.01}, clip_low=0.2,
    clip_high=0.28, importance_cap=2.0, per_token=False,
  )  # fmt: skip
  step = jax.jit(
    learner.make_step(tiny.POLICY, ROLES, pattern(), tx, loss=loss)
  )
  params = tiny.params()
  state = learner.TrainState(
    jnp.int32(0), params, tx.init(params), pattern().init(), relax.init(),
    jnp.uint32(0),
  )  # fmt: skip
  carries = []
  for seed in range(3):
    batch = tiny.batch(seed)
    asked = limit()(jax.random.key(seed), batch, tiny.schedule(hidden=0.5))
    asked = Given(asked, relax.update(state.curriculum, state.step))
    state, metrics = step(state, frozen(), batch, asked)
    assert all(np.isfinite(x) for x in jax.tree.leaves(metrics))
    carries.append(jax.device_get(state.carry))
  assert step._cache_size() == 1
  assert metrics["use_rate"] > 0 and "rote_share" in metrics
  np.testing.assert_allclose(
    metrics["pay_priced"] + metrics["pay_bonus"], metrics["reward"], rtol=1e-5
  )
  assert len({float(x.v) for x in carries}) == 3
  assert len({float(x.v0) for x in carries}) == 1
  # metrics.jsonl uses "phase" for the stage, so no metric has this name.
  assert "phase" not in metrics and metrics["curriculum_phase"] == 0


@pytest.mark.parametrize("name", ["literal", "density", "shuffled", "none"])
@pytest.mark.parametrize("load", ["message", "token"])
@pytest.mark.parametrize("mode", rewards.MODES)
def test_no_gradient_reaches_the_reward(name, load, mode):
  """All that it is made of has one: fidelity, statistics, D's likelihood."""
  changes = {"name": name, "load_bearing": load, "mode": mode}
  asked = ask()

  def reward(x):
    gate = injection.make(tiny.POLICY, ROLE, **{**SETTINGS, **changes})
    found = jax.tree.map(lambda y: y * x, stats())
    c = Rollout(SOURCE, CODE, found.log_prob, asked.constraints, found)
    scaled = lambda params, s, code: x * likelihood(params, s, code)
    known = scaled(None, None, CODE)
    value, *_ = gate.pay(
      None, gate.init(), SOURCE, c, CODE, x * jnp.asarray(FIDELITY), known,
      scaled, PRICE, asked,
    )  # fmt: skip
    return jnp.sum(value)

  value, gradient = jax.jit(jax.value_and_grad(reward))(1.0)
  assert gradient == 0.0
  assert value != jax.jit(reward)(1.1)


def test_d_never_sees_what_c_was_asked():
  """Codes hold 8 to 12 alone, so that any other id in a prompt is a leak."""
  batch = tiny.batch()
  mine = np.arange(8, 13)
  asked = limit()(jax.random.key(0), batch, tiny.schedule())
  used = np.asarray(asked.constraints.injected)
  shown = jnp.broadcast_to(jnp.asarray(mine, jnp.int32), (tiny.ROWS, 1, 5))
  ood = jnp.broadcast_to(jnp.array([16, 17]), used.shape)
  asked = asked._replace(
    constraints=asked.constraints._replace(allowed=shown, injected=ood),
    decoys=jnp.broadcast_to(jnp.array([18, 19]), used.shape),
  )
  episode, _ = jax.jit(pattern().play)(
    tiny.params(), frozen(), pattern().init(), batch, jax.random.key(0), asked
  )
  prompt = episode.rollouts["C"].prompt
  seen = set(np.asarray(prompt.ids)[np.asarray(prompt.mask)].tolist())
  assert {16, 17, USE, AVOID, SLOT} <= seen
  # D's own: its tag, codes, separator; nothing else, masked slots included.
  may = {0, tokenizer.D, tokenizer.SEPARATOR, *mine.tolist()}
  for prompt in (episode.rollouts["D"].prompt, episode.sft_batches["D"].prompt):
    found = set(np.asarray(prompt.ids).ravel().tolist())
    assert found <= may and len(found) > 4
    assert prompt.ids.shape[-1] == tiny.BUDGET + 2


def test_without_takes_the_injected_out_and_closes_up():
  found = injected_ids.remove_injected(CODE, jnp.array([[[15, 16]]]))
  rows = [
    ids[mask].tolist()
    for ids, mask in zip(
      *map(np.asarray, (found.ids[0], found.mask[0])), strict=True
    )
  ]
  assert rows == [[8, 9], [8, 9, 10], [8, 9, 10, 11], []]
  # Pads on the right, and 0 under them.
  assert (np.diff(found.mask[0].astype(int), axis=-1) <= 0).all()
  assert (np.asarray(found.ids)[~np.asarray(found.mask)] == 0).all()


def test_tau_is_what_the_swap_costs_a_rote_policy(monkeypatch):
  """A D that a decoy misleads by 3 nats, whatever C wrote.

  Of the first code, [8, 9] and the list appended, D reads 3 nats less with
  either decoy in it: tau is 3, and no appended list earns L. With the fixed
  threshold of 0.2 it would: clip((3 - .2) / (4 * 2), 0, 1) = .35.
  """
  misled = lambda params, s, code: (
    -9.0 - 3.0 * jnp.any((code.ids == 17) | (code.ids == 18), -1)
  )
  monkeypatch.setitem(globals(), "likelihood", misled)
  _, fixed, _ = pay()
  assert fixed["pay_load"] > 0.2
  _, measured, carry = pay(threshold=None)
  np.testing.assert_allclose(measured["tau"], 3.0, rtol=1e-6)
  assert measured["pay_load"] == 0 and measured["rote_share"] == 1
  # The next batch moves it by a tenth of the way, decay being .9.
  honest = lambda params, s, code: -9.0 + 0.0 * code.ids[..., 0]
  monkeypatch.setitem(globals(), "likelihood", honest)
  _, later, _ = pay(threshold=None, carry=carry)
  np.testing.assert_allclose(later["tau"], 0.9 * 3.0, rtol=1e-6)


def test_tau_is_of_as_many_ids_as_were_used(monkeypatch):
  """The first code uses none: one is appended; a hole of the list is closed."""
  costs = {17: 3.0, 18: 5.0}

  def misled(params, s, code):
    seen = sum(
      cost * jnp.any(code.ids == decoy, -1) for decoy, cost in costs.items()
    )
    return jnp.where(jnp.any(code.ids < 0, (-1, -2)), jnp.nan, -9.0 - seen)

  monkeypatch.setitem(globals(), "likelihood", misled)
  few = ask(used=((-1, 16),), decoys=((-1, 18),))
  for asked, tau in ((ask(), 3.0), (few, 5.0)):
    plain = CODE._replace(ids=jnp.where(CODE.ids >= 15, 8, CODE.ids))
    _, found, _ = pay(asked, code=plain, threshold=None)
    np.testing.assert_allclose(found["tau"], tau, rtol=1e-6)


def test_chance_is_measured_on_ids_that_c_never_heard_of():
  """The third code holds 11; C did not put it there for being asked."""
  _, found, _ = pay(ask(decoys=((17, 11),)))
  assert found["decoy_rate"] == 0.25  # 11 stands in the third code alone
  assert found["use_rate"] == 0.75
