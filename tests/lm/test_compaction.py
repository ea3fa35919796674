"""compaction.py: what shrinking batches write, and what they cost."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.accounting import flops
from rsrc_jax.lm import compaction, rollout
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.types import Constraints, Tokens

LONG = 24
ROLES = {  # by the number of shapes
  shapes: tiny.ROLES["D"]._replace(length=LONG, shapes=shapes, temperature=1.5)
  for shapes in (1, 2, 3)
}


@functools.partial(jax.jit, static_argnames=("shapes", "samples", "full"))
def written(params, prompt, key, shapes, samples, full=False):
  """Outputs of C; full: with constraints of every kind, and statistics."""
  rows = prompt.ids.shape[0]
  limits = None
  if full:
    some = jnp.arange(rows)[:, None]
    limits = Constraints(
      banned=jnp.full((rows, 1, 1), -1, jnp.int32),
      allowed=jnp.full((rows, 1, 1), -1, jnp.int32),
      injected=jnp.broadcast_to(9 + jnp.arange(3), (rows, 1, 3)),
      temperature=1.0 + 0.1 * (some % 3),
      budget=10 + some % 15,
    )
  return rollout.sample(
    tiny.POLICY, params, ROLES[shapes], prompt,
    row_keys(key, jnp.arange(rows)), samples=samples, constraints=limits,
    stats=full,
  )  # fmt: skip


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  "rows, samples, full",
  [(128, 1, False), slow(128, 1, True), slow(16, 8, False), slow(16, 8, True)],
)
def test_a_shrinking_batch_writes_the_same(rows, samples, full):
  text = tiny.tokens(np.random.default_rng(0), rows, tiny.SOURCE)
  prompt = ROLES[1].prompt(text)
  args = tiny.params(), prompt, jax.random.key(0)
  whole = written(*args, 1, samples, full)
  lengths = np.sum(whole.output.mask, -1)
  assert np.unique(lengths).size > 8  # rows end all over the place
  for shapes in (3,) if not full else (2, 3):
    few = written(*args, shapes, samples, full)
    np.testing.assert_array_equal(few.output.ids, whole.output.ids)
    np.testing.assert_array_equal(few.output.mask, whole.output.mask)
    chex.assert_trees_all_close(few.log_probs, whole.log_probs, atol=1e-5)
    if full:
      chex.assert_trees_all_close(few.stats, whole.stats, atol=1e-4)


def test_sizes_are_bounded_and_fall_by_a_quarter():
  assert compaction.sizes(512, 1) == (512,)
  assert compaction.sizes(512, 3) == (512, 128, 32)
  assert compaction.sizes(512, 9) == (512, 128, 32, 8)
  assert compaction.sizes(20, 3) == (20,)


def test_each_loop_is_counted_by_hand():
  """128 rows: 100 write 3 tokens, 20 write 5, 8 write 9."""
  lengths = np.repeat([3, 5, 9], [100, 20, 8])
  mask = jnp.asarray(np.arange(LONG) < lengths[:, None])[:, None]
  output = Tokens(jnp.zeros(mask.shape, jnp.int32), mask)
  # Tokens 1 and 2 in the whole batch; 3 and 4 by 28 rows, in that of 32; 5 to 8
  # by 8 rows, in that of 8.
  assert rollout.loops(output, ROLES[3]).tolist() == [2.0, 2.0, 4.0]
  assert rollout.loops(output, ROLES[1]).tolist() == [8.0]


def test_the_ledger_counts_each_size_by_its_own_loop():
  """Of a real rollout: the FLOPs of three sizes are those that were run."""
  text = tiny.tokens(np.random.default_rng(0), 128, tiny.SOURCE)
  prompt = ROLES[1].prompt(text)
  args = tiny.params(), prompt, jax.random.key(0)
  spent = {}
  for shapes in (1, 3):
    role = ROLES[shapes]
    traced = written.trace(*args, shapes, 1)
    count = flops.count(traced.jaxpr, ("D",))
    out = written(*args, shapes, 1)
    ran = rollout.passes((role, out))
    trips = {k.removesuffix("_loops"): float(v) for k, v in ran.items()}
    assert set(trips) == set(count.loops)
    spent[shapes] = flops.evaluate(count, trips)["hardware"]
  lengths = np.sum(np.asarray(out.output.mask), -1)
  # Whole: all rows up to the longest. Three sizes: near the mean length.
  assert spent[3] / spent[1] < 2.2 * lengths.mean() / lengths.max()


def test_a_length_is_no_other_program_and_no_other_draw():
  """One program for all budgets and prompt lengths, up to its own length."""
  rng, key = np.random.default_rng(0), jax.random.key(0)
  role, rows = ROLES[1], jnp.arange(8)
  compiled = []

  @jax.jit
  def sample(params, prompt, budget):
    compiled.append(1)
    none = jnp.full((8, 1, 1), -1, jnp.int32)
    return rollout.sample(
      tiny.POLICY, params, role, prompt, row_keys(key, rows), samples=2,
      constraints=Constraints(none, none, budget=budget[:, None]),
    )  # fmt: skip

  whole = {}
  for longest in (2, 6):  # of the prompts, padded to one shape
    text = tiny.tokens(rng, 8, tiny.SOURCE, lengths=np.full(8, longest))
    for budget in (5, 9, LONG):
      out = sample(tiny.params(), role.prompt(text), jnp.full(8, budget))
      assert out.output.mask.sum(-1).max() <= budget
      whole[longest, budget] = np.asarray(out.output.ids)
  assert len(compiled) == 1
  # What a row draws at a place does not depend on how far it may go on.
  for longest in (2, 6):
    np.testing.assert_array_equal(
      whole[longest, 5][..., :5], whole[longest, LONG][..., :5]
    )
  short = jax.jit(
    lambda p, x: rollout.sample(
      tiny.POLICY, p, role._replace(length=5), x, row_keys(key, rows), samples=2
    )
  )(tiny.params(), role.prompt(text))
  np.testing.assert_array_equal(short.output.ids, whole[6, 5][..., :5])
