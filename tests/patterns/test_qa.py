"""C -> (Q -> A) -> V with a fake policy, next to the same game in numpy."""

import functools
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import scripted, tiny

from rsrc_jax.build.overrides import arm_config
from rsrc_jax.data import tokenizer
from rsrc_jax.lm import rollout
from rsrc_jax.patterns import qa
from rsrc_jax.rl import answering, shares, verifier
from rsrc_jax.runtime.configs import load
from rsrc_jax.types import (
  Batch,
  Constraints,
  Context,
  SourceInfo,
  Tokens,
)

B, G, S, K, E = tiny.ROWS, tiny.GROUP, tiny.SOURCE, tiny.BUDGET, 6
END, UNKNOWN = tokenizer.END, tokenizer.UNKNOWN
PRICE = 0.5
ODDS = 60.0  # of what an unsure A wants to write, against any other id
SUPPORT = 14  # A may write 12 words, unknown and the end
CERTAIN = 1e6

# Four facts of three words each, asked for by the last four ids.
NAMES = ("who", "what", "where", "when")
FACT = {fact: range(8 + 3 * fact, 11 + 3 * fact) for fact in range(4)}
ASK = {20 + fact: fact for fact in FACT}
WORDS = np.array([np.isin(np.arange(tiny.VOCAB), FACT[i]) for i in FACT])
ABOUT = SourceInfo(NAMES, np.array([*ASK], np.int32), WORDS, None, UNKNOWN)
# "when" is never asked for; of the pairs of the rest the first is held out.
ASKED, NEW = (0, 1, 2), [(0, 1)]
TAUGHT = [(0,), (1,), (2,), (0, 2), (1, 2)]
# Codes are made of words, so that what asks is not mistaken for one.
ROLES = tiny.ROLES | {"C": tiny.role("C", tokenizer.C, K, tiny.WORDS)}


def wanted(params, prompt, step):
  """Logits [V] of a role that has read `prompt` and written `step` tokens.

  C copies its source, D its code. A says, to the first question first, the
  first word before it that can answer, and that it is unknown where none can;
  then it ends. params hold how decided C and A are, in nats.
  """
  order = jnp.argsort(~prompt.mask, stable=True)
  ids = jnp.where(prompt.mask, prompt.ids, 0)[order]
  size = jnp.sum(prompt.mask)
  answers = (ids[0] == tokenizer.D) & (ids[1] == tokenizer.TEXT)
  copied = jnp.where(step < size - 2, ids[(1 + step) % ids.size], END)
  asks = ids >= 20
  nth = jnp.argmax(jnp.cumsum(asks) > step)
  fits = jnp.asarray(WORDS)[jnp.clip(ids[nth] - 20, 0, 3), ids]
  word = jnp.where(jnp.any(fits), ids[jnp.argmax(fits)], UNKNOWN)
  word = jnp.where(jnp.sum(asks) > step, word, END)
  strength = jnp.where(ids[0] == tokenizer.C, params["copy"], params["sure"])
  return strength * jax.nn.one_hot(jnp.where(answers, word, copied), tiny.VOCAB)


def decided(copy, sure):
  """Parameters: odds of the wanted id against any other, for C and for A."""
  return {"copy": jnp.log(copy), "sure": jnp.log(sure)}


ROOT = Path(__file__).resolve().parents[2]
SHIPPED = arm_config(load(ROOT / "configs" / "qa.py"), "qa")
POLICY = scripted.policy(wanted, None, tiny.VOCAB)


def judge(shaping, **weights):
  """V with these weights, and that of A's likelihood beside them."""
  return verifier.make(
    POLICY, ROLES["V"], weights=weights, shaping={"gain": shaping},
    positions=None,
  )  # fmt: skip


DEAF, BOTH = judge(1.0, edit=0.0), judge(1.0, edit=3.0)  # V's share: 0, .75
UNSURE, EXACT = decided(8.0, ODDS), decided(CERTAIN, CERTAIN)


def make(info=ABOUT, verify=DEAF, **changes):
  settings = {
    "group": G,
    "each": E,
    "unasked": ("when",),
    "pairs": 0.5,
    "answers": 1,
    "lessons": True,
    "from_source": 0.3,
    "dropout": 0.2,
    "length_price": PRICE,
  }
  settings |= changes
  return qa.make(Context(POLICY, ROLES, verify, info), **settings)


# ONE has lessons from everything there is, and V hears nothing. TWO has lessons
# from codes alone; A learns from its two answers to three of four codes.
ONE, N = make(), 3
TWO = make(verify=BOTH, answers=2, taught=N, from_source=0.0, dropout=0.0)


@functools.cache
def program(play):
  return jax.jit(play)


def batch(order=None, seed=0):
  """Facts in any order, some of them left out: two to four words a source."""
  rng = np.random.default_rng(seed)
  rows = []
  for _ in range(B):
    facts = rng.permutation(4)[: rng.integers(2, 5)]
    rows.append([int(rng.choice(FACT[i])) for i in facts])
  order = np.arange(B) if order is None else order
  return Batch(tokens([rows[i] for i in order]), order.astype(np.int32))


