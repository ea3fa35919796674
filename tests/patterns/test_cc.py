"""(C -> D -> V) -> CC with a fake policy, next to the same game in numpy."""

import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import scripted, tiny

from rsrc_jax import rules
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.data import sources, tokenizer
from rsrc_jax.lm import likelihood as lm_likelihood
from rsrc_jax.lm import memory, rollout, tokens
from rsrc_jax.patterns import cc
from rsrc_jax.rl import judging, shares, verifier
from rsrc_jax.runtime.configs import load
from rsrc_jax.types import (
  Batch,
  Constraints,
  Context,
  SourceInfo,
  Tokens,
)

ROOT = Path(__file__).resolve().parents[2]
R, POOL, STREAMS, G, H, M = 4, 2, 3, 4, 5, 4
S, K, V = tiny.SOURCE, tiny.BUDGET, tiny.VOCAB
END, SEPARATOR, TEXT = tokenizer.END, tokenizer.SEPARATOR, tokenizer.TEXT
PRICE, OVER_MEMORY, OVER_EMPTY, WARMUP = 0.5, 0.25, 0.75, 2

# C may not write 8 and 9, which are words: a rule's cc must leave them out.
ids = np.arange(V)
CODE = (ids >= 10) | (ids == END)
ROLES = tiny.ROLES | {"C": tiny.ROLES["C"]._replace(support=CODE)}
WORDS = ROLES["D"].support
LEVELS = np.flatnonzero(CODE)[:8]
# Three facts, not in the order of their places; two of them are shared.
ABOUT = SourceInfo(names=("a", "b", "c"), slots=(4, 1, 3))
SHARED, PLACES = ("c", "a"), [3, 4]


def wanted(params, prompt, step):
  """Logits [V] of a role that has read `prompt` and is about to write `step`.

  Whoever speaks likes what is in the prompt, now here and now there, and has
  whims: what one token makes of another, and what a role says at each step.
  """
  tag, real = prompt.ids[0], prompt.mask
  place = jnp.cumsum(real) - 1
  weight = 1 + 0.9 * jnp.cos(1.3 * place - 2.0 * step)
  weight = jnp.where(real & (place > 0), weight, 0.0) / jnp.sqrt(place[-1])
  return weight @ params["read"][tag, prompt.ids] + params["say"][tag, step]


def whims(seed, decided):
  """Tables of a seed. A text's own tokens tell a role most."""
  rng = np.random.default_rng(seed)
  read = 0.6 * rng.normal(size=(8, V, V)) + 3.0 * np.eye(V)
  say = decided * rng.normal(size=(8, S + 2, V))
  say[..., END] += 0.5
  return {"read": jnp.asarray(read, jnp.float32), "say": jnp.float32(say)}


# The base is sure of what it says and wrong: there is something to gain.
PARAMS, BASE = whims(0, 0.5), whims(1, 2.0)
POLICY = scripted.policy(wanted, lambda key: PARAMS, V)
FROZEN = {"base": BASE, "reader": BASE}
SHIPPED = arm_config(load(ROOT / "configs" / "cc.py"), "cc")
SHARE = 0.75  # of V's word; the rest is D's likelihood


def judge(shaping, **weights):
  """V with these weights, and that of D's likelihood beside them."""
  return verifier.make(
    POLICY, ROLES["V"], weights=weights, shaping={"gain": shaping},
    positions=None,
  )  # fmt: skip


BOTH, WORD = judge(1.0, edit=3.0), judge(0.0, edit=1.0)


def make(verify=BOTH, info=ABOUT, **changes):
  settings = {
    "rounds": R, "pool": POOL, "memory": M, "shared": SHARED, "drift": 0.0,
    "group": G, "candidates": H, "over_memory": OVER_MEMORY,
    "over_empty": OVER_EMPTY, "rollback": True, "warmup": WARMUP,
    "imitate": True, "dropout": 0.0, "length_price": PRICE,
  }  # fmt: skip
  return cc.make(Context(POLICY, ROLES, verify, info), **(settings | changes))


# Two programs for most tests: what else differs is data. In PLAIN all that is
# paid is V's word.
MAIN = make()
PLAIN = make(
  WORD, pool=1, shared=(), rollback=False, imitate=False, dropout=0.5,
  length_price=0.0,
)  # fmt: skip


@functools.cache
def program(function):
  return jax.jit(function)


def batch(rows=R * POOL * STREAMS, seed=0):
  ids = np.random.default_rng(seed).integers(8, 20, (rows, S))
  source = Tokens(jnp.asarray(ids, jnp.int32), jnp.ones((rows, S), bool))
  return Batch(source, jnp.arange(rows, dtype=jnp.int32))


def given(found, seed=0):
  """Half of what C can write, another half for each row."""
  rng = np.random.default_rng((seed, 1))
  allowed = [
    rng.permutation(np.flatnonzero(CODE)[1:])[:8] for _ in found.row
  ]  # fmt: skip
  banned = jnp.full((len(allowed), 1, 1), -1, jnp.int32)
  allowed = jnp.asarray(np.stack(allowed), jnp.int32)[:, None]
  return tiny.ask(Constraints(banned, allowed))


def play(pattern, found, seed=0, steps=WARMUP):
  """steps: how many were played before."""
  episode, carry = program(pattern.play)(
    PARAMS, FROZEN, jnp.int32(steps), found, jax.random.key(seed), given(found)
  )
  assert carry == steps + 1
  return jax.device_get(episode)


