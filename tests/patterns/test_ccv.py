"""C -> C -> V with a fake policy, next to the same game in plain numpy."""

import functools
import itertools
import re
import zlib
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import scripted, tiny

from rsrc_jax import rules
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.data import tokenizer
from rsrc_jax.lm import keys, rollout
from rsrc_jax.lm import tokens as of_tokens
from rsrc_jax.patterns import ccv
from rsrc_jax.rl import rewrite_chains, shares, verifier
from rsrc_jax.rl.rewriting import TARGETS
from rsrc_jax.runtime import checkpoint
from rsrc_jax.runtime.configs import load
from rsrc_jax.types import (
  Batch,
  Constraints,
  Context,
  Tokens,
  TrainState,
)

B, G, S, K = tiny.ROWS, tiny.GROUP, tiny.SOURCE, tiny.BUDGET
N, M = 20, 8  # codes that are kept, codes that a step rewrites
END, SUPPORT = tokenizer.END, 13  # D may write 12 words and the end
PRICE, OVER = 0.3, 0.7
ODDS = 12.0  # of what an unsure role wants to write, against any other id
CERTAIN = 1e6


def wanted(params, prompt, step):
  """Logits [V] of a role that has read `prompt` and written `step` tokens.

  C copies its source, from its fourth word on where params say `late`. R copies
  its parent less the last word. D repeats its code until it has written S words
  and then ends; an empty code tells it nothing. No other role knows anything.
  """
  order = jnp.argsort(~prompt.mask, stable=True)
  ids = jnp.where(prompt.mask, prompt.ids, 0)[order]
  size = jnp.sum(prompt.mask)
  is_c, is_r = ids[0] == tokenizer.C, ids[1] == tokenizer.D
  number = jnp.maximum(size - 2, 1)  # of words behind a tag
  copied = ids[1 + (step + 3 * params["late"].astype(int)) % number]
  shorter = jnp.where(step < size - 4, ids[2 + step % ids.size], END)
  repeated = jnp.where(step < S, ids[1 + step % number], END)
  word = jnp.where(is_c, jnp.where(is_r, shorter, copied), repeated)
  sure = params["sure"] * (ids[0] == tokenizer.D) * (size > 2)
  eager = jnp.where(is_r, params["cut"], params["copy"])
  strength = jnp.where(is_c, eager, sure)
  return strength * jax.nn.one_hot(word, tiny.VOCAB)


def decided(copy=CERTAIN, cut=CERTAIN, late=False):
  """Odds of what C and R want; D's are ODDS in all tests."""
  return {
    "copy": jnp.log(copy),
    "cut": jnp.log(cut),
    "sure": jnp.log(ODDS),
    "late": jnp.float32(late),
  }


POLICY = scripted.policy(wanted, None, tiny.VOCAB)
EXACT, UNSURE = decided(), decided(cut=8.0)
FROZEN = {"base": EXACT, "reader": EXACT, "start": decided(late=True)}
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "ccv.py"
SHIPPED = arm_config(load(CONFIG), "rewrite")
SHARE = 0.75  # of V's word; the rest is D's likelihood


def judge(shaping, **weights):
  """V with these weights, and that of D's likelihood beside them."""
  return verifier.make(
    POLICY, tiny.ROLES["V"], weights=weights, shaping={"gain": shaping},
    positions=None,
  )  # fmt: skip


BOTH, WORD = judge(1.0, edit=3.0), judge(0.0, edit=1.0)
FRESH = {
  "group": 2,
  "decodes": 1,
  "length_price": 0.0,
  "lessons": 1,
  "dropout": 0.0,
}


SETTINGS = {
  "fresh": FRESH, "buffer": N, "parents": M, "group": G, "length_price": PRICE,
  "over_parent": OVER, "targets": "none", "left": 0.0, "warmup": 0,
}  # fmt: skip


def make(verify=BOTH, **changes):
  return ccv.make(Context(POLICY, tiny.ROLES, verify), **(SETTINGS | changes))


# Few programs for all tests: what else differs is data. In LEFT all that is
# paid is V's word.
NONE, NEXT, FINAL = (make(targets=x) for x in TARGETS)
LEFT = make(WORD, left=0.3, warmup=2)


@functools.cache
def program(play):
  return jax.jit(play)


def tokens(rows, length):
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


def batch(sources):
  return Batch(tokens(sources, S), np.arange(len(sources), dtype=np.int32))


def sources(seed=0, rows=B):
  """a b c d b c: three words tell most of it, and no two of them as much."""
  rng = np.random.default_rng(seed)
  words = [(8 + rng.permutation(12)[:4]).tolist() for _ in range(rows)]
  return [[*x, *x[1:3]] for x in words]


