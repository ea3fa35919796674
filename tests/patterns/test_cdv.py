"""C -> D -> V with a fake policy, next to the same game in plain numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import scripted, tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.lm import likelihood as lm_likelihood
from rsrc_jax.lm import rollout, tokens
from rsrc_jax.ops import grpo
from rsrc_jax.patterns import cdv
from rsrc_jax.rl import hearing, learner, verifier
from rsrc_jax.types import (
  Batch,
  Constraints,
  Context,
  Rollout,
  Tokens,
)

B, G, S, K = tiny.ROWS, tiny.GROUP, tiny.SOURCE, tiny.BUDGET
END, SUPPORT = tokenizer.END, 13  # D may write 12 words and the end
PRICE = 0.5
ODDS = 12.0  # of what an unsure D wants to write, against any other id
CERTAIN = 1e6
PRIOR = (8, 9, 8, 9, 8, 8, END)  # what a D with a prior says without a code


def wanted(params, prompt, step):
  """Logits [V] of a role that has read `prompt` and written `step` tokens.

  C copies its source. D repeats its code until it has written S words and then
  ends: exact where s repeats its first K words. An empty code tells D nothing:
  it says its PRIOR, if it has one. No other role knows anything. params hold
  how decided they are, in nats, and how much more so with each token of a code.
  """
  tag, size = prompt.ids[0], jnp.sum(prompt.mask) - 2  # tag and separator
  word = prompt.ids[1 + step % jnp.maximum(size, 1)]
  word = jnp.where(step < S, word, END)
  word = jnp.where(size > 0, word, jnp.array(PRIOR)[jnp.minimum(step, S)])
  sure = params["sure"] + params["longer"] * size
  eager = {
    tokenizer.C: params["copy"],
    tokenizer.D: jnp.where(size > 0, sure, params["prior"]),
  }
  strength = sum(jnp.where(tag == k, v, 0.0) for k, v in eager.items())
  return strength * jax.nn.one_hot(word, tiny.VOCAB)


def decided(copy, sure, prior=1.0, longer=1.0):
  """Parameters: odds of the wanted id against any other, for C and for D."""
  odds = {"copy": copy, "sure": sure, "prior": prior, "longer": longer}
  return {name: jnp.log(x) for name, x in odds.items()}


POLICY = scripted.policy(wanted, lambda key: decided(2.0, ODDS), tiny.VOCAB)
EXACT = decided(CERTAIN, CERTAIN)
UNSURE = POLICY.init(None)
FROZEN = {"base": UNSURE, "reader": UNSURE}
VERIFY = verifier.make(
  POLICY,
  tiny.ROLES["V"],
  weights={"slots": 1.0},
  shaping={"gain": 1.0},
  positions=tuple(range(S)),
)


def make(**changes):
  settings = {
    "group": G,
    "decodes": 1,
    "length_price": PRICE,
    "lessons": 2,
    "dropout": 0.0,
    "imitate": True,
  }
  return cdv.make(Context(POLICY, tiny.ROLES, VERIFY), **(settings | changes))


# Three programs for all tests: what else differs is data.
ONE = make()
TWO = make(decodes=2, lessons=1, dropout=1.0, imitate=False)
OWN = make(taught=3, imitate=False)  # a group of D's own


@functools.cache
def program(pattern):
  return jax.jit(pattern.play)


def batch(words=K, seed=0, order=None):
  """Sources that repeat `words` different words; rows may be reordered."""
  rng = np.random.default_rng(seed)
  ids = np.stack([8 + rng.permutation(12)[:words] for _ in range(B)])
  ids = np.tile(ids, (1, S // words)).astype(np.int32)
  order = np.arange(B) if order is None else order
  mask = np.ones((B, S), bool)
  return Batch(Tokens(ids[order], mask), order.astype(np.int32))


def given(batch, words=None):
  """C may write words of s, or K of these; lists are shared by the group."""
  banned = np.full((B, 1, 1), -1 if words is None else END, np.int32)
  allowed = batch.source.ids[:, None]
  if words is not None:
    allowed = np.resize(np.int32(words), allowed.shape)
  return tiny.ask(Constraints(banned, allowed))


def play(pattern, params, batch, seed=0, words=None):
  episode, carry = program(pattern)(
    params, FROZEN, (), batch, jax.random.key(seed), given(batch, words)
  )
  assert carry == ()
  return jax.device_get(episode)


def codes(episode):
  """What C wrote, without the end: [B][G] lists of ids."""
  ids, mask = episode.rollouts["C"].output
  return [
    [
      [i for i in row[m].tolist() if i != END]
      for row, m in zip(*x, strict=True)
    ]
    for x in zip(ids, mask, strict=True)
  ]


def spoken(code):
  """What D wants to write: S words and the end."""
  return [code[t % len(code)] for t in range(S)] + [END]


def likelihood(s, code):
  """ln p_D(s, end | code): 12 / 24 where D is right, 1 / 24 where not."""
  if not code:
    return -(S + 1) * np.log(SUPPORT)
  right, wrong = np.log(np.array([ODDS, 1.0]) / (ODDS + SUPPORT - 1))
  target = [*s, END]
  return sum(
    right if x == y else wrong
    for x, y in zip(spoken(code), target, strict=True)
  )


def worth(s, code):
  """By hand: slots of the greedy d, bounded and relative gain of the code.

  The greedy d of the empty code is empty, so that nothing is taken off.
  """
  slots = np.mean(np.array(spoken(code)[:-1]) == s) if code else 0.0
  known, nothing = -likelihood(s, code), (S + 1) * np.log(SUPPORT)
  bounded = (nothing - known) / (nothing + known)
  return slots, bounded, 1 - known / nothing


def paid(value, length):
  """The reward of what was conveyed: negative values have no price."""
  cost = 1 - PRICE * np.asarray(length) / K
  return np.minimum(value, 0) + np.maximum(value, 0) * cost


def table(episode, batch, function):
  """function(s, code) of every code, [B, G, ...]."""
  return np.array(
    [
      [function(s, code) for code in group]
      for s, group in zip(batch.source.ids, codes(episode), strict=True)
    ]
  )


@pytest.mark.parametrize("pattern", [ONE, TWO], ids=["one", "two"])
def test_an_exact_pair_is_worth_all(pattern):
  """C copies the first three words and D repeats them: d is s."""
  found = batch()
  episode = play(pattern, EXACT, found)
  assert codes(episode) == [[row[:K]] * G for row in found.source.ids.tolist()]
  np.testing.assert_allclose(episode.metrics["fidelity"], 1.0, atol=1e-4)
  # All three tokens of the budget were used, at half a reward for all.
  np.testing.assert_allclose(episode.rewards["C"], 1 - PRICE, atol=1e-4)
  if pattern is TWO:
    np.testing.assert_allclose(episode.rewards["D"], 1.0, atol=1e-4)
    d = episode.rollouts["D"].output
    expected = [[*row, END] for row in found.source.ids.tolist()]
    assert d.ids[:, 0].tolist() == [x for x in expected for _ in range(G)]


def test_rewards_and_metrics_by_hand():
  found = batch()
  episode = play(ONE, UNSURE, found)
  slots, bounded, gain = np.moveaxis(table(episode, found, worth), -1, 0)
  fidelity = 0.5 * slots + 0.5 * bounded
  length = table(episode, found, lambda s, code: len(code))
  known = table(episode, found, likelihood)
  assert len(np.unique(length)) > 2 and len(np.unique(fidelity.round(4))) > 3
  reward = paid(fidelity, length)
  np.testing.assert_allclose(episode.rewards["C"], reward, atol=1e-5)
  parts = {
    "verifier": 0.5 * slots, "shaping": 0.5 * bounded,
    "price": reward - fidelity,
  }  # fmt: skip
  assert set(episode.parts) == {"C"} and set(episode.parts["C"]) == set(parts)
  for name, value in parts.items():
    np.testing.assert_allclose(episode.parts["C"][name], value, atol=1e-5)
  expected = {
    "v_slots": slots.mean(),
    "word": slots.mean(),
    "word_best": slots.max(-1).mean(),
    "word_empty": 0.0,
    "reward": reward.mean(),
    "fidelity": fidelity.mean(),
    "fidelity_best": fidelity.max(-1).mean(),
    "length": length.mean(),
    "gain": gain.mean(),
    "gain_best": gain[np.arange(B), known.argmax(-1)].mean(),
    "novel_fraction": 0.0,  # C was given the words of s alone
    # Up to the longest output and its end, less the one read off the prompt.
    "C_loops": min(length.max() + 1, K) - 1,
    "D_loops": S,  # a D that has read anything writes S words and an end
  }
  assert set(episode.metrics) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(
      episode.metrics[name], value, atol=1e-5, err_msg=name
    )


def test_a_verifier_that_does_not_hear_d_has_none_decoded():
  """Shaping alone: the reward is D's likelihood, and no loop of D."""
  deaf = verifier.make(
    POLICY, tiny.ROLES["V"], weights={"edit": 0.0}, shaping={"gain": 1.0},
    positions=None,
  )  # fmt: skip
  assert not deaf.hears and deaf.shapes and VERIFY.hears
  with pytest.raises(ValueError, match=r"config\.patterns\.cdv\.decodes=2"):
    cdv.make(
      Context(POLICY, tiny.ROLES, deaf), group=G, decodes=2,
      length_price=PRICE, lessons=2, dropout=0.0,
    )  # fmt: skip
  pattern = cdv.make(
    Context(POLICY, tiny.ROLES, deaf), group=G, decodes=1, length_price=PRICE,
    lessons=2, dropout=0.0,
  )  # fmt: skip
  found = batch()
  episode = play(pattern, UNSURE, found)
  bounded = table(episode, found, worth)[..., 1]
  length = table(episode, found, lambda s, code: len(code))
  np.testing.assert_allclose(
    episode.rewards["C"], paid(bounded, length), atol=1e-5
  )
  assert set(episode.parts["C"]) == {"shaping", "price"}
  assert "D_loops" not in episode.metrics and "C_loops" in episode.metrics


