"""reader.py: its word, its noise, and what it refuses to be paid for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import fake_reader, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.lm import likelihood
from rsrc_jax.rl import reader, reader_battery
from rsrc_jax.types import Tokens

ROLE = tiny.ROLES["V"]
ODDS = {"odds": jnp.float32(24.0)}
LIMITS = {"least": 0.3, "tolerance": 0.01}
nats = st.floats(1e-3, 1e4)


@settings(deadline=None, max_examples=50)
@given(nats, nats, nats)
def test_the_word_is_never_clipped_and_rises_as_s_gets_likelier(before, a, b):
  """Two d's that both mislead differ too: no group is made equal by it."""
  word = lambda spent: float(
    likelihood.bounded_gain(jnp.float32(-spent), -before)
  )
  assert -1 < word(a) < 1
  np.testing.assert_allclose(
    word(a), (before - a) / (before + a), rtol=1e-3, atol=1e-6
  )
  if a > 1.01 * b:  # apart in float32
    assert word(a) < word(b)
  assert word(before) == 0.0
  none = jnp.zeros(())
  assert np.isfinite(float(likelihood.bounded_gain(none, none)))


def texts(*rows, length=tiny.SOURCE):
  """Lists of words 0-11 -> Tokens [n, T]."""
  found = reader_battery._padded([[8 + w for w in x] for x in rows], length)
  return Tokens(*map(jnp.asarray, found))


def grouped(d, *shape):
  return Tokens(*(x.reshape(*shape, -1) for x in d))


def test_gain_by_hand():
  """Three words and the end: 4 tokens, 4 ln 13 nats without having read d.

  Odds of 24 to 1 against 12 others: 24/36 where d is right, 1/36 where not.
  """
  right, wrong, nothing = np.log(24 / 36), np.log(1 / 36), 4 * np.log(1 / 13)
  s = texts([0, 1, 2], [3, 4, 5])
  d = texts(
    [0, 1, 2], [0, 9, 2], [9, 10, 11], [],
    [0, 1, 2], [3, 4, 5], [3, 9, 9], [],
  )  # fmt: skip
  found = jax.jit(
    lambda s, d: reader.gain(fake_reader.HONEST, ODDS, ROLE, s, d)
  )(s, grouped(d, 2, 2, 2))
  word = lambda log_lik: (nothing - log_lik) / (nothing + log_lik)
  one, two = 3 * right + wrong, 2 * right + 2 * wrong
  none = right + 3 * wrong
  assert none < nothing  # it misleads, and is worth less than nothing
  expected = [
    [[word(4 * right), word(one)], [word(none), 0.0]],
    [[word(none), word(4 * right)], [word(two), 0.0]],
  ]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert found[0, 1, 0] < 0


def test_what_it_expects_without_d_is_computed_once_a_source():
  """Of [B, G, J] decodes the program reads B G J prompts, and B empty ones."""
  s = texts(*[[0, 1, 2]] * 4)
  d = grouped(texts(*[[0, 1]] * 24), 4, 3, 2)
  params = tiny.params()
  run = lambda d: jax.jit(
    lambda s, d: reader.gain(tiny.POLICY, params, ROLE, s, d)
  ).lower(s, d).cost_analysis()["flops"]  # fmt: skip
  few, many = run(d), run(grouped(texts(*[[0, 1]] * 48), 4, 6, 2))
  each = (many - few) / 24
  # The rest is of 4 rows, whose prompts are shorter.
  assert 0 < few - 24 * each < 4 * each


def test_noise_is_of_the_neighbour_and_of_every_strength():
  rows = 512
  s = tiny.batch(rows=rows).source
  noisy = jax.jit(reader.noised)(s, jax.random.key(0), jnp.arange(rows))
  ids, mask = map(np.asarray, noisy)
  assert (np.sort(~mask, -1) == ~mask).all() and not ids[~mask].any()
  own, other = (np.asarray(x.ids) for x in (s, _rolled(s)))
  empty = ~mask.any(-1)
  assert abs(empty.mean() - reader.EMPTY) < 0.08
  lengths, before = mask.sum(-1), np.asarray(s.mask).sum(-1)
  # Of those that kept their length: the share of tokens that are not s's.
  kept = (lengths == before) & (before == tiny.SOURCE)
  moved = (ids[kept] != own[kept]).mean(-1)
  assert moved.min() == 0 and moved.max() > 0.8 and 0.2 < moved.mean() < 0.7
  from_s_or_other = (ids == own) | (ids == other)
  assert from_s_or_other[kept].all()
  assert (lengths[~empty] < before[~empty]).mean() > 0.1  # some lack tokens


def _rolled(s):
  return Tokens(*(jnp.roll(x, 1, 0) for x in s))