@functools.cache
def played(seed=0, steps=WARMUP, main=True):
  """(episode, what numpy makes of it) of MAIN or PLAIN."""
  found = batch(R * STREAMS * (POOL if main else 1), seed)
  episode = play(MAIN if main else PLAIN, found, seed, steps)
  return episode, replay(
    episode,
    found,
    pool=POOL if main else 1,
    rollback=main,
    places=PLACES if main else [],
    warm=steps < WARMUP,
    share=SHARE if main else 1.0,
  )


def real(tokens):
  """Real tokens of [..., T], nested lists."""
  tokens = jax.device_get(tokens)
  if tokens.ids.ndim == 1:
    return tokens.ids[tokens.mask].tolist()
  return [real(Tokens(*x)) for x in zip(*tokens, strict=True)]


def said(tokens):
  """The same without the end."""
  tokens = jax.device_get(tokens)
  return real(Tokens(tokens.ids, tokens.mask & (tokens.ids != END)))


# The game in numpy.

TABLES = {
  name: {k: np.asarray(v, np.float64) for k, v in params.items()}
  for name, params in (("PARAMS", PARAMS), ("BASE", BASE))
}
CODED, WORDED = (tuple(np.flatnonzero(x)) for x in (CODE, WORDS))


def log_probs(params, prompt, step, allowed):
  """[V] in float64, of a prompt that is a list of ids."""
  read, say = params["read"], params["say"]
  place = np.arange(1, len(prompt))
  weight = (1 + 0.9 * np.cos(1.3 * place - 2.0 * step)) / np.sqrt(len(place))
  logits = weight @ read[prompt[0], list(prompt[1:])] + say[prompt[0], step]
  logits = np.where(allowed, logits, -np.inf)
  return logits - np.log(np.sum(np.exp(logits - logits.max()))) - logits.max()


def likelihood(name, prompt, target):
  return _likelihood(name, tuple(prompt), tuple(target))


@functools.cache
def _likelihood(name, prompt, target):
  params = TABLES[name]
  parts = [log_probs(params, prompt, t, WORDS)[x] for t, x in enumerate(target)]
  return sum(parts)


def greedy(prompt, allowed, length):
  """allowed: the ids, as a tuple."""
  return list(_greedy(tuple(prompt), tuple(allowed), length))


@functools.cache
def _greedy(prompt, allowed, length):
  out, allowed = [], np.isin(ids, [*allowed, END])
  for t in range(length):
    found = log_probs(TABLES["PARAMS"], prompt, t, allowed)
    out.append(int(np.argmax(found)))
    if out[-1] == END:
      return out[:-1]
  return out


def beside(memory, other):
  return [*memory, *([SEPARATOR] if memory else []), *other]


def known(memory, s, code):
  """ln p_D(s | cc, c)"""
  prompt = [tokenizer.D, *beside(memory, code), SEPARATOR]
  return likelihood("PARAMS", prompt, [*s, END])


def alone(s):
  return likelihood("BASE", [TEXT, SEPARATOR], [*s, END])


def write(memory, s, ask=None):
  """C's greedy code; ask: ids that it may write, none: all of its own."""
  return greedy([tokenizer.C, *beside(memory, s), SEPARATOR], ask or CODED, K)


def read(memory, code):
  """D's greedy d."""
  return greedy([tokenizer.D, *beside(memory, code), SEPARATOR], WORDED, S + 1)


def edit(s, d):
  """1 - Levenshtein(s, d) over the longer length."""
  row = list(range(len(d) + 1))
  for i, a in enumerate(s, 1):
    last, row[0] = row[0], i
    for j, b in enumerate(d, 1):
      last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
  return 1 - row[-1] / max(len(s), len(d))


def heard(memory, s, code):
  """V's word on d, above that on what D writes from nothing."""
  empty = edit(s, read([], []))
  return (edit(s, read(memory, code)) - empty) / (1 - empty)


def paid(memory, s, code, share):
  """What a code is worth: V's word, and what D's likelihood gains on none."""
  before, now = -alone(s), -known(memory, s, code)
  return share * heard(memory, s, code) + (1 - share) * (
    (before - now) / (before + now)
  )


def worth(memory, s, ask, share):
  """R(s | cc)"""
  return paid(memory, s, write(memory, s, ask), share)


def level(word, told=None):
  """V's word in eighths. On an edge both are right: `told`, if it is one."""
  near = np.floor(word * 8 + np.array([-1e-5, 1e-5]))
  both = LEVELS[np.clip(near, 0, 7).astype(int)].tolist()
  return told if told in both else both[0]


def streamed(found, rounds, pool, places):
  """Sources [n, R, P, S] of a drift of 0: the first one's words are shared."""
  s = np.asarray(found.source.ids).reshape(-1, rounds, pool, S).copy()
  s[..., places] = s[:, :1, :1, places]
  return s


class Round(NamedTuple):
  """One round of one stream, as numpy sees it. `row`: where in the episode."""

  row: int
  number: int
  source: list
  cc: list  # what C and D read
  before: list  # what that was folded from
  kept: bool  # whether it did no worse than none
  held: list  # what CC reads
  codes: list
  paid: np.ndarray  # [G]
  best: list
  history: list  # CC's prompt
  after: list  # H memories
  value: np.ndarray  # [H], of each on the next source
  old: float  # that of `held`
  without: float  # that of none
  expected: np.ndarray  # [P], ln p_D of the next sources, of `held` alone
  pool: list  # those sources
  extra: Any = None  # the rule's cc, where one is used


