"""The reader: V's frozen language model, which hears d and says s.

Its parameters are not the policy's: it begins with others and learns, before
any arm, from sentences that the policy never sees. It restores a sentence from
a noisy copy of it, and from nothing, which is language modelling. What it finds
likelier after d than after nothing is what d says of s.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rsrc_jax import rules
from rsrc_jax.lm import keys, likelihood, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.rl import learner
from rsrc_jax.types import (
  Batch,
  Metrics,
  Params,
  Policy,
  SupervisedBatch,
  Tokens,
  TrainState,
)


def _limits(settings, run):
  """The rule that s is worth more than what fools the reader may be."""
  del run
  tolerance = settings.get("tolerance", 0)
  if settings.get("least", 1) <= tolerance:
    return "least", f"above {rules.HERE}.tolerance={tolerance}"
  return None


# The rules of config.reader, whose stage is stages/reader.py.
RULES = {
  "steps": rules.whole(),
  "batch_size": rules.whole(2, why="a text's noise is its neighbour's tokens"),
  "optimizer": learner.OPTIMIZER,
  "share": rules.number(above=0, most=1),
  "least": rules.number(above=0, below=1),
  "tolerance": rules.number(0, below=1),
  rules.BLOCK: (_limits,),
}
EMPTY = 0.2  # share of the texts that are restored from nothing
OTHER_LENGTH = 0.2  # and from a copy with another text's length
LACKS = 0.3  # and from a copy that lacks a random share of its tokens


def gain(
  policy: Policy, params: Params, role: Role, s: Tokens, decoded: Tokens
) -> jax.Array:
  """The reader's word on each decode of each source.

  Args:
    policy: the reader's functions.
    params: its parameters.
    role: in which it reads a text and says s.
    s: sources [B, S].
    decoded: free-running decodes [B, G, J, T], their ends removed.

  Returns:
    likelihood.bounded_gain of ln p(s | d) over ln p(s | nothing), [B, G, J].
    The latter depends on s alone and is computed once a source.
  """
  shape = decoded.ids.shape[:3]
  target = tokens.repeat(tokens.with_end(s, role.end), shape[1] * shape[2])
  prompt = role.prompt(tokens.flatten(decoded))
  read = rollout.likelihood(policy, params, role, prompt, tokens.expand(target))
  before = unread(policy, params, role, s)
  return likelihood.bounded_gain(read.reshape(shape), before[:, None, None])


def unread(policy: Policy, params: Params, role: Role, s: Tokens) -> jax.Array:
  """ln p(s | nothing): s [B, S] -> [B] nats, end included."""
  target = tokens.expand(tokens.with_end(s, role.end))
  prompt = role.prompt(tokens.empty(len(s.ids)))
  return rollout.likelihood(policy, params, role, prompt, target)[:, 0]


def make_step(
  policy: Policy, role: Role, tx: optax.GradientTransformation
) -> Callable:
  """Builds train_step(state, frozen, batch, controls) -> (state, metrics)."""
  return functools.partial(train_step, policy, role, tx)


def train_step(
  policy: Policy,
  role: Role,
  tx: optax.GradientTransformation,
  state: TrainState,
  frozen,
  batch: Batch,
  controls,
) -> tuple[TrainState, Metrics]:
  """One update by the likelihood of s after a noisy copy of s."""
  del frozen, controls
  key = keys.child(keys.step_key(state.seed, state.step), keys.Step.READER)
  s = batch.source
  target = tokens.expand(tokens.with_end(s, role.end))
  lesson = SupervisedBatch(
    role.prompt(noised(s, key, batch.row)), target, jnp.ones((len(s.ids), 1))
  )
  count = jnp.sum(learner.token_weights(lesson))
  loss = lambda params: learner.nll_loss(policy, params, role, lesson, count)
  with jax.named_scope("update"):
    value, grads = jax.value_and_grad(loss)(state.params)
    change, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, change)
  metrics = {"loss": value, "gradient_norm": optax.tree.norm(grads)}
  return state._replace(
    step=state.step + 1, params=params, opt_state=opt_state
  ), metrics


def noised(s: Tokens, key: jax.Array, rows: jax.Array) -> Tokens:
  """A copy of each text [B, S] with noise: what a decode of any quality says.

  A random share of the tokens, uniform in [0, 1], is replaced by the tokens of
  the neighbour in the batch. Some copies also have the neighbour's length, some
  also lack a random share of their tokens, and some are empty. The key's
  children are keys.Reader.
  """
  children = {x: keys.row_keys(keys.child(key, x), rows) for x in keys.Reader}
  one = {x: jax.vmap(jax.random.uniform)(k) for x, k in children.items()}
  each = {
    x: jax.vmap(lambda k: jax.random.uniform(k, s.ids.shape[1:]))(children[x])
    for x in (keys.Reader.WHICH, keys.Reader.GONE)
  }
  other, column = tokens.roll(s), lambda x: one[x][:, None]
  hit = other.mask & (each[keys.Reader.WHICH] < column(keys.Reader.SHARE))
  ids = jnp.where(hit | ~s.mask, other.ids, s.ids)
  of_other = column(keys.Reader.LENGTH) < OTHER_LENGTH
  mask = jnp.where(of_other, other.mask, s.mask)
  lacks = column(keys.Reader.LACKS) < LACKS
  gone = lacks & (each[keys.Reader.GONE] < column(keys.Reader.LOST))
  kept = mask & ~gone
  kept &= column(keys.Reader.EMPTY) >= EMPTY
  order = jnp.argsort(~kept, axis=-1, stable=True)
  take = lambda x: jnp.take_along_axis(x, order, -1)
  return Tokens(jnp.where(take(kept), take(ids), 0), take(kept))
