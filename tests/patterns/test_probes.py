"""Q's probes with fake policies: what V checks, and who is paid for what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import scripted, tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.ops import grpo
from rsrc_jax.patterns import probes, qa
from rsrc_jax.rl import curriculum, learner, questions, verifier
from rsrc_jax.types import (
  Batch,
  Constraints,
  Context,
  Given,
  SourceInfo,
  Tokens,
  TrainState,
)

B, G, S, K, E, N = tiny.ROWS, 3, tiny.SOURCE, tiny.BUDGET, 2, 6
END, UNKNOWN, V = tokenizer.END, tokenizer.UNKNOWN, tiny.VOCAB
SURE, SUPPORT = 60.0, 14  # odds of what A has read; ids that it may write
OPPONENT = 0.25

# Four facts of three words each, asked for by the last four ids.
NAMES = ("who", "what", "where", "when")
FACT = {fact: range(8 + 3 * fact, 11 + 3 * fact) for fact in range(4)}
ASK = np.arange(20, 24)
WORDS = np.array([np.isin(np.arange(V), FACT[i]) for i in FACT])
ABOUT = SourceInfo(NAMES, ASK.astype(np.int32), WORDS, None, UNKNOWN)
# Of the six pairs, the first and the fourth are left to the evaluation.
PAIRS = {(0, 2), (0, 3), (1, 3), (2, 3)}
ROLES = tiny.ROLES | {"C": tiny.role("C", tokenizer.C, K, tiny.WORDS)}
MAY = [*range(8, 20), UNKNOWN, END]  # A's support


def wanted(params, prompt, step):
  """Logits [V] of a role that has read `prompt` and written `step` tokens.

  C copies its source and Q has a table of its own. A says the first word that
  it has read and that can answer; where there is none it guesses by a table.
  """
  order = jnp.argsort(~prompt.mask, stable=True)
  ids = jnp.where(prompt.mask, prompt.ids, 0)[order]
  copied = jnp.where(
    step < jnp.sum(prompt.mask) - 2, ids[(1 + step) % ids.size], END
  )
  nth = jnp.argmax(jnp.cumsum(ids >= 20) > step)
  fact = jnp.clip(ids[nth] - 20, 0, 3)
  fits = jnp.asarray(WORDS)[fact, ids]
  says = lambda word: params["sure"] * jax.nn.one_hot(word, V)
  answer = jnp.where(
    jnp.any(fits), says(ids[jnp.argmax(fits)]), params["guess"][fact]
  )
  answer = jnp.where(jnp.sum(ids >= 20) > step, answer, says(END))
  other = jnp.where(
    ids[0] == tokenizer.V,
    params["ask"][step],
    params["copy"] * jax.nn.one_hot(copied, V),
  )
  return jnp.where(ids[0] == tokenizer.D, answer, other)


POLICY = scripted.policy(wanted, None, V)


def tables(ask=None, guess=None, copy=1e6):
  """ask: {slot: {id: nats}} of Q; guess: {fact: word}, which A is sure of."""
  asks, guesses = np.zeros((3, V), np.float32), np.zeros((4, V), np.float32)
  for slot, own in (ask or {}).items():
    asks[slot, list(own)] = list(own.values())
  for fact, word in (guess or {}).items():
    guesses[fact, word] = 20.0
  return {
    "ask": jnp.asarray(asks), "guess": jnp.asarray(guesses),
    "copy": jnp.float32(np.log(copy)), "sure": jnp.float32(np.log(SURE)),
  }  # fmt: skip


def only(*facts):
  """A table of Q that asks for these facts and nothing else."""
  slots = [*(20 + i for i in facts), END][:2]
  return {slot: {x: 40.0} for slot, x in enumerate(slots)}


PROBES = {"count": N, "length": 2, "reads": "source", "opponent": OPPONENT}


def make(shaping=1.0, answers=1, **more):
  """Shaping counts once, V's word `answers - 1` times."""
  settings = {
    "group": G, "each": E, "unasked": (), "pairs": 0.5, "answers": answers,
    "lessons": True, "from_source": 0.0, "dropout": 0.0, "length_price": 0.0,
    "taught": G,
  }  # fmt: skip
  verify = verifier.make(
    POLICY, ROLES["V"], weights={"edit": answers - 1.0},
    shaping={"gain": shaping}, positions=None,
  )  # fmt: skip
  context = Context(POLICY, ROLES, verify, ABOUT)
  return qa.make(context, **settings, probes=PROBES | more)


