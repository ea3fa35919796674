"""The first stage: language modelling, and a warm-up of the roles."""

import functools

import jax
import jax.numpy as jnp

from rsrc_jax.build import writers
from rsrc_jax.build.setup import Setup
from rsrc_jax.rl import learner, supervised
from rsrc_jax.stages import fitness, stage, stopping
from rsrc_jax.types import Params, TrainState


def make(setup: Setup, name: str = "base") -> stage.Stage:
  """The stage that every arm starts from, with the block `config.pretrain`."""
  config, settings = setup.config, setup.config.pretrain
  tx = learner.optimizer(steps=settings.steps, **settings.optimizer)
  # Of its own: cut=1 leaves each row the budget that is drawn for it, whether
  # or not the prompt says it, and that is the size of its extract. The warm-up
  # leaves the lists of half of the rows out by itself.
  constrain = writers.make_controls(
    setup, config, "free",
    unannounced=settings.get("unannounced", 0.0), cut=1.0, bare=0.0,
  )  # fmt: skip
  how = supervised.Warmup(
    setup.policy,
    setup.roles,
    constrain,
    budget=max(config.budgets, default=config.budget),
    warmup_from=settings.warmup_from,
    dropout=settings.dropout,
    empty=settings.empty,
    demonstrate=settings.demonstrate,
    ends=not config.augment.fixed_length,
    withheld=writers.withheld(setup, config),
  )
  step, every = supervised.step_of(how, tx), config.eval.every
  patience = settings.get("patience", 0) if settings.steps else 0

  def begin(params: Params, seed: jax.Array) -> TrainState:
    moments = tx.init(params)
    watched = stopping.begin(params) if patience else ()
    return TrainState(
      jnp.int32(0), stage.copy_of(params), moments, watched, (), seed
    )

  def untrained(params: Params) -> TrainState:
    """Parameters that are not trained need no copy and no moments."""
    return TrainState(jnp.int32(0), params, (), (), (), jnp.uint32(config.seed))

  init = stage.jit_init(setup, begin) if settings.steps else untrained
  looks = {}
  if patience:
    observe = stopping.make_observe(
      setup, how, patience=patience, steps=settings.steps, every=every
    )
    looks = {
      "observe": stage.jit_step(setup, observe, init),
      "observe_every": every,
      "ends_every": every,
      "ended": stopping.ended,
    }
  return stage.Stage(
    name=name,
    steps=settings.steps,
    batch_size=settings.batch_size,
    data_seed=config.seed,
    init=init,
    step=stage.jit_step(setup, step, init),
    controls=jax.jit(lambda *_: ()),
    start=stage.UNTRAINED,
    verdict=(
      functools.partial(fitness.verdict, setup)
      if fitness.is_counted(setup)
      else None
    ),
    **looks,
  )
