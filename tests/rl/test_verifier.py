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


def make(gain=0.0, **weights):
  return verifier.make(
    READER, ROLE, weights=weights, shaping={"gain": gain}, positions=SLOTS
  )


@functools.cache
def compiled(weights):
  return jax.jit(make(**dict(weights)).words)


def sentence(*words):
  """Words 0-11 as one source of 6 slots."""
  ids = [8 + w for w in words] + [0] * (tiny.SOURCE - len(words))
  mask = [i < len(words) for i in range(tiny.SOURCE)]
  return Tokens(np.array(ids, np.int32), np.array(mask))


def stack(texts, *shape):
  return Tokens(
    *(np.stack(x).reshape(*shape, -1) for x in zip(*texts, strict=True))
  )


def score(source, decoded, **weights):
  """V's word on some decodes of one source, [n]."""
  n = len(decoded)
  s, d = stack([source], 1), stack(decoded, 1, n, 1)
  parts, _ = compiled(tuple(weights.items()))(FROZEN, s, d)
  assert {x.shape for x in parts.values()} == {(1, n, 1)}
  return np.asarray(sum(parts.values()))[0, :, 0]


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


def test_shaping_is_bounded_and_never_clipped():
  """Of 12 nats 4, 12 and 36 are left: 8/16, 0 and -24/48."""
  given, without = jnp.array([[-4.0, -12.0, -36.0]]), jnp.full((1, 1), -12.0)
  alone = make(gain=2.0)
  assert alone.shapes and not alone.hears
  found = alone.shaping(given, without)
  np.testing.assert_allclose(found, [[0.5, 0.0, -0.5]], rtol=1e-6)
  # Beside V's own scorers it has its share of all weights, and they theirs.
  both = make(gain=1.0, slots=2.0, edit=1.0)
  assert both.shapes and both.hears
  np.testing.assert_allclose(
    both.shaping(given, without), [[0.125, 0.0, -0.125]], rtol=1e-6
  )
  np.testing.assert_allclose(both.share(), 0.75)
  # A step may be given other weights of those in use.
  numbers = {"shaping.gain": jnp.float32(3.0), "verifier.slots": 0.0}
  np.testing.assert_allclose(both.share(numbers), 0.25)
  np.testing.assert_allclose(
    both.shaping(given, without, numbers)[0, 0], 0.375, rtol=1e-6
  )
  silent = make(slots=1.0)
  assert silent.hears and not silent.shapes and silent.share() == 1.0


@few
@given(st.floats(1e-3, 1e3), st.floats(-1e3, 0), st.floats(1e-2, 10))
def test_the_bounded_gain_rises_everywhere(nothing, known, more):
  """Above 0 where x tells something, below where it misleads, within 1."""
  gain = lambda x: float(likelihood.bounded_gain(np.float64(x), -nothing))
  assert -1 <= gain(known) <= 1
  assert gain(known - more) <= gain(known)
  assert np.sign(round(gain(known), 6)) in (0, np.sign(known + nothing))
  np.testing.assert_allclose(gain(-nothing), 0.0, atol=1e-6)


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
  told = lambda nats: (nothing - nats) / (nothing + nats)
  expected = [
    told(4 * right),
    told(3 * right + wrong),
    told(right + 3 * wrong),  # -0.04: worse than nothing, and not clipped
    0.0,
    told(3 * right + wrong),
  ]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert found[2] < -0.03


def random_texts(rng, *shape):
  return tiny.tokens(rng, *shape, lengths=rng.integers(0, 7, shape[:-1]))


@pytest.mark.parametrize(
  "weights",
  [
    {"slots": 1.0, "edit": 3.0},
    {"edit": 0.5, "reader": 7.5, "slots": 0.0},
    {"slots": 0.1, "edit": 0.2, "gain": 0.3, "reader": 0.4},
  ],
)
@few
@given(st.integers(0, 2**32 - 1))
def test_vs_word_is_a_weighted_mean_in_parts(weights, seed):
  """Weights need not sum to 1, and those of 0 are not even computed.

  Shaping is no part of the word: its weight changes nothing here.
  """
  rng = np.random.default_rng(seed)
  s, d = random_texts(rng, 2, 6), random_texts(rng, 2, 3, 2, 6)
  parts, scores = compiled(tuple(weights.items()))(FROZEN, s, d)
  own = {k: w for k, w in weights.items() if w and k != "gain"}
  expected = {}
  for name, weight in own.items():
    (found,) = compiled(((name, 1.0),))(FROZEN, s, d)[0].values()
    assert (found >= -1).all() and (found <= 1 + 1e-6).all()
    part = "reader" if name == "reader" else "verifier"
    more = weight / sum(own.values()) * np.asarray(found)
    expected[part] = expected.get(part, 0.0) + more
    np.testing.assert_allclose(scores[f"v_{name}"], found.mean(), atol=1e-6)
  assert set(parts) == set(expected) and len(scores) == len(own)
  for name, value in expected.items():
    assert parts[name].shape == (2, 3, 2)
    np.testing.assert_allclose(parts[name], value, atol=1e-6)