def tokens(rows, length=S):
  """Lists of ids as Tokens, padded on the right."""
  ids = np.zeros((len(rows), length), np.int32)
  mask = np.zeros(ids.shape, bool)
  for i, row in enumerate(rows):
    ids[i, : len(row)], mask[i, : len(row)] = row, True
  return Tokens(ids, mask)


def texts(tokens):
  """The real ids of each row; fails where something stands under a mask."""
  ids, mask = (np.asarray(x) for x in tokens)
  assert (ids[~mask] == 0).all()
  ids, mask = (x.reshape(-1, x.shape[-1]) for x in (ids, mask))
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


def play(pattern, params, batch, seed=0):
  none = np.full((B, 1, 1), -1, np.int32)
  episode, carry = program(pattern.play)(
    params, {}, (), batch, jax.random.key(seed),
    tiny.ask(Constraints(none, none)),
  )  # fmt: skip
  assert carry == () and pattern.init() == ()
  return jax.device_get(episode)


def codes(episode):
  """What C wrote, without the end: [B][G] lists of ids."""
  output = episode.rollouts["C"].output
  flat = [[i for i in code if i != END] for code in texts(output)]
  return [flat[i : i + G] for i in range(0, B * G, G)]


def asked(prompt):
  """A's prompts, taken apart. -> what is read and the facts asked for, [N]"""
  rows = texts(prompt)
  for row in rows:
    assert row[:2] == [tokenizer.D, tokenizer.TEXT]
    assert row[-1] == tokenizer.SEPARATOR
  read = [[i for i in row[2:-1] if i not in ASK] for row in rows]
  facts = [tuple(ASK[i] for i in row if i in ASK) for row in rows]
  # The questions stand behind what is read.
  for row, text, fact in zip(rows, read, facts, strict=True):
    assert row[2:-1] == [*text, *(20 + i for i in fact)]
  return read, facts


def say(text, facts):
  """What is right to say, if `text` is all that is known. -> two ids"""
  found = [next((i for i in text if i in FACT[f]), UNKNOWN) for f in facts]
  return (*found, END)[:2]


def chance(s, code, facts):
  """p(right answer | code): 60 / 73 where A is right, 1 / 73 where not."""
  right = [x == y for x, y in zip(say(s, facts), say(code, facts), strict=True)]
  return np.prod(np.where(right, ODDS, 1.0)) / (ODDS + SUPPORT - 1) ** 2


def questions(episode):
  """What each source was asked, [B][E]."""
  _, facts = asked(episode.sft_batches["A"].prompt)
  return [facts[i : i + E] for i in range(0, B * E, E)]


def chances(episode, batch, nothing=False):
  """`chance` of every code and question, [B, G, E]; without a code [B, 1, E]"""
  read = [[[]]] * B if nothing else codes(episode)
  rows = zip(texts(batch.source), read, questions(episode), strict=True)
  return np.array(
    [[[chance(s, c, q) for q in ask] for c in group] for s, group, ask in rows]
  )


def gain(episode, batch):
  """(L0 - L) / (L0 + L), L = -ln p(right | code), L0 without one: [B, G]."""
  with_code = np.log(chances(episode, batch))
  without = np.log(chances(episode, batch, nothing=True))
  return ((with_code - without) / (-without - with_code)).mean(-1)


def lengths(episode):
  return np.array([[len(c) for c in group] for group in codes(episode)])


def priced(value, length):
  """Only what was conveyed is priced."""
  return value - PRICE * length / K * np.maximum(value, 0)


def add_up(episode):
  """What a role is paid is the sum of its parts."""
  assert set(episode.parts) == set(episode.rewards)
  for role, reward in episode.rewards.items():
    total = sum(episode.parts[role].values())
    np.testing.assert_allclose(total, reward, atol=1e-6)


@pytest.mark.parametrize("pattern", [ONE, TWO], ids=["one", "two"])
def test_the_taught_target_is_what_the_source_says(pattern):
  """[word, end]; two words in the order asked; unknown where none is said."""
  found = batch()
  lesson = play(pattern, UNSURE, found).sft_batches["A"]
  _, facts = asked(lesson.prompt)
  sources = [s for s in texts(found.source) for _ in range(E)]
  expected = [[*say(s, f)] for s, f in zip(sources, facts, strict=True)]
  assert lesson.target.ids.tolist() == [[x] for x in expected]
  assert lesson.target.mask.all() and (lesson.weights == 1.0).all()
  # All that there is to tell apart is there.
  kinds = [(len(f), UNKNOWN in x) for f, x in zip(facts, expected, strict=True)]
  assert set(kinds) == set(itertools.product((1, 2), (False, True)))
  turned = [[*say(s, f[::-1])] for s, f in zip(sources, facts, strict=True)]
  assert expected != turned
  singles = [x for x, f in zip(expected, facts, strict=True) if len(f) == 1]
  assert all(x[1] == END for x in singles)