def play(pattern, params, carry, found, seed=0, frozen=FROZEN):
  none = np.full((B, 1, 1), -1, np.int32)
  return jax.device_get(
    program(pattern.play)(
      params, frozen, carry, found, jax.random.key(seed),
      tiny.ask(Constraints(none, none)),
    )
  )  # fmt: skip


def likelihood(s, code):
  """ln p_D(s, end | code): 12 / 24 where D is right, 1 / 24 where not.

  1 / 13 where it knows nothing, or wants what it may not write: a symbol.
  """
  if not code:
    return -(S + 1) * np.log(SUPPORT)
  said = [*(code[t % len(code)] for t in range(S)), END]
  odds = [ODDS if x == y else 1 for x, y in zip(said, [*s, END], strict=True)]
  total = [SUPPORT + (ODDS - 1) * (x < 20) for x in said]
  return np.sum(np.log(odds) - np.log(total))


def decoded(code):
  """D's greedy d. It ends where it wants what it may not write, or nothing."""
  d = []
  for t in range(S if code else 0):
    if code[t % len(code)] >= 20:
      break
    d.append(code[t % len(code)])
  return d


def edit(s, d):
  """1 - Levenshtein(s, d) over the longer length."""
  row = list(range(len(d) + 1))
  for i, a in enumerate(s, 1):
    last, row[0] = row[0], i
    for j, b in enumerate(d, 1):
      last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
  return 1 - row[-1] / max(len(s), len(d))


def unpriced(s, code, share=SHARE):
  """V's word on d, of which none is due without a code; and what D gains."""
  before, now = (S + 1) * np.log(SUPPORT), -likelihood(s, code)
  gained = (before - now) / (before + now)
  return share * edit(s, decoded(code)) + (1 - share) * gained


def worth(s, code, share=SHARE):
  """The same less 0.3 of it for all K tokens, where it is positive."""
  plain = unpriced(s, code, share)
  return plain - PRICE * len(code) / K * max(plain, 0)


class Row:
  """A row of a buffer, by hand."""

  def __init__(self, source, code, best=None, version=0, passes=0):
    self.source, self.code = source, code
    self.best = code if best is None else best
    self.version, self.passes = version, passes

  def same(self, other):
    return vars(self) == vars(other)


def rows_of(carry):
  """A buffer's rows; None where it was never filled."""
  found = zip(
    *(texts(x) for x in (carry.source, carry.code, carry.best)),
    carry.version.tolist(), carry.passes.tolist(), strict=True,
  )  # fmt: skip
  return [Row(*x) if x[0] else None for x in found]


def buffer(rows, step):
  """Rows as a buffer of N."""
  pad = [Row([], [])] * (N - len(rows))
  of = lambda name: [getattr(x, name) for x in (*rows, *pad)]
  number = lambda name: np.array(of(name), np.int32)
  return ccv.Buffer(
    tokens(of("source"), S), tokens(of("code"), K), tokens(of("best"), K),
    number("version"), number("passes"), np.int32(step),
  )  # fmt: skip


# Old codes of all kinds, each another, and the sources of a step beside them.
A, O = [8, 9, 10] * 2, [11, 12, 13] * 2
OLD = [
  Row(A, [10, 8, 9], [8, 9, 10], 0, 3),  # worse than what was known
  Row(O, [11, 12, 13], [11], 4),  # the best there is, and a worse one known
  Row([14] * 6, [14, 14]),  # a word can be spared
  Row([15] * 6, [15, 15], [15]),  # and it was once known to be
  Row([16] * 6, [16]),  # nothing can be spared
  Row([17] * 6, [17, 17], [17, 16], 2),
  Row([18] * 6, [18, 18, 9], [18, 9]),
  Row(O, [12], [12, 11, 13], 5, 1),
]
NEW = [
  [10] * 6, [11] * 6, [12] * 6, [13, 8, 9] * 2, [14, 9, 8] * 2, [19] * 6,
  [19, 18, 17] * 2, [15, 16, 17] * 2,
]  # fmt: skip
NOW = 7  # the step that is played


@functools.cache
def rewriting(targets="none", cut=8.0, seed=0):
  """A step on OLD and NEW: its episode, the buffer before R and after it."""
  pattern = dict(zip(TARGETS, (NONE, NEXT, FINAL), strict=True))[targets]
  episode, carry = play(
    pattern, decided(cut=cut), buffer(OLD, NOW), batch(NEW), seed
  )
  # C copies the first words of s.
  stored = [Row(s, s[:K], version=NOW) for s in NEW]
  return episode, [*OLD, *stored, *[None] * (N - 16)], rows_of(carry)


