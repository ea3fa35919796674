"""Memories that are carried from one training step to the next."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import Runs, assert_same_run, final_state, shrunk
from patterns import test_cc as game

from rsrc_jax import rules, train
from rsrc_jax.data import tokenizer
from rsrc_jax.patterns import cc
from rsrc_jax.rl import carried
from rsrc_jax.types import Context, Tokens

R, POOL, N, S, M = game.R, 1, game.STREAMS, game.S, game.M
ROWS, SHARE = R * POOL * N, 0.75
SETTINGS = {
  "rounds": R, "pool": POOL, "memory": M, "shared": game.SHARED, "drift": 0.0,
  "group": game.G, "candidates": game.H, "over_memory": 0.25,
  "over_empty": 0.75, "rollback": True, "warmup": 0, "imitate": False,
  "dropout": 0.0,
}  # fmt: skip


def make(rows=ROWS, **changes):
  context = Context(game.POLICY, game.ROLES, game.WORD, game.ABOUT, rows=rows)
  return cc.make(context, **(SETTINGS | {"carry": SHARE} | changes))


PATTERN = make()


@functools.cache
def program():
  return jax.jit(PATTERN.play)


def step(carry, seed):
  """A step on sources of their own."""
  found = game.batch(ROWS, seed)
  episode, carry = program()(
    game.PARAMS, game.FROZEN, carry, found, jax.random.key(seed),
    game.given(found),
  )  # fmt: skip
  return jax.device_get(episode), jax.device_get(carry), found


def texts(rows, length):
  ids = np.array([list(x) + [0] * (length - len(x)) for x in rows])
  return Tokens(jnp.asarray(ids, jnp.int32), jnp.asarray(ids > 0))


# 1. The streams of a step.

OLD = carried.State(
  texts([[8, 9, 10], [11, 12, 13], []], 3), texts([[15], [16, 17], []], 2),
  texts([[18], [], []], 2), jnp.array([False, True, True]),
)  # fmt: skip
NEW = np.arange(100, 100 + 3 * 2 * 2 * 3).reshape(3, 2, 2, 3)


def start(share, **changes):
  ids = jnp.asarray(NEW, jnp.int32)
  how = {"memory": 2, "places": (1,), "drift": 0.0, "unshared": 0.0} | changes
  return carried.start(
    Tokens(ids, jnp.ones(ids.shape, bool)), jnp.arange(3), jax.random.key(0),
    OLD, share=share, **how,
  )  # fmt: skip


def test_streams_that_go_on_are_those_of_the_step_before():
  """All of them but the one that has not begun; word 1 is shared."""
  s, state, metrics = start(1.0)
  expected = NEW.copy()
  expected[0, 0], expected[1, 0] = [8, 9, 10], [11, 12, 13]
  expected[0, 1, :, 1], expected[1, 1, :, 1] = 9, 12
  expected[2, :, :, 1] = NEW[2, 0, 0, 1]
  np.testing.assert_array_equal(s.ids, expected)
  first = expected[:, 0, 0].tolist()
  assert game.real(state.source) == first
  assert game.real(state.cc) == [[15], [16, 17], []]
  assert game.real(state.before) == [[18], [], []]
  assert np.asarray(state.kept).tolist() == [False, True, True]
  np.testing.assert_allclose(metrics["cc_carried"], 2 / 3, rtol=1e-6)


def test_streams_that_begin_anew_have_no_memory():
  s, state, metrics = start(0.0)
  expected = NEW.copy()
  expected[..., 1] = NEW[:, :1, :1, 1]
  np.testing.assert_array_equal(s.ids, expected)
  assert game.real(state.cc) == game.real(state.before) == [[], [], []]
  assert np.asarray(state.kept).all() and metrics["cc_carried"] == 0


def test_streams_that_share_nothing_stay_as_they_came():
  s, _, _ = start(0.0, unshared=1.0)
  np.testing.assert_array_equal(s.ids, NEW)


def test_a_share_of_streams_is_drawn_by_row():
  """About three quarters go on, and a row's draw is its own."""
  n = 400
  old = carried.first(texts([[8, 9, 10]] * n, 3), 2)
  s = Tokens(jnp.full((n, 2, 1, 3), 20), jnp.ones((n, 2, 1, 3), bool))
  keys = jax.vmap(jax.random.key)(jnp.arange(n))
  _, on = carried.go_on(old, s, SHARE, keys)
  assert abs(np.mean(on) - SHARE) < 4 * np.sqrt(SHARE * (1 - SHARE) / n)
  cut = lambda tree: jax.tree.map(lambda x: x[:7], tree)
  _, few = carried.go_on(cut(old), cut(s), SHARE, keys[:7])
  np.testing.assert_array_equal(few, on[:7])


# 2. What the next step reads.


