"""memory.py: prompts with a memory, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.lm import memory, tokens
from rsrc_jax.lm.roles import joined
from rsrc_jax.types import Judged, Tokens

SEPARATOR, END, D = tokenizer.SEPARATOR, tokenizer.END, tokenizer.D
CC = joined(tiny.ROLES["C"], tiny.ROLES["text"], "CC")
MEMORY = memory.Memory(
  tiny.POLICY, tiny.ROLES["C"], tiny.ROLES["D"], CC, tiny.ROLES["text"],
  jnp.arange(8, 12),
)  # fmt: skip


def made(rows, length):
  ids = np.array([row + [0] * (length - len(row)) for row in rows])
  return Tokens(jnp.asarray(ids, jnp.int32), jnp.asarray(ids > 0))


def read(found):
  """The real tokens of each row."""
  ids, mask = (np.asarray(x) for x in found)
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


def test_a_separator_stands_behind_a_memory_and_behind_none_it_does_not():
  cc, s = made([[9, 8], []], 2), made([[10], [11, 12]], 3)
  found = memory.with_memory(cc, s, SEPARATOR)
  assert read(found) == [[9, 8, SEPARATOR, 10], [11, 12]]
  assert found.ids.shape == (2, 2 + 1 + 3)
  assert not np.asarray(found.ids)[~np.asarray(found.mask)].any()


def test_what_d_learns_with_memory_and_code():
  cc, code = made([[9], [8]], 1), made([[10, 11], [12]], 2)
  s = made([[13, 14], [15]], 3)
  batch = lambda dropout: memory.decode_batch(
    MEMORY, cc, s, code, jax.random.key(0), dropout
  )
  assert read(batch(0.0).prompt) == [
    [D, 9, SEPARATOR, 10, 11, SEPARATOR], [D, 8, SEPARATOR, 12, SEPARATOR],
  ]  # fmt: skip
  assert read(batch(1.0).prompt) == [[D, SEPARATOR]] * 2
  target = tokens.at(batch(1.0).target, 0)
  assert read(target) == [[13, 14, END], [15, END]]


def test_a_stream_shares_the_words_of_its_first_source():
  ids = jnp.arange(2 * 3 * 2 * 3).reshape(2, 3, 2, 3) + 8
  s = Tokens(ids, jnp.ones(ids.shape, bool))
  same = memory.stream(s, (0, 2), 0.0, jax.random.key(0)).ids
  for place in (0, 2):
    first = jnp.broadcast_to(ids[:, :1, :1, place], ids.shape[:3])
    np.testing.assert_array_equal(same[..., place], first)
  np.testing.assert_array_equal(same[..., 1], ids[..., 1])
  # With a drift of 1 each round brings its own, the same in all of its pool.
  own = memory.stream(s, (0,), 1.0, jax.random.key(0)).ids[..., 0]
  first = jnp.broadcast_to(ids[:, :, :1, 0], own.shape)
  np.testing.assert_array_equal(own, first)
  assert memory.stream(s, (), 0.0, jax.random.key(0)) is s


def test_the_hardest_source_is_what_d_expects_least():
  rng = np.random.default_rng(0)
  cc, pool = tiny.tokens(rng, 3, 2), tiny.tokens(rng, 3, 4, tiny.SOURCE)
  params = tiny.params()

  @jax.jit
  def both(params, cc, pool):
    nothing = tokens.expand(tokens.empty(3, 1))
    likely = [
      memory.read(MEMORY, params, cc, tokens.at(pool, i), nothing)[:, 0]
      for i in range(4)
    ]
    return memory.hardest_source(MEMORY, params, cc, pool), jnp.stack(likely, 1)

  found, likely = both(params, cc, pool)
  expected = tokens.pick(pool, jnp.argmin(likely, -1))
  np.testing.assert_array_equal(found.ids, expected.ids)


# R(s | cc), R(s | no memory) and ln p_D(s | cc) of two pools of three sources,
# by their first word. The rules differ in what they take.
WORTH = {10: (0.5, 0.2), 11: (0.3, 0.6), 12: (0.1, 0.2),
         13: (0.9, 0.9), 14: (0.2, 0.1), 15: (0.4, 0.3)}  # fmt: skip
LIKELY = {10: -9, 11: -5, 12: -20, 13: -3, 14: -7, 15: -1}
TAKEN = {"random": [10, 13], "hardest": [12, 14], "misled": [11, 13]}


def fakes(monkeypatch):
  """memory.read and memory.value by these tables."""
  of = lambda table, s: jnp.asarray([table[int(x)] for x in s.ids[:, 0]])

  def value(m, params, base, cc, s, constraints, row_keys):
    # With the memory and without, of every source; constraints row by row.
    assert read(tokens.at(cc, 0)) == [[9]] * 3 + [[8]] * 3
    assert read(tokens.at(cc, 1)) == [[]] * 6
    assert constraints.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(s.ids) == len(row_keys) == 6
    found = Judged({"verifier": of(WORTH, s)}, None, None, None, None)
    return found, "C's rollout"

  monkeypatch.setattr(memory, "value", value)
  monkeypatch.setattr(
    memory, "read", lambda m, params, cc, s, code: of(LIKELY, s)[:, None]
  )


def choose(rule, pool):
  cc, n = made([[9], [8]], 2), 2
  row_keys = jax.random.split(jax.random.key(0), n)
  return memory.next_source(
    MEMORY, (), (), rule, cc, pool, jnp.arange(n), row_keys
  )


@pytest.mark.parametrize("rule", memory.CHOICES)
def test_each_rule_takes_the_source_that_it_names(rule, monkeypatch):
  fakes(monkeypatch)
  pool = tokens.reshape(made([[i] for i in WORTH], 2), 2, 3)
  found, sampled = choose(rule, pool)
  assert read(found) == [[x] for x in TAKEN[rule]]
  assert [c for _, c in sampled] == ["C's rollout"] * (rule == "misled")


def test_of_one_source_nothing_is_computed(monkeypatch):
  for name in ("read", "value"):
    monkeypatch.setattr(memory, name, lambda *_: pytest.fail("computed"))
  for rule in memory.CHOICES:
    found, sampled = choose(rule, tokens.expand(made([[10], [11]], 2)))
    assert read(found) == [[10], [11]] and sampled == ()