def test_noise_of_a_row_is_a_function_of_its_number_and_neighbour():
  s = tiny.batch(rows=8).source
  whole = reader.noised(s, jax.random.key(3), jnp.arange(8))
  part = Tokens(*(x[2:6] for x in s))
  found = reader.noised(part, jax.random.key(3), jnp.arange(2, 6))
  np.testing.assert_array_equal(found.ids[1:], whole.ids[3:6])


# The battery.

SLOTS, SAME = (0, 1, 2, 3, 5), [False, False, False, False, True, False]


def battery(words=12):
  """32 sentences of six of so many words, and the decodes."""
  rng = np.random.default_rng(0)
  s = texts(*(rng.permutation(words)[:6] for _ in range(32)))
  s = Tokens(*map(np.asarray, s))
  counts = np.bincount(s.ids.ravel(), minlength=tiny.VOCAB)
  return s, reader_battery.attacks(
    s, tiny.SOURCE + 1, counts=counts, tags=[2, 3, 4, 5, 6], slots=SLOTS, seed=0
  )


def test_the_attacks_say_what_they_are_called():
  s, played = battery()
  assert set(played) == {reader_battery.TRUE, *reader_battery.SAYS}
  for d in played.values():
    assert d.ids.shape == d.mask.shape == (32, tiny.SOURCE + 1)
    assert not d.ids[~d.mask].any()
  said = {
    k: [i[m].tolist() for i, m in zip(*d, strict=True)]
    for k, d in played.items()
  }
  rows = s.ids.tolist()
  assert said.pop("s") == rows
  assert said["empty"] == [[]] * 32
  assert sorted(said["other"]) == sorted(rows)
  assert all(len(set(x)) == 1 for x in said["repeated"])
  assert all(len(set(x)) == 7 for x in said["permutation"])
  assert {*said["tags"][0]} == {2, 3, 4, 5, 6}
  a, b = said["other"], said["concatenated"]
  assert all(x == y[:6] and len(y) == 7 for x, y in zip(a, b, strict=True))
  for x, y in zip(said["glued"], said["interleaved"], strict=True):
    assert x in [p[:3] + q[3:] for p in rows for q in rows]
    assert y[::2][:3] in [p[:3] for p in rows]
  for x, y in zip(said["replaced"], rows, strict=True):
    assert [a == b for a, b in zip(x, y, strict=True)] == SAME
  for name, texts_ in said.items():
    assert not any(x == y for x, y in zip(texts_, rows, strict=True)), name


def played_by(policy, words=12, size=20):
  """Mean words of a reader; 32 rows in calls of `size` wrap around."""
  s, played = battery(words)
  score = jax.jit(lambda s, d: reader.gain(policy, ODDS, ROLE, s, d)[..., 0])
  return reader_battery.measure(score, s, played, size)


def test_an_honest_reader_is_heard():
  found = played_by(fake_reader.HONEST)
  true = -np.log(24 / 36) / np.log(13)  # nats of a token, with d and without
  np.testing.assert_allclose(found["s"], (1 - true) / (1 + true), atol=1e-5)
  assert found["empty"] == 0.0
  assert max(x for k, x in found.items() if k not in ("s", "empty")) <= 0
  assert found == pytest.approx(played_by(fake_reader.HONEST, size=32))
  accepted, said = reader_battery.judged(found, who="V's reader", **LIMITS)
  assert accepted and "its word is 0.727 for s itself" in said


def test_a_reader_that_is_fooled_is_refused_by_the_attack_s_name():
  """It finds s likelier whatever it reads, and s itself no more than junk."""
  found = played_by(fake_reader.FOOLED, words=6)
  assert found["s"] > 0.05 and found["other"] == pytest.approx(found["s"])
  accepted, said = reader_battery.judged(
    found, who="V's reader", least=0.02, tolerance=0.01
  )
  assert not accepted and "\n" not in said
  assert "is fooled by " in said and "config.reader.steps" in said
  name = max((x for x in found if x != "s"), key=found.get)
  assert f"attack {name!r}" in said and f"{found[name]:+.3f}" in said
  assert reader_battery.SAYS[name] in said


@pytest.mark.parametrize(
  "words, said",
  [
    (
      {"s": 0.29, "empty": 0.0},
      "word for s itself is 0.290, and config.reader",
    ),
    ({"s": np.nan, "empty": 0.0}, "not above its floor"),
    ({"s": 0.9, "empty": 0.0, "tags": np.nan}, "fooled by the tags of prompts"),
    ({"s": 0.9, "empty": 0.0, "glued": 0.011}, "attack 'glued'"),
  ],
)
def test_what_is_refused(words, said):
  accepted, line = reader_battery.judged(words, who="V's reader", **LIMITS)
  assert not accepted and said in line and "\n" not in line