def test_targets_by_hand():
  """Of two words that can answer the first; a word under a mask is none."""
  s = Tokens(
    np.array([[17, 9, 15, 8, 0, 0], [11, 14, 9, 17, 0, 0]] * 4, np.int32),
    np.array([[1, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0]] * 4, bool),
  )
  found = Batch(s, np.arange(B, dtype=np.int32))
  lesson = play(ONE, UNSURE, found).sft_batches["A"]
  right = {
    (0,): [9, END], (1,): [UNKNOWN, END], (2,): [15, END], (0, 2): [9, 15],
    (1, 2): [UNKNOWN, 15],
  }, {
    (0,): [9, END], (1,): [11, END], (2,): [UNKNOWN, END], (0, 2): [9, UNKNOWN],
    (1, 2): [11, UNKNOWN],
  }  # fmt: skip
  ids, mask = lesson.prompt
  for row, (text, real) in enumerate(zip(ids, mask, strict=True)):
    facts = tuple(ASK[i] for i in text[real].tolist() if i in ASK)
    assert lesson.target.ids[row, 0].tolist() == right[row // E % 2][facts]


def test_rewards_and_metrics_by_hand():
  """Without a V that hears, all is shaping: what A gains from the code."""
  found = batch()
  episode = play(ONE, UNSURE, found)
  right, nothing = (chances(episode, found, x) for x in (False, True))
  mean, length = right.mean(-1), lengths(episode)
  value = gain(episode, found)
  assert len(np.unique(length)) > 2 and len(np.unique(value.round(4))) > 9
  reward = priced(value, length)
  np.testing.assert_allclose(episode.rewards["C"], reward, atol=1e-5)
  assert set(episode.rollouts) == set(episode.rewards) == {"C"}
  assert set(episode.parts["C"]) == {"shaping", "price"}
  add_up(episode)
  expected = {
    "reward": reward.mean(),
    "length": length.mean(),
    "answered": mean.mean(),
    "answered_best": mean.max(-1).mean(),
    "answered_empty": nothing.mean(),
    "C_loops": min(length.max() + 1, K) - 1,
  }
  assert set(episode.metrics) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(
      episode.metrics[name], value, rtol=1e-4, err_msg=name
    )


def heard(episode, found):
  """The codes that A's rows are about, [B][N], and whether each answer is
  exactly the right one, [B, N, E, 2]."""
  a = episode.rollouts["A"]
  read, facts = asked(a.prompt)
  sources = [s for s in texts(found.source) for _ in range(N * E)]
  right = np.array([say(s, f) for s, f in zip(sources, facts, strict=True)])
  # What stands behind an end that was sampled is nothing, id 0.
  exact = (a.output.ids == right[:, None]).all(-1)
  wrote = [read[i : i + E] for i in range(0, B * N * E, E)]
  assert all(x == [x[0]] * E for x in wrote)
  return [
    [x[0] for x in wrote[i : i + N]] for i in range(0, B * N, N)
  ], exact.reshape(B, N, E, 2)


def test_sampled_answers_are_right_or_wrong():
  """A has groups of two; C is paid the share of exactly right ones."""
  found = batch()
  episode = play(TWO, UNSURE, found)
  a = episode.rollouts["A"]
  assert a.output.ids.shape == (B * N * E, 2, 2) and a.constraints is None
  read, exact = heard(episode, found)
  np.testing.assert_array_equal(episode.rewards["A"], exact.reshape(-1, 2))
  assert 0.1 < exact.mean() < 0.9
  # Three of the four codes of each source, and never one of them twice.
  for group, own in zip(codes(episode), read, strict=True):
    left = list(group)
    for code in own:
      left.remove(code)
    assert len(left) == 1
  empty = episode.metrics["answered_empty"]
  parts, length = episode.parts["C"], lengths(episode)
  np.testing.assert_allclose(
    parts["shaping"], gain(episode, found) / 4, atol=1e-5
  )
  # Codes that differ show in which order they stand.
  said, checked = parts["verifier"], 0
  for row, (group, own) in enumerate(zip(codes(episode), read, strict=True)):
    for code, right in zip(own, exact[row], strict=True):
      if group.count(code) == 1:
        word = 0.75 * (right.mean() - empty) / (1 - empty)
        np.testing.assert_allclose(
          said[row, group.index(code)], word, atol=1e-5
        )
        checked += 1
  assert checked > B
  value = said + parts["shaping"]
  np.testing.assert_allclose(
    episode.rewards["C"], priced(value, length), atol=1e-5
  )
  add_up(episode)
  assert (episode.parts["A"]["verifier"] == episode.rewards["A"]).all()
  # V's word above that without a code, undone.
  share = said / 0.75 * (1 - empty) + empty
  np.testing.assert_allclose(share * E * 2, np.round(share * E * 2), atol=1e-4)
  metrics = episode.metrics
  np.testing.assert_allclose(metrics["answered"], share.mean(), 1e-5)
  np.testing.assert_allclose(
    metrics["answered_best"], share.max(-1).mean(), 1e-5
  )
  # On average a share is the probability that likelihood gives.
  for mean, p in (
    (share.mean(), chances(episode, found)),
    (empty, chances(episode, found, nothing=True)),
  ):
    assert abs(mean - p.mean()) * p.size < 4 * np.sqrt((p * (1 - p)).sum() / 2)
  longest = max(len(x) for x in texts(a.output))
  assert episode.metrics["D_loops"] == longest - 1


def test_one_answer_is_heard_and_teaches_a_nothing():
  pattern = make(verify=judge(0.0, edit=1.0))
  none = np.full((B, 1, 1), -1, np.int32)
  episode, _ = jax.eval_shape(
    pattern.play, UNSURE, {}, (), batch(), jax.random.key(0),
    tiny.ask(Constraints(none, none)),
  )  # fmt: skip
  assert set(episode.rollouts) == {"C"} and "D_loops" in episode.metrics
  assert set(episode.parts["C"]) == {"verifier", "price"}


def test_of_the_shipped_reward_v_is_at_least_half():
  """And all of it where shaping has no weight."""
  config, found = SHIPPED, batch()
  settings = {k: config.patterns.qa[k] for k in ("answers", "taught")}
  assert settings["answers"] > 1
  weights = config.verifier.to_dict()
  for shaping in {0.0, config.shaping.gain}:
    pattern = make(
      verify=judge(shaping, **weights), length_price=0.0, **settings
    )
    episode = play(pattern, UNSURE, found)
    paid = shares.measure("C", episode.rewards["C"], episode.parts["C"])
    share = paid["C_share_verifier"]
    assert share > (0.5 if shaping else 1 - 1e-6)
    assert abs(share + paid.get("C_share_shaping", 0) - 1) < 1e-5
    assert paid["C_dead_groups"] < 0.5


def test_equal_answers_are_paid_alike_whatever_a_expected():
  """V's word is not the likelihood, which pays only what is called shaping."""
  correct = jnp.array([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]]])
  log_lik = jnp.log(jnp.array([[[0.9, 0.1], [0.2, 0.1], [0.5, 0.5]]]))
  found = answering.Answers(
    None,
    None,
    None,
    correct,
    jnp.full((1, 1, 2), 0.25),
    log_lik,
    log_lik[:, :1] * 2,
  )
  one, two, three = answering.worth(judge(0.0, edit=1.0), found)["verifier"][0]
  assert one == two == three == (0.5 - 0.25) / 0.75
  parts = answering.worth(BOTH, found)
  np.testing.assert_allclose(parts["verifier"], 0.75 * one, rtol=1e-6)
  assert parts["shaping"][0, 0] > parts["shaping"][0, 1] + 0.01