def parents(episode):
  """Which rows of OLD and NEW were rewritten: every code is another."""
  every = [*(x.code for x in OLD), *(s[:K] for s in NEW)]
  assert len({tuple(x) for x in every}) == len(every)
  read = texts(episode.rollouts["R"].prompt)
  front, end = [tokenizer.C, tokenizer.D], [tokenizer.SEPARATOR]
  assert all(x[:2] == front and x[-1:] == end for x in read)
  rows = [every.index(x[2:-1]) for x in read]
  assert len(rows) == len(set(rows)) == M
  return rows


def written(episode):
  """What R wrote, without the end: [M][G] lists of ids."""
  flat = texts(episode.rollouts["R"].output)
  flat = [[i for i in code if i != END] for code in flat]
  return [flat[i : i + G] for i in range(0, M * G, G)]


def game(episode, before):
  """(row before, its rewrites, their worth) of every parent."""
  return [
    (before[row], codes, np.array([worth(before[row].source, c)
                                   for c in codes]))
    for row, codes in zip(parents(episode), written(episode), strict=True)
  ]  # fmt: skip


SEEDS = range(4)


def test_codes_fill_the_buffer_in_order_and_then_go_anywhere():
  """Each with its source and its step; R, who makes all worse, stays out."""
  went, carry = [], NONE.init()
  before = rows_of(jax.device_get(carry))
  assert before == [None] * N
  for step in range(14):
    new = sources(step)
    _, carry = play(NONE, EXACT, carry, batch(new), step)
    assert carry.step == step + 1
    after = rows_of(carry)
    stored = [Row(s, s[:K], version=step) for s in new]
    place = [
      next(i for i, x in enumerate(after) if x is not None and x.same(row))
      for row in stored
    ]
    assert len(set(place)) == B
    empty = [i for i, x in enumerate(before) if x is None]
    assert place[: len(empty)] == empty[:B]  # 0 to 7, 8 to 15, 16 to 19
    for i in set(range(N)) - set(place):
      assert after[i] is before[i] is None or after[i].same(before[i])
    went += [place[len(empty) :]] * (len(empty) < B)
    before = after
  # Four places of the step that filled it, eight of the others: all are hit.
  assert [len(x) for x in went] == [4] + [B] * 11
  assert {i for x in went for i in x} == set(range(N))
  assert len({tuple(sorted(x)) for x in went}) == 12


@pytest.mark.parametrize("seed", range(6))
def test_no_code_is_lost_in_the_step_that_fills(seed):
  """Four free places, eight codes: the others replace four old ones."""
  old = [Row(s, s[:K]) for s in sources(1, 16)]
  new = sources(2)
  _, carry = play(NONE, EXACT, buffer(old, 2), batch(new), seed)
  found = [x.source for x in rows_of(carry)]
  assert [found.count(s) for s in new] == [1] * B
  assert found[16:] == new[:4]


@pytest.mark.parametrize(
  "changes", [{"parents": B + 1}, {"buffer": B - 1, "parents": 1}]
)
def test_a_first_step_has_enough_codes_and_enough_room(changes):
  make(**changes)  # which knows no batch
  settings = {**SETTINGS, **changes}
  with pytest.raises(ValueError, match=r"config\.patterns\.ccv") as error:
    rules.check(ccv.RULES, settings, "config.patterns.ccv", {"batch_size": B})
  for name in ("parents", "buffer"):
    assert f"ccv.{name}={settings[name]}" in str(error.value)
  assert f"config.batch_size={B}" in str(error.value)


@pytest.mark.parametrize(
  "joint, budget, places, most",
  [(2, 3, 8, 1), (2, 3, 12, 0), (4, 6, 32, 3), (5, 6, 48, 0), (6, 6, 48, 5),
   (9, 6, 0, 0), (1, 6, 8, 0)],
)  # fmt: skip
def test_a_prompt_has_room_for_the_codes_that_are_read(
  joint, budget, places, most
):
  """Two tags, the codes with a separator each, and a rewrite; 0: it fits."""
  run = {"batch_size": B, "budget": budget, "places": places}
  settings = SETTINGS | {"joint": joint, "fresh": FRESH | {"group": 12}}
  found = [*rules.problems(ccv.RULES, settings, "config.patterns.ccv", run)]
  assert bool(found) == bool(most)
  needed = 2 + joint * (budget + 1) + budget - 1
  if joint > 1 and places:
    assert bool(most) == (needed > places)
  for problem in map(str, found):
    assert problem.startswith(f"config.patterns.ccv.joint={joint} must be at")
    assert f"at most {most}:" in problem and "\n" not in problem
    assert f"config.budget={budget}" in problem
    assert f"config.model.absolute={places}" in problem


