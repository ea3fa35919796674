"""entropy.py: the multiplier that holds C's entropy at its target."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import tiny

from rsrc_jax import rules
from rsrc_jax.lm import keys, rollout
from rsrc_jax.rl import constraints, curriculum, entropy, learner
from rsrc_jax.runtime import checkpoint
from rsrc_jax.types import (
  Constraints,
  Episode,
  Given,
  Pattern,
  Rollout,
  Tokens,
  TrainState,
)

LINE = {"first": 0.5, "last": 0.1, "until": 0.5}


def held(steps=100, **settings):
  return entropy.make(steps=steps, **settings)


@pytest.mark.parametrize(
  "step, wanted", [(0, 0.5), (25, 0.3), (50, 0.1), (99, 0.1)]
)
def test_the_target_falls_along_a_line(step, wanted):
  """From .5 to .1 over half of 100 steps: .4 / 50 a step."""
  found = entropy.target(entropy.Hold(**LINE), jnp.int32(step), 100)
  np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_target_that_falls_at_once():
  how = entropy.Hold(first=0.5, last=0.1, until=0.0)
  assert entropy.target(how, jnp.int32(0), 100) == 0.5
  np.testing.assert_allclose(entropy.target(how, jnp.int32(1), 100), 0.1)


def test_the_multiplier_by_hand():
  hold = held(**LINE, rate=0.2, gain=2.0, floor=0.1, ceiling=10.0)
  state = hold.init()
  assert hold.multiplier(state) == 1.0
  state, m = hold.update(state, jnp.int32(0), jnp.float32(0.2))
  # Target .5, share .2: the error is ln 2.5 = .9163, the level .2 times that,
  # and twice the error comes on top of it.
  np.testing.assert_allclose(state, (0.18326, 2.01584), rtol=1e-4)
  assert m["hold_target"] == 0.5 and m["hold_multiplier"] == 1.0
  state, m = hold.update(state, jnp.int32(25), jnp.float32(0.9))
  # Target .3: ln (1 / 3) = -1.0986; .18326 - .2 * 1.0986, and on top of it
  # -2 * 1.0986: -2.2338, which is still above the floor, ln .1 = -2.3026.
  np.testing.assert_allclose(state, (-0.03646, -2.23370), rtol=1e-3)
  np.testing.assert_allclose(m["hold_multiplier"], math.exp(2.01584), rtol=1e-4)


def test_it_does_not_wind_up_beyond_its_limits():
  """However long it was out of reach, it comes back at once."""
  hold = held(first=0.5, last=0.5, rate=1.0, gain=0.0, floor=0.1, ceiling=2.0)
  update = jax.jit(lambda s, share: hold.update(s, jnp.int32(0), share)[0])
  for share, limit in ((1.0, 0.1), (0.25, 2.0)):
    state = hold.init()
    for _ in range(50):
      state = update(state, jnp.float32(share))
    np.testing.assert_allclose(hold.multiplier(state), limit, rtol=1e-5)
    back = update(state, jnp.float32(0.25 / share))
    # By a factor of 2 in the first step, as if it had never been there.
    moved = abs(float(back.level) - math.log(limit))
    np.testing.assert_allclose(moved, math.log(2), rtol=1e-4)


def test_lanes_of_a_vmap_are_held_one_by_one():
  """With settings of their own, which are arguments of the step."""
  hold = held(first=0.5, last=0.5)
  given, two = {"loss.hold.rate": jnp.array([0.1, 0.2, 0.4])}, math.log(2)
  states = jax.tree.map(lambda x: jnp.stack([x] * 3), hold.init())
  shares = jnp.array([0.25, 1.0, 0.5])
  found, _ = jax.vmap(hold.update, (0, None, 0, 0))(
    states, jnp.int32(3), shares, given
  )
  wanted = [0.1 * two, -0.2 * two, 0.0]
  np.testing.assert_allclose(found.level, wanted, atol=1e-6)


def rollout_of(allowed, lengths):
  """Two groups of two outputs with so many tokens, under these lists."""
  mask = np.arange(3) < np.asarray(lengths)[..., None]
  ids = jnp.where(jnp.asarray(mask), 9, 0)
  banned = jnp.full((2, 1, 1), -1)
  limits = Constraints(banned, jnp.asarray(allowed)[:, None])
  nothing = Tokens(jnp.zeros((2, 1), jnp.int32), jnp.ones((2, 1), bool))
  output = Tokens(ids.astype(jnp.int32), jnp.asarray(mask))
  return Rollout(nothing, output, jnp.zeros(mask.shape), limits)


def test_room_is_ln_of_what_each_row_may_write():
  """Two ids and the end in one row; the whole support in the other."""
  C = tiny.ROLES["C"]
  every = int(C.support.sum())
  r = rollout_of([[9, 10], [-1, -1]], [[3, 1], [2, 2]])
  # Four tokens of 2 ids and the end, four of all.
  wanted = (4 * math.log(3) + 4 * math.log(every)) / 8
  np.testing.assert_allclose(entropy.room(C, r), wanted, rtol=1e-6)
  share = lambda x: entropy.shares({"C": C}, {"C": r}, {"C_entropy": x})
  np.testing.assert_allclose(share(wanted)["C_entropy_share"], 1.0, rtol=1e-6)
  np.testing.assert_allclose(share(wanted / 4)["C_entropy_share"], 0.25)


def test_without_a_choice_the_share_is_all_there_is():
  """Nothing is left but the end: more bonus would change nothing."""
  C = tiny.ROLES["C"]
  r = rollout_of([[0, -1], [0, -1]], [[1, 1], [1, 1]])
  found = entropy.shares({"C": C}, {"C": r}, {"C_entropy": jnp.float32(0)})
  assert found["C_entropy_share"] == 1.0


def test_the_loss_takes_the_multiplier_for_explore():
  """Of C alone: the other roles keep the curriculum's share."""
  batch = tiny.batch()
  limits = constraints.make("free", tiny.CODE)(
    jax.random.key(1), batch, tiny.schedule()
  ).constraints
  rng = np.random.default_rng(0)
  output = tiny.tokens(rng, 8, 2, 3)
  C, D = tiny.ROLES["C"], tiny.ROLES["D"]
  rollouts = {
    "C": Rollout(C.prompt(batch.source), output, jnp.zeros((8, 2, 3)), limits),
    "D": Rollout(D.prompt(batch.source), output, jnp.zeros((8, 2, 3)), None),
  }
  episode = Episode(rollouts, {}, {}, {})
  advantages = dict.fromkeys("CD", jnp.zeros((8, 2)))
  loss = learner.make_loss(
    tiny.POLICY, tiny.ROLES, weights={"C": 1.0, "D": 1.0}, lesson_weights={},
    entropy_bonus={"C": 0.2, "D": 0.1}, clip_low=0.2, clip_high=0.2,
    importance_cap=2.0, per_token=False,
  )  # fmt: skip

  @jax.jit
  def value(explore, held):
    work = (episode, advantages, None)
    sizes = learner.counts(episode)
    return loss(tiny.params(), work, sizes, explore, None, held)

  none, metrics = value(0.0, {})
  held_alone, _ = value(0.0, {"C": 2.0})
  both, _ = value(1.0, {"C": 2.0})
  tokens = float(output.mask.sum()) / output.mask.size
  of = lambda role: float(metrics[f"{role}_entropy"]) * tokens
  np.testing.assert_allclose(none - held_alone, 2 * 0.2 * of("C"), rtol=1e-4)
  np.testing.assert_allclose(held_alone - both, 0.1 * of("D"), rtol=1e-4)