def test_two_samples_of_an_answer_differ():
  """As do those of equal codes and questions in one group."""
  episode = play(TWO, decided(CERTAIN, 1.0), batch())
  a = episode.rollouts["A"]
  assert (a.output.ids[:, 0] != a.output.ids[:, 1]).any(-1).mean() > 0.8
  same = a.output.ids.reshape(B, N, E, 2, 2)  # codes of a group are equal
  assert (same[:, 0] != same[:, 1]).any(-1).mean() > 0.8
  # And no two sources share their noise.
  assert (same[0] != same[1]).any(-1).mean() > 0.8


def test_the_source_reaches_a_through_the_code_alone():
  """C copies three words. The fourth changes; nothing that A reads does."""
  one = [[8, 11, 14, 17], [15, 9, 18, 12], [19, 12, 9, 15], [10, 17, 13, 16]]
  two = [[*s[:K], x] for s, x in zip(one, (19, 11, 14, 15), strict=True)]
  rows = np.arange(B, dtype=np.int32)
  a, b = (
    play(TWO, decided(CERTAIN, ODDS), Batch(tokens(s * 2), rows))
    for s in (one, two)
  )
  assert codes(a) == codes(b) == [[s[:K]] * G for s in one * 2]
  assert (a.rollouts["C"].prompt.ids != b.rollouts["C"].prompt.ids).any()
  same = lambda x, y: jax.tree.map(np.testing.assert_array_equal, x, y)
  same(a.rollouts["A"], b.rollouts["A"])
  same(a.sft_batches["A"].prompt, b.sft_batches["A"].prompt)
  # Nor does what it is paid, unless it was asked for the word that changed.
  _, facts = asked(a.rollouts["A"].prompt)
  new = [fact for fact in (3, 1, 2, 2) * 2 for _ in range(N * E)]
  other = np.array([x not in f for x, f in zip(new, facts, strict=True)])
  assert 0 < other.mean() < 1
  same(a.rewards["A"][other], b.rewards["A"][other])
  read, _ = asked(a.sft_batches["A"].prompt)
  assert read == [s[:K] for s in one * 2 for _ in range(E)]


def test_all_codes_of_a_source_are_asked_alike():
  episode = play(TWO, UNSURE, batch())
  _, facts = asked(episode.rollouts["A"].prompt)
  groups = [facts[i : i + E] for i in range(0, B * N * E, E)]
  for row in range(B):
    assert groups[row * N : row * N + N] == [questions(episode)[row]] * N
  assert len({tuple(x) for x in questions(episode)}) == B