def test_what_was_never_filled_is_never_rewritten():
  """The first step: eight codes of twenty places, and all of them rewritten."""
  carry, won = jax.device_get(NONE.init()), 0
  for seed in SEEDS:
    episode, after = play(NONE, UNSURE, carry, batch(NEW), seed)
    read = sorted(texts(episode.rollouts["R"].prompt))
    assert read == sorted(
      [tokenizer.C, tokenizer.D, *s[:K], tokenizer.SEPARATOR] for s in NEW
    )
    empty = lambda x: jax.tree.map(lambda y: y[B:] if y.ndim else y * 0, x)
    chex.assert_trees_all_equal(empty(after), empty(carry))
    won += sum(x.passes for x in rows_of(after)[:B])
  assert won  # R had a word to say in the others


def test_r_reads_its_parent_alone():
  """Its tags, the parent's ids and the separator; not a word of s."""
  episode, _, _ = rewriting()
  parents(episode)
  r = episode.rollouts["R"]
  assert r.constraints is None and r.prompt.ids.shape == (M, K + 3)
  # Other sources of the same codes: not a bit of R's rollout changes.
  other = [
    Row([*x.source[:3], 19, 19, 19], x.code, x.best, x.version, x.passes)
    for x in OLD
  ]
  new = [[*s[:K], 8, 8, 8] for s in NEW]
  again, _ = play(NONE, UNSURE, buffer(other, NOW), batch(new))
  chex.assert_trees_all_equal(again.rollouts["R"], r)
  assert (again.rewards["R"] != episode.rewards["R"]).any()


def test_r_is_c_under_both_tags():
  ((name, R),) = NONE.roles
  assert name == "R" and R.tag == (tokenizer.C, tokenizer.D)
  C = tiny.ROLES["C"]
  assert R.scope == "C"  # of the ledger
  assert R._replace(tag=C.tag, name="C", section="") == C


@pytest.mark.parametrize("seed", SEEDS)
def test_rewards_and_credit_by_hand(seed):
  episode, before, _ = rewriting(seed=seed)
  value = np.array([x for _, _, x in game(episode, before)])
  old = np.array([worth(x.source, x.code)
                  for x, _, _ in game(episode, before)])[:, None]  # fmt: skip
  assert (value < 0).any() and (value > 0.3).any()
  close = functools.partial(np.testing.assert_allclose, atol=2e-6)
  close(episode.rewards["R"], value)
  close(episode.credit["R"], OVER * (value - old))
  assert set(episode.credit) == {"R"}
  length = lambda codes: np.mean([len(x) for x in codes])
  new = [worth(x.source, x.source[:K]) for x, _, _ in game(episode, before)]
  expected = {
    "R_gain_over_parent": (value - old).mean(),
    "R_gain_best": (value - old).max(-1).mean(),
    "R_dead": ((value - old).max(-1) <= 1e-6).mean(),
    "R_length": np.mean([length(x) for _, x, _ in game(episode, before)]),
    "R_length_parent": length([x.code for x, _, _ in game(episode, before)]),
    "R_codes": 1.0,
    "R_shorter": np.mean(
      [
        len(c) < len(x.code)
        for x, codes, _ in game(episode, before)
        for c in codes
      ]
    ),
    "R_left": 0.0,
    "R_over_anew": (value.max(-1) - new).mean(),
    "C#2_loops": max(map(len, texts(episode.rollouts["R"].output))) - 1,
    "C#3_loops": K - 1,  # C reads each source anew, and fills its budget
    "D#2_loops": S,  # D writes S words and an end, where it knows any
  }
  found = {
    k: v for k, v in episode.metrics.items() if k[:2] == "R_" or "#" in k
  }
  assert set(found) == set(expected)
  for name, number in expected.items():
    close(found[name], number, err_msg=name)


def test_the_new_codes_are_played_as_ever():
  """C's and D's parts of the episode are those of C -> D -> V."""
  episode, _, _ = rewriting()
  assert set(episode.rollouts) == set(episode.rewards) == {"C", "R"}
  assert set(episode.sft_batches) == {"D"}
  wrote = texts(episode.rollouts["C"].output)
  assert wrote == [s[:K] for s in NEW for _ in range(2)]
  gain = [unpriced(s, s[:K]) for s in NEW]
  np.testing.assert_allclose(
    episode.rewards["C"], np.repeat(gain, 2).reshape(B, 2), rtol=1e-4
  )
  assert episode.rewards["R"].shape == episode.credit["R"].shape == (M, G)