def test_a_checkpoint_goes_on_bitwise(tmp_path):
  hold = held(40, **LINE, rate=0.3)
  update = jax.jit(hold.update, donate_argnums=0)

  def drive(state, steps):
    for step in steps:
      share = jnp.float32(0.5 + 0.4 * math.sin(step))
      state, _ = update(state, jnp.int32(step), share)
    return state

  whole, half = drive(hold.init(), range(40)), drive(hold.init(), range(17))
  wrap = lambda x: TrainState(
    jnp.int32(17), {"w": jnp.ones(2)}, (), (), (), jnp.uint32(0), x
  )
  saver = checkpoint.open_saver(tmp_path, keep_last=1, keep_best=0, metric="x")
  checkpoint.save(saver, wrap(half), {}, {"x": 1.0})
  back, _ = checkpoint.restore(saver, wrap(hold.init()))
  checkpoint.close(saver)
  chex.assert_trees_all_equal(back.entropy, half)
  chex.assert_trees_all_equal(drive(back.entropy, range(17, 40)), whole)


@pytest.mark.parametrize(
  "settings, said",
  [
    (
      {"first": 1.5},
      r"config\.loss\.hold\.first=1\.5 must be a number in \(0, 1\]",
    ),
    ({"rate": 0.0}, r"config\.loss\.hold\.rate=0\.0 .*nothing is held"),
    ({"floor": 0.0}, r"config\.loss\.hold\.floor=0\.0 .*never comes back"),
    (
      {"floor": 2.0, "ceiling": 1.0},
      r"config\.loss\.hold\.ceiling=1\.0 must be at least config\.loss\.hold\."
      r"floor=2\.0",
    ),
    ({"target": 0.5}, r"config\.loss\.hold\.target=0\.5 is no setting"),
  ],
)
def test_settings_that_can_not_work_are_a_line(settings, said):
  with pytest.raises(ValueError, match=said) as error:
    held(**settings)
  assert "\n" not in str(error.value)