SEEDS = 40


@functools.cache
def lessons(play=ONE.play):
  """Supervised rows of many keys on one batch, [SEEDS * B * E]; their codes."""
  found = batch()
  none = np.full((B, 1, 1), -1, np.int32)
  run = jax.jit(
    jax.vmap(
      lambda key: play(
        UNSURE, {}, (), found, key, tiny.ask(Constraints(none, none))
      )[0]
    )
  )
  episode = jax.device_get(run(jax.random.split(jax.random.key(0), SEEDS)))
  flat = lambda x: x.reshape(-1, *x.shape[2:])
  return jax.tree.map(flat, episode.sft_batches["A"]), episode.rollouts["C"]


def near(count, total, share):
  """Four deviations of a count."""
  return abs(count - total * share) < 4 * np.sqrt(total * share * (1 - share))


def test_what_is_never_asked_for():
  """Neither the unasked fact nor the held-out pair, over many keys."""
  lesson, _ = lessons()
  _, facts = asked(lesson.prompt)
  total = SEEDS * B * E
  assert len(facts) == total and set(facts) == set(TAUGHT)
  # Half are pairs, and of each kind all are asked for equally often.
  pairs = [f for f in facts if len(f) == 2]
  assert near(len(pairs), total, 0.5)
  assert near(facts.count((0, 2)), total, 0.5 / 2)
  for fact in ASKED:
    assert near(facts.count((fact,)), total, 0.5 / 3)
  # A source is asked for other facts in another step.
  first = [tuple(facts[i : i + E]) for i in range(0, total, B * E)]
  assert len(set(first)) > SEEDS * 0.9


def test_one_pair_in_three_is_held_out():
  """Of four facts: the first and the fourth of six pairs."""
  pattern = make(unasked=(), pairs=1.0, group=2, each=32)
  _, facts = asked(lessons(pattern.play)[0].prompt)
  assert set(facts) == {(0, 2), (0, 3), (1, 3), (2, 3)}
  alone = make(unasked=("who", "when"), pairs=0.0, group=2, each=4)
  _, facts = asked(lessons(alone.play)[0].prompt)
  assert set(facts) == {(1,), (2,)}


def test_shares_of_what_lessons_read():
  """0.3 the source, 0.2 nothing, the rest the code that serves best."""
  lesson, c = lessons()
  read, facts = asked(lesson.prompt)
  sources = texts(batch().source)
  wrote = [[i for i in code if i != END] for code in texts(c.output)]
  what = []
  for i in range(SEEDS * B):
    s, group = sources[i % B], wrote[i * G : i * G + G]
    mine = slice(i * E, i * E + E)
    known = [
      np.mean([np.log(chance(s, code, f)) for f in facts[mine]])
      for code in group
    ]
    best = [
      code
      for code, k in zip(group, known, strict=True)
      if k > max(known) - 1e-3  # nats: equal but for rounding
    ]
    assert all(text in (s, [], *best) for text in read[mine])
    # Counted where the three can be told apart.
    if [] not in best and s not in best:
      what += ["s" if text == s else "c" if text else "" for text in read[mine]]
  assert len(what) > SEEDS * B * E / 4
  for name, share in {"s": 0.3, "": 0.2, "c": 0.5}.items():
    assert near(what.count(name), len(what), share), name


@pytest.mark.parametrize("share", ["from_source", "dropout"])
def test_a_share_of_all(share):
  """Every supervised row reads the source, or none reads anything."""
  changes = {"from_source": 0.0, "dropout": 0.0, share: 1.0}
  found = batch()
  lesson = play(make(**changes), UNSURE, found).sft_batches["A"]
  read, _ = asked(lesson.prompt)
  s = [x for x in texts(found.source) for _ in range(E)]
  assert read == (s if share == "from_source" else [[]] * (B * E))


EXAMINE = jax.jit(ONE.examine)
GROUPS = {
  "asked": [(i,) for i in ASKED],
  "unasked": [(3,)],
  "pairs": [(0, 2), (1, 2)],
  "new_pairs": NEW,
}


def share(s, text, facts):
  """Of these questions about s, how many `text` answers rightly."""
  return np.mean([say(s, f) == say(text, f) for f in facts])


def examined(params, source, code):
  rows = np.arange(B, dtype=np.int32)
  found = EXAMINE(
    params, {}, (), Batch(tokens(source), rows), tokens(code, S),
    jax.random.key(0),
  )  # fmt: skip
  return jax.device_get(found)


