"""V: what it pays, what it refuses to pay for, and that it is not trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.lm import likelihood, tokens
from rsrc_jax.rl import curriculum, learner, verifier
from rsrc_jax.types import (
  Batch,
  Cache,
  Episode,
  Given,
  Pattern,
  Policy,
  Rollout,
  Tokens,
  TrainState,
)

SLOTS = (0, 2, 4)  # positions of the facts
ROLE = tiny.ROLES["V"]
SUPPORT = 13  # its 12 words and the end token
few = settings(deadline=None, max_examples=25)


def apply(params, text, positions, *, prefix=None, cache=None, index=0):
  """A reader that repeats what it read, then ends; at loss if it read nothing.

  What it expects next has params["odds"] to 1 against each other id, and
  `hidden` holds the logits themselves.
  """
  del positions, cache, index
  read = text if prefix is None else prefix.k  # [B, 1, P] with tag and sep
  words = tokens.with_end(Tokens(*(x[:, 0, 1:-1] for x in read)), 1)
  expected = jax.nn.one_hot(words.ids, tiny.VOCAB) * words.mask[..., None]
  expected *= jnp.sum(words.mask, -1)[:, None, None] > 1
  logits = expected * jnp.log(params["odds"])
  steps = jnp.arange(text.ids.shape[2]) + (prefix is not None)
  if prefix is None:
    steps = jnp.zeros_like(steps)
  shape = (*text.ids.shape, tiny.VOCAB)
  return jnp.broadcast_to(logits[:, None, steps], shape), Cache(read, (), ())


READER = Policy(
  init=lambda key: {"odds": jnp.float32(24.0)},
  apply=apply,
  unembed=lambda params, hidden: hidden,
  init_cache=None,
)
FROZEN = READER.init(None)


def make(**weights):
  return verifier.make(READER, ROLE, weights=weights, positions=SLOTS)


@functools.cache
def compiled(weights):
  return jax.jit(make(**dict(weights)).score)


def sentence(*words):
  """Words 0-11 as one source of 6 slots."""
  ids = [8 + w for w in words] + [0] * (tiny.SOURCE - len(words))
  mask = [i < len(words) for i in range(tiny.SOURCE)]
  return Tokens(np.array(ids, np.int32), np.array(mask))


def stack(texts, *shape):
  return Tokens(
    *(np.stack(x).reshape(*shape, -1) for x in zip(*texts, strict=True))
  )


def score(source, decoded, gain=0.0, **weights):
  """Fidelity of some decodes of one source, [n]."""
  n = len(decoded)
  s, d = stack([source], 1), stack(decoded, 1, n, 1)
  verify = compiled(tuple(weights.items()))
  found, _ = verify(FROZEN, s, d, np.full((1, n), gain, np.float32))
  assert found.shape == (1, n, 1)
  return np.asarray(found)[0, :, 0]


S = sentence(0, 1, 2, 3, 4, 5)


def test_slots_and_edit_by_hand():
  decoded = [
    sentence(0, 1, 2, 3, 4, 5),
    sentence(0, 9, 2, 9, 9, 9),  # two of three slots; two of six words
    sentence(1, 2, 3, 4, 5),  # no slot; one deletion: 5/6
    sentence(),
  ]
  found = score(S, decoded, slots=1.0)
  np.testing.assert_allclose(found, [1, 2 / 3, 0, 0], atol=1e-6)
  found = score(S, decoded, edit=1.0)
  np.testing.assert_allclose(found, [1, 2 / 6, 5 / 6, 0], atol=1e-6)
  # Three parts slots, one part edit.
  found = score(S, decoded, slots=0.75, edit=0.25)
  expected = [1, 0.5 + 1 / 12, 5 / 24, 0]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gain_is_clipped_and_the_same_for_all_decodes_of_a_code():
  verify = make(gain=2.0)
  s, d = stack([S, S], 2), stack([S] * 12, 2, 3, 2)
  gain = jnp.array([[0.25, -3.0, 1.0], [0.5, 0.0, 1.5]])
  found, scores = verify.score(FROZEN, s, d, gain)
  expected = np.array([[0.25, 0.0, 1.0], [0.5, 0.0, 1.0]])
  np.testing.assert_allclose(found, expected[..., None].repeat(2, -1))
  assert set(scores) == {"v_gain"}
  np.testing.assert_allclose(scores["v_gain"], expected.mean())


def test_relative_gain_by_hand():
  # Of 12 nats of surprise 3 are left; then all; then twice as many.
  given, without = jnp.array([-3.0, 0.0, -24.0]), jnp.full(3, -12.0)
  found = likelihood.relative_gain(given, without)
  np.testing.assert_allclose(found, [0.75, 1.0, -1.0], rtol=1e-6)
  # A source that is certain anyway: nothing to gain, and no division by 0.
  assert jnp.isfinite(
    likelihood.relative_gain(jnp.zeros(1), jnp.zeros(1))
  ).all()


def test_reader_by_hand():
  """Three words and the end: 4 tokens, 4 ln 13 nats without having read d.

  Odds of 24 to 1 against 12 others: 24/36 where d is right, 1/36 where not.
  """
  right, wrong, nothing = np.log(24 / 36), np.log(1 / 36), 4 * np.log(1 / 13)
  s = sentence(0, 1, 2)
  decoded = [
    s,
    sentence(0, 9, 2),
    sentence(9, 10, 11),
    sentence(),
    sentence(0, 1, 2, 3),  # goes on where s ends
  ]
  found = score(s, decoded, reader=1.0)
  expected = [
    1 - 4 * right / nothing,
    1 - (3 * right + wrong) / nothing,
    0.0,  # 1 - (right + 3 wrong) / nothing = -0.09: worse than nothing
    0.0,
    1 - (3 * right + wrong) / nothing,
  ]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert (right + 3 * wrong) / nothing > 1


def random_texts(rng, *shape):
  return tiny.tokens(rng, *shape, lengths=rng.integers(0, 7, shape[:-1]))


@pytest.mark.parametrize(
  "weights",
  [
    {"slots": 1.0, "edit": 3.0},
    {"gain": 0.5, "reader": 7.5, "slots": 0.0},
    {"slots": 0.1, "edit": 0.2, "gain": 0.3, "reader": 0.4},
  ],
)
@few
@given(st.integers(0, 2**32 - 1))
def test_fidelity_is_a_weighted_mean_in_0_1(weights, seed):
  """Weights need not sum to 1, and those of 0 are not even computed."""
  rng = np.random.default_rng(seed)
  s, d = random_texts(rng, 2, 6), random_texts(rng, 2, 3, 2, 6)
  gain = rng.normal(size=(2, 3)).astype(np.float32) * 2
  found, scores = compiled(tuple(weights.items()))(FROZEN, s, d, gain)
  assert found.shape == (2, 3, 2)
  assert (found >= 0).all() and (found <= 1 + 1e-6).all()
  used = {k: w / sum(weights.values()) for k, w in weights.items() if w}
  expected = np.zeros((2, 3, 2))
  for name, weight in used.items():
    part, _ = compiled(((name, 1.0),))(FROZEN, s, d, gain)
    expected += weight * np.asarray(part)
    np.testing.assert_allclose(scores[f"v_{name}"], part.mean(), atol=1e-6)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert len(scores) == len(used)


@few
@given(st.integers(0, 2**32 - 1))
def test_a_perfect_decode_scores_1(seed):
  s = tiny.tokens(np.random.default_rng(seed), 4, 6, lengths=[6] * 4)
  d = Tokens(*(x[:, None, None] for x in s))
  for weights in ((("slots", 1.0), ("edit", 3.0)), (("edit", 1.0),)):
    found, _ = compiled(weights)(FROZEN, s, d, jnp.zeros((4, 1)))
    assert (found == 1.0).all()


@pytest.mark.parametrize("scorer", ["slots", "edit", "reader"])
def test_what_an_adversary_would_write_is_worth_less(scorer):
  """None of it depends on s, or it knows the words but not their places."""
  rng = np.random.default_rng(0)
  texts = [sentence(*rng.permutation(12)[:6]) for _ in range(8)]
  constant = sentence(*[5] * 6)
  for i, s in enumerate(texts):
    shuffled = Tokens(np.roll(s.ids, 1), s.mask)
    attempts = [s, sentence(), constant, texts[i - 1], shuffled]
    true, *others = score(s, attempts, **{scorer: 1.0})
    assert max(others) < true - 0.3


@pytest.mark.parametrize(
  "weights, message",
  [
    ({}, "at least one of"),
    ({"slots": 0.0, "edit": 0.0}, "at least one of"),
    ({"edit": 1.0, "bleu": 1.0}, "'bleu': 1.0.*none negative or other"),
    ({"edit": 1.0, "gain": -0.5}, "none negative or other"),
  ],
)
def test_weights_refused(weights, message):
  with pytest.raises(ValueError, match=message):
    make(**weights)


def test_slots_need_facts():
  with pytest.raises(ValueError, match=r"verifier.slots needs .* facts"):
    verifier.make(READER, ROLE, weights={"slots": 1.0}, positions=None)
  # Not asked for, they need none.
  verifier.make(
    READER, ROLE, weights={"slots": 0.0, "edit": 1.0}, positions=None
  )


def test_v_is_read_and_never_trained():
  """The reward depends on the frozen parameters, the update does not.

  One step of a pattern whose outputs are given and whose reward is V's: its
  fidelity has a gradient to V's parameters, the new ones of the policy none.
  """
  rng = np.random.default_rng(0)
  s, d = random_texts(rng, 2, 6), random_texts(rng, 2, 3, 6)
  verify = make(reader=1.0)

  def play(params, frozen, carry, batch, key, given):
    del params, key, given
    decoded = Tokens(*(x[:, :, None] for x in d))
    fidelity, _ = verify.score(frozen, batch.source, decoded, jnp.zeros((2, 3)))
    out = Rollout(ROLE.prompt(batch.source), d, jnp.zeros(d.ids.shape), None)
    metrics = {"fidelity": jnp.mean(fidelity)}
    return Episode({"V": out}, {"V": fidelity[..., 0]}, {}, metrics), carry

  roles, tx = {"V": ROLE}, optax.sgd(1.0)
  relax = curriculum.linear(hidden=0.0, steps=1, explore_steps=1)
  loss = learner.make_loss(
    READER, roles, weights={"V": 1.0}, lesson_weights={}, entropy_bonus={},
    clip_low=0.2, clip_high=0.28, importance_cap=2.0, per_token=False,
  )  # fmt: skip
  step = learner.make_step(READER, roles, Pattern(tuple, play), tx, loss=loss)
  params = {"odds": jnp.float32(3.0)}
  state = TrainState(
    jnp.int32(0), params, tx.init(params), (), relax.init(), jnp.uint32(0)
  )
  batch = Batch(s, np.arange(2, dtype=np.int32))

  def after(frozen):
    new, metrics = step(state, frozen, batch, Given((), state.curriculum))
    return jnp.stack([new.params["odds"], metrics["loss"], metrics["fidelity"]])

  values, gradient = jax.jit(lambda f: (after(f), jax.jacrev(after)(f)))(FROZEN)
  assert values[0] != params["odds"]  # the policy moved,
  assert (gradient["odds"][:2] == 0.0).all()  # whatever V's slope,
  assert jnp.abs(gradient["odds"][2]) > 1e-4  # and V has one.