@functools.cache
def decoder(pattern):
  """What D wrote in the step of a pattern, from its codes [B, G, k]."""
  p = pattern.play.args[0]
  return jax.jit(
    lambda params, batch, code, key: cdv.decode(p, params, batch, code, key)[1]
  )


def heard(pattern, params, batch, episode, seed=0):
  """-> what V heard, and its slots: of codes [B, G, J], of none [B, E]."""
  code = tokens.without_end(Tokens(*episode.rollouts["C"].output), END)
  found = jax.device_get(
    decoder(pattern)(params, batch, code, jax.random.key(seed))
  )
  s = batch.source.ids[:, None, None]
  right = lambda d: np.mean(d.ids[..., :S] == s, -1)  # pads are 0, no word
  everywhere = jax.tree.map(lambda x: x[None, None], found.empty)
  return found, right(found.each), right(everywhere)[:, 0]


def above(said, empty):
  """Slots above those of the empty code, by hand. [B, G, J], [B, E]"""
  floor = empty.mean(-1, keepdims=True)
  return (said.mean(-1) - floor) / np.maximum(1 - floor, 0.05)


def test_a_code_is_worth_the_mean_of_its_decodes_above_no_code():
  """D is paid V's plain word on each decode; shaping is C's alone."""
  found = batch()
  episode = play(TWO, UNSURE, found)
  what, said, empty = heard(TWO, UNSURE, found, episode)
  np.testing.assert_array_equal(
    what.group.output.ids, episode.rollouts["D"].output.ids
  )
  assert empty.shape == (B, hearing.EMPTY) and empty.std() > 0
  np.testing.assert_allclose(episode.metrics["word_empty"], empty.mean())
  assert (said[..., 0] != said[..., 1]).any()
  np.testing.assert_allclose(
    episode.rewards["D"].reshape(B, G, 2), said, atol=1e-5
  )
  assert set(episode.parts["D"]) == {"verifier"}
  bounded = table(episode, found, worth)[..., 1]
  value = 0.5 * above(said, empty) + 0.5 * bounded
  length = table(episode, found, lambda s, code: len(code))
  np.testing.assert_allclose(
    episode.rewards["C"], paid(value, length), atol=1e-5
  )
  assert (value < 0).any() and (value > 0).any()