@few
@given(st.integers(0, 2**32 - 1))
def test_a_perfect_decode_scores_1(seed):
  s = tiny.tokens(np.random.default_rng(seed), 4, 6, lengths=[6] * 4)
  d = Tokens(*(x[:, None, None] for x in s))
  for weights in ((("slots", 1.0), ("edit", 3.0)), (("edit", 1.0),)):
    found, _ = compiled(weights)(FROZEN, s, d)
    assert (found["verifier"] == 1.0).all()


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
    ({}, "one of .* must be positive"),
    ({"slots": 0.0, "edit": 0.0}, "one of .* must be positive"),
    ({"edit": 1.0, "bleu": 1.0}, "'bleu': 1.0.*none negative or other"),
    ({"edit": 1.0, "slots": -0.5}, "none negative or other"),
    ({"edit": 1.0, "gain": -0.5}, "'gain': -0.5.*none negative or other"),
  ],
)
def test_weights_refused(weights, message):
  with pytest.raises(ValueError, match=message):
    make(**weights)


def test_slots_need_facts():
  given = {"shaping": {}, "positions": None}
  with pytest.raises(ValueError, match=r"verifier.slots needs .* facts"):
    verifier.make(READER, ROLE, weights={"slots": 1.0}, **given)
  # Not asked for, they need none.
  verifier.make(READER, ROLE, weights={"slots": 0.0, "edit": 1.0}, **given)


@pytest.mark.parametrize(
  "weights, said",
  [
    ({"edit": 1.0}, "tokens that it compares are the same in all 3 training"),
    ({"slots": 1.0}, "slots that it compares are the same"),
    ({"edit": 1.0, "slots": 1.0}, None),  # the last token differs
    ({"slots": 1.0, "reader": 1.0}, None),  # its battery says
  ],
)
def test_a_v_whose_scores_are_all_equal_is_refused(weights, said):
  ids = np.array([[9, 10, 11]] * 3)
  if said is None or "slots" in weights:
    ids[1, 2] = 12
  s = Tokens(ids, np.ones((3, 3), bool))
  check = lambda: verifier.check_scores_differ(weights, s, (0, 1))
  if said is None:
    return check()
  with pytest.raises(ValueError, match=rf"config\.verifier=.*{said}") as error:
    check()
  assert "\n" not in str(error.value)


def test_v_is_read_and_never_trained():
  """The reward depends on the frozen parameters, the update does not.

  One step of a pattern whose outputs are given and whose reward is V's: its
  word has a gradient to V's parameters, the new ones of the policy none.
  """
  rng = np.random.default_rng(0)
  s, d = random_texts(rng, 2, 6), random_texts(rng, 2, 3, 6)
  verify = make(reader=1.0)

  def play(params, frozen, carry, batch, key, given):
    del params, key, given
    decoded = Tokens(*(x[:, :, None] for x in d))
    parts, _ = verify.words(frozen, batch.source, decoded)
    word = parts["reader"]
    out = Rollout(ROLE.prompt(batch.source), d, jnp.zeros(d.ids.shape), None)
    metrics = {"word": jnp.mean(word)}
    return Episode({"V": out}, {"V": word[..., 0]}, {}, metrics), carry

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
    return jnp.stack([new.params["odds"], metrics["loss"], metrics["word"]])

  values, gradient = jax.jit(lambda f: (after(f), jax.jacrev(after)(f)))(FROZEN)
  assert values[0] != params["odds"]  # the policy moved,
  assert (gradient["odds"][:2] == 0.0).all()  # whatever V's slope,
  assert jnp.abs(gradient["odds"][2]) > 1e-4  # and V has one.