def test_a_perfect_answerer_knows_what_it_reads():
  """All from a code of the whole source, from another's what is the same."""
  rng = np.random.default_rng(3)
  source = [
    [int(rng.choice(FACT[i])) for i in rng.permutation(4)] for _ in range(B)
  ]
  scores, shown = examined(EXACT, source, source)
  other = [source[-1], *source[:-1]]
  for what, facts in GROUPS.items():
    for name in ("code", "decoded", "source"):
      np.testing.assert_array_equal(scores[f"{name}_{what}"], np.ones(B))
    floor = [share(s, o, facts) for s, o in zip(source, other, strict=True)]
    np.testing.assert_allclose(scores[f"other_{what}"], floor, rtol=1e-6)
    assert np.mean(floor) < 0.6
    # Who has read nothing says so, and everything was said.
    np.testing.assert_array_equal(scores[f"nothing_{what}"], np.zeros(B))
  for name in NAMES:
    np.testing.assert_array_equal(scores[f"code_fact_{name}"], np.ones(B))
  for name in ("code", "decoded", "other", "nothing", "source"):
    # Nothing was unknown.
    assert np.isnan(scores[f"{name}_unknown"]).all()
    np.testing.assert_allclose(
      scores[f"{name}_said"], scores[f"{name}_asked"], rtol=1e-6
    )
  assert all(x.shape == (B,) for x in scores.values())
  assert texts(shown["source"]) == texts(shown["code"]) == source
  assert texts(shown["decoded"]) == source


def test_unknown_is_counted_apart():
  """Codes keep the first words of sources that leave something out."""
  source = [x[: 3 + i % 2] for i, x in enumerate(texts(batch(seed=5).source))]
  source[0] = [17]  # says nothing of what is asked for
  code = [s[: i % 3] for i, s in enumerate(source)]
  scores, shown = examined(EXACT, source, code)
  single = GROUPS["asked"]
  for name, read in {
    "code": code, "decoded": code, "other": [code[-1], *code[:-1]],
    "nothing": [[]] * B, "source": source,
  }.items():  # fmt: skip
    for what, facts in GROUPS.items():
      expected = [share(s, t, facts) for s, t in zip(source, read, strict=True)]
      np.testing.assert_allclose(
        scores[f"{name}_{what}"], expected, rtol=1e-6, err_msg=f"{name} {what}"
      )
    for what, counts in {"said": False, "unknown": True}.items():
      for row, (s, text) in enumerate(zip(source, read, strict=True)):
        mine = [f for f in single if (say(s, f)[0] == UNKNOWN) == counts]
        found = scores[f"{name}_{what}"][row]
        if not mine:
          assert np.isnan(found)
        else:
          np.testing.assert_allclose(found, share(s, text, mine), rtol=1e-6)
  assert np.isnan(scores["code_said"][0])
  assert 0 < np.isnan(scores["code_unknown"]).sum() < B
  assert (scores["nothing_unknown"][0], scores["nothing_asked"][0]) == (1, 1)
  for fact, name in enumerate(NAMES):
    expected = [
      share(s, c, [(fact,)]) for s, c in zip(source, code, strict=True)
    ]
    np.testing.assert_array_equal(scores[f"code_fact_{name}"], expected)
  # What is shown: each row another question, the held-out pair among them.
  ask = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0,), (1,)]
  spoken = lambda rows: [[i for i in row if i != END] for row in rows]
  assert texts(shown["question"]) == [[20 + i for i in f] for f in ask]
  for name, read in {"answer": code, "right": source}.items():
    expected = [say(t, f) for t, f in zip(read, ask, strict=True)]
    assert texts(shown[name]) == spoken(expected)


def test_an_answer_of_too_few_words_is_wrong():
  """The least likely words of a perfect A: it ends at once."""
  source = [[8, 11, 14]] * B
  scores, shown = examined(decided(CERTAIN, 1 / CERTAIN), source, source)
  for what in GROUPS:
    assert (scores[f"code_{what}"] == 0).all()
  assert texts(shown["answer"]) == [[]] * B


@pytest.mark.slow
def test_an_answer_of_too_many_words_is_wrong():
  """An A that can't end says two words to every question."""
  endless = lambda params, hidden: hidden.at[..., END].add(-1e9)
  pattern = qa.make(
    Context(POLICY._replace(unembed=endless), ROLES, DEAF, ABOUT), group=G,
    each=E, unasked=("when",), pairs=0.5, answers=1, lessons=True,
    from_source=0.0, dropout=0.0, length_price=0.0,
  )  # fmt: skip
  s = tokens([[8, 11, 14]] * B)
  scores, shown = jax.jit(pattern.examine)(
    EXACT, {}, (), Batch(s, np.arange(B)), s, jax.random.key(0)
  )
  # The right word comes first all the same.
  assert [x[0] for x in texts(shown["answer"])] == [8, 11, 14, 8, 8, 11, 8, 11]
  assert (scores["code_asked"] == 0).all() and (scores["code_pairs"] == 1).all()


def test_an_answer_is_right_word_for_word():
  said = tokens([[8, 11], [8], [8, 12], []])
  right = tokens([[8, 11], [8, 11], [8, 11], []])
  found = answering.is_right(said, right, END)
  assert found.tolist() == [True, False, False, True]