@pytest.mark.parametrize("pattern", [ONE, TWO, OWN], ids=["one", "two", "own"])
def test_no_code_is_decoded_as_often_as_it_needs(pattern):
  """A D with a prior says it, whatever the codes; once where it is greedy."""
  params, found = decided(2.0, ODDS, prior=CERTAIN), batch()
  episode = play(pattern, params, found)
  what, _, empty = heard(pattern, params, found, episode)
  rows = 1 if pattern is ONE else hearing.EMPTY
  assert what.empty.ids.shape == (rows, S + 1)
  assert what.empty.ids.tolist() == [[*PRIOR[:-1], 0]] * rows
  by_hand = np.mean(found.source.ids == PRIOR[:-1], -1)
  np.testing.assert_allclose(empty, np.repeat(by_hand[:, None], rows, 1))
  np.testing.assert_allclose(episode.metrics["word_empty"], by_hand.mean())


def test_v_hears_d_and_not_the_likelihood():
  """Codes of one, two, three equal words: one d, and a D that is surer of it.

  Without shaping they are paid alike; with it the likelier one earns more.
  """
  found = batch(words=1)
  params = decided(1.0, ODDS, longer=2.0)
  episode = play(ONE, params, found)
  length = table(episode, found, lambda s, code: len(code))
  assert set(np.unique(length)) == {0, 1, 2, 3}
  by_v, shaping = (episode.parts["C"][x] for x in ("verifier", "shaping"))
  np.testing.assert_allclose(by_v, 0.5 * (length > 0), atol=1e-6)
  by_length = [shaping[length == n].mean() for n in range(4)]
  assert (np.diff(by_length) > 0.01).all()