def replay(episode, found, *, pool, rollback, places, warm, share, rounds=R):
  """What was sampled is read off the episode; all else follows from it."""
  s = streamed(found, rounds, pool, places).tolist()
  asks = np.asarray(given(found).constraints.allowed)
  asks = asks.reshape(-1, rounds, pool, asks.shape[-1])[:, :, 0]
  codes, after = (said(episode.rollouts[x].output) for x in ("C", "CC"))
  rule = said(episode.sft_batches["CC"].target)
  scores = [x[-2] for x in real(episode.rollouts["CC"].prompt)]
  n, lines = len(s), []
  for i in range(n):
    source, memory, before, kept = s[i][0][0], [], [], True
    for r in range(rounds - 1):
      row = r * n + i
      likely = np.array([known(memory, source, c) for c in codes[row]])
      given_for = [paid(memory, source, c, share) for c in codes[row]]
      held = memory if kept or not rollback else before
      told = (source, codes[row][0], read(memory, codes[row][0]))
      history = [tokenizer.C, TEXT, *beside(held, told[0]), SEPARATOR]
      history += [*told[1], SEPARATOR, *told[2], SEPARATOR]
      score = level(heard(memory, source, told[1]), scores[row])
      history += [score, SEPARATOR]
      expected = np.array([known(held, x, []) for x in s[i][r + 1]])
      following = s[i][r + 1][int(np.argmin(expected))]
      ask = tuple(asks[i, r + 1].tolist())
      R_of = lambda m, x=following, ask=ask: worth(m, x, ask, share)
      new = rule[row][0] if warm else after[row][0]
      lines.append(
        Round(
          row, r, source, memory, before, kept, held, codes[row],
          np.array(given_for), codes[row][int(np.argmax(likely))], history,
          after[row],
          np.array([R_of(m) for m in after[row]]), R_of(held), R_of([]),
          expected, s[i][r + 1], new if warm else None,
        )
      )  # fmt: skip
      kept = bool(R_of(new) >= lines[-1].without)
      tie = abs(R_of(new) - lines[-1].without)
      assert tie == 0 or tie > 1e-4
      source, memory, before = following, new, held
  return lines


SEEDS = range(8)


def rounds_of(**settings):
  """Every (episode, Round) of all seeds."""
  return [
    (episode, line)
    for episode, lines in (played(seed, **settings) for seed in SEEDS)
    for line in lines
  ]


def lesson_sources(episode, n=STREAMS):
  """What D learns is what was played: sources of rounds, [R - 1][n] lists."""
  target = [row[0] for row in said(episode.sft_batches["D"].target)]
  return [target[i : i + n] for i in range(0, len(target), n)]


# 1. Streams.


def drifted(drift, places=PLACES, pool=1):
  """ids [n, R, P, S] of streams, and what came in."""
  came = np.asarray(batch(R * pool * STREAMS, 3).source.ids)
  came = came.reshape(STREAMS, R, pool, S)
  s = Tokens(jnp.asarray(came), jnp.ones(came.shape, bool))
  found = memory.stream(s, tuple(places), drift, jax.random.key(0))
  return np.asarray(found.ids), came


def test_a_stream_shares_its_facts_and_nothing_else():
  got, came = drifted(0.0)
  own = [i for i in range(S) if i not in PLACES]
  first = np.broadcast_to(came[:, :1], came.shape)
  np.testing.assert_array_equal(got[..., PLACES], first[..., PLACES])
  np.testing.assert_array_equal(got[..., own], came[..., own])
  # And no two rounds say the same: the rest was drawn apart.
  assert all((got[:, r] != got[:, r + 1]).any(-1).all() for r in range(R - 1))
  firsts = {tuple(row) for row in got[:, 0, 0][:, PLACES].tolist()}
  assert len(firsts) > 1  # each stream its own


def test_a_stream_is_what_is_played():
  """In the first rounds, of which nothing is chosen."""
  for main, places in ((True, PLACES), (False, [])):
    episode, _ = played(main=main)
    found = batch(R * STREAMS * (POOL if main else 1))
    s = streamed(found, R, POOL if main else 1, places)
    assert lesson_sources(episode)[0] == s[:, 0, 0].tolist()
    if not main:
      played_later = [s[:, r, 0].tolist() for r in range(R - 1)]
      assert lesson_sources(episode) == played_later


def test_with_a_drift_of_1_every_round_brings_its_own():
  got, came = drifted(1.0)
  np.testing.assert_array_equal(got, came)
  # Of a pool, the first one's: what comes next is no matter of what is shared.
  got, came = drifted(1.0, pool=2)
  first = np.broadcast_to(came[:, :, :1], came.shape)
  np.testing.assert_array_equal(got[..., PLACES], first[..., PLACES])
  assert (came[:, 1:, 1][..., PLACES] != came[:, 1:, 0][..., PLACES]).any()


def test_where_nothing_is_shared_nothing_is_changed():
  got, came = drifted(0.0, places=())
  np.testing.assert_array_equal(got, came)


# 2. How much there is to remember.

MANY, WAYS, DRIFT = 8_000, {3: 2, 4: 4}, 0.3


