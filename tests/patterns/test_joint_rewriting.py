"""C -> C -> V with several codes read at once, beside the game by hand.

A source is a b c a b c. No code of C has more than one of its three words, and
D repeats what it reads: only a rewrite of all three says all of s.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import scripted, tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.patterns import ccv
from rsrc_jax.rl import verifier
from rsrc_jax.types import Batch, Constraints, Context, Tokens

B, G, S, K = tiny.ROWS, tiny.GROUP, tiny.SOURCE, tiny.BUDGET
JOINT, PRICE, BIG = 3, 0.3, 1e3
FIRST = len(tokenizer.SPECIALS)


def wanted(params, prompt, step):
  """Logits [V] of a role that has read `prompt` and written `step` tokens.

  C writes one of the words of s that params["words"] [3] wants, and ends; held
  to more it goes on with the next words of s. R writes all words that it has
  read, each once, in the order of their ids. D repeats its code.
  """
  ids = jnp.where(prompt.mask, prompt.ids, 0)
  first = jnp.argmax(prompt.mask)
  is_c = ids[first] == tokenizer.C
  is_r = is_c & (ids[first + 1] == tokenizer.D)
  is_word = ids >= FIRST
  number = jnp.sum(is_word)
  place = jnp.where(is_word, jnp.cumsum(is_word) - 1, len(ids) + S)
  words = jnp.zeros(len(ids) + S, int).at[place].set(ids, mode="drop")
  one = lambda word: BIG * jax.nn.one_hot(word, tiny.VOCAB)
  some = params["words"] @ jax.nn.one_hot(words[:3], tiny.VOCAB)
  later = one(tokenizer.END) + 0.5 * one(words[step % S])
  read = jnp.any(words[:, None] == jnp.arange(tiny.VOCAB), 0)
  read = read & (jnp.arange(tiny.VOCAB) >= FIRST)
  kept = jnp.argmax(read & (jnp.cumsum(read) == step + 1))
  gathered = one(jnp.where(step < jnp.sum(read), kept, tokenizer.END))
  again = words[step % jnp.maximum(number, 1)]
  said = one(jnp.where((step < S) & (number > 0), again, tokenizer.END))
  written = jnp.where(step == 0, some, later)
  return jnp.where(is_c, jnp.where(is_r, gathered, written), said)


POLICY = scripted.policy(wanted, None, tiny.VOCAB)
# Today's C writes a or b; the first policy wrote c, or any word.
TODAY, LAST, ANY = (
  {"words": BIG * jnp.array(x)} for x in ([1.0, 1, 0], [0.0, 0, 1], [1.0, 1, 1])
)
FROZEN = {"base": TODAY, "reader": TODAY}
WORD = verifier.make(
  POLICY, tiny.ROLES["V"], weights={"edit": 1.0}, shaping={}, positions=None
)
PATTERN = ccv.make(
  Context(POLICY, tiny.ROLES, WORD), buffer=B, parents=B, group=G, joint=JOINT,
  length_price=PRICE, over_parent=1.0, targets="final", left=0.5, warmup=1,
  fresh={"group": 4, "decodes": 1, "length_price": 0.0, "lessons": 0,
         "dropout": 0.0},
)  # fmt: skip
# Four sentences without a word in common, each twice.
SOURCES = [[FIRST + 3 * (i % 4) + j % 3 for j in range(S)] for i in range(B)]


def batch():
  ids = np.array(SOURCES, np.int32)
  return Batch(
    Tokens(ids, np.ones(ids.shape, bool)), np.arange(B, dtype=np.int32)
  )


def texts(found):
  """The real ids of each row."""
  ids, mask = (np.asarray(x) for x in found)
  ids, mask = (x.reshape(-1, x.shape[-1]) for x in (ids, mask))
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


def edit(s, code):
  """Edit similarity of s and D's d: this code, repeated; d is as long as s."""
  d = [code[t % len(code)] for t in range(S if code else 0)]
  row = list(range(len(d) + 1))
  for i, a in enumerate(s, 1):
    last, row[0] = row[0], i
    for j, b in enumerate(d, 1):
      last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
  return 1 - row[-1] / S


def worth(s, code):
  """V's word above that of no code, which is none, and the price."""
  return edit(s, code) * (1 - PRICE * len(code) / K)


@functools.cache
def played(steps=4):
  """The steps' episodes, and the buffers before and after them."""
  play, none = jax.jit(PATTERN.play), np.full((B, 1, 1), -1, np.int32)
  carry = jax.device_get(PATTERN.init())
  found, asked = [], tiny.ask(Constraints(none, none))
  for step in range(steps):
    before = carry
    key = jax.random.key(step)
    episode, carry = jax.device_get(
      play(TODAY, FROZEN | {"start": LAST}, carry, batch(), key, asked)
    )
    found.append((episode, before, carry))
  return found


def game(episode):
  """(source, the codes that R has read, what it writes of them), by row."""
  rows = []
  for read in texts(episode.rollouts["R"].prompt):
    assert read[:2] == [tokenizer.C, tokenizer.D]
    parts, code = [], []
    for token in read[2:]:
      if token == tokenizer.SEPARATOR:
        parts, code = [*parts, code], []
      else:
        code.append(token)
    assert len(parts) == JOINT and code == []
    words = {x for part in parts for x in part}
    s = next(s for s in SOURCES if set(s) >= words)
    rows.append((s, parts, sorted(words)))
  return rows


