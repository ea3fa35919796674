"""The base ended by its validation split: config.pretrain.patience.

Every config.eval.every steps, once the roles are taught, the base's own loss is
measured on rows of the validation split, the same ones with the same draws each
time. After `patience` looks in a row without a lower loss the stage ends. It
goes on with the parameters of the lowest loss, also where its steps end it.

All of it is in the state, so that a run that goes on has the same bits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build.setup import Setup
from rsrc_jax.lm import keys
from rsrc_jax.rl import supervised
from rsrc_jax.stages import stage
from rsrc_jax.types import Batch, Metrics, Params, Tokens, TrainState


class Watched(NamedTuple):
  """What the looks have found: TrainState.carry of a base that is watched."""

  best: Params  # of the lowest loss
  loss: jax.Array  # [] float32: that loss, in nats
  waited: jax.Array  # [] int32: looks since
  ended: jax.Array  # [] bool


def begin(params: Params) -> Watched:
  """Before the first look."""
  return Watched(
    stage.copy_of(params), jnp.float32(jnp.inf), jnp.int32(0), jnp.bool(False)
  )


def ended(state: TrainState) -> bool:
  """Whether the stage is over. It waits for the device."""
  return bool(state.carry.ended)


def make_observe(
  setup: Setup, how: supervised.Warmup, *, patience: int, steps: int, every: int
) -> Callable[[TrainState, Any, Any], tuple[TrainState, Metrics]]:
  """Builds observe(state, frozen, batch) -> (state, metrics), a look.

  Args:
    setup: of the run; config.eval.rows of its validation split are looked at,
      in whole batches of config.pretrain.batch_size.
    how: of the base's step.
    patience: looks without a lower loss after which the stage ends.
    steps: of the stage; the last look that fits ends it too.
    every: steps from one look to the next.
  """
  config = setup.config
  batches = _batches(
    setup.corpus.valid, config.eval.rows, config.pretrain.batch_size
  )

  def observe(state: TrainState, frozen, batch) -> tuple[TrainState, Metrics]:
    del frozen, batch
    first = keys.step_key(state.seed, jnp.int32(0))
    key = keys.child(first, keys.Step.HELD_OUT)

    def of_batch(batch: Batch) -> jax.Array:
      found = supervised.sft_batches(how, state.params, batch, key)
      return supervised.loss(how, state.params, found, jnp.float32(1.0))[0]

    with jax.named_scope("V"):
      loss = jnp.mean(jax.lax.map(of_batch, batches))
    found = looked(
      state.carry, state.params, loss, counts=state.step > how.warmup_from,
      patience=patience, last=state.step + every > steps,
    )  # fmt: skip
    params = _where(found.ended, found.best, state.params)
    metrics = {"held_loss": loss, "held_waited": found.waited * 1.0}
    return state._replace(params=params, carry=found), metrics

  return observe


def looked(
  before: Watched,
  params: Params,
  loss: jax.Array,
  *,
  counts: jax.Array,
  patience: int,
  last: jax.Array,
) -> Watched:
  """What is known after a look.

  Args:
    before: what was known.
    params: of this step.
    loss: [] of these, in nats.
    counts: [] bool, whether the roles are taught yet; before, nothing is kept.
    patience: see make_observe.
    last: [] bool, whether no other look follows.
  """
  better = counts & (loss < before.loss)
  waited = jnp.where(better | ~counts, 0, before.waited + 1)
  return Watched(
    best=_where(better, params, before.best),
    loss=jnp.where(better, loss, before.loss),
    waited=waited,
    ended=counts & ((waited >= patience) | last),
  )


def _batches(split: Tokens, rows: int, size: int) -> Batch:
  """The first rows of a split as whole batches, [n, B, ...]; at least one."""
  count = max(min(rows, len(split.ids)) // size, 1)
  row = np.arange(count * size, dtype=np.int32) % len(split.ids)
  cut = lambda x: x.reshape(count, size, *x.shape[1:])
  source = Tokens(cut(split.ids[row]), cut(split.mask[row]))
  return Batch(source=source, row=cut(row))


def _where(condition: jax.Array, then: Any, other: Any) -> Any:
  """One of two trees."""
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, other)