@functools.cache
def many():
  """ids [n, 3, S] of many streams whose shared facts have 2 and 4 ways."""
  rng = np.random.default_rng(5)
  ids = rng.integers(8, 20, (MANY, 3, 1, S))
  for place, ways in WAYS.items():
    ids[..., place] = rng.integers(8, 8 + ways, ids.shape[:-1])
  found = memory.stream(
    Tokens(jnp.asarray(ids, jnp.int32), jnp.ones(ids.shape, bool)),
    tuple(PLACES), DRIFT, jax.random.key(0),
  )  # fmt: skip
  return np.asarray(found.ids[:, :, 0]), ids[:, :, 0]


def test_a_drift_brings_the_word_of_the_round():
  """Each fact stays or is the round's own, and one does not move another."""
  got, came = many()
  # Of four ways, a word that was drawn anew is seen to be in three of four.
  place = 4
  for r in (1, 2):
    before, now = got[:, r - 1], got[:, r]
    stays = now[:, PLACES] == before[:, PLACES]
    own = now[:, PLACES] == came[:, r, PLACES]
    assert (stays | own).all()
    told = came[:, r, place] != before[:, place]
    share = own[told][:, PLACES.index(place)].mean()
    assert abs(share - DRIFT) < 4 * np.sqrt(0.21 / told.sum())
  moved = got[:, 2] != got[:, 1]
  assert abs(np.corrcoef(moved[:, 3], moved[:, 4])[0, 1]) < 0.05


# 3. A memory of bounded length, and none at all.


@pytest.mark.slow
def test_no_memory_is_longer_than_it_may_be():
  lengths = [
    len(x) for _, line in rounds_of() for x in (*line.after, line.cc, line.held)
  ]
  assert max(lengths) == M and min(lengths) < M
  _, shown = examined()
  assert 0 < shown["cc"].mask.sum(-1).max() <= M == shown["cc"].ids.shape[-1]


def test_a_first_round_is_one_without_a_memory():
  """The same real tokens as C and D read elsewhere, so the same score."""
  for seed in SEEDS:
    episode, lines = played(seed)
    first = [line for line in lines if line.number == 0]
    s = jnp.asarray([x.source for x in first])
    s = Tokens(s, jnp.ones(s.shape, bool))
    rows = slice(0, STREAMS)
    prompt = real(episode.rollouts["C"].prompt)[rows]
    assert prompt == real(ROLES["C"].prompt(s))
    code = tokens.without_end(episode.rollouts["C"].output, END)
    code = Tokens(*(jnp.asarray(x[rows]) for x in code))
    plain = lm_likelihood.of_source(POLICY, PARAMS, ROLES["D"], s, code)
    base = lm_likelihood.without_code(POLICY, BASE, ROLES["text"], s)
    gained = lm_likelihood.bounded_gain(plain, base[:, None])
    np.testing.assert_allclose(
      episode.parts["C"]["shaping"][rows], (1 - SHARE) * gained, atol=1e-5
    )
    best = Tokens(
      *(
        jnp.take_along_axis(x, jnp.argmax(plain, -1)[:, None, None], 1)[:, 0]
        for x in code
      )
    )
    lesson = real(episode.sft_batches["D"].prompt)[rows]
    assert lesson == real(ROLES["D"].prompt(best))


def test_a_model_scores_an_empty_memory_as_none():
  """A real transformer: pads where a memory would stand change nothing."""
  episode, lines = played(0)
  score = jax.jit(
    lambda role, prompt, output: rollout.score(
      tiny.POLICY, tiny.params(), ROLES[role], prompt, output
    )[0],
    static_argnums=0,
  )
  first = [line for line in lines if line.number == 0]
  texts = {"C": [x.source for x in first], "D": [x.best for x in first]}
  lesson = episode.sft_batches["D"]
  asked = {
    "C": (episode.rollouts["C"].prompt, episode.rollouts["C"].output),
    "D": (lesson.prompt, lesson.target),
  }
  for role, (prompt, output) in asked.items():
    prompt, output = (
      Tokens(*(x[:STREAMS] for x in y)) for y in (prompt, output)
    )
    plain = padded(texts[role])
    plain = ROLES[role].prompt(plain)
    assert plain.ids.shape[-1] < prompt.ids.shape[-1]
    np.testing.assert_allclose(
      score(role, prompt, output), score(role, plain, output), atol=1e-5
    )


def padded(rows):
  """Lists of ids as Tokens."""
  longest = max(map(len, rows))
  mask = np.arange(longest) < np.array([[len(row)] for row in rows])
  ids = np.zeros(mask.shape, np.int32)
  ids[mask] = np.concatenate(rows)
  return Tokens(jnp.asarray(ids), jnp.asarray(mask))


# 4. What a memory is worth.


@pytest.mark.parametrize("main", [True, False], ids=["main", "plain"])
def test_rewards_and_credit_by_hand(main):
  for episode, line in rounds_of(main=main):
    np.testing.assert_allclose(
      episode.rewards["C"][line.row], line.paid, atol=1e-4
    )
    price = PRICE if main else 0.0
    size = np.array([len(x) for x in line.after]) / M
    cost = price * size * np.maximum(line.value, 0)
    np.testing.assert_allclose(
      episode.rewards["CC"][line.row], line.value - cost, atol=1e-4
    )
    parts = {k: x[line.row] for k, x in episode.parts["CC"].items()}
    assert set(parts) == {"verifier", "price", *(["shaping"] if main else [])}
    np.testing.assert_allclose(parts["price"], -cost, atol=1e-4)
    credit = OVER_MEMORY * (line.value - line.old)
    credit += OVER_EMPTY * (line.value - line.without)
    np.testing.assert_allclose(
      episode.credit["CC"][line.row], credit, atol=1e-4
    )
  assert set(episode.credit) == {"CC"}
  differ = [abs(x.old - x.without) > 1e-3 for _, x in rounds_of(main=main)]
  assert any(differ)