def test_the_parts_add_up_and_v_has_its_share():
  """Of what varies within groups: most at .75, all where nothing else is."""

  def share(episode, role):
    reward, parts = episode.rewards[role], dict(episode.parts[role])
    np.testing.assert_allclose(sum(parts.values()), reward, atol=1e-6)
    reward = reward - parts.pop("price")
    return shares.measure(role, reward, parts)[f"{role}_share_verifier"]

  for seed in SEEDS:
    episode, _, _ = rewriting(seed=seed)
    assert set(episode.parts) == {"C", "R"}
    assert set(episode.parts["R"]) == {"verifier", "shaping", "price"}
    assert share(episode, "R") > 0.5
  alone, _ = play(LEFT, UNSURE, buffer(OLD, NOW), batch(NEW))
  assert set(alone.parts["R"]) == {"verifier", "price"}
  assert share(alone, "R") > 1 - 1e-6
  for codes, reward in zip(written(alone), alone.rewards["R"], strict=True):
    words = {}
    for code, paid in zip(codes, reward, strict=True):
      # What is the same to V and as long is paid alike.
      same = (tuple(decoded(code)), len(code))
      assert words.setdefault(same, paid) == paid


def test_of_the_shipped_reward_v_is_at_least_half():
  """What a weight of .75 shows above holds of more."""
  weights, shaping = SHIPPED.verifier.to_dict(), SHIPPED.shaping.gain
  assert judge(shaping, **weights).share() >= SHARE


def test_several_decodes_are_sampled():
  """And one is greedy, so that no rewrite wins by a lucky d."""
  one, two = (make(decodes=x).play.args[0].hearing for x in (1, 2))
  assert (one.D.temperature, one.decodes) == (0.0, 1)
  assert (two.D.temperature, two.decodes) == (1.0, 2)


def test_a_group_worse_than_its_parent_gets_negative_credit():
  """Where R is certain all rewrites of a group are equal: no advantage."""
  counts = {True: 0, False: 0}
  for seed in SEEDS:
    episode, before, _ = rewriting(cut=CERTAIN, seed=seed)
    for (row, codes, _), value, credit in zip(
      game(episode, before), episode.rewards["R"], episode.credit["R"],
      strict=True,
    ):  # fmt: skip
      assert codes == [row.code[:-1]] * G and len(set(value.tolist())) == 1
      worse = worth(row.source, row.code[:-1]) < worth(row.source, row.code)
      counts[worse] += 1
      assert (credit < -0.01).all() if worse else (credit > 0.01).all()
  assert min(counts.values()) > 8


def test_a_rewrite_that_beats_its_parent_replaces_it():
  kinds = set()
  for seed in SEEDS:
    episode, before, after = rewriting(seed=seed)
    rows = parents(episode)
    for row, (old, codes, value) in zip(
      rows, game(episode, before), strict=True
    ):
      new, of = after[row], functools.partial(worth, old.source)
      won = value.max() > of(old.code) + 1e-6
      if won:
        assert new.code in codes and np.isclose(of(new.code), value.max())
        assert (new.version, new.passes) == (NOW, old.passes + 1)
      else:
        assert new.code == old.code
        assert (new.version, new.passes) == (old.version, old.passes)
      # The best of all: what today's C writes for s is among them.
      every = [old.best, old.source[:K], *codes]
      most = max(of(x) for x in every)
      assert np.isclose(of(new.best), most) and new.best in every
      assert new.source == old.source
      kinds.add((bool(won), new.best == old.best, new.best in codes))
    for i in set(range(N)) - set(rows):
      assert after[i] is before[i] is None or after[i].same(before[i])
  # Won and lost; a best that stays, one of today's C and one of R.
  assert {x[0] for x in kinds} == {True, False}
  assert {x[1:] for x in kinds} >= {(True, False), (False, False),
                                    (False, True)}  # fmt: skip


def test_the_best_ever_is_kept():
  """Whatever is written on, what is known of a source never gets worse."""
  carry, kept = buffer(OLD, NOW), 0
  for seed in range(5):
    before = rows_of(carry)
    _, carry = play(NONE, decided(cut=2.0), carry, batch(sources(seed)), seed)
    for old, new in zip(before, rows_of(carry), strict=True):
      if old is not None and old.source == new.source:
        of = functools.partial(worth, old.source)
        assert of(new.best) >= of(old.best) - 1e-6
        assert of(new.code) >= of(old.code) - 1e-6
        kept += of(new.best) > of(new.code) + 1e-3
  assert kept > 4