def test_every_code_is_asked_every_question():
  """Rows: codes of a source, and for each of them its questions in order."""
  three = lambda *ids: Tokens(*(x[None] for x in tokens([[i] for i in ids], 1)))
  code, question, right = three(8, 9), three(20, 21), three(10, 11)
  prompt, target = answering.ask_all(tiny.ROLES["D"], code, (question, right))
  rows = [x[1:-1] for x in texts(prompt)]
  assert rows == [[8, 20], [8, 21], [9, 20], [9, 21]]
  assert target.ids[:, 0, 0].tolist() == [10, 11, 10, 11]


def test_a_says_words_of_answers():
  """And nothing else: neither a question nor what is only in codes."""
  ((name, A),) = ONE.roles
  assert name == "A" and A.length == 2
  written = np.flatnonzero(A.support).tolist()
  assert written == sorted([*range(8, 20), UNKNOWN, END])
  few = ABOUT._replace(words=WORDS & (np.arange(tiny.VOCAB) != 9))
  assert not dict(make(few).roles)["A"].support[9]


def test_a_row_does_not_see_its_batch():
  order = np.random.default_rng(1).permutation(B)
  of = lambda x: jax.tree.leaves(
    jax.tree.map(
      lambda y: y.reshape(B, -1), (x.rollouts, x.rewards, x.sft_batches)
    )
  )
  for pattern in (ONE, TWO):
    straight, shuffled = (
      of(play(pattern, UNSURE, batch(x))) for x in (None, order)
    )
    for a, b in zip(straight, shuffled, strict=True):
      np.testing.assert_array_equal(a[order], b)


def test_keys_decide():
  one, again, other = (play(TWO, UNSURE, batch(), x) for x in (0, 0, 1))
  assert codes(one) == codes(again) != codes(other)
  assert questions(one) == questions(again) != questions(other)


@pytest.mark.parametrize(
  "changes, names, value, remedy",
  [
    ({"each": 0}, "each", "0", "at least 1"),
    ({"answers": 0}, "answers", "0", "at least 1"),
    ({"pairs": -0.1}, "pairs", "-0.1", "from 0 to 1"),
    ({"pairs": 1.1}, "pairs", "1.1", "from 0 to 1"),
    (
      {"unasked": ("who", "when"), "pairs": 0.5}, "pairs", "0.5",
      "0 where fewer than three facts",
    ),
    (
      {"from_source": 0.6, "dropout": 0.5}, ("from_source", "dropout"),
      ("0.6", "0.5"), "at most 1 together",
    ),
    ({"from_source": -0.1}, "from_source", "-0.1", "from 0 to 1"),
    ({"from_source": 0.3, "dropout": -0.1}, "dropout", "-0.1", "from 0 to 1"),
    ({"lessons": False}, "answers", "1", "lessons=True: nothing else teaches"),
    ({"unasked": ("whom",)}, "unasked", r"('whom',)", "who, what, where, when"),
    ({"unasked": NAMES}, "unasked", f"{NAMES}", "leave one"),
    ({"info": SourceInfo()}, "data.source", "'facts'", "vocab_size"),
  ],
)  # fmt: skip
def test_settings_that_cant_work(changes, names, value, remedy):
  names, value = ((x,) if isinstance(x, str) else x for x in (names, value))
  said = [re.escape(f"{n}={v}") for n, v in zip(names, value, strict=True)]
  with pytest.raises(ValueError, match=r"config\.patterns\.qa") as error:
    make(**changes)
  for text in (*said, re.escape(remedy)):
    assert re.search(text, str(error.value)), str(error.value)


@pytest.mark.parametrize(
  "changes",
  [
    {"from_source": 0.75, "dropout": 0.25},
    {"unasked": ("who", "when"), "pairs": 0.0},
    {"answers": 2, "lessons": False},
    {"pairs": 1.0},
  ],
)
def test_the_edges_of_settings_work(changes):
  assert {name for name, _ in make(**changes).roles} == {"A"}


def test_without_lessons_a_has_rollouts_alone():
  pattern = make(answers=2, lessons=False)
  none = np.full((B, 1, 1), -1, np.int32)
  episode, _ = jax.eval_shape(
    pattern.play, UNSURE, {}, (), batch(), jax.random.key(0),
    tiny.ask(Constraints(none, none)),
  )  # fmt: skip
  assert not episode.sft_batches and set(episode.rollouts) == {"C", "A"}


def test_what_is_given_to_c_is_obeyed():
  """It may write the words of s, and no more of them than its budget; the price
  is that of the longest code, and of the sources that are priced alone."""
  found = batch()
  limits = Constraints(
    np.full((B, 1, 1), -1, np.int32), found.source.ids[:, None],
    budget=np.full((B, 1), 2, np.int32),
  )  # fmt: skip
  half = np.arange(B)[:, None] % 2 == 0
  episode, _ = program(ONE.play)(
    UNSURE, {}, (), found, jax.random.key(0),
    tiny.ask(limits)._replace(priced=half),
  )  # fmt: skip
  episode = jax.device_get(episode)
  for s, group in zip(texts(found.source), codes(episode), strict=True):
    assert all(set(code) <= set(s) for code in group)
  assert lengths(episode).max() == 2
  value = gain(episode, found)
  reward = np.where(half, priced(value, lengths(episode)), value)
  np.testing.assert_allclose(episode.rewards["C"], reward, atol=1e-5)


