"""A stage that is no RL and writes no code: language modelling."""

import jax
import jax.numpy as jnp
import optax

from rsrc_jax.build.overrides import arm_config
from rsrc_jax.lm import likelihood
from rsrc_jax.rl import learner
from rsrc_jax.stages import stage
from rsrc_jax.types import TrainState


def make(setup, name):
  """Its carry counts the sources that it has seen."""
  config = arm_config(setup.config, name)
  tx = learner.optimizer(steps=config.steps, **config.optimizer)
  text = setup.roles["text"]

  def init(params):
    params = stage.copy_of(params)
    return TrainState(
      jnp.int32(0), params, tx.init(params), jnp.int32(0), (),
      jnp.uint32(config.seed),
    )  # fmt: skip

  def step(state, frozen, batch, controls):
    del frozen, controls

    def loss(params):
      found = likelihood.without_code(setup.policy, params, text, batch.source)
      return -jnp.mean(found)

    value, grads = jax.value_and_grad(loss)(state.params)
    change, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, change)
    seen = state.carry + len(batch.row)
    return state._replace(
      step=state.step + 1, params=params, opt_state=opt_state, carry=seen
    ), {"loss": value}

  return stage.Stage(
    name=name,
    steps=config.steps,
    batch_size=config.batch_size,
    data_seed=config.seed + 1,
    init=init,
    step=stage.jit_step(setup, step, init),
  )