@pytest.mark.parametrize("main", [True, False], ids=["main", "plain"])
def test_the_parts_add_up_and_v_has_its_share(main):
  """Of what varies within groups: all without shaping, most at .75."""
  for role in ("C", "CC"):
    found = []
    for seed in SEEDS:
      episode, _ = played(seed, main=main)
      reward, parts = episode.rewards[role], episode.parts[role]
      np.testing.assert_allclose(sum(parts.values()), reward, atol=1e-6)
      plain = reward - parts.get("price", 0.0)
      free = {k: x for k, x in parts.items() if k != "price"}
      found.append(shares.measure(role, plain, free)[f"{role}_share_verifier"])
    assert min(found) > (0.5 if main else 1 - 1e-6)


def test_equal_decodes_are_paid_alike():
  """Whatever D's likelihood of s is from the codes that they come from."""
  apart = 0
  for episode, line in rounds_of(main=False):
    said = [tuple(read(line.cc, code)) for code in line.codes]
    words = episode.rewards["C"][line.row]
    for i, j in itertools.combinations(range(G), 2):
      if said[i] == said[j]:
        assert words[i] == words[j]
        one, two = (known(line.cc, line.source, line.codes[x]) for x in (i, j))
        apart += abs(one - two) > 0.1
  assert apart > 3


def test_without_a_v_that_hears_d_is_decoded_for_cc_alone():
  """All that is paid is called shaping."""
  pattern, found = make(judge(1.0, edit=0.0)), batch()
  episode, _ = jax.eval_shape(
    pattern.play, PARAMS, FROZEN, jnp.int32(WARMUP), found, jax.random.key(0),
    given(found),
  )  # fmt: skip
  assert set(episode.parts["C"]) == {"shaping"}
  assert set(episode.parts["CC"]) == {"shaping", "price"}
  assert "D_loops" in episode.metrics and "D#2_loops" not in episode.metrics


def test_of_the_shipped_reward_v_is_at_least_half():
  weights, shaping = SHIPPED.verifier.to_dict(), SHIPPED.shaping.gain
  share = judge(shaping, **weights).share()
  # What MAIN shows of a weight of .75 holds of more.
  assert share >= SHARE


def test_metrics_are_means_over_rounds():
  for seed in SEEDS:
    episode, lines = played(seed)
    mean = lambda f, lines=lines: np.mean([f(x) for x in lines])
    expected = {
      "reward": mean(lambda x: x.paid.mean()),
      "length": mean(lambda x: np.mean([len(c) for c in x.codes])),
      "cc_worth": mean(lambda x: x.value.mean()),
      "cc_over_memory": mean(lambda x: x.value.mean() - x.old),
      "cc_over_empty": mean(lambda x: x.value.mean() - x.without),
      "cc_worse_than_none": mean(lambda x: x.value[0] < x.without),
      "cc_length": mean(lambda x: np.mean([len(m) for m in x.after])),
    }
    for name, value in expected.items():
      np.testing.assert_allclose(
        episode.metrics[name], value, atol=1e-4, err_msg=name
      )
    loops = {k for k in episode.metrics if k.endswith("_loops")}
    both = {f"{x}_loops" for x in ("D", "D#2")}
    assert loops == {"C_loops", "C#2_loops", "C#3_loops", *both}
    assert set(episode.metrics) == set(expected) | loops


def test_cc_imitates_what_beats_the_one_before_and_none():
  """The candidate that is paid best, where it is worth more than both."""
  weights = []
  for episode, line in rounds_of():
    size = np.array([len(x) for x in line.after]) / M
    cost = PRICE * size * np.maximum(line.value, 0)
    top = int(np.argmax(line.value - cost))
    lesson = episode.sft_batches["CC"]
    assert real(lesson.target)[line.row] == [[*line.after[top], END]]
    assert real(lesson.prompt)[line.row] == line.history
    better = line.value[top] > max(line.old, line.without)
    weights.append(float(lesson.weights[line.row, 0]))
    assert weights[-1] == better
  assert set(weights) == {0.0, 1.0}
  for episode, line in rounds_of(main=False):  # imitate=False
    assert episode.sft_batches["CC"].weights[line.row] == 0.0


def test_while_warm_a_rule_writes_the_memory():
  """CC gets no reward; it learns extracts, and what C and D read is one."""
  found = rounds_of(steps=WARMUP - 1)
  rules = []
  for episode, line in found:
    assert (episode.rewards["CC"] == 0).all()
    assert (episode.credit["CC"] == 0).all()
    np.testing.assert_allclose(
      episode.rewards["C"][line.row], line.paid, atol=1e-4
    )
    target, weight = line.extra, episode.sft_batches["CC"].weights[line.row, 0]
    assert weight == 1.0
    assert real(episode.sft_batches["CC"].target)[line.row] == [[*target, END]]
    # As many words of s as fit, in their order, and only what CC may write.
    may = [x for x in line.source if CODE[x]]
    left = iter(may)
    assert all(x in left for x in target)
    assert len(target) == min(M, len(may))
    rules.append((tuple(target), tuple(may)))
    # The replay goes on with it: C's next prompt begins with it.
    assert real(episode.rollouts["C"].prompt)[line.row] == [
      tokenizer.C, *beside(line.cc, line.source), SEPARATOR,
    ]  # fmt: skip
  assert any(x[0] != x[1][:M] for x in rules)  # not the first words
  assert any(set(line.source) & {8, 9} for _, line in found)
  # A step later, no more.
  assert (played(0)[0].rewards["CC"] != 0).all()


