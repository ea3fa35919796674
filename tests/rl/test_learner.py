"""learner.py: one update, whatever the batch is cut into or spread over."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import tiny

from rsrc_jax.lm import rollout
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.ops import grpo
from rsrc_jax.patterns import cdv
from rsrc_jax.rl import constraints, curriculum, learner, verifier
from rsrc_jax.runtime import sharding
from rsrc_jax.types import (
  Batch,
  Context,
  Episode,
  Given,
  SupervisedBatch,
  Tokens,
  TrainState,
)

LOSS = dict(
  weights={"C": 1.0, "D": 1.0},
  lesson_weights={"C": 1.0, "D": 1.0},
  entropy_bonus={"C": 0.01},
  clip_low=0.2,
  clip_high=0.28,
  importance_cap=2.0,
  per_token=False,
)
RELAX = curriculum.linear(hidden=0.5, steps=10, explore_steps=20)
TX = optax.adam(3e-3)


def make_pattern(**changes):
  verify = verifier.make(
    tiny.POLICY,
    tiny.ROLES["V"],
    weights={"slots": 0.0, "edit": 1.0, "reader": 0.0},
    shaping={"gain": 1.0},
    positions=None,
  )
  settings = dict(
    group=tiny.GROUP, decodes=2, length_price=0.1, lessons=1, dropout=0.2
  )
  return cdv.make(
    Context(tiny.POLICY, tiny.ROLES, verify), **settings | changes
  )


def make_step(loss=LOSS, pattern=None, **kwargs):
  step = learner.make_step(
    tiny.POLICY,
    tiny.ROLES,
    pattern or make_pattern(),
    kwargs.pop("tx", TX),
    loss=learner.make_loss(tiny.POLICY, tiny.ROLES, **loss),
    **kwargs,
  )

  def run(state, frozen, batch, controls, numbers=None):
    relaxed = RELAX.update(state.curriculum, state.step)
    return step(state, frozen, batch, Given(controls, relaxed, numbers))

  return run


@functools.cache
def default_step():
  """One program for all tests that need no other."""
  return jax.jit(make_step())


def make_state(tx=TX, seed=0):
  params = tiny.params(seed)
  return TrainState(
    jnp.int32(0), params, tx.init(params), (), RELAX.init(), jnp.uint32(0)
  )


def given(batch: Batch):
  limit = constraints.make("force", tiny.CODE)
  return limit(jax.random.key(1), batch, tiny.schedule(hidden=0.3))


def frozen():
  base = tiny.params(9)
  return {"base": base, "reader": base}


@functools.cache
def episode_of(seed=0) -> Episode:
  """A played episode with unequal lengths, as plain arrays."""
  batch = tiny.batch(seed)
  play = make_pattern().play
  found, _ = jax.jit(play)(
    tiny.params(), frozen(), (), batch, jax.random.key(seed), given(batch)
  )
  lengths = np.asarray(found.rollouts["C"].output.mask.sum(-1))
  assert lengths.min() < lengths.max()
  return found


def advantages(episode):
  return {k: grpo.advantages(r) for k, r in episode.rewards.items()}


@functools.partial(jax.jit, static_argnames=("micro", "per_token"))
def gradient(params, episode, numbers, micro=1, per_token=True):
  """Numbers of the loss are data, so that tests share a program."""
  settings = LOSS | {"per_token": per_token}
  loss = learner.make_loss(tiny.POLICY, tiny.ROLES, **settings)
  loss = functools.partial(loss, numbers=numbers)
  work = (episode, advantages(episode), None)
  return learner._gradient(loss, params, work, 1.0, micro)


def numbers(**changes):
  """Of LOSS, by their names below `config`; changes: blocks or numbers."""
  flat = {}
  for name in ("clip_low", "clip_high", "weights", "lesson_weights",
               "entropy_bonus"):  # fmt: skip
    value = LOSS[name]
    if isinstance(value, dict):
      own = value | changes.get(name, {})
      flat |= {f"loss.{name}.{role}": x for role, x in own.items()}
    else:
      flat[f"loss.{name}"] = changes.get(name, value)
  return {name: np.float32(x) for name, x in flat.items()}


def assert_close(a, b, tolerance=1e-5):
  """Equal to `tolerance` of the largest entry of all."""
  a, b = jax.tree.leaves(a), jax.tree.leaves(b)
  scale = max(float(jnp.max(jnp.abs(y))) for y in b)
  for x, y in zip(a, b, strict=True):
    assert jnp.max(jnp.abs(x - y)) <= tolerance * scale


@pytest.mark.parametrize(
  "per_token, micro",
  [(True, 2), *(pytest.param(*x, marks=pytest.mark.slow)
                for x in [(True, 8), (False, 2), (False, 8)])],
)  # fmt: skip
def test_micro_batches_add_up(per_token, micro):
  args = (tiny.params(), episode_of(), numbers())
  want = gradient(*args, per_token=per_token)
  got = gradient(*args, micro, per_token)
  assert_close(got[2], want[2])
  assert_close(got[:2], want[:2], 1e-4)


def test_micro_batches_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match="micro_batches=3"):
    gradient(tiny.params(), episode_of(), numbers(), 3)


def test_padding_an_episode_changes_nothing():
  """Wider prompts, outputs and targets, all masked."""
  episode = episode_of()
  wide = lambda t: Tokens(
    *(jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 2)]) for x in t)
  )

  def inner(prompt):  # a prompt's last slot stays real
    pad = lambda x: jnp.concatenate(
      [x[:, :2], jnp.zeros_like(x[:, :2]), x[:, 2:]], 1
    )
    return Tokens(*(pad(x) for x in prompt))

  rollouts = {
    name: r._replace(
      prompt=inner(r.prompt),
      output=wide(r.output),
      log_probs=jnp.pad(r.log_probs, ((0, 0), (0, 0), (0, 2))),
    )
    for name, r in episode.rollouts.items()
  }
  sft_batches = {
    name: SupervisedBatch(inner(x.prompt), wide(x.target), x.weights)
    for name, x in episode.sft_batches.items()
  }
  padded = episode._replace(rollouts=rollouts, sft_batches=sft_batches)
  want = gradient(tiny.params(), episode, numbers())
  got = gradient(tiny.params(), padded, numbers())
  assert_close(got[2], want[2])


def test_the_order_within_groups_changes_nothing():
  episode, order = episode_of(), jnp.array([2, 0, 3, 1])
  c = episode.rollouts["C"]
  c = c._replace(
    output=Tokens(*(x[:, order] for x in c.output)),
    log_probs=c.log_probs[:, order],
  )
  rewards = episode.rewards | {"C": episode.rewards["C"][:, order]}
  mixed = episode._replace(
    rollouts=episode.rollouts | {"C": c}, rewards=rewards
  )
  want = gradient(tiny.params(), episode, numbers())
  got = gradient(tiny.params(), mixed, numbers())
  assert_close(got[2], want[2])


def test_each_role_has_a_denominator_of_its_own():
  """Doubling every d's slots leaves C's share of the gradient as it was."""
  episode = episode_of()
  only = lambda name: numbers(
    weights={"C": 0.0, "D": 0.0} | {name: 1.0},
    lesson_weights={"C": 0.0, "D": 0.0},
    entropy_bonus={"C": 0.0},
  )
  twice = lambda x: jnp.concatenate([x, x], 1)
  d = episode.rollouts["D"]
  d = d._replace(
    output=Tokens(*(twice(x) for x in d.output)), log_probs=twice(d.log_probs)
  )
  longer = episode._replace(
    rollouts=episode.rollouts | {"D": d},
    rewards=episode.rewards | {"D": twice(episode.rewards["D"])},
  )
  c_want = gradient(tiny.params(), episode, only("C"))[2]
  c_got = gradient(tiny.params(), longer, only("C"))[2]
  assert_close(c_got, c_want)
  d_want = gradient(tiny.params(), episode, only("D"))[2]
  d_got = gradient(tiny.params(), longer, only("D"))[2]
  assert_close(d_got, d_want)  # a mean over twice the same samples
  assert optax.tree.norm(c_want) > 1e-3 and optax.tree.norm(d_want) > 1e-3


def test_the_entropy_of_a_code_is_a_mean_over_its_tokens():
  """Long codes are pushed no harder than short ones.

  With a reference of 3 tokens a code of three counts alike in both forms.
  """
  episode = episode_of()
  c = episode.rollouts["C"]
  work, sizes = (episode, advantages(episode), None), learner.counts(episode)
  bonus = {"entropy_bonus": {"C": 0.5, "D": 0.0}}
  bonus["entropy_reference"] = 3.0
  losses = [
    learner.make_loss(
      tiny.POLICY, tiny.ROLES, **LOSS | bonus | {"entropy_per_code": per_code}
    )
    for per_code in (False, True)
  ]

  @jax.jit
  def pushed(params):
    """What either bonus takes off the loss; the entropy of each token."""
    explore = jnp.array([0.0, 1.0])
    values = [
      jax.vmap(lambda x, of=loss: of(params, work, sizes, x)[0])(explore)
      for loss in losses
    ]
    _, entropy = rollout.score(
      tiny.POLICY, params, tiny.ROLES["C"], c.prompt, c.output, c.constraints
    )
    return [without - with_it for without, with_it in values], entropy

  found, entropy = pushed(tiny.params())
  entropy, length = np.asarray(entropy), np.asarray(c.output.mask).sum(-1)
  scale = 0.5 * LOSS["weights"]["C"] / entropy.size
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4)
  close(found[False], scale * entropy.sum())
  close(found[True], scale * (entropy.sum(-1) * 3 / length).sum())


@pytest.mark.slow
def test_eight_devices_compute_what_one_does():
  """Loss and gradients of a whole step on data, fsdp and tensor meshes."""
  sgd, batch = optax.sgd(1.0), tiny.batch()
  state, limits = make_state(sgd), given(batch)
  step = make_step(tx=sgd)
  want_state, want = jax.jit(step)(state, frozen(), batch, limits)
  for sizes in (dict(data=8), dict(data=2, fsdp=2, tensor=2)):
    mesh = sharding.make_mesh(**sizes)
    put = lambda tree, mesh=mesh: sharding.put(
      tree, sharding.shardings(mesh, tree)
    )
    rows = sharding.batch_sharding(mesh)
    got_state, got = jax.jit(make_step(tx=sgd))(
      put(state), put(frozen()), sharding.put(batch, rows),
      limits._replace(constraints=sharding.put(limits.constraints, rows)),
    )  # fmt: skip
    embed = put(state).params["embed"].sharding
    assert len(embed.device_set) == 8
    chex.assert_trees_all_close(
      {k: float(v) for k, v in got.items()},
      {k: float(v) for k, v in want.items()},
      rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    # SGD with rate 1: the change of the parameters is the gradient.
    change = lambda s: jax.tree.map(
      lambda a, b: np.asarray(a) - np.asarray(b), s.params, state.params
    )
    assert_close(change(got_state), change(want_state))


def test_a_policy_that_moves_once_has_ratio_one():
  """Clipped and unclipped losses agree, and `old` may be left out."""
  tight = numbers(clip_low=1e-6, clip_high=1e-6)
  a = gradient(tiny.params(), episode_of(), numbers())
  b = gradient(tiny.params(), episode_of(), tight)
  assert_close(a[2], b[2])


@pytest.mark.slow
def test_the_first_of_two_updates_is_that_of_one():
  """More updates re-read the old log-probs; the first must be the same."""
  tx, batch = optax.sgd(0.0), tiny.batch()
  two = jax.jit(make_step(tx=tx, updates=2))
  _, x = default_step()(make_state(), frozen(), batch, given(batch))
  _, y = two(make_state(tx), frozen(), batch, given(batch))
  np.testing.assert_allclose(x["gradient_norm"], y["gradient_norm"], rtol=1e-5)


def test_distance_from_the_base_is_taken_off_the_reward():
  """With no other reward, a step along the KL penalty lowers the KL."""
  batch = tiny.batch()
  limits = given(batch)
  nothing = lambda _, s, d, *__: (
    {"verifier": jnp.zeros(d.ids.shape[:3])}, {},
  )  # fmt: skip
  no_reward = verifier.Verifier(nothing, lambda _: 1.0, None, True, False)
  pattern = cdv.make(
    Context(tiny.POLICY, tiny.ROLES, no_reward),
    group=tiny.GROUP, decodes=2, length_price=0.0, lessons=0, dropout=0.0,
  )  # fmt: skip
  loss = LOSS | {"entropy_bonus": {}}
  step = jax.jit(make_step(loss, pattern, kl=1.0))
  price = lambda x: {"kl": jnp.float32(x)}
  state, base = make_state(), frozen()
  _, metrics = step(state, base, batch, limits, price(0.0))
  assert float(metrics["gradient_norm"]) < 1e-6
  before = distance(state.params, base, batch, limits.constraints)
  for _ in range(40):
    state, _ = step(state, base, batch, limits, price(1.0))
  assert distance(state.params, base, batch, limits.constraints) < 0.7 * before


@jax.jit
def distance(params, base, batch, limits):
  """KL(policy || base) of C, from many samples."""
  role = tiny.ROLES["C"]
  out = rollout.sample(
    tiny.POLICY, params, role, role.prompt(batch.source),
    row_keys(jax.random.key(5), batch.row), samples=64,
    constraints=limits,
  )  # fmt: skip
  reference, _ = rollout.score(
    tiny.POLICY, base["base"], role, out.prompt, out.output, limits
  )
  return jnp.mean(grpo.kl_penalty(out.log_probs, reference, out.output.mask))


def test_frozen_parameters_are_an_argument_and_stay():
  batch, state, kept = tiny.batch(), make_state(), frozen()
  before = jax.tree.map(np.asarray, kept)
  step = default_step()
  for _ in range(2):
    state, _ = step(state, kept, batch, given(batch))
  chex.assert_trees_all_equal(kept, before)
  # Not baked in: other frozen parameters give other rewards.
  other = jax.tree.map(lambda x: x * 0.5, kept)
  _, a = step(jax.tree.map(jnp.copy, state), kept, batch, given(batch))
  _, b = step(jax.tree.map(jnp.copy, state), other, batch, given(batch))
  assert float(a["gain"]) != float(b["gain"])


def test_a_step_compiles_once():
  step = default_step()
  state = make_state()
  for seed in range(4):
    batch = tiny.batch(seed)
    state, _ = step(state, frozen(), batch, given(batch))
  assert step._cache_size() == 1


def test_optimizer_schedule():
  """Up over the warmup, flat, and down to 0 at the end."""
  tx = learner.optimizer(
    learning_rate=1.0, steps=100, warmup=10, decay=0.5, clip_norm=1e9,
    b2=0.99, weight_decay=0.0,
  )  # fmt: skip
  params = {"x": jnp.zeros(())}
  state, sizes = tx.init(params), []
  update = jax.jit(tx.update)
  for _ in range(101):
    # Adam's update of a constant gradient is the learning rate itself.
    change, state = update({"x": jnp.ones(())}, state, params)
    sizes.append(-float(change["x"]))
  np.testing.assert_allclose(sizes[5], 0.5, atol=1e-3)
  np.testing.assert_allclose(sizes[10:50], 1.0, atol=1e-3)
  np.testing.assert_allclose(sizes[75], 0.5, atol=1e-3)
  assert sizes[100] < 1e-6


def test_golden_trajectory():
  """Loss, reward and gradient norm of three steps, as they were first run.

  Guards against changes that no property notices. A change of rounding moves
  these in the sixth digit; a change of meaning moves them in the second.
  """
  step, state = default_step(), make_state()
  got = []
  for seed in range(3):
    batch = tiny.batch(seed)
    state, m = step(state, frozen(), batch, given(batch))
    got.append([float(m[k]) for k in ("loss", "reward", "gradient_norm")])
  np.testing.assert_allclose(got, GOLDEN, rtol=2e-3)


GOLDEN = [
  [4.556045, 0.082877, 6.054458],
  [3.745808, 0.066969, 5.229786],
  [3.984454, 0.099523, 4.486508],
]