def test_a_start_where_every_code_misleads_teaches():
  """V's word on any code is below that on none, and groups are not dead.

  s is 8 9 8 9 8 9, of which D knows five words without a code. Codes are three
  of 8, 10 and 11, which D repeats: n times 8 is n words of six, and
  (n / 6 - 5 / 6) / (1 / 6) = n - 5.
  """
  ids = np.tile(np.int32((*PRIOR[:-2], 9)), (B, 1))
  found = batch()._replace(source=Tokens(ids, np.ones((B, S), bool)))
  params = decided(2.0, CERTAIN, prior=CERTAIN)
  episode = play(OWN, params, found, words=(8, 10, 11))
  parts = episode.parts["C"]
  eights = table(episode, found, lambda s, code: code.count(8))
  np.testing.assert_allclose(parts["verifier"], 0.5 * (eights - 5), atol=1e-5)
  np.testing.assert_array_equal(parts["price"], 0.0)
  advantages = {k: grpo.advantages(x) for k, x in episode.rewards.items()}
  alive = np.std(eights, -1) > 0
  assert alive.mean() > 0.5
  np.testing.assert_array_equal(np.std(advantages["C"], -1) > 0.1, alive)
  loss = learner.make_loss(
    POLICY, tiny.ROLES, weights={"C": 1.0, "D": 0.0},
    lesson_weights={"D": 0.0}, entropy_bonus={}, clip_low=0.2, clip_high=0.28,
    importance_cap=2.0, per_token=False,
  )  # fmt: skip
  work = jax.tree.map(
    jnp.asarray, (episode._replace(metrics={}, parts=None), advantages, None)
  )
  total = lambda x: loss(x, work, learner.counts(episode), 0.0)[0]
  # C is to write more of what it copies, its source's 8.
  assert jax.jit(jax.grad(total))(params)["copy"] < -1e-3


def test_what_is_given_to_c_is_kept_and_obeyed():
  found = batch()
  episode = play(ONE, UNSURE, found)
  for s, group in zip(found.source.ids.tolist(), codes(episode), strict=True):
    assert all(set(code) <= set(s) for code in group)
  kept = episode.rollouts["C"].constraints
  np.testing.assert_array_equal(kept.allowed, found.source.ids[:, None])


def test_codes_reach_d_as_ids():
  """D's prompt: its tag, exactly the ids that C wrote, and the separator."""
  episode = play(TWO, UNSURE, batch())
  prompt, *_ = episode.rollouts["D"]
  read = [row[mask].tolist() for row, mask in zip(*prompt, strict=True)]
  written = [code for group in codes(episode) for code in group]
  assert read == [[tokenizer.D, *code, tokenizer.SEPARATOR] for code in written]
  # It may write all that it can, at its own temperature.
  limits = episode.rollouts["D"].constraints
  assert (limits.banned == -1).all() and (limits.allowed == -1).all()
  assert (limits.temperature == 1).all()
  rest = limits._replace(banned=None, allowed=None, temperature=None)
  assert not jax.tree.leaves(rest)