def test_an_extract_is_drawn_at_random():
  """All words of a source are taken alike; other keys take others."""
  same = [played(0, steps=WARMUP - 1)[0]]
  same.append(play(MAIN, batch(), seed=7, steps=0))
  one, two = (said(x.sft_batches["CC"].target) for x in same)
  assert one != two
  # Six different words, four of them kept.
  rng, kept = np.random.default_rng(0), np.zeros(S)
  found = batch()
  for seed in range(40):
    s = np.stack([10 + rng.permutation(10)[:S] for _ in found.row])
    s = found._replace(source=found.source._replace(ids=jnp.asarray(s)))
    episode = play(MAIN, s, seed, steps=0)
    target = said(episode.sft_batches["CC"].target)
    for words, row in zip(lesson_sources(episode)[0], target, strict=False):
      kept += np.isin(words, row[0])
  share, count = M / S, 40 * STREAMS
  bound = 4 * np.sqrt(count * share * (1 - share))
  assert (np.abs(kept - share * count) < bound).all()


def test_d_learns_the_source_from_memory_and_code():
  """Without dropout from both; with one of a half, all four ways are there."""
  for episode, line in rounds_of():
    lesson = episode.sft_batches["D"]
    both = [tokenizer.D, *beside(line.cc, line.best), SEPARATOR]
    assert real(lesson.prompt)[line.row] == both
    assert real(lesson.target)[line.row] == [[*line.source, END]]
    assert lesson.weights[line.row] == 1.0
  seen = set()
  for episode, line in rounds_of(main=False):
    prompt = real(episode.sft_batches["D"].prompt)[line.row]
    ways = {
      (m, c): [tokenizer.D, *beside(line.cc * m, line.best * c), SEPARATOR]
      for m in (0, 1)
      for c in (0, 1)
    }
    assert prompt in ways.values()
    if line.cc and line.best:
      seen |= {k for k, x in ways.items() if x == prompt}
  assert len(seen) == 4


# 5. What comes next.


def test_the_next_source_is_the_one_that_d_expects_least():
  picked = []
  for episode, line in rounds_of():
    if line.number == R - 2:
      continue  # of the last one only the worth of memories is seen
    wanted = line.pool[int(np.argmin(line.expected))]
    stream = line.row - line.number * STREAMS
    assert lesson_sources(episode)[line.number + 1][stream] == wanted
    assert abs(np.diff(line.expected)).min() > 1e-4
    picked.append(int(np.argmin(line.expected)))
    # The memory counts: without it another would be expected least.
    none = [known([], x, []) for x in line.pool]
    picked.append(10 + (np.argmin(none) != np.argmin(line.expected)))
  assert {0, 1, 11} <= set(picked)


@pytest.mark.slow
def test_the_misled_source_is_the_one_on_which_a_memory_does_most_harm():
  """R(s | cc) - R(s | no memory), of pools and memories of a played game."""
  lines = [x for _, x in rounds_of() if x.held and x.number < R - 1][:STREAMS]
  held, pool = ([getattr(x, k) for x in lines] for k in ("held", "pool"))
  ask = list(range(10, V))
  harm = [
    [worth(m, s, ask, SHARE) - worth([], s, ask, SHARE) for s in group]
    for m, group in zip(held, pool, strict=True)
  ]
  padded = [m + [0] * (M - len(m)) for m in held]
  cc_ = Tokens(jnp.asarray(padded), jnp.asarray(padded) > 0)
  sources_ = Tokens(jnp.asarray(pool), jnp.ones((len(pool), POOL, S), bool))
  none = jnp.full((len(pool), 1, 1), -1, jnp.int32)
  keys = jax.random.split(jax.random.key(0), len(pool))
  p = MAIN.play.args[0]
  judge = functools.partial(
    judging.beside, p.hearing, SEPARATOR, PARAMS, FROZEN,
    jnp.arange(len(pool) * POOL), jax.random.key(1),
  )  # fmt: skip
  found, _ = jax.jit(
    lambda *x: memory.misled_source(p.memory, PARAMS, judge, *x, keys)
  )(cc_, sources_, Constraints(none, none))
  assert np.abs(np.diff(harm)).min() > 1e-4
  best = [x[int(np.argmin(h))] for x, h in zip(pool, harm, strict=True)]
  assert real(found) == best
  # It is another rule than the hardest.
  hardest = [x.pool[int(np.argmin(x.expected))] for x in lines]
  assert best != hardest


# 6. Memories that failed.


