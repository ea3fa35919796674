"""adaptive.py: what loops add and what stopping costs, by hand and by model."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.models import transformer
from rsrc_jax.ops import steps
from rsrc_jax.recursive import policy_loops

LOOPS = 3
POLICY = transformer.make(**tiny.SETTINGS, loops=LOOPS)
D = tiny.ROLES["D"]


@pytest.fixture(scope="module")
def seen():
  """-> readouts of a small random model, prompts and targets with pads."""
  rng = np.random.default_rng(0)
  prompt = D.prompt(tiny.tokens(rng, 5, 3))
  target = tokens.with_end(tiny.tokens(rng, 5, tiny.SOURCE), D.end)
  readouts = policy_loops.make(POLICY, D)(tiny.params(), prompt, target)
  return readouts, prompt, target


def test_each_readout_is_a_policy_of_so_few_loops(seen):
  """log p and entropy of the r-th are those that rollout.score finds."""
  readouts, prompt, target = seen
  one = tiny.Tokens(*(x[:, None] for x in target))
  for loops in range(1, LOOPS + 1):
    policy = transformer.make(**tiny.SETTINGS, loops=loops)
    log_prob, entropy = rollout.score(policy, tiny.params(), D, prompt, one)
    chex.assert_trees_all_close(
      (readouts.log_prob[loops - 1], readouts.entropy[loops - 1]),
      (log_prob[:, 0], entropy[:, 0]),
      atol=1e-5,
    )
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(readouts))


def test_steps_lie_between_the_readouts(seen):
  readouts, _, target = seen
  gained = jnp.diff(readouts.log_prob, axis=0)
  chex.assert_trees_all_close(readouts.steps.advantage, gained, atol=1e-5)
  chex.assert_trees_all_close(
    readouts.steps.varentropy, readouts.varentropy[1:], atol=1e-5
  )
  hidden = ~np.asarray(target.mask)
  for x in jax.tree.leaves(readouts._replace(mask=target.mask & False)):
    assert not np.asarray(x)[..., hidden].any()


def test_layers_are_read_where_nothing_is_looped(seen):
  """A stack of three equal layers reads as three loops of one do."""
  readouts, prompt, target = seen
  deep = transformer.make(**{**tiny.SETTINGS, "depth": LOOPS})
  params = tiny.params()
  blocks = jax.tree.map(
    lambda x: jnp.concatenate([x] * LOOPS), params["blocks"]
  )
  found = policy_loops.make(deep, D, layers=True)(
    {**params, "blocks": blocks}, prompt, target
  )
  chex.assert_trees_all_close(found, readouts, atol=1e-5)


def by_hand():
  """Two rows of two tokens, one of them a pad; three readouts.

  ln p of the target, in units of ln 2 so that bits are whole numbers.
  """
  mask = np.array([[True, True], [True, False]])
  bits = np.array(
    [[[-4, -8], [-3, 0]], [[-2, -8], [-3, 0]], [[-1, -6], [-2, 0]]], float
  )
  right = np.array([[[0, 0], [0, 0]], [[1, 0], [0, 0]], [[1, 0], [1, 0]]], bool)
  varentropy = np.array(
    [[[5, 1], [9, 0]], [[3, 1], [4, 0]], [[2, 1], [2, 0]]], float
  )
  kl = np.array([[[0.5, 0.0], [0.1, 0.0]], [[0.2, 0.3], [0.4, 0.0]]])
  zero = np.zeros_like(kl)
  step = steps.Steps(*[zero] * len(steps.Steps._fields))._replace(kl=kl)
  return policy_loops.Readouts(
    bits * np.log(2), right, varentropy, varentropy, step, mask
  )


def test_loops_by_hand():
  found = policy_loops.loops(by_hand())
  # Rows of -12 and -3, of -10 and -3, of -7 and -2.
  chex.assert_trees_all_close(found["bits"], [-7.5, -6.5, -4.5])
  chex.assert_trees_all_close(found["accuracy"], [0.0, 1 / 3, 2 / 3])
  chex.assert_trees_all_close(found["varentropy"], [5.0, 8 / 3, 5 / 3])
  chex.assert_trees_all_close(found["steps"]["kl"], [0.2, 0.3])
  assert found["live"] == 2 and found["settled"] == 3


def test_a_dead_tail_is_found():
  """What the second readout holds, the third does not add to."""
  readouts = by_hand()
  held = np.stack(
    [readouts.log_prob[0], readouts.log_prob[2], readouts.log_prob[2]]
  )
  found = policy_loops.loops(readouts._replace(log_prob=held))
  assert found["live"] == 1 and found["settled"] == 2


@pytest.mark.parametrize(
  "rule, threshold, loops, lost, accuracy",
  [
    # Nothing is below 0: all loops of all tokens, nothing lost.
    ("kl", 0.0, [3, 3, 3], 0.0, 2 / 3),
    # (0, 1) has 0 and (1, 0) has .1 at the second; (0, 0) never: 2 + 1 bits.
    ("kl", 0.15, [3, 2, 2], 1.5, 1 / 3),
    # All at the second loop, the least: 1 + 2 + 1 bits of two rows.
    ("kl", 9.0, [2, 2, 2], 2.0, 1 / 3),
    # (0, 1) at once, and 2 bits lost; the others never.
    ("varentropy", 2.0, [3, 1, 3], 1.0, 2 / 3),
    # (0, 0) at the second, (1, 0) at the third.
    ("varentropy", 4.0, [2, 1, 3], 1.5, 2 / 3),
    # One loop for all: 3 + 2 + 1 bits.
    ("varentropy", 99.0, [1, 1, 1], 3.0, 0.0),
  ],
)
def test_stopping_by_hand(rule, threshold, loops, lost, accuracy):
  readouts = by_hand()
  at = policy_loops.stopped(readouts, rule, threshold)
  assert (at + 1)[readouts.mask].tolist() == loops
  (row,) = policy_loops.stopping(readouts, rule, [threshold])
  assert row["loops"] == pytest.approx(np.mean(loops))
  assert row["bits_lost"] == pytest.approx(lost)
  assert row["accuracy"] == pytest.approx(accuracy)
  assert row["accuracy_lost"] == pytest.approx(2 / 3 - accuracy)
  want = [loops.count(r) / 3 for r in (1, 2, 3)]
  chex.assert_trees_all_close(row["share"], want)


def test_one_loop_has_nothing_to_stop(seen):
  _, prompt, target = seen
  found = policy_loops.make(tiny.POLICY, D)(tiny.params(), prompt, target)
  readouts = policy_loops.gather([found])
  table = policy_loops.loops(readouts)
  assert table["steps"]["kl"] == [] and (table["live"], table["settled"]) == (
    0,
    1,
  )
  for rule in ("kl", "varentropy"):
    (row,) = policy_loops.stopping(readouts, rule, [1e9])
    assert row["loops"] == 1 and row["bits_lost"] == 0


def test_batches_are_put_together(seen):
  readouts, prompt, target = seen
  read = policy_loops.make(POLICY, D)
  parts = [
    read(tiny.params(), *jax.tree.map(lambda x, i=i: x[i], (prompt, target)))
    for i in (slice(0, 2), slice(2, 5))
  ]
  whole = policy_loops.gather([readouts])
  chex.assert_trees_all_close(policy_loops.gather(parts), whole, atol=1e-5)
  # Bits are those of the likelihood of the whole target.
  nats = rollout.likelihood(
    POLICY, tiny.params(), D, prompt, tiny.Tokens(*(x[:, None] for x in target))
  )
  bits = policy_loops.loops(whole)["bits"][-1]
  assert bits == pytest.approx(float(jnp.mean(nats)) / np.log(2), rel=1e-5)


def test_what_can_not_be_read_is_refused():
  with pytest.raises(ValueError, match="no trace"):
    policy_loops.make(POLICY._replace(trace=None), D)
  with pytest.raises(ValueError, match="margin"):
    policy_loops.stopped(by_hand(), "margin", 1.0)