@pytest.mark.parametrize(
  "changes, roles, lessons",
  [
    ({}, {"C"}, {"C": B, "D": 2 * B}),
    ({"imitate": False, "lessons": 1}, {"C"}, {"D": B}),
    ({"decodes": 2, "lessons": 0}, {"C", "D"}, {"C": B}),
    ({"decodes": 3, "lessons": G, "imitate": False}, {"C", "D"}, {"D": G * B}),
  ],
)
def test_shapes(changes, roles, lessons):
  """D has rollouts where it is decoded more than once; never a group of one."""
  pattern, found = make(**changes), batch()
  assert pattern.init() == ()
  episode, _ = jax.eval_shape(
    pattern.play, UNSURE, FROZEN, (), found, jax.random.key(0), given(found)
  )
  assert set(episode.rollouts) == set(episode.rewards) == roles
  shapes = {"C": (B, G), "D": (B * G, changes.get("decodes"))}
  lengths = {"C": K, "D": S + 1}
  for role in roles:
    out = episode.rollouts[role]
    assert episode.rewards[role].shape == shapes[role]
    assert out.output.ids.shape == (*shapes[role], lengths[role])
    assert out.output.ids.shape == out.log_probs.shape
    assert out.prompt.ids.shape[0] == shapes[role][0]
  assert {k: len(v.weights) for k, v in episode.sft_batches.items()} == lessons
  for lesson in episode.sft_batches.values():
    assert lesson.target.ids.shape[:2] == lesson.weights.shape
    assert lesson.weights.shape == (len(lesson.prompt.ids), 1)
  assert all(x.shape == () for x in episode.metrics.values())


def lesson_codes(lesson):
  """The code of each prompt of a supervised batch, [N] lists."""
  ids, mask = lesson.prompt
  return [row[1:-1][m[1:-1]].tolist() for row, m in zip(ids, mask, strict=True)]


def test_d_learns_s_from_the_codes_it_reads_best():
  found = batch()
  episode = play(ONE, UNSURE, found)
  best = np.sort(table(episode, found, likelihood), -1)[:, ::-1]
  lesson = episode.sft_batches["D"]
  read = lesson_codes(lesson)
  for i, s in enumerate(found.source.ids.tolist()):
    mine = read[2 * i : 2 * i + 2]
    assert all(code in codes(episode)[i] for code in mine)
    np.testing.assert_allclose(
      [likelihood(s, code) for code in mine], best[i, :2]
    )
    for target in lesson.target.ids[2 * i : 2 * i + 2]:
      assert target.tolist() == [[*s, END]]
  assert (lesson.prompt.ids[:, 0] == tokenizer.D).all()
  assert lesson.target.mask.all() and (lesson.weights == 1.0).all()


def test_imitation_shows_what_each_group_did_best():
  codes = np.arange(2 * 3 * 2).reshape(2, 3, 2)
  c = Rollout("prompt", Tokens(codes, codes > 0), None, None)
  found = cdv.imitation_batch(c, jnp.array([2, 0]))
  assert found.prompt == "prompt" and found.weights.tolist() == [[1.0], [1.0]]
  assert found.target.ids.tolist() == [[[4, 5]], [[6, 7]]]


def test_dropout_1_shortens_every_lesson():
  """TWO drops always: less than K slots are left, a beginning of a code."""
  episode = play(TWO, EXACT, batch())
  read = lesson_codes(episode.sft_batches["D"])
  written = [group[0] for group in codes(episode)]  # EXACT: all K long
  assert all(len(code) < K for code in read)
  assert all(
    whole[: len(code)] == code
    for whole, code in zip(written, read, strict=True)
  )
  assert len({len(code) for code in read}) > 1


def test_imitation_shows_c_its_best_code():
  found = batch()
  episode = play(ONE, UNSURE, found)
  c, lesson = episode.rollouts["C"], episode.sft_batches["C"]
  known = table(episode, found, likelihood)
  for i in range(B):
    # As C wrote it, end included where it ended.
    choices = [
      (c.output.ids[i, g].tolist(), c.output.mask[i, g].tolist())
      for g in range(G)
      if np.isclose(known[i, g], known[i].max())
    ]
    target = (lesson.target.ids[i, 0], lesson.target.mask[i, 0])
    assert tuple(x.tolist() for x in target) in choices
  np.testing.assert_array_equal(lesson.prompt.ids, c.prompt.ids)
  np.testing.assert_array_equal(lesson.prompt.mask, c.prompt.mask)