@pytest.mark.parametrize("main", [True, False], ids=["rollback", "none"])
def test_a_memory_that_failed_is_given_up(main):
  """C and D read it once more; CC folds from the one before it, or does not."""
  failed = 0
  for episode, line in rounds_of(main=main):
    C, CC = (real(episode.rollouts[x].prompt)[line.row] for x in ("C", "CC"))
    read_by_c = [tokenizer.C, *beside(line.cc, line.source), SEPARATOR]
    assert read_by_c == C
    start = [tokenizer.C, TEXT]
    if line.kept or not main:
      assert line.held == line.cc
    else:
      assert line.held == line.before
    start += [*beside(line.held, line.source), SEPARATOR]
    assert CC[: len(start)] == start
    failed += not line.kept and line.cc != line.before
  assert failed > 1
  lines = [line for _, line in rounds_of(main=main) if line.number]
  assert any(line.kept for line in lines)
  # Among them memories that failed behind one that had, and some that did
  # better than none and worse than the one before, or the other way around.
  judged = [x for x in lines if x.number < R - 1 and x.old != x.without]
  between = [min(x.old, x.without) < x.value[0] < max(x.old, x.without)
             for x in judged if x.number < R - 2]  # fmt: skip
  assert any(between)
  assert any(not x.kept and x.before for x in lines) or not main


# 7. What CC sees.


@pytest.mark.parametrize("main", [True, False], ids=["main", "plain"])
def test_cc_reads_the_round_and_nothing_else(main):
  levels = set()
  for episode, line in rounds_of(main=main):
    assert real(episode.rollouts["CC"].prompt)[line.row] == line.history
    levels.add(line.history[-2])
  assert len(levels) > 2


def test_cc_does_not_see_the_next_source():
  """Other sources from the second round on: the first is as it was."""
  found, other = batch(R * STREAMS), batch(R * STREAMS, seed=9)
  first = (np.arange(R * STREAMS) % R == 0)[:, None]
  mixed = np.where(first, found.source.ids, other.source.ids)
  changed = found._replace(source=found.source._replace(ids=jnp.asarray(mixed)))
  a, b = play(PLAIN, found), play(PLAIN, changed)
  rows = slice(0, STREAMS)
  for role in ("C", "CC"):
    x, y = (z.rollouts[role] for z in (a, b))
    assert real(x.prompt)[rows] == real(y.prompt)[rows]
    assert real(x.output)[rows] == real(y.output)[rows]
    assert real(x.prompt)[STREAMS:] != real(y.prompt)[STREAMS:]
  assert (a.rewards["CC"][rows] != b.rewards["CC"][rows]).any()
  np.testing.assert_array_equal(a.rewards["C"][rows], b.rewards["C"][rows])


# 8. What is measured of a trained policy.


LOOKS = 3  # rounds that are examined


@functools.cache
def examined():
  """Of a whole number of streams and a row that belongs to none."""
  pattern = make(rounds=LOOKS)
  found = batch(LOOKS * STREAMS + 1)
  got = jax.jit(pattern.examine)(
    PARAMS, FROZEN, pattern.init(), found, found.source, jax.random.key(0)
  )
  return jax.device_get(got)


def unfolded(s):
  """The looks by hand: s [n, R, S] -> scores [n, R] by kind, and every cc."""
  n = len(s)
  memory, looks, fixed, all_cc = [[]] * n, [], None, []
  last = {}
  for r in range(LOOKS):
    tried = {
      "cc": memory, "empty": [[]] * n, "frozen": fixed or memory,
      "shuffled": [memory[i - 1] for i in range(n)],
    }  # fmt: skip
    here = s[:, r].tolist()
    look = {
      name: [
        looked(m, x, write(m, x), old)
        for m, x, old in zip(those, here, last.get(name, those), strict=True)
      ]
      for name, those in tried.items()
    }
    longer = lambda x: greedy([tokenizer.C, *x, SEPARATOR], CODED, M + K)
    look["long"] = [looked([], x, longer(x), []) for x in here]
    look["chosen"] = [
      min(both, key=lambda x: x["nll_bits"]).copy()
      for both in zip(look["cc"], look["empty"], strict=True)
    ]
    for one, beside_cc in zip(look["chosen"], look["cc"], strict=True):
      one["bits"], one["nll_bits"] = one["bits"] - 1, one["nll_bits"] + 1
      for name, part in (("tokens", "memory"), ("amortised", "sent")):
        one[name] = one["code"] + beside_cc[part]
      one["read"] = beside_cc["read"]
      one["changed"] = beside_cc["changed"]
    looks.append(look)
    all_cc.append(memory)
    last = tried
    memory = [fold(m, x) for m, x in zip(memory, here, strict=True)]
    fixed = fixed or memory
  table = {
    kind: {
      name: np.array([[one[name] for one in look[kind]] for look in looks]).T
      for name in looks[0][kind][0]
    }
    for kind in looks[0]
  }
  return table, all_cc


def looked(memory, s, code, last):
  """A round of one kind; last: the memory of the round before."""
  nll, d = -known(memory, s, code) / np.log(2), read(memory, code)
  sent = 0 if memory == last else len(memory)
  return {
    "bits": -alone(s) / np.log(2) - nll, "nll_bits": nll,
    "exact": d == s, "edit": edit(s, d), "code": len(code),
    "memory": len(memory), "sent": sent,
    "tokens": len(code) + len(memory), "amortised": len(code) + sent,
    "read": memory != [], "changed": sent > 0,
  }  # fmt: skip


def fold(memory, s):
  """CC's greedy memory of a round."""
  code = write(memory, s)
  history = [tokenizer.C, TEXT, *beside(memory, s), SEPARATOR, *code]
  history += [SEPARATOR, *read(memory, code), SEPARATOR]
  told = level(heard(memory, s, code))
  return greedy([*history, told, SEPARATOR], CODED, M)


