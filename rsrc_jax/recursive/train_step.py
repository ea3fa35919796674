"""train_step of recursive models: one superstep on items that are in flight.

A batch is N slots. Each step runs one superstep on all of them, learns from
what they say, and puts new items where one has left (arXiv 2510.04871; its
inner loop over supervision steps is this carry).

Simplified beside the official code: AdamW for AdamATan2, one optimizer for all
parameters (their puzzle embeddings have SignSGD), stablemax in float32 for
float64.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsrc_jax.lm import keys
from rsrc_jax.models.recursive import Recursive
from rsrc_jax.ops import distributions, stablemax
from rsrc_jax.recursive import batch_slots, targets
from rsrc_jax.types import Metrics, Params, TrainState

HALT_WEIGHT = 0.5  # of the halting head's loss


class Items(NamedTuple):
  """What is worked on. N items of L cells, int32."""

  question: jax.Array  # [N, L]
  answer: jax.Array  # [N, L]
  order: jax.Array  # [N, L]: see data/grids.py
  identity: jax.Array  # [N]: which task it is of


class Work(NamedTuple):
  """An item in its slot."""

  items: Items
  due: jax.Array  # [N, L] int32, of targets.target_schedule
  least: jax.Array  # [N] int32: supersteps before it may halt


class Passes(NamedTuple):
  """What was executed, over all steps so far, [] int32."""

  calls: jax.Array  # of the net, an item each; forward
  calls_with_gradient: jax.Array  # those of them that were also run backward
  finished: jax.Array  # items that have left


class Carry(NamedTuple):
  """Beside parameters and optimizer; a part of the checkpoint."""

  slots: batch_slots.Slots  # of Work and the model's State
  ema: Params  # what is evaluated
  passes: Passes


class Supervision(NamedTuple):
  """How a model is supervised."""

  batch_size: int  # N slots
  supersteps: int  # S: when an item leaves at the latest
  scheme: str  # of the targets, see targets.target_schedule
  halting: bool  # an item also leaves when the halting head says it is right
  # Share of the items that may not halt before a step drawn from 2..S.
  explore: float
  ema: float  # decay of the averaged parameters, per step


def make(
  model: Recursive, tx: optax.GradientTransformation, **settings
) -> tuple[Callable[..., Carry], Callable[..., tuple[TrainState, Metrics]]]:
  """Builds init(params, items) -> Carry and train_step(state, fresh).

  `fresh` are Items [N] of which those are taken whose slot is free.

  Args:
    model: from models.recursive.make.
    tx: the optimizer.
    **settings: the fields of Supervision.
  """
  how = Supervision(**settings)
  return (
    functools.partial(init, model, how),
    functools.partial(train_step, model, tx, how),
  )


def init(
  model: Recursive, how: Supervision, params: Params, items: Items
) -> Carry:
  """All slots free; `items` [N] give the shapes."""
  nothing = jnp.zeros(how.batch_size, jnp.int32)
  work = Work(items, jnp.zeros_like(items.question), nothing)
  slots = batch_slots.empty(work, model.begin(how.batch_size), how.supersteps)
  if how.halting:  # they spread by themselves
    slots = slots._replace(limit=nothing + how.supersteps)
  zero = jnp.zeros((), jnp.int32)
  carry = Carry(slots, params, Passes(zero, zero, zero))
  return jax.tree.map(jnp.copy, carry)  # steps donate it: nothing shared


def train_step(
  model: Recursive,
  tx: optax.GradientTransformation,
  how: Supervision,
  state: TrainState,
  fresh: Items,
) -> tuple[TrainState, Metrics]:
  """One superstep on all slots, and one update."""
  carry: Carry = state.carry
  key = keys.step_key(state.seed, state.step)
  slots = batch_slots.refill(
    carry.slots,
    enter(how, key, fresh),
    model.begin(how.batch_size),
    how.supersteps,
  )
  with jax.named_scope("update"):
    (value, (latent, halt, metrics)), grads = jax.value_and_grad(
      functools.partial(loss, model, how), has_aux=True
    )(state.params, slots)
    change, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, change)
  asks = (halt > 0) & (slots.step + 1 >= slots.item.least) & how.halting
  slots = batch_slots.advance(slots, latent, asks)
  left = jnp.sum(slots.done, dtype=jnp.int32)
  metrics |= {
    "loss": value,
    "gradient_norm": optax.tree.norm(grads),
    "mean_step": jnp.mean(slots.step * 1.0),
    "finished": left * 1.0,
  }
  averaged = optax.incremental_update(params, carry.ema, 1.0 - how.ema)
  passes = executed(carry.passes, model, how.batch_size, left)
  return state._replace(
    step=state.step + 1, params=params, opt_state=opt_state,
    carry=Carry(slots, averaged, passes),
  ), metrics  # fmt: skip


def enter(how: Supervision, key: jax.Array, items: Items) -> Work:
  """What is drawn for items when they get a slot. items [N] -> Work [N]"""
  k_due, k_some, k_least = (keys.child(key, x) for x in keys.Entering)
  steps, shape = how.supersteps, (how.batch_size,)
  due = targets.target_schedule(
    how.scheme, k_due, items.question, items.answer, items.order, steps
  )
  some = jax.random.bernoulli(k_some, how.explore, shape)
  least = jax.random.randint(k_least, shape, 2, steps + 1)
  return Work(items, due, jnp.where(some, least, 1))


def loss(
  model: Recursive, how: Supervision, params: Params, slots: batch_slots.Slots
) -> tuple[jax.Array, tuple]:
  """One superstep: -> its loss, (the new State, halting logits, metrics)."""
  work: Work = slots.item
  state, said = model.superstep(
    params, work.items.question, slots.state, slots.step, work.items.identity
  )
  target = targets.target_at(
    slots.step + 1, work.due, work.items.question, work.items.answer
  )
  logp = stablemax.log_probs(said.logits)
  nll = -jnp.mean(distributions.pick(logp, target), -1)  # [N]
  right = jnp.argmax(said.logits, -1) == work.items.answer
  exact = jnp.all(right, -1) * 1.0
  value = jnp.mean(nll)
  metrics = {"nll": value, "exact": jnp.mean(exact), "cell": jnp.mean(right)}
  if how.halting:
    unsure = optax.sigmoid_binary_cross_entropy(said.halt, exact)
    value += HALT_WEIGHT * jnp.mean(unsure)
    metrics["halt_nll"] = jnp.mean(unsure)
  return value, (state, said.halt, metrics)


def executed(
  before: Passes, model: Recursive, batch_size: int, left: jax.Array
) -> Passes:
  """Adds a step of all slots, after which `left` items have left."""
  return Passes(
    before.calls + batch_size * model.calls,
    before.calls_with_gradient + batch_size * model.calls_with_gradient,
    before.finished + left,
  )