SHOWN = make(imitate=False, demonstrate=0.5)
STRANGERS = (20, 21)  # no source has them


def asked(batch, left, bare=()):
  """Each row has both STRANGERS on its list, but for the bare ones."""
  listed = np.tile(np.int32(STRANGERS), (B, 1, 1))
  listed[list(bare)] = -1
  controls = given(batch)
  limits = controls.constraints._replace(injected=jnp.asarray(listed))
  return controls._replace(
    constraints=limits, bonus=jnp.float32(left), decoys=listed
  )


def demonstrated(left=1.0, bare=(), params=None):
  """-> batch, episode of a SHOWN step."""
  found = batch()
  episode, _ = program(SHOWN)(
    params or UNSURE, FROZEN, (), found, jax.random.key(0),
    asked(found, left, bare),
  )  # fmt: skip
  return found, jax.device_get(episode)


def test_demonstrations_put_an_id_where_d_reads_it_best():
  found, episode = demonstrated()
  lesson, c = episode.sft_batches["C"], codes(episode)
  known = table(episode, found, likelihood)
  np.testing.assert_array_equal(
    lesson.prompt.ids, episode.rollouts["C"].prompt.ids
  )
  for i in range(B):
    target = lesson.target.ids[i, 0][lesson.target.mask[i, 0]].tolist()
    shown = [x for x in target if x != END]
    # A code that D reads best of its group, with one token replaced.
    best = [code for code, x in zip(c[i], known[i], strict=True)
            if np.isclose(x, known[i].max())]  # fmt: skip
    places = [
      [t for t, (a, b) in enumerate(zip(code, shown, strict=True)) if a != b]
      for code in best
      if len(code) == len(shown)
    ]
    places = [p for p in places if len(p) == 1]
    assert any(shown[p[0]] in STRANGERS for p in places)
  # C's and D's: D also keeps its own two lessons a source, uncut.
  D = episode.sft_batches["D"]
  assert D.weights.shape == (3 * B, 1)
  np.testing.assert_array_equal(D.weights[: 2 * B], 1.0)
  np.testing.assert_array_equal(D.weights[2 * B :], 0.5)
  read = lesson_codes(D)[2 * B :]
  for i in range(B):
    target = lesson.target.ids[i, 0][lesson.target.mask[i, 0]].tolist()
    assert read[i] == [x for x in target if x != END]
    assert D.target.ids[2 * B + i].tolist() == [[*found.source.ids[i], END]]


@pytest.mark.parametrize("place", [0, 1])
def test_of_the_n_the_one_is_shown_that_d_reads_best(place):
  """s is one word six times, which is on the list at either place."""
  found = batch(words=1)
  word = found.source.ids[:, :1]
  listed = np.full((B, 1, 2), STRANGERS[0], np.int32)
  listed[:, :, place] = word
  controls = asked(found, 1.0)
  limits = controls.constraints._replace(injected=jnp.asarray(listed))
  episode, _ = program(SHOWN)(
    decided(CERTAIN, ODDS), FROZEN, (), found, jax.random.key(0),
    controls._replace(constraints=limits),
  )  # fmt: skip
  target = episode.sft_batches["C"].target
  kept = np.asarray(target.mask[:, 0] & (target.ids[:, 0] != END))
  assert kept.any(-1).all()
  assert (np.where(kept, target.ids[:, 0], word) == word).all()