# Two programs: in the one V hears nothing, and all that is paid follows from
# likelihoods. In the other V hears two answers to each question, for 3/4 of the
# reward, and A learns from all of them.
pattern = functools.cache(make)
HEARD = {"answers": 2, "shaping": 1 / 3}


@functools.cache
def program(**how):
  return jax.jit(pattern(**how).play)


def texts(rows, length=S):
  ids = np.zeros((len(rows), length), np.int32)
  for i, row in enumerate(rows):
    ids[i, : len(row)] = row
  return Tokens(ids, ids > 0)


def real(tokens):
  """The real ids of each row, without the end."""
  ids, mask = (np.asarray(x).reshape(-1, x.shape[-1]) for x in tokens)
  return [
    [i for i in row[m].tolist() if i != END]
    for row, m in zip(ids, mask, strict=True)
  ]


def full(seed=0):
  """Sources that hold the four facts in order: a code has the first three."""
  rng = np.random.default_rng(seed)
  rows = [[int(rng.choice(FACT[i])) for i in range(4)] for _ in range(B)]
  return Batch(texts(rows), np.arange(B, dtype=np.int32))


def given(opponent=OPPONENT):
  none = np.full((B, 1, 1), -1, np.int32)
  controls = tiny.ask(Constraints(none, none))
  own = {"patterns.qa.probes.opponent": np.float32(opponent)}
  return controls._replace(numbers=own)


def play(batch, params, frozen=None, seed=0, opponent=OPPONENT, how=None):
  episode, _ = program(**how or {})(
    params, {"base": params if frozen is None else frozen}, (), batch,
    jax.random.key(seed), given(opponent),
  )  # fmt: skip
  return jax.device_get(episode)


def paid(batch, *args, **more):
  return play(batch, *args, **more).rewards["Q"]


# 1. What Q is paid, against a second implementation.


def likely(params, read, facts, right):
  """p(right | read, facts) of A, in numpy."""
  chance = 1.0
  for slot in range(2):
    logits = np.zeros(V)
    if slot >= len(facts):
      logits[END] = np.log(SURE)
    elif said := [x for x in read if x in FACT[facts[slot]]]:
      logits[said[0]] = np.log(SURE)
    else:
      logits = np.asarray(params["guess"][facts[slot]], np.float64)
    p = np.exp(logits[MAY]) / np.exp(logits[MAY]).sum()
    chance *= p[MAY.index(right[slot])]
  return chance


def worth(s, probe, params, frozen):
  """What V finds: answerable times not blind, and the right answer."""
  facts = [x - 20 for x in probe]
  two = len(facts) == 2 and tuple(sorted(facts)) in PAIRS
  right = [next((x for x in s if x in FACT[f]), UNKNOWN) for f in facts]
  if not (len(facts) == 1 or two) or UNKNOWN in right:
    return 0.0, facts, [*right, END, END][:2]
  right = [*right, END][:2]
  blind = max(likely(w, [], facts, right) for w in (params, frozen))
  return 1.0 - blind, facts, right


def gain(params, code, facts, right):
  """(L0 - L) / (L0 + L) of A's nats of the right answer: of none, of code."""
  before, now = (-np.log(likely(params, x, facts, right)) for x in ([], code))
  return (before - now) / (before + now)


def mean(ours, theirs, weight):
  """C's, over the program's questions and Q's. [..., E], [..., N], [N]"""
  both = (1 - OPPONENT) * ours.mean(-1)
  both += OPPONENT * (theirs * weight).mean(-1)
  return both / (1 - OPPONENT + OPPONENT * weight.mean())