@pytest.mark.parametrize("targets", ["next", "final"])
def test_what_r_is_taught(targets):
  """The rewrite that won; or the best that is known if it is better."""
  seen = set()
  for seed in SEEDS:
    episode, before, after = rewriting(targets, seed=seed)
    lesson = episode.sft_batches["R"]
    chex.assert_trees_all_equal(lesson.prompt, episode.rollouts["R"].prompt)
    assert lesson.weights.shape == (M, 1) and lesson.target.ids.ndim == 3
    for row, (old, codes, value), text, weight in zip(
      parents(episode), game(episode, before), texts(lesson.target),
      lesson.weights[:, 0], strict=True,
    ):  # fmt: skip
      of = functools.partial(worth, old.source)
      best = value.max() if targets == "next" else of(after[row].best)
      assert weight == (best > of(old.code) + 1e-6)
      if weight:
        assert np.isclose(of(text[:-1]), best) and text[-1] == END
        assert text[:-1] == (after[row].code if targets == "next"
                             else after[row].best)  # fmt: skip
      seen.add((float(weight), text[:-1] in codes))
  assert {x for x, _ in seen} == {0.0, 1.0}
  # What is known is not always what was just written.
  assert ((1.0, False) in seen) == (targets == "final")


def test_no_target_is_no_lesson():
  episode, _, _ = rewriting("none")
  assert "R" not in episode.sft_batches


def test_r_first_learns_to_copy():
  """Two steps of warmup, in which it is paid nothing; then its targets."""
  carry = LEFT.init()
  for step in range(3):
    episode, carry = play(LEFT, UNSURE, carry, batch(NEW), step)
    lesson, warm = episode.sft_batches["R"], step < 2
    read = [x[2:-1] for x in texts(lesson.prompt)]
    assert (lesson.weights == warm).all()
    if warm:
      assert texts(lesson.target) == [[*x, END] for x in read]
    assert (episode.rewards["R"] == 0).all() == warm
    assert (episode.credit["R"] == 0).all() == warm


def test_some_codes_are_left_by_the_first_policy():
  """It copies the last words; three in ten of its codes are kept."""
  new, left = sources(5), []
  for seed in range(50):
    episode, carry = play(LEFT, EXACT, LEFT.init(), batch(new), seed)
    rows = rows_of(carry)[:B]
    is_left = [x.version == -1 for x in rows]
    assert all(x.version in (-1, 0) for x in rows)
    for row, s, old in zip(rows, new, is_left, strict=True):
      assert row.code == (s[K:] if old else s[:K])
    # Eight of eight are rewritten: what R read is what was stored.
    np.testing.assert_allclose(episode.metrics["R_left"], np.mean(is_left))
    left += is_left
  assert abs(np.mean(left) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(left))
  assert len({tuple(left[i : i + B]) for i in range(0, len(left), B)}) > 20
  # What C learns from are its own codes all the same.
  output = episode.rollouts["C"].output
  assert (output.ids == np.array(new)[:, None, :K]).all()


def test_an_arm_that_begins_with_the_base_is_left_its_codes():
  none = np.full((B, 1, 1), -1, np.int32)
  frozen = {"base": EXACT, "reader": EXACT}
  _, carry = jax.eval_shape(
    LEFT.play, EXACT, frozen, LEFT.init(), batch(NEW), jax.random.key(0),
    tiny.ask(Constraints(none, none)),
  )  # fmt: skip
  chex.assert_trees_all_equal_shapes_and_dtypes(carry, LEFT.init())


def test_what_was_left_is_told_of_the_parents():
  """Rewritten or not: R_left is of what R has read."""
  old = [Row([8 + i] * 6, [8 + i] * 2, version=-1) for i in range(12)]
  _, fresh = play(NONE, EXACT, buffer(old, NOW), batch(sources()))
  episode, carry = play(NONE, EXACT, buffer(old, NOW), batch(sources()))
  chex.assert_trees_all_equal(carry, fresh)
  read = [x[2:-1] for x in texts(episode.rollouts["R"].prompt)]
  left = np.mean([len(x) == 2 for x in read])
  assert 0 < left < 1  # all of these are beaten by one word
  np.testing.assert_allclose(episode.metrics["R_left"], left)
  assert carry.passes.sum() == left * M


def test_the_buffer_survives_a_checkpoint(tmp_path):
  """Bit by bit, and the next step is the same."""
  carry = NONE.init()
  for step in range(3):
    _, carry = play(NONE, UNSURE, carry, batch(sources(step)), step)
  state = lambda carry: TrainState(
    jnp.int32(3), {"x": jnp.ones(2)}, (), carry, (), jnp.uint32(7)
  )
  saver = checkpoint.open_saver(
    tmp_path, keep_last=1, keep_best=0, metric="nll_bits"
  )
  checkpoint.save(saver, state(jax.tree.map(jnp.asarray, carry)), {}, {})
  checkpoint.close(saver)
  saver = checkpoint.open_saver(
    tmp_path, keep_last=1, keep_best=0, metric="nll_bits"
  )
  found, _ = checkpoint.restore(saver, state(NONE.init()))
  checkpoint.close(saver)
  assert isinstance(found.carry, ccv.Buffer)
  chex.assert_trees_all_equal(found.carry, carry)
  chex.assert_trees_all_equal_shapes_and_dtypes(found.carry, NONE.init())
  assert rows_of(jax.device_get(found.carry))[:16] != [None] * 16
  after = (
    play(NONE, UNSURE, x, batch(sources(3)), 3) for x in (carry, found.carry)
  )
  chex.assert_trees_all_equal(*after)