def test_demonstrations_fall_with_the_bonus_and_pass_over_bare_rows():
  whole = demonstrated()[1].sft_batches
  half = demonstrated(left=0.5, bare=(1, 3))[1].sft_batches
  listed = np.ones((B, 1))
  listed[[1, 3]] = 0
  for found, left, some in ((whole, 1.0, 1.0), (half, 0.5, listed)):
    want = np.broadcast_to(0.5 * left * some, (B, 1))
    np.testing.assert_allclose(found["C"].weights, want)
    np.testing.assert_allclose(found["D"].weights[2 * B :], want)
  # The mean is over the rows that are shown, so that the weight is one.
  for found, rows in ((whole, B), (half, B - 2)):
    mask = found["C"].target.mask[:, 0]
    size = learner.counts(learner.Episode({}, {}, {"C": found["C"]}, {}))[
      "C_lesson"
    ]
    some = np.ones(B, bool) if rows == B else listed[:, 0] > 0
    assert size == mask[some].sum()
  none = demonstrated(left=0.0)[1].sft_batches
  assert not none["C"].weights.any() and not none["D"].weights[2 * B :].any()


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"demonstrate": -0.1}, "demonstrate=-0.1"),
    ({"demonstrate": 1.0, "imitate": True}, "imitate=True"),
  ],
)
def test_demonstrations_that_cannot_be_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    make(**{"imitate": False, **changes})


def test_longer_codes_of_equal_fidelity_are_worth_less():
  """s is one word six times: a code of one, two or three such words says it."""
  found = batch(words=1)
  episode = play(ONE, decided(1.0, CERTAIN), found)
  length = table(episode, found, lambda s, code: len(code))
  assert set(np.unique(length)) == {0, 1, 2, 3}
  # An empty code is short and worth nothing; 1 - 0.5 * n / 3 of the others.
  expected = np.where(length > 0, 1 - PRICE * length / K, 0.0)
  np.testing.assert_allclose(episode.rewards["C"], expected, atol=1e-4)


def test_a_row_does_not_see_its_batch():
  order = np.random.default_rng(1).permutation(B)
  straight = play(TWO, UNSURE, batch())
  shuffled = play(TWO, UNSURE, batch(order=order))
  for role, shape in [("C", (B, 1)), ("D", (B, G))]:
    a, b = (x.rollouts[role] for x in (straight, shuffled))
    fold = lambda x, shape=shape: x.reshape(*shape, *x.shape[1:])
    np.testing.assert_array_equal(fold(a.output.ids)[order], fold(b.output.ids))
    np.testing.assert_array_equal(fold(a.log_probs)[order], fold(b.log_probs))


def test_keys_decide_what_is_written():
  one, again, other = (play(TWO, UNSURE, batch(), seed) for seed in (0, 0, 1))
  assert codes(one) == codes(again) != codes(other)
  # No two rows, codes or decodes share their noise: where D knows nothing
  # (the empty code), two decodes differ.
  output = one.rollouts["D"].output.ids
  empty = [not code for group in codes(one) for code in group]
  assert any(empty)
  # (A text of a token or two can be drawn twice by chance.)
  texts = [t for t in output[empty].reshape(-1, S + 1).tolist() if t[2]]
  assert len(texts) > 4 and len({tuple(t) for t in texts}) == len(texts)


def test_d_has_a_group_of_one_code_of_each_source():
  """Every code is decoded once for V; one of them for D's group too."""
  found = batch()
  episode = play(OWN, UNSURE, found)
  out, written = episode.rollouts["D"], codes(episode)
  assert out.output.ids.shape == (B, 3, S + 1)
  read = [
    row[mask][1:-1].tolist()
    for row, mask in zip(out.prompt.ids, out.prompt.mask, strict=True)
  ]
  assert all(r in group for r, group in zip(read, written, strict=True))
  # Drawn among the codes, not always the first or the best.
  places = [g.index(r) for r, g in zip(read, written, strict=True)]
  assert len(set(places)) > 1
  # What they are paid is V's word on each of them, and no likelihood.
  d = out.output.ids[..., :S] * (out.output.ids != END)[..., :S]
  slots = np.mean(d == found.source.ids[:, None], -1)
  np.testing.assert_allclose(episode.rewards["D"], slots, atol=1e-5)
  assert np.std(episode.rewards["D"], -1).max() > 0
  # The decode of this code that V hears for C is none of the group.
  what, said, empty = heard(OWN, UNSURE, found, episode)
  assert [g[i] for g, i in zip(written, what.own, strict=True)] == read
  mine = tokens.without_end(Tokens(*out.output), END).ids
  others = what.each.ids[np.arange(B), what.own]
  assert (others != mine).any(-1).mean() > 0.8
  # C is paid for all of its codes by one decode each.
  bounded = table(episode, found, worth)[..., 1]
  value = 0.5 * above(said, empty) + 0.5 * bounded
  length = table(episode, found, lambda s, code: len(code))
  np.testing.assert_allclose(
    episode.rewards["C"], paid(value, length), atol=1e-5
  )
  # Its decodes differ where D knows nothing, so they share no noise.
  plain = play(TWO, UNSURE, found)
  np.testing.assert_array_equal(
    plain.rollouts["C"].output.ids, episode.rollouts["C"].output.ids
  )