def test_there_is_a_bonus_to_multiply():
  block = {"entropy_bonus": {"C": 0.0, "D": 0.0}, "hold": {}}
  with pytest.raises(ValueError, match=r"loss\.entropy_bonus\.C=0\.0 .*hold"):
    rules.check(learner.LOSS, block, "config.loss")
  rules.check(learner.LOSS, block | {"hold": None}, "config.loss")


def favourite(params, frozen, carry, batch, key, controls):
  """A pattern that pays C for one id, so that its entropy falls."""
  C = tiny.ROLES["C"]
  c = rollout.sample(
    tiny.POLICY, params, C, C.prompt(batch.source),
    keys.row_keys(key, batch.row), samples=8, constraints=controls,
  )  # fmt: skip
  reward = jnp.sum((c.output.ids == 9) & c.output.mask, -1) / C.length
  metrics = {"reward": jnp.mean(reward)}
  return Episode({"C": c}, {"C": reward}, {}, metrics), carry


# Lanes of one program: a target each, the gain, the rate, and the bonus.
LANES = {
  "loss.hold.first": (0.6, 0.3, 0.3, 0.3),
  "loss.hold.last": (0.6, 0.3, 0.3, 0.3),
  "loss.hold.gain": (4.0, 4.0, 0.0, 4.0),
  "loss.hold.rate": (0.03, 0.03, 0.1, 0.03),
  "loss.entropy_bonus.C": (1.0, 1.0, 1.0, 0.0),
}


def test_c_is_held_where_it_is_asked_for():
  """On the real learner, which alone would let the entropy fall to nothing.

  And the gain is what holds it: without one it swings about its target.
  """
  loss = learner.make_loss(
    tiny.POLICY, tiny.ROLES, weights={"C": 1.0}, lesson_weights={},
    entropy_bonus={"C": 1.0}, clip_low=0.2, clip_high=0.2,
    importance_cap=2.0, per_token=False,
  )  # fmt: skip
  hold, tx = held(floor=0.01), optax.adam(3e-3)
  one = learner.make_step(
    tiny.POLICY, tiny.ROLES, Pattern(tuple, favourite), tx, loss=loss,
    normalize_std=True, hold=hold,
  )  # fmt: skip
  relax = curriculum.linear(hidden=0.0, steps=1, explore_steps=1)
  batch, params = tiny.batch(), tiny.params()
  limits = constraints.make("free", tiny.CODE)(
    jax.random.key(1), batch, tiny.schedule()
  ).constraints
  step = jax.jit(
    jax.vmap(
      lambda state, own: one(
        state, None, batch, Given(limits, relax.init(), own)
      )
    )
  )
  state = TrainState(
    jnp.int32(0), params, tx.init(params), (), relax.init(), jnp.uint32(0),
    hold.init(),
  )  # fmt: skip
  state = jax.tree.map(lambda x: jnp.stack([x] * 4), state)
  numbers = {name: jnp.asarray(x) for name, x in LANES.items()}
  found = []
  for _ in range(140):
    state, metrics = step(state, numbers)
    found.append(metrics["C_entropy_share"])
  share = np.asarray(jax.device_get(found))[-60:]
  error = np.sqrt(np.mean((share - LANES["loss.hold.first"]) ** 2, 0))
  assert (error[:2] < 0.1).all() and error[2] > 0.15
  assert share[:, 3].max() < 0.1