def test_a_step_is_its_key():
  one, again, other = (
    play(NONE, UNSURE, buffer(OLD, NOW), batch(NEW), x) for x in (0, 0, 1)
  )
  chex.assert_trees_all_equal(one, again)
  assert parents(one[0]) != parents(other[0])
  # Parents differ in their noise, and so do the rewrites of each.
  same = buffer([Row([8] * 6, [9, 9, 9])] * 16, 2)
  episode, _ = play(NONE, decided(cut=1.0), same, batch([[8] * 6] * B))
  assert len({tuple(x) for x in texts(episode.rollouts["R"].output)}) > M


EXAMINE = jax.jit(NONE.examine)
PASSES = range(1, rewrite_chains.PASSES + 1)


@functools.cache
def examined(copy, cut):
  """Four sources that need three words, four that need one."""
  s = [*sources(3, 4), *([8 + i] * 6 for i in range(4))]
  code = [x[:1] for x in s]
  scores, shown = EXAMINE(
    decided(copy, cut), FROZEN, NONE.init(), batch(s), tokens(code, K),
    jax.random.key(0),
  )  # fmt: skip
  assert all(x.shape == (B,) for x in scores.values())
  shown = {name: texts(x) for name, x in jax.device_get(shown).items()}
  return s, jax.device_get(scores), shown


def bits(s, code):
  """What D gains over nothing read."""
  return (likelihood(s, code) + (S + 1) * np.log(SUPPORT)) / np.log(2)


def value(s, codes):
  """Worth of codes of s."""
  return np.array([worth(x, c) for x, c in zip(s, codes, strict=True)])


def test_examined_by_hand():
  """R leaves out a word in every pass; what was left are the last words."""
  s, scores, shown = examined(CERTAIN, CERTAIN)
  old = [x[K:] for x in s]
  dead = [[1] * 4 + [0] * 4, [1] * 4 + [0] * 4, [1] * 8]
  expected = {"source": s, "old": old, "once": [x[:1] for x in s]}
  for n in PASSES:
    expected[f"again_{n}"] = [x[: K - n] for x in old]
    # [w, w, w], [w, w], [w]: the empty code is no better.
    keep = [K] * 4 + [max(K - n, 1)] * 4
    expected[f"chain_{n}"] = [x[:k] for x, k in zip(old, keep, strict=True)]
    np.testing.assert_array_equal(scores[f"dead_{n}"], dead[n - 1])
  assert shown == expected
  tries = {f"tries_{n}": [x[:K] for x in s] for n in PASSES}
  for name, codes in (expected | tries).items():
    if name != "source":
      told = [bits(x, c) for x, c in zip(s, codes, strict=True)]
      np.testing.assert_allclose(scores[f"{name}_bits"], told, atol=1e-4)
      np.testing.assert_array_equal(
        scores[f"{name}_tokens"], [len(c) for c in codes]
      )
      said = [edit(x, decoded(c)) for x, c in zip(s, codes, strict=True)]
      np.testing.assert_allclose(scores[f"{name}_edit"], said, atol=1e-6)
  # As many words of s as R has left of its parent.
  equal = {f"same_{x}": [x[: K - 1] for x in s] for x in ("greedy", "second")}
  equal |= {"same_best": [x[: len(c)] for x, c in zip(
    s, expected["chain_1"], strict=True
  )], "parent": old}  # fmt: skip
  for name, codes in equal.items():
    told = [bits(x, c) for x, c in zip(s, codes, strict=True)]
    np.testing.assert_allclose(scores[f"{name}_bits"], told, atol=1e-4)
    found = [x == decoded(c) for x, c in zip(s, codes, strict=True)]
    np.testing.assert_array_equal(scores[f"{name}_exact"], found)
  assert (scores["codes_read"] == 1).all()
  assert (scores["again_shorter"] == 1).all()
  np.testing.assert_array_equal(scores["chain_shorter"], [0] * 4 + [1] * 4)
  every = len(expected) - 1 + len(tries) + len(equal)
  assert len(scores) == 4 * every + len(PASSES) + 3