def test_a_real_policy_scores_its_answers():
  """`known` is what sampling under the same policy gives: one transformer."""
  pattern = qa.make(
    Context(tiny.POLICY, ROLES, DEAF, ABOUT), group=2, each=2, unasked=(),
    pairs=0.5, answers=2, lessons=True, from_source=0.0, dropout=0.0,
    length_price=0.0,
  )  # fmt: skip
  found, none = batch(), np.full((B, 1, 1), -1, np.int32)
  params, A = tiny.params(1), dict(pattern.roles)["A"]

  @jax.jit
  def run(found):
    episode, _ = pattern.play(
      params, {}, (), found, jax.random.key(0),
      tiny.ask(Constraints(none, none)),
    )  # fmt: skip
    a = episode.rollouts["A"]
    again, _ = rollout.score(tiny.POLICY, params, A, a.prompt, a.output)
    return a, again

  a, again = run(found)
  np.testing.assert_allclose(a.log_probs, again, atol=1e-4)


# Sources that come with a question each, of one fact or of two.
OWN = SourceInfo(unknown=UNKNOWN, answer_tokens=3)
QUIZ = {"info": OWN, "each": 1, "unasked": (), "pairs": 0.0}


def quiz(seed=0):
  """`batch` with a question each: who; who and where. -> it, and the facts"""
  found = batch(seed=seed)
  facts = [((0,), (0, 2))[i % 2] for i in range(B)]
  right = [
    [i for i in say(s, f) if i != END]
    for s, f in zip(texts(found.source), facts, strict=True)
  ]
  question = tokens([[20 + i for i in f] for f in facts], 2)
  return found._replace(question=question, answer=tokens(right, 2)), facts


def test_a_source_brings_its_question():
  """It is asked as it stands, answered with an end, and paid by likelihood."""
  pattern = make(**QUIZ, from_source=0.0, dropout=0.0)
  found, facts = quiz()
  episode = play(pattern, UNSURE, found)
  lesson = episode.sft_batches["A"]
  read, heard = asked(lesson.prompt)
  assert heard == facts
  groups = codes(episode)
  assert all(code in group for code, group in zip(read, groups, strict=True))
  right = [
    [i for i in say(s, f) if i != END]
    for s, f in zip(texts(found.source), facts, strict=True)
  ]
  assert texts(lesson.target) == [[*x, END] for x in right]

  # A may write any word of a text, 12, and the end; it can't say "unknown".
  def likely(s, code, f):
    chance = lambda x, y: (
      0.0 if x == UNKNOWN else 1 / 13 if y == UNKNOWN
      else (ODDS if x == y else 1.0) / (ODDS + 12)
    )  # fmt: skip
    words = zip(say(s, f)[: len(f)], say(code, f)[: len(f)], strict=True)
    return np.prod([chance(END, END), *(chance(x, y) for x, y in words)])

  rows = zip(texts(found.source), groups, facts, strict=True)
  value = []
  for s, group, f in rows:
    if UNKNOWN in say(s, f):  # which no code makes likelier
      value.append([None] * G)
      continue
    lost = -np.log([likely(s, c, f) for c in group])
    without = -np.log(likely(s, [], f))
    value.append((without - lost) / (without + lost))
  told = np.array([x[0] is not None for x in value])
  assert 2 < told.sum() < B
  value = np.array([x for x in value if x[0] is not None])
  np.testing.assert_allclose(
    episode.rewards["C"][told], priced(value, lengths(episode)[told]), atol=1e-4
  )


def test_an_own_question_is_examined():
  pattern = make(**QUIZ)
  found, facts = quiz(4)
  s = texts(found.source)
  scores, shown = jax.device_get(
    jax.jit(pattern.examine)(
      EXACT, {}, (), found, found.source, jax.random.key(0)
    )
  )
  groups = {name.removeprefix("code_") for name in scores if "code_" in name}
  assert groups == {"asked", "said", "unknown"}  # no facts, no pairs
  known = [UNKNOWN not in say(x, f) for x, f in zip(s, facts, strict=True)]
  assert 1 < sum(known) < B
  # Of a text no word is "unknown": what is not said can't be answered here.
  np.testing.assert_array_equal(scores["code_asked"], np.array(known) * 1.0)
  other = [s[-1], *s[:-1]]
  same = [
    say(x, f) == say(y, f) and UNKNOWN not in say(x, f)
    for x, y, f in zip(s, other, facts, strict=True)
  ]
  np.testing.assert_array_equal(scores["other_asked"], np.array(same) * 1.0)
  assert texts(shown["question"]) == [[20 + i for i in f] for f in facts]
  assert texts(shown["right"]) == texts(found.answer)


@pytest.mark.parametrize(
  "name, value", [("each", 2), ("unasked", ("who",)), ("pairs", 0.5)]
)
def test_own_questions_are_one_each(name, value):
  with pytest.raises(ValueError, match=rf"qa\.{name}=.*one question each"):
    make(**(QUIZ | {name: value}))
