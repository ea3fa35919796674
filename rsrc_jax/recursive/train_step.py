"""train_step of recursive models: one superstep on items that are in flight.

A batch is N slots. Each step runs one superstep on all of them, learns from
what they say, and puts new items where one has left (arXiv 2510.04871; its
inner loop over supervision steps is this carry).

Simplified beside the official code: AdamW for AdamATan2, one optimizer for all
parameters (their puzzle embeddings have SignSGD), stablemax in float32 for
float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsrc_jax.lm.keys import step_key
from rsrc_jax.models.recursive import Recursive
from rsrc_jax.ops import distributions, stablemax
from rsrc_jax.recursive import batch_slots, targets
from rsrc_jax.types import Metrics, Params, TrainState

HALT_WEIGHT = 0.5  # of the halting head's loss


class Items(NamedTuple):
  """What is worked on. N items of L cells, int32."""

  question: jax.Array  # [N, L]
  answer: jax.Array  # [N, L]
  order: jax.Array  # [N, L]: see data/puzzles.py
  identity: jax.Array  # [N]: which task it is of


class Work(NamedTuple):
  """An item in its slot."""

  items: Items
  due: jax.Array  # [N, L] int32: see targets.due
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


def make(
  model: Recursive,
  tx: optax.GradientTransformation,
  *,
  batch_size: int,
  supersteps: int,
  scheme: str,
  halting: bool,
  explore: float,
  ema: float,
  rising: bool = False,
) -> tuple[Callable[..., Carry], Callable[..., tuple[TrainState, Metrics]]]:
  """Builds init(params, items) -> Carry and train_step(state, fresh).

  Args:
    model: from models.recursive.make.
    tx: the optimizer.
    batch_size: N slots.
    supersteps: S: when an item leaves at the latest.
    scheme: of the targets, see targets.due.
    halting: an item also leaves when the halting head says that it is right.
    explore: share of the items that may not halt before a step drawn from
      2..S.
    rising: the loss of later steps weighs more, linearly.
    ema: decay of the averaged parameters, per step.

  `fresh` are Items [N] of which those are taken whose slot is free.
  """
  weights = jnp.asarray(targets.weights(supersteps, rising))

  def init(params: Params, items: Items) -> Carry:
    nothing = jnp.zeros(batch_size, jnp.int32)
    work = Work(items, jnp.zeros_like(items.question), nothing)
    slots = batch_slots.empty(work, model.begin(batch_size), supersteps)
    if halting:  # they spread by themselves
      slots = slots._replace(limit=nothing + supersteps)
    zero = jnp.zeros((), jnp.int32)
    carry = Carry(slots, params, Passes(zero, zero, zero))
    return jax.tree.map(jnp.copy, carry)  # steps donate it: nothing shared

  def enter(key, items: Items) -> Work:
    k_due, k_some, k_least = jax.random.split(key, 3)
    due = targets.due(
      scheme, k_due, items.question, items.answer, items.order, supersteps
    )
    some = jax.random.bernoulli(k_some, explore, (batch_size,))
    least = jax.random.randint(k_least, (batch_size,), 2, supersteps + 1)
    return Work(items, due, jnp.where(some, least, 1))

  def loss(params, slots: batch_slots.Slots):
    work: Work = slots.item
    state, said = model.superstep(
      params, work.items.question, slots.state, slots.step, work.items.identity
    )
    target = targets.frame(
      slots.step + 1, work.due, work.items.question, work.items.answer
    )
    logp = stablemax.log_probs(said.logits)
    nll = -jnp.mean(distributions.pick(logp, target), -1)  # [N]
    right = jnp.argmax(said.logits, -1) == work.items.answer
    exact = jnp.all(right, -1) * 1.0
    value = jnp.mean(nll * weights[jnp.minimum(slots.step, supersteps - 1)])
    metrics = {"nll": jnp.mean(nll), "exact": jnp.mean(exact),
               "cell": jnp.mean(right)}  # fmt: skip
    if halting:
      unsure = optax.sigmoid_binary_cross_entropy(said.halt, exact)
      value += HALT_WEIGHT * jnp.mean(unsure)
      metrics["halt_nll"] = jnp.mean(unsure)
    return value, (state, said.halt, metrics)

  def train_step(state: TrainState, fresh: Items):
    carry: Carry = state.carry
    key = step_key(state.seed, state.step)
    slots = batch_slots.refill(
      carry.slots, enter(key, fresh), model.begin(batch_size), supersteps
    )
    with jax.named_scope("update"):
      (value, (latent, halt, metrics)), grads = jax.value_and_grad(
        loss, has_aux=True
      )(state.params, slots)
      change, opt_state = tx.update(grads, state.opt_state, state.params)
      params = optax.apply_updates(state.params, change)
    asks = (halt > 0) & (slots.step + 1 >= slots.item.least) & halting
    slots = batch_slots.advance(slots, latent, asks)
    left = jnp.sum(slots.done, dtype=jnp.int32)
    passes = Passes(
      carry.passes.calls + batch_size * model.calls,
      carry.passes.calls_with_gradient + batch_size * model.calls_with_gradient,
      carry.passes.finished + left,
    )
    metrics |= {
      "loss": value,
      "gradient_norm": optax.tree.norm(grads),
      "mean_step": jnp.mean(slots.step * 1.0),
      "finished": left * 1.0,
    }
    averaged = optax.incremental_update(params, carry.ema, 1.0 - ema)
    return state._replace(
      step=state.step + 1, params=params, opt_state=opt_state,
      carry=Carry(slots, averaged, passes),
    ), metrics  # fmt: skip

  return init, train_step