def test_rewards_by_hand():
  """Of Q and of C, over valid probes and every kind of invalid one."""
  rng = np.random.default_rng(1)
  rows = []
  for _ in range(B):  # two to four facts in any order
    facts = rng.permutation(4)[: rng.integers(2, 5)]
    rows.append([int(rng.choice(FACT[i])) for i in facts])
  batch = Batch(texts(rows), np.arange(B, dtype=np.int32))
  params = tables({0: {END: 0.5}}, {0: 9}, copy=8.0)
  frozen = tables(guess={1: 12})
  kinds = set()
  for seed in range(3):
    episode = play(batch, params, frozen, seed)
    wrote = real(episode.rollouts["Q"].output)
    codes = real(episode.rollouts["C"].output)
    asked = asked_by_program(episode)
    for b, s in enumerate(rows):
      group = codes[b * G : b * G + G]
      gained = np.zeros((G, N))
      weight = np.zeros(N)
      for n, probe in enumerate(wrote[b * N : b * N + N]):
        weight[n], facts, right = worth(s, probe, params, frozen)
        found = [likely(params, c, facts, right) for c in group]
        gained[:, n] = [gain(params, c, facts, right) for c in group]
        expected = weight[n] * (1 - np.mean(found))
        np.testing.assert_allclose(
          episode.rewards["Q"][b, n], expected, atol=1e-5
        )
        kinds.add((len(probe), len(set(probe)), weight[n] > 0))
      ours = np.array(
        [[gain(params, c, *q) for q in asked[b](s)] for c in group]
      )
      np.testing.assert_allclose(
        episode.rewards["C"][b], mean(ours, gained, weight), atol=1e-5
      )
    assert episode.rewards["Q"].shape == (B, N)
    assert 0 < episode.metrics["Q_answerable"] < 1
  # An empty probe, one fact twice; one and two facts, valid and not.
  assert kinds == {
    (0, 0, False), (2, 1, False), (1, 1, True), (1, 1, False), (2, 2, True),
    (2, 2, False),
  }  # fmt: skip


def asked_by_program(episode):
  """What each source was asked: s -> [(facts, right)], [B]."""
  rows = real(episode.sft_batches["A"].prompt)
  facts = [[i - 20 for i in row if i >= 20] for row in rows]
  right = lambda s, f: [
    next((x for x in s if x in FACT[i]), UNKNOWN) for i in f
  ]  # fmt: skip
  return [
    lambda s, own=facts[b * E : b * E + E]: [
      (f, [*right(s, f), END][:2]) for f in own
    ]
    for b in range(B)
  ]


def test_v_hears_answers_to_probes():
  """Q and A are paid for the sampled answers, C for those above no code."""
  params, frozen, batch = tables(copy=8.0), tables(), full()
  episode = play(batch, params, frozen, how=HEARD)
  a, codes = episode.rollouts["A"], real(episode.rollouts["C"].output)
  answers = real(a.output)
  read = [[i for i in x if i < 20] for x in real(a.prompt)]
  probe, asked = real(episode.rollouts["Q"].output), asked_by_program(episode)
  every, ratios = E + N, []
  assert a.output.ids.shape[:2] == (B * G * every, 2)
  for b, s in enumerate(real(batch.source)):
    checked = [worth(s, x, params, frozen) for x in probe[b * N : b * N + N]]
    weight = np.array([x[0] for x in checked])
    right = [x[1] for x in asked[b](s)] + [x[2] for x in checked]
    right = [[i for i in x if i != END] for x in right]
    rows = slice(b * G * every, (b + 1) * G * every)
    correct = np.array([
      [said == right[i % every] for said in answers[2 * i : 2 * i + 2]]
      for i in range(rows.start, rows.stop)
    ]).reshape(G, every, 2)  # fmt: skip
    counts = np.array([1.0] * E + [float(x > 0) for x in weight])
    np.testing.assert_array_equal(
      episode.rewards["A"][rows].reshape(G, every, 2),
      correct * counts[:, None],
    )
    share = correct.mean(-1)
    np.testing.assert_allclose(
      episode.rewards["Q"][b], weight * (1 - share[:, E:].mean(0)), atol=1e-5
    )
    # The codes that A's rows are about, in an order of their own.
    order = [x[2:-1] for x in read[rows][::every]]
    own = codes[b * G : b * G + G]
    assert sorted(order) == sorted(own)
    word = mean(share[:, :E], share[:, E:], weight)
    for g, code in enumerate(own):
      if own.count(code) == 1:
        v = episode.parts["C"]["verifier"][b, g] / 0.75
        ratios.append([1 - v, 1 - word[order.index(code)]])
  # (word - empty) / (1 - empty) = v: 1 - v is 1 - word over 1 - empty, the same
  # for all. Without a code A guesses one of 14 of what it is asked.
  over, under = np.array(ratios).T
  assert len(over) > B and np.ptp(over) > 0.5
  empty = 1 - (over @ under) / (over @ over)
  np.testing.assert_allclose(over * (1 - empty), under, atol=1e-4)
  assert 0 < empty < 0.2
  for role, reward in episode.rewards.items():
    np.testing.assert_allclose(
      sum(episode.parts[role].values()), reward, atol=1e-6
    )