def test_a_joint_rewrite_earns_what_no_parent_allows():
  whole, found = 0, [x for x, _, _ in played()[1:]]
  rewards = np.concatenate([x.rewards["R"] for x in found])
  rows = [row for x in found for row in game(x)]
  for reward, (s, parts, gathered) in zip(rewards, rows, strict=True):
    np.testing.assert_allclose(reward, worth(s, gathered), atol=1e-6)
    if len(gathered) < 3:
      continue
    # Whatever could be written of the words of one parent is worth less.
    alone = max(
      worth(s, list(code))
      for part in parts
      for size in range(K + 1)
      for code in itertools.product(part, repeat=size)
    )
    assert alone < 0.4 < 0.7 - 1e-6 < reward.min()
    whole += 1
  assert 1 < whole < len(rows)  # of other sources two words are on record


def test_credit_is_over_the_best_of_what_was_read():
  episode, _, _ = played()[1]
  found = game(episode)
  best = [max(worth(s, x) for x in parts) for s, parts, _ in found]
  np.testing.assert_allclose(
    episode.credit["R"], episode.rewards["R"] - np.array(best)[:, None],
    atol=1e-6,
  )  # fmt: skip
  counts = [len({tuple(x) for x in parts}) for _, parts, _ in found]
  assert len(set(counts)) > 1
  np.testing.assert_allclose(episode.metrics["R_codes"], np.mean(counts))
  assert episode.metrics["R_shorter"] == 0
  assert set(episode.parts["R"]) == {"verifier", "price"}


def test_codes_come_from_both_policies_and_a_winner_comes_first():
  versions = []
  for now, (episode, _, carry) in enumerate(played()):
    kept = np.concatenate([carry.version[:, None], carry.more.version], 1)
    more = iter(texts(carry.more.code))
    codes = [[x, next(more), next(more)] for x in texts(carry.code)]
    expected = []
    for s, parts, gathered in game(episode):
      won = worth(s, gathered) > max(worth(s, x) for x in parts) + 1e-6
      after = [gathered, *parts[:-1]] if won else parts
      expected.append((s, after, int(won)))
    found = zip(texts(carry.source), codes, carry.passes.tolist(), strict=True)
    assert sorted(found) == sorted(expected)
    for s, row, its, won in zip(
      texts(carry.source), codes, kept, carry.passes, strict=True
    ):
      assert not won or its[0] == now
      # What only the first policy writes is said to be its own.
      for code, version in zip(row, its, strict=True):
        assert version == -1 or s[2] not in code or len(code) > 1
    versions += kept.ravel().tolist()
  assert set(versions) == {-1, *range(len(played()))}
  left = np.mean(np.array(versions) == -1)
  assert 0.2 < left < 0.6  # a half, less what winners have pushed out


def test_in_the_warmup_r_copies_the_parent_that_v_values_most():
  for warm, (episode, _, _) in zip((True, False), played()[:2], strict=True):
    lesson = episode.sft_batches["R"]
    np.testing.assert_array_equal(
      lesson.prompt.ids, episode.rollouts["R"].prompt.ids
    )
    for (s, parts, gathered), text, weight in zip(
      game(episode), texts(lesson.target), lesson.weights[:, 0], strict=True
    ):
      best = max(worth(s, x) for x in parts)
      *code, end = text
      assert end == tokenizer.END
      if warm:
        assert code in parts and np.isclose(worth(s, code), best)
        assert weight == 1
      else:
        assert weight == (worth(s, gathered) > best + 1e-6)
        assert code == gathered or not weight
    assert (episode.rewards["R"] == 0).all() == warm


@pytest.mark.slow
def test_examined_at_equal_length():
  """R's code and C's of as many tokens; none is worth more than they tell."""
  code = Tokens(np.zeros((B, K), np.int32), np.zeros((B, K), bool))
  scores, shown = jax.device_get(
    jax.jit(PATTERN.examine)(
      TODAY,
      FROZEN | {"start": ANY},
      PATTERN.init(),
      batch(),
      code,
      jax.random.key(0),
    )
  )
  parts = texts(shown["read"])
  parts = [parts[JOINT * i : JOINT * (i + 1)] for i in range(B)]
  gathered = [sorted({x for part in row for x in part}) for row in parts]
  length = np.array(list(map(len, gathered)))
  assert len(set(length)) > 1  # of the first policy's samples
  np.testing.assert_array_equal(scores["codes_read"], length)
  known = {
    "old": [x[0] for x in parts], "parent": [x[0] for x in parts],
    "again_1": gathered, "again_2": gathered, "chain_1": [
      x if worth(s, x) > worth(s, row[0]) + 1e-6 else row[0]
      for s, x, row in zip(SOURCES, gathered, parts, strict=True)
    ],
    "alone_again": [x[0] for x in parts], "alone_best": [x[0] for x in parts],
    # Told its length and kept from ending, C goes on in s.
    "same_greedy": [s[:n] for s, n in zip(SOURCES, length, strict=True)],
    "once": [[] for _ in parts],
  }  # fmt: skip
  assert texts(shown["again_1"]) == known["again_1"]
  assert texts(shown["chain_1"]) == known["chain_1"]
  for name, codes in known.items():
    each = [edit(s, c) for s, c in zip(SOURCES, codes, strict=True)]
    np.testing.assert_allclose(scores[f"{name}_edit"], each, atol=1e-6)
    np.testing.assert_array_equal(
      scores[f"{name}_exact"], np.isclose(each, 1.0), err_msg=name
    )
    np.testing.assert_array_equal(
      scores[f"{name}_tokens"], list(map(len, codes)), err_msg=name
    )
  for name, like in (("second", "again_1"), ("best", "chain_1")):
    np.testing.assert_array_equal(
      scores[f"same_{name}_tokens"], scores[f"{like}_tokens"]
    )
  # The best of seven samples: nothing of the length is read better by D.
  assert (scores["same_best_edit"] >= scores["same_second_edit"] - 1e-6).all()
  np.testing.assert_array_equal(scores["again_shorter"], np.zeros(B))
