"""The shapes that rsrc_jax/ops declares, checked where the library calls them.

Only here: every public function of ops is wrapped in a checker, and programs
that use them are traced without being compiled (`jax.eval_shape`). Outside of
this module the annotations are documentation and cost nothing.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from beartype import beartype
from helpers import tiny
from jaxtyping import TypeCheckError, jaxtyped

from rsrc_jax.lm import rollout
from rsrc_jax.ops import (
  distributions,
  grpo,
  rewards,
  stablemax,
  steps,
  token_stats,
  token_stats_pallas,
)
from rsrc_jax.rl import injection
from rsrc_jax.types import Constraints, Controls, Rollout, Tokens, TokenStats

MODULES = (
  distributions, grpo, rewards, stablemax, steps, token_stats,
  token_stats_pallas,
)  # fmt: skip
B, G, T, N, V, D = 3, 2, 4, 2, tiny.VOCAB, 16


def public(module):
  """The functions of a module, by name."""
  return {
    name: f
    for name, f in vars(module).items()
    if inspect.isfunction(f) and f.__module__ == module.__name__
    and not name.startswith("_")
  }  # fmt: skip


check = functools.partial(jaxtyped, typechecker=beartype)


@pytest.fixture
def checked(monkeypatch):
  """Every public function of ops checks the shapes that it is given."""
  for module in MODULES:
    for name, f in public(module).items():
      monkeypatch.setattr(module, name, check(f))


def floats(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def ints(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.int32)


def bools(*shape):
  return jax.ShapeDtypeStruct(shape, bool)


def constraints(group=1):
  return Constraints(
    ints(B, group, 2), ints(B, group, V), ints(B, 1, N), ints(B, 1, 1),
    floats(B, 1), ints(B, 1),
  )  # fmt: skip


def tokens(*shape):
  return Tokens(ints(*shape), bools(*shape))


STATS = TokenStats(*[floats(B, G, T)] * 6)
ROLE = tiny.ROLES["C"]._replace(length=T, use_tag=4, avoid_tag=5, length_tag=6)


@pytest.mark.parametrize("group", [1, G])
@pytest.mark.parametrize("top_p, temperature", [(1.0, 1.0), (0.9, 0.0)])
def test_sampling_and_scoring(checked, group, top_p, temperature, monkeypatch):
  role = ROLE._replace(top_p=top_p, temperature=temperature)

  def run(params, source, limits):
    prompt = role.prompt(source, limits)
    keys = jax.random.split(jax.random.key(0), B)
    found = rollout.sample(
      tiny.POLICY, params, role, prompt, keys, samples=G, constraints=limits,
      stats=True,
    )  # fmt: skip
    again = [
      rollout.score(tiny.POLICY, params, role, prompt, found.output, limits)
    ]
    monkeypatch.setattr(rollout, "LARGE", 1)  # without logits
    again += [
      rollout.score(tiny.POLICY, params, role, prompt, found.output, limits)
    ]
    return found, again

  params = jax.eval_shape(tiny.POLICY.init, jax.random.key(0))
  found, again = jax.eval_shape(run, params, tokens(B, 5), constraints(group))
  assert found.stats.entropy.shape == found.log_probs.shape == (B, G, T)
  assert {x.shape for x in jax.tree.leaves(again)} == {(B, G, T)}


@pytest.mark.parametrize("load", injection.LOADS)
@pytest.mark.parametrize("name", rewards.GATES)
def test_paying_for_injected_ids(checked, name, load):
  mode = "multiply" if name == "density" else "bonus"
  gate = injection.make(
    tiny.POLICY, ROLE, name=name, load_bearing=load, bonus=0.3, mode=mode,
    share=0.5, threshold=None, nats_per_token=2.0, others=1, decay=0.9,
    monitor=True,
  )  # fmt: skip
  likelihood = lambda params, s, code: code.ids[..., 0] * 1.0

  def run(params, s, c, code, fidelity, price, ask):
    return gate.pay(
      params, gate.init(), s, c, code, fidelity, fidelity, likelihood, price,
      ask,
    )  # fmt: skip

  params = jax.eval_shape(tiny.POLICY.init, jax.random.key(0))
  c = Rollout(
    tokens(B, 5), tokens(B, G, T), floats(B, G, T), constraints(), STATS
  )
  ask = Controls(constraints(), ints(B, 1, N), floats(), ints())
  for price in (floats(), floats(B, 1)):
    reward, bonus, *_ = jax.eval_shape(
      run, params, tokens(B, 5), c, tokens(B, G, T), floats(B, G), price, ask
    )
    assert reward.shape == bonus.shape == (B, G)


def test_the_rest(checked):
  """What those programs do not reach, in the shapes that its callers have."""
  shape = (B, G, T)
  loss = jax.eval_shape(
    grpo.policy_loss, *[floats(*shape)] * 3, floats(B, G), bools(*shape)
  )
  assert loss[0].shape == ()
  for f, args, expected in (
    (grpo.advantages, [floats(B, G)], (B, G)),
    (grpo.kl_penalty, [floats(*shape)] * 2 + [bools(*shape)], (B, G)),
    (rewards.priced, [floats(B, G), ints(B, G)], (B, G)),
    (stablemax.log_probs, [floats(*shape, V)], (*shape, V)),
    (steps.guided, [floats(*shape, V)] * 2 + [floats()], (*shape, V)),
  ):
    if f is rewards.priced:
      f = functools.partial(f, budget=T, price=0.4)
    assert jax.eval_shape(f, *args).shape == expected
  moved = jax.eval_shape(steps.between, *[floats(*shape, V)] * 2, ints(*shape))
  assert moved.kl.shape == shape


# What the function would compute without complaint, by broadcasting.
WRONG = {
  "a reward a token": (
    grpo.policy_loss,
    [*[np.zeros((B, G, T), np.float32)] * 3, np.zeros((B, T), np.float32),
     np.ones((B, G, T), bool)],
  ),
  "a mask of floats": (
    rewards.first_uses,
    [np.zeros((B, G, T), np.int32), np.ones((B, G, T), np.float32),
     np.zeros((B, 1, N), np.int32)],
  ),
  "a list of ids a code": (
    rewards.matches,
    [np.zeros((B, G, T), np.int32), np.zeros((B, G, N), np.int32)],
  ),
  "ids of one source for all": (
    distributions.pick,
    [np.zeros((B, T, V), np.float32), np.zeros((1, T), np.int32)],
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_shapes_that_would_broadcast_are_refused(name):
  f, args = WRONG[name]
  with pytest.raises(TypeCheckError):
    jax.eval_shape(check(f), *map(jnp.asarray, args))


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_no_array_without_a_shape(module):
  for name, f in public(module).items():
    bare = [
      k for k, hint in inspect.get_annotations(f).items() if hint is jax.Array
    ]
    assert not bare, f"{name}: {bare}"