# 2. The opponent.


def test_what_the_code_lacks_pays_more_than_what_it_holds():
  """Codes hold the first three facts of four. A is sure of what it reads."""
  found = full()
  lacks, holds = (
    paid(found, tables(only(*facts))) for facts in ((3,), (0,))
  )  # fmt: skip
  # Of a word that A has not read, one of 14 is guessed; the end is 60 to 13.
  end = SURE / (SURE + SUPPORT - 1)
  blind = end / SUPPORT
  np.testing.assert_allclose(lacks, (1 - blind) ** 2, rtol=1e-4)
  np.testing.assert_allclose(holds, (1 - blind) * (1 - end**2), rtol=1e-4)
  assert lacks.min() > 2 * holds.max()
  both = paid(found, tables(only(3, 0)))
  assert (both > holds.max()).all()


UNANSWERABLE = {
  "not_in_s": only(1), "empty": only(), "twice": only(0, 0),
  "held_out_pair": only(0, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", UNANSWERABLE)
def test_a_probe_that_cannot_be_answered_from_s_is_not_paid(name):
  """Nor one that is left to the evaluation. C's word is then the program's."""
  found = full()
  if name == "not_in_s":
    found.source.ids[:, 1] = found.source.ids[:, 0]
  one, none = (
    play(found, tables(UNANSWERABLE[name]), opponent=x) for x in (OPPONENT, 0.0)
  )
  assert (one.rewards["Q"] == 0).all() and one.metrics["Q_answerable"] == 0
  np.testing.assert_allclose(one.rewards["C"], none.rewards["C"], rtol=1e-6)


@pytest.mark.parametrize("who", ["frozen", "trained"])
def test_a_probe_that_is_answered_without_context_is_not_paid(who):
  """The fourth fact is always one word; one reader knows it, or none does."""
  found = full()
  found.source.ids[:, 3] = 18
  fair, knows = (tables(only(3), x) for x in (None, {3: 18}))
  pair = {"frozen": (fair, knows), "trained": (knows, fair)}[who]
  assert paid(found, fair, fair).min() > 0.8
  # What is left is the end, of which A is sure by 60 to 13 only.
  assert paid(found, *pair).max() < 1 - SURE / (SURE + SUPPORT - 1) + 1e-4


def test_c_is_paid_for_what_q_asks():
  """Of two codes, the one that holds it, as far as Q's share goes."""
  # A code may hold any of the words: C is not sure what to copy.
  found, params = full(), tables(only(2), copy=4.0)
  alone, mixed = (play(found, params, opponent=x) for x in (0.0, 0.9))
  codes = real(mixed.rollouts["C"].output)
  says = [next((x for x in c if x in FACT[2]), 0) for c in codes]
  holds = np.array(says).reshape(B, G) == found.source.ids[:, 2:3]
  rows = np.flatnonzero(holds.any(-1) & ~holds.all(-1))
  assert len(rows) > 2
  gap = lambda episode: [
    episode.rewards["C"][b][holds[b]].mean()
    - episode.rewards["C"][b][~holds[b]].mean()
    for b in rows
  ]
  assert min(gap(mixed)) > 0.2 > min(gap(alone))


# 3. Two streams.


def test_what_q_asks_is_in_no_other_stream():
  """At a share of 0, another Q changes its own rewards and nothing else's."""
  one, two = (
    play(
      full(), tables(only(*f), {3: 18}, copy=8.0), opponent=0.0, how=HEARD
    )  # without a code A is right about the last fact alone, sometimes
    for f in ((0,), (3,))
  )
  assert (one.rewards["Q"] != two.rewards["Q"]).mean() > 0.5
  same = lambda x, y: jax.tree.map(np.testing.assert_array_equal, x, y)
  same(one.rollouts["C"], two.rollouts["C"])
  same((one.rewards["C"], one.parts["C"]), (two.rewards["C"], two.parts["C"]))
  same(one.sft_batches, two.sft_batches)  # A is taught no probe


def test_a_source_has_its_own_probes():
  """In another order the same ones: no row depends on its batch."""
  order, found = np.roll(np.arange(B), 3), full()
  turned = jax.tree.map(lambda x: x[order], found)
  params = tables()
  one, two = (play(x, params) for x in (found, turned))
  assert len(np.unique(one.rewards["Q"].round(5))) > 4
  for x, y in zip(
    jax.tree.leaves((one.rollouts["Q"], one.rewards["Q"])),
    jax.tree.leaves((two.rollouts["Q"], two.rewards["Q"])),
    strict=True,
  ):
    np.testing.assert_array_equal(x[order], y)


def loss():
  roles = ROLES | dict(pattern().roles)
  return learner.make_loss(
    POLICY, roles, weights={"C": 1.0, "Q": 1.0}, lesson_weights={"A": 0.0},
    entropy_bonus={}, clip_low=0.2, clip_high=0.28, importance_cap=2.0,
    per_token=False,
  )  # fmt: skip


def test_the_gradient_of_a_role_comes_from_its_own_advantages():
  """Q is compared with the other probes of its source, C with other codes."""
  params = tables(copy=4.0)
  episode = play(full(), params)._replace(sft_batches={}, metrics={})
  advantages = {k: grpo.advantages(x) for k, x in episode.rewards.items()}
  assert {k: x.shape for k, x in advantages.items()} == {
    "C": (B, G), "Q": (B, N),
  }  # fmt: skip
  for x in advantages.values():
    np.testing.assert_allclose(x.sum(-1), 0.0, atol=1e-5)
  none = jax.tree.map(np.zeros_like, advantages)

  @jax.jit
  def gradient(advantages):
    work = episode, advantages, None
    of = lambda params: loss()(params, work, learner.counts(episode), 0.0)[0]
    return jax.grad(of)(params)

  moves = lambda found: {k for k, x in found.items() if (x != 0).any()}
  assert moves(gradient(none | {"Q": advantages["Q"]})) == {"ask"}
  assert moves(gradient(none | {"C": advantages["C"]})) == {"copy"}


@pytest.mark.slow
def test_q_learns_to_ask_for_what_the_code_lacks():
  """The fourth fact, which no code has room for, in 40 steps of GRPO."""
  relax = curriculum.linear(hidden=0.0, steps=1, explore_steps=1)
  params, tx = tables(), optax.sgd(30.0)
  step = learner.make_step(
    POLICY, ROLES | dict(pattern().roles), pattern(), tx, loss=loss()
  )
  step = jax.jit(step)
  state = TrainState(
    jnp.int32(0), params, tx.init(params), (), relax.init(), jnp.uint32(0)
  )
  earned = []
  for i in range(40):
    relaxed = relax.update(state.curriculum, state.step)
    state, metrics = step(
      state, {"base": params}, full(i), Given(given(), relaxed, given().numbers)
    )
    earned.append(float(metrics["Q_paid"]))
  first = jax.nn.softmax(state.params["ask"][0][np.array([*ASK, END])])
  assert first[3] > 0.9
  assert np.mean(earned[-5:]) > 1.5 * np.mean(earned[:5])


# 4. Probes that are any text, where each source brings its question.


def test_the_frozen_reader_answers_what_is_any_text():
  """Its answer from s is the right one; an empty probe has none."""
  own = SourceInfo(unknown=UNKNOWN, answer_tokens=3)
  context = Context(POLICY, ROLES, info=own)
  p = probes.of(
    context, questions.of_sources(ROLES, own), **PROBES | {"length": 3}
  )
  assert p.Q.support[8:20].all() and not p.Q.support[20:].any()
  # The ids that ask are words of no text here; Q may write them all the same.
  p = p._replace(Q=p.Q._replace(support=np.isin(np.arange(V), [*ASK, END])))
  sampled = []

  @jax.jit
  def run(*args):
    asked = probes.ask(p, *args, jax.random.key(0))
    sampled.extend(asked.sampled)
    return asked._replace(sampled=())

  found, params = full(), tables({0: {21: 1.5}, 1: {END: 1.0}, 2: {END: 40.0}})
  found.source.ids[::2, 1] = 12
  base, start = tables(guess={3: 18}), tables(guess={1: 12})
  asked = jax.device_get(run(params, {"base": base, "start": start}, found))
  wrote, right = real(asked.question), real(asked.right)
  end, seen = SURE / (SURE + 12), set()  # 12 words and the end
  for i, (probe, answer) in enumerate(zip(wrote, right, strict=True)):
    s = found.source.ids[i // N]
    sure, blind = asked.answerable.reshape(-1)[i], asked.blind.reshape(-1)[i]
    if not probe:
      assert sure == 0
      continue
    facts = [x - 20 for x in probe]
    assert answer == [s[f] for f in facts]
    np.testing.assert_allclose(sure, end ** (len(facts) + 1), rtol=1e-4)
    # What the reader would guess: not the base's table, but the start's.
    guess = [1 if f == 1 and s[1] == 12 else 0 if f == 1 else 1 / 13
             for f in facts]  # fmt: skip
    guess = max(np.prod(guess), 13.0 ** -len(facts))  # the trained A's
    np.testing.assert_allclose(blind, guess * end, atol=1e-4)
    seen.add((len(facts), bool(blind > 0.5)))
  assert seen >= {(1, False), (1, True), (2, False)}
  (q, _), (reader, gold) = sampled
  assert (q.scope, reader.scope) == ("Q", "V") and reader.temperature == 0
  assert gold.output.ids.shape == (B * N, 1, 3)


def test_questions_of_two_lengths_stand_side_by_side():
  one, two = texts([[8], [9, 10]], 2), texts([[11, 12, 13]], 3)
  row = lambda x: Tokens(x.ids[None], x.mask[None])
  more = probes.Asked(None, row(two), row(two), None, None, ())
  asked = probes.beside((row(one), row(one)), more)
  for found in asked:
    assert found.ids.shape == (1, 3, 3)
    assert real(found) == [[8], [9, 10], [11, 12, 13]]
  alone = (row(one), row(one))
  assert probes.beside(alone, None) is alone


# 5. Rewards from sampled answers, and settings.


def test_a_learns_from_a_probe_as_far_as_it_is_answerable():
  """The program's questions count in full; an invalid probe does not."""
  p = probes.Probes(*[None] * 4, count=2, reads="source", opponent=0.5)
  settle = jax.jit(functools.partial(probes.settle, p))
  answerable = jnp.array([[1.0, 0.0]])
  asked = probes.Asked(*[None] * 3, answerable, jnp.array([[0.25, 0.0]]), ())
  correct = jnp.array([[[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]])  # [1, 2, 1 + 2]
  returns = {"A": jnp.ones((6, 2))}
  found, metrics = settle(asked, correct, returns)
  assert found["A"].tolist() == [[1, 1], [1, 1], [0, 0]] * 2
  # A probe is worth .75 and is answered from one of two codes.
  np.testing.assert_allclose(found["Q"], [[0.75 / 2, 0.0]])
  # C: one question of the program, and a mean worth of .375 of two probes.
  weight = 0.5 + 0.5 * 0.375
  np.testing.assert_allclose(
    probes.over_questions(p, asked, correct),
    [[0.5 / weight, 0.5 * 0.375 / weight]],
  )
  assert metrics["Q_right"] == 0.5 and metrics["Q_answerable"] == 0.5


def test_q_reads_the_source_or_nothing_and_no_code():
  found, Q = full(), dict(pattern().roles)["Q"]
  assert Q.tag == (tokenizer.V, tokenizer.TEXT) and Q.length == 2
  assert np.flatnonzero(Q.support).tolist() == sorted([END, *ASK])
  assert real(play(found, tables()).rollouts["Q"].prompt) == [
    [*Q.tag, *s, tokenizer.SEPARATOR] for s in real(found.source)
  ]
  asker = questions.of_facts(ROLES, ABOUT, each=E, unasked=(), pairs=0.5)
  context = Context(POLICY, ROLES, info=ABOUT)
  p = probes.of(context, asker, **PROBES | {"reads": "nothing"})
  ask = lambda key: (
    probes.ask(p, tables(), {"base": tables()}, found, key).rollout.prompt
  )
  blind = jax.eval_shape(ask, jax.random.key(0))
  assert blind.ids.shape == (B, len(Q.tag) + 1)


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"count": 1}, r"probes\.count=1 must be .* at least 2"),
    ({"length": 3}, r"probes\.length=3 must be at most 2"),
    ({"reads": "code"}, r"probes\.reads='code' must be one of 'source'"),
    ({"opponent": 1.0}, r"probes\.opponent=1\.0 must be .*\[0, 1\)"),
  ],
)
def test_settings_that_cant_work(changes, said):
  with pytest.raises(ValueError, match=r"config\.patterns\.qa\." + said) as e:
    make(**changes)
  assert "\n" not in str(e.value)