@pytest.mark.parametrize("changes", [{"taught": 8}, {"decodes": 2}])
def test_v_hears_a_cooler_d_and_its_own_group_explores(changes):
  """D's odds of 12 are 12 ** 4 at a temperature of 1/4: all but greedy."""
  pattern, found = make(**changes, temperature=0.25), batch()
  p = pattern.play.args[0]
  code = jax.tree.map(
    lambda x: np.repeat(x[:, None, :K], G, 1), found.source
  )  # fmt: skip

  @jax.jit
  def run(key):
    what = cdv.decode(p, UNSURE, found, code, key)[1]
    d = what.group
    again, _ = rollout.score(
      POLICY, UNSURE, p.D, d.prompt, d.output, d.constraints
    )
    return what, again

  what, again = jax.device_get(run(jax.random.key(0)))
  # A group is scored as it was sampled: the ratio of the first update is 1.
  np.testing.assert_allclose(what.group.log_probs, again, atol=1e-4)
  errors = lambda ids, s: (ids[..., :S] != s).mean()
  s = found.source.ids[:, None]
  assert errors(what.each.ids, s[:, None]) < 0.01
  own = errors(what.group.output.ids.reshape(B, -1, S + 1), s)
  assert 0.35 < own < 0.65 if "taught" in changes else own < 0.01


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"taught": 1}, "taught=1"),
    ({"taught": 4, "decodes": 2}, "taught=4"),
  ],
)
def test_a_group_of_d_that_cannot_be_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    make(**changes)


def test_a_frozen_d_is_the_bases():
  """Whatever the arm's own parameters would make of D."""
  own = cdv.make(
    Context(POLICY, tiny.ROLES, VERIFY), group=G, decodes=1, lessons=0,
    length_price=PRICE, dropout=0.0, frozen_d=True,
  )  # fmt: skip
  found, frozen = batch(), {"base": EXACT, "reader": UNSURE}
  run = jax.jit(own.play)
  one, two = (
    run(
      decided(CERTAIN, sure), frozen, (), found, jax.random.key(0), given(found)
    )[0]
    for sure in (1.0, CERTAIN)
  )
  jax.tree.map(np.testing.assert_array_equal, one, two)
  # The base's D is exact; the arm's first one would have known nothing.
  assert (one.parts["C"]["verifier"] > 0.45).all() and "D" not in one.rollouts
  assert not one.sft_batches


@pytest.mark.parametrize(
  "changes", [{"lessons": 1}, {"lessons": 0, "taught": 2}, {"decodes": 2}]
)
def test_a_frozen_d_has_no_lessons(changes):
  with pytest.raises(ValueError, match=r"frozen_d=True: D learns nothing"):
    make(**{"lessons": 0, "imitate": False, "frozen_d": True} | changes)


@pytest.mark.parametrize("empty", [False, True])
def test_dropout_cuts_its_share_of_the_lessons(empty):
  """One in ten: to 0, 1 or 2 of three tokens equally often, or to none."""
  rows = 6_000
  s = Tokens(jnp.full((rows, 2), 9), jnp.ones((rows, 2), bool))
  code = Tokens(jnp.full((rows, K), 10), jnp.ones((rows, K), bool))
  lesson = jax.jit(
    lambda key: lm_likelihood.decode_batch(
      tiny.ROLES["D"], s, code, key, 0.1, empty
    )
  )(jax.random.key(0))
  left = np.asarray(lesson.prompt.mask)[:, 1:-1].sum(-1)
  counts = np.bincount(left, minlength=K + 1)
  chances = [0.1, 0, 0, 0.9] if empty else [0.1 / 3] * 3 + [0.9]
  for count, chance in zip(counts, chances, strict=True):
    bound = 4 * np.sqrt(rows * chance * (1 - chance))
    assert abs(count - rows * chance) <= bound