def test_the_next_step_goes_on_with_what_the_last_one_left():
  """Written in the last round: the source that it was tried on comes next."""
  before, carry, _ = step(PATTERN.init(), 0)
  # Nothing has begun before the first step.
  assert before.metrics["cc_carried"] == 0 and carry.step == 1
  last = slice((R - 2) * N, (R - 1) * N)
  written = game.said(before.rollouts["CC"].output)[last]
  assert game.real(carry.state.cc) == [x[0] for x in written]
  lessons = []
  for seed in range(1, 4):
    episode, after, found = step(carry, seed)
    came = np.asarray(found.source.ids).reshape(N, R, POOL, S)
    prompts = game.real(episode.rollouts["C"].prompt)
    histories = game.real(episode.rollouts["CC"].prompt)
    state = [game.real(getattr(carry.state, x)) for x in
             ("source", "cc", "before")]  # fmt: skip
    for i, (source, memory, old) in enumerate(zip(*state, strict=True)):
      on = prompts[i] == [
        tokenizer.C, *game.beside(memory, source), game.SEPARATOR,
      ]  # fmt: skip
      held = memory if carry.state.kept[i] else old
      begins = [tokenizer.C, game.TEXT]
      if on:  # CC reads what was kept; what is shared goes on
        begins += game.beside(held, source)
        shared = [source[x] for x in game.PLACES]
      else:
        first = came[i, 0, 0].tolist()
        assert prompts[i] == [tokenizer.C, *first, game.SEPARATOR]
        begins += first
        shared = [first[x] for x in game.PLACES]
      assert histories[i][: len(begins)] == begins
      for r in range(R - 1):
        [lesson] = game.said(
          jax.tree.map(
            lambda x, r=r, i=i: x[r * N + i],
            episode.sft_batches["D"].target,
          )
        )
        assert [lesson[x] for x in game.PLACES] == shared
      lessons.append(on)
    assert after.step == carry.step + 1
    np.testing.assert_allclose(
      episode.metrics["cc_carried"], np.mean(lessons[-N:]), rtol=1e-6
    )
    carry = after
  assert {True, False} == set(lessons)
  # Doses, by hand: C's prompts say which rounds had a memory.
  shortest = S + 2
  read = np.mean([len(x) > shortest for x in prompts])
  np.testing.assert_allclose(episode.metrics["cc_read"], read, rtol=1e-6)
  assert 0 < episode.metrics["cc_changed"] <= 1
  assert 0 <= episode.metrics["cc_rolled_back"] < 1


@pytest.mark.slow
def test_a_step_whose_streams_all_begin_anew_is_one_without_a_carry():
  """The same texts, the same rewards, and no counts."""
  episode, _, found = step(PATTERN.init(), 5)
  off = make(carry=0.0)
  assert off.init() == 0
  other, played = jax.jit(off.play)(
    game.PARAMS, game.FROZEN, off.init(), found, jax.random.key(5),
    game.given(found),
  )  # fmt: skip
  assert played == 1
  more = set(episode.metrics) - set(other.metrics)
  assert more == {"cc_carried", "cc_read", "cc_changed", "cc_rolled_back"}
  for name in ("rewards", "credit", "parts"):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
      getattr(episode, name), jax.device_get(getattr(other, name)),
    )  # fmt: skip
  for role in ("C", "CC"):
    for text in ("prompt", "output"):
      a, b = (getattr(x.rollouts[role], text) for x in (episode, other))
      assert game.real(a) == game.real(b)


# 3. A run that is stopped.


def config():
  """A shrunk run whose second arm carries its memories."""
  found = shrunk(
    steps=6, log_every=2, only="",
    **{"eval.every": 99, "checkpoint.every": 3, "eval.budgets": (3,),
       "ledger.enabled": False, "batch_size": 16, "model.absolute": 64},
  )  # fmt: skip
  block = SETTINGS | {
    "rounds": 4, "pool": 1, "memory": 2, "carry": 0.9, "warmup": 2, "group": 2,
    "candidates": 2, "shared": ("giver",), "length_price": 0.0,
    "choose": "hardest",
  }  # fmt: skip
  found.patterns.cc = block
  for name in ("weights", "lesson_weights"):
    found.loss[name].CC = 1.0
  found.loss.entropy_bonus.CC = 0.0
  found.arms = {
    "cc": {"pattern": "cc", "write": "force", "start": "base",
           "overrides": ()},
  }  # fmt: skip
  return found


@pytest.mark.slow
def test_a_run_that_carries_memories_goes_on_bitwise(tmp_path):
  """Stopped between two saves; the carry is in the checkpoint."""
  runs = Runs.of(config(), tmp_path / "runs")
  whole = runs.whole
  with pytest.raises(train.Interrupted, match="cc saved at step"):
    runs.run(tmp_path / "run", stop=10)
  runs.run(tmp_path / "run")
  assert_same_run(tmp_path / "run", whole, ("base", "cc"))
  kept = {k: x for k, x in final_state(whole, "cc").items()
          if k.startswith(".carry")}  # fmt: skip
  assert kept[".carry.step"] == 6
  assert np.asarray(kept[".carry.state.cc.mask"]).any()
  assert np.asarray(kept[".carry.state.source.mask"]).any(-1).all()


# 4. What can't work.


@pytest.mark.parametrize("name", ["carry", "unshared"])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_shares_out_of_range(name, value):
  with pytest.raises(ValueError, match="from 0 to 1") as error:
    make(**{name: value})
  assert f"config.patterns.cc.{name}={value!r}" in str(error.value)
  with pytest.raises(ValueError, match=f"config.patterns.cc.{name}="):
    rules.check(cc.RULES, {name: value}, "config.patterns.cc")


def test_the_number_of_streams_has_to_be_known():
  with pytest.raises(ValueError, match=r"config\.patterns\.cc\.carry=0\.75"):
    make(rows=0)
  carry = make(rows=R * POOL).init()
  assert carry.state.cc.ids.shape == (1, M)
  s = Tokens(jnp.zeros((N, R, POOL, S), int), jnp.ones((N, R, POOL, S), bool))
  with pytest.raises(ValueError, match="3 streams of sources of 6") as error:
    carried.go_on(carry.state, s, SHARE, None)
  assert "(1, 6) are carried" in str(error.value)