def test_examine_by_hand():
  found = batch(LOOKS * STREAMS + 1)
  whole = Batch(*jax.tree.map(lambda x: x[:-1], found))
  scores, shown = examined()
  expected = {}
  for name, places in (("", PLACES), ("alone_", [])):
    s = streamed(whole, LOOKS, 1, places)[:, :, 0]
    looks, memories = unfolded(s)
    for kind, look in looks.items():
      own = f"{name}{kind}"
      for r in range(1, LOOKS):
        expected[f"{own}_{r}"] = look["bits"][:, r]
      later = {k: x[:, 1:].mean(-1) for k, x in look.items()}
      expected[own] = later.pop("bits")
      for part in ("code", "memory", "sent"):
        del later[part]
      expected |= {f"{own}_{k}": x for k, x in later.items()}
    if not name:
      assert real(shown["source"]) == s.tolist()
      assert real(shown["cc"]) == [list(x) for x in zip(*memories, strict=True)]
  assert set(scores) == set(expected)
  for name, x in expected.items():
    np.testing.assert_allclose(scores[name], x, atol=1e-3, err_msg=name)
  # A memory that stays is charged once, and one that misleads is passed over.
  assert (expected["frozen_tokens"] > expected["frozen_amortised"]).any()
  assert (expected["chosen"] > expected["cc"]).any()


def test_frozen_is_the_first_rounds():
  scores, _ = examined()
  for name in ("", "alone_"):
    cc_1, frozen = (scores[f"{name}{x}_1"] for x in ("cc", "frozen"))
    np.testing.assert_allclose(cc_1, frozen, atol=1e-5)
    assert (
      np.abs(scores[f"{name}cc_2"] - scores[f"{name}frozen_2"]).max() > 0.01
    )
    assert np.abs(cc_1 - scores[f"{name}shuffled_1"]).max() > 0.01
    assert np.abs(cc_1 - scores[f"{name}empty_1"]).max() > 0.01


def test_alone_is_where_nothing_is_shared():
  scores, _ = examined()
  assert np.abs(scores["alone_cc"] - scores["cc"]).max() > 0.01


# 9. What can't work.


@pytest.mark.parametrize(
  "name, value, remedy",
  [
    ("rounds", 1, "at least 2"),
    ("pool", 0, "at least 1"),
    ("memory", 0, "at least 1"),
    ("group", 1, "at least 2"),
    ("candidates", 1, "at least 2"),
    ("decodes", 0, "at least 1"),
    ("memory", S + 1, rf"longest source, {S} .*Lower it"),
    ("drift", -0.1, "from 0 to 1"),
    ("drift", 1.5, "0 to 1"),
    ("drift", float("nan"), "0 to 1"),
    ("shared", ("a", "x"), "the facts are a, b, c"),
    ("choose", "easy", "one of 'random', 'hardest', 'misled'"),
  ],
)
def test_settings_out_of_range(name, value, remedy):
  with pytest.raises(ValueError, match=remedy) as error:
    make(**{name: value})
  assert f"config.patterns.cc.{name}={value!r}" in str(error.value)
  assert "\n" not in str(error.value)


def test_sources_without_places_share_nothing():
  with pytest.raises(
    ValueError, match=r"data\.omit=0, or shared=\(\)"
  ) as error:
    make(info=SourceInfo(names=ABOUT.names))
  assert f"config.patterns.cc.shared={SHARED}" in str(error.value)
  make(info=SourceInfo(), shared=())


def test_a_batch_is_whole_streams():
  settings = {"rounds": R, "pool": POOL}
  check = lambda **run: rules.check(
    {**cc.RULES}, settings, "config.patterns.cc", run
  )
  rows = R * POOL * STREAMS
  check(batch_size=rows, micro_batches=R - 1)
  with pytest.raises(ValueError, match="a multiple of 8") as error:
    check(batch_size=rows + 1)
  for said in (
    f"config.batch_size={rows + 1}",
    "config.patterns.cc",
    "rounds=4",
  ):
    assert said in str(error.value)
  with pytest.raises(ValueError, match=r"config\.micro_batches=100"):
    check(batch_size=rows, micro_batches=100)


def test_the_memory_of_the_longest_source_fits():
  make(memory=S)
  assert dict(MAIN.roles)["CC"].length == M
  assert MAIN.init() == 0


# The experiment.


@pytest.mark.parametrize("arm", ["cc", "cc_large", "cc_alone"])
def test_no_stream_of_the_experiment_is_played_twice(arm):
  """Nor a sentence before all have been; then they are mixed anew."""
  config = arm_config(load(ROOT / "configs" / "cc.py"), arm)
  count = config.data.sentences - 2 * config.data.heldout
  settings = config.patterns.cc
  assert config.batch_size % (settings.rounds * settings.pool) == 0
  nothing = Tokens(np.zeros((count, 1), np.int32), np.ones((count, 1), bool))
  stream = sources.batches(
    nothing, batch_size=config.batch_size, seed=config.seed + 1
  )
  rows = np.concatenate([next(stream).row for _ in range(config.steps)])
  for start in range(0, len(rows), count):
    epoch = rows[start : start + count]
    assert len(np.unique(epoch)) == len(epoch)
  streams = rows.reshape(-1, settings.rounds * settings.pool)
  assert len(np.unique(streams, axis=0)) == len(streams)
  # What two streams have in common, if they are of two epochs.
  again = {tuple(sorted(x)) for x in streams.tolist()}
  assert len(again) == len(streams)