def test_one_code_is_rewritten_as_before_several_could_be_read():
  """Digests of what revision 821c904 wrote, whose R could read one code."""
  digest = lambda *found: zlib.crc32(repr([*found]).encode())
  for seed, before in ((0, 2558669693), (1, 2266773543)):
    episode, carry = play(
      FINAL, decided(cut=8.0), buffer(OLD, NOW), batch(NEW), seed
    )
    r, kept = episode.rollouts["R"], (carry.code, carry.best)
    found = map(texts, (r.prompt, r.output, *kept))
    passes = carry.version.tolist(), carry.passes.tolist()
    assert digest(*found, *passes) == before
  _, _, shown = examined(3.0, 30.0)
  names = ("old", "again_1", "again_3", "chain_1", "chain_3")
  assert digest(*(shown[x] for x in names)) == 2684657455


def test_the_best_of_more_tries_is_no_worse():
  """By the value that they are given: here the sum of their ids."""
  p, found, key = NONE.play.args[0], batch(sources()), jax.random.key(0)
  params, total = decided(copy=4.0), lambda code: jnp.sum(code.ids, -1)
  best = rewrite_chains.resample(p, params, found, key, total)
  every = rollout.sample(
    POLICY, params, p.C, p.C.prompt(found.source),
    keys.row_keys(keys.child(key, keys.Chains.TRIES), found.row),
    samples=rewrite_chains.PASSES * G,
  )  # fmt: skip
  every = np.asarray(total(of_tokens.without_end(every.output, END)))
  for n, picked in enumerate(total(best), 1):
    np.testing.assert_array_equal(picked, every[:, : n * G].max(-1))
  assert (every[:, :G].max(-1) < every.max(-1)).any()


def test_chains_never_get_worse():
  s, scores, shown = examined(3.0, 30.0)
  names = ["old", *(f"chain_{n}" for n in PASSES)]
  chain = [value(s, shown[x]) for x in names]
  for before, after in itertools.pairwise(chain):
    assert (after >= before - 1e-6).all()
  was = np.zeros(B)
  for n, (before, after) in enumerate(itertools.pairwise(names), 1):
    # Dead is where no rewrite beats the parent, from there on.
    dead = [x == y for x, y in zip(shown[before], shown[after], strict=True)]
    np.testing.assert_array_equal(scores[f"dead_{n}"], dead)
    assert (scores[f"dead_{n}"] >= was).all()
    was = scores[f"dead_{n}"]
  assert 0 < scores["dead_2"].mean() < 1
  # Bits and tokens are of what is shown.
  for name, codes in shown.items():
    if name != "source":
      told = [bits(x, c) for x, c in zip(s, codes, strict=True)]
      np.testing.assert_allclose(scores[f"{name}_bits"], told, atol=1e-4)
      length = [len(c) for c in codes]
      np.testing.assert_array_equal(scores[f"{name}_tokens"], length)


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"buffer": 0}, ("buffer=0", "at least 1")),
    ({"parents": 0}, ("parents=0", "at least 1")),
    (
      {"parents": N + 1},
      (f"parents={N + 1}", "1 to config.patterns.ccv.buffer"),
    ),
    ({"group": 1}, ("group=1", "at least 2")),
    ({"targets": "best"}, ("targets='best'", "none", "next", "final")),
    ({"over_parent": -0.1}, ("over_parent=-0.1", "of at least 0")),
    ({"left": 1.0}, ("left=1.0", "a share below 1")),
    ({"left": -0.1}, ("left=-0.1", "a share below 1")),
    ({"warmup": -1}, ("warmup=-1", "at least 0")),
    ({"decodes": 0}, ("decodes=0", "at least 1")),
    ({"joint": 0}, ("joint=0", "at least 1", "by itself")),
    ({"joint": 1.5}, ("joint=1.5", "a whole number")),
    ({"joint": 3}, ("joint=3", "1 to config.patterns.ccv.fresh.group=2")),
    # What is wrong with C -> D -> V is said of the block that it stands in.
    (
      {"fresh": FRESH | {"lessons": 3}},
      ("ccv.fresh.lessons=3", "ccv.fresh.group=2"),
    ),
    ({"fresh": FRESH | {"gate": {"name": "x"}}}, ("ccv.fresh.gate", "None")),
  ],
)
def test_settings_that_cant_work(changes, said):
  with pytest.raises(ValueError, match=r"config\.patterns\.ccv") as error:
    make(**changes)
  for text in said:
    assert re.search(re.escape(text), str(error.value)), str(error.value)


@pytest.mark.parametrize(
  "changes", [{"over_parent": 0.0}, {"buffer": M}, {"parents": N}]
)
def test_the_edges_of_settings_work(changes):
  carry = make(**changes).init()
  assert len(carry.code.ids) == changes.get(
    "buffer", len(make().init().code.ids)
  )
