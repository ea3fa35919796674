"""Question probes: how much of a source can be answered from its code.

A reader is fine-tuned to answer questions about sources from their codes, which
are fixed. Its training is the same for every arm, and its test sources were in
no training. C and D were not trained on the questions. The text may also be d,
or empty.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.rl import learner
from rsrc_jax.types import Batch, Params, Policy, SupervisedBatch, Tokens

EMPTY = 10  # every tenth batch has an empty text


def make(
  policy: Policy,
  role: Role,
  asks: jax.Array,
  right: Callable[[Tokens], jax.Array],
  *,
  learning_rate: float,
) -> tuple[Callable, Callable, optax.GradientTransformation]:
  """Builds (step, answer, tx).

  Args:
    policy: of the reader.
    role: of the reader; its support is the answers.
    asks: [Q] int32, the ids of the questions.
    right: source [B, S] -> [B, Q] int32, the ids of the right answers.
    learning_rate: of Adam.

  Returns:
    step(params, opt_state, source, text, key) -> (params, opt_state, loss): a
    training step on one random question for each row, about `source` [B, S],
    from `text` [B, T].
    answer(params, source, text) -> [B, Q] bool: for which questions the
    likeliest token is the right answer.
    The optimizer.
  """
  asks = jnp.asarray(asks, jnp.int32)
  tx = optax.adam(learning_rate)

  def prompt(text: Tokens, which: jax.Array) -> Tokens:
    """text [B, T], which [B] of the questions -> [B, T + 3]."""
    ids = asks[which][:, None]
    return role.prompt(
      tokens.concat(text, Tokens(ids, jnp.ones_like(ids, bool)))
    )

  def step(params, opt_state, source: Tokens, text: Tokens, key):
    which = jax.random.randint(key, (len(text.ids),), 0, len(asks))
    target = jnp.take_along_axis(right(source), which[:, None], 1)[:, None]
    target = Tokens(target, jnp.ones_like(target, bool))
    batch = SupervisedBatch(
      prompt(text, which), target, jnp.ones(target.ids.shape[:2])
    )
    loss = lambda p: learner.nll_loss(
      policy, p, role, batch, jnp.float32(len(text.ids))
    )
    value, grads = jax.value_and_grad(loss)(params)
    change, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, change), opt_state, value

  def answer(params, source: Tokens, text: Tokens):
    def one(which):
      rows = jnp.full(len(text.ids), which)
      keys = jax.vmap(jax.random.key)(jnp.arange(len(text.ids)))
      a = rollout.sample(
        policy, params, role.greedy(), prompt(text, rows), keys, samples=1
      )
      return a.output.ids[:, 0, 0] == right(source)[:, which]

    # One question after another, with one program for all.
    return jax.lax.map(one, jnp.arange(len(asks))).T

  return jax.jit(step), jax.jit(answer), tx


def train(
  probe: tuple[Callable, Callable, optax.GradientTransformation],
  params: Params,
  write: Callable[[Batch, int], Tokens],
  batches: Any,
  *,
  steps: int,
  budgets: Sequence[int],
  seed: int,
) -> Params:
  """Trains a reader. -> its parameters

  Args:
    probe: from `make`.
    params: initial ones; not changed.
    write: (batch, k) -> the texts of k tokens for the reader.
    batches: iterator over Batch.
    steps: of training.
    budgets: k of each step, in turn.
    seed: of the random questions.
  """
  step, _, tx = probe
  opt_state = tx.init(params)
  for number in range(steps):
    batch = next(batches)
    text = write(batch, budgets[number % len(budgets)])
    if number % EMPTY == 0:  # the test includes questions without a text
      text = tokens.empty(*text.ids.shape)
    key = jax.random.fold_in(jax.random.key(seed), number)
    params, opt_state, _ = step(params, opt_state, batch.source, text, key)
  return params


def accuracy(
  probe: tuple[Callable, Callable, optax.GradientTransformation],
  params: Params,
  source: Tokens,
  text: Tokens,
) -> np.ndarray:
  """Share of the questions with a right answer, by row. [n]"""
  _, answer, _ = probe
  return np.mean(np.asarray(answer(params, source, text)), -1)
