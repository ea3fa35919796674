"""A training stage as functions, and what all stages share."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.build.setup import Setup
from rsrc_jax.models import lora
from rsrc_jax.runtime import sharding
from rsrc_jax.types import Params, TrainState


def copy_of(params: Params) -> Params:
  """A copy: the step that trains it gives its memory away."""
  return jax.tree.map(jnp.copy, params)


def as_trained(params: Params, frozen: dict[str, Params]) -> Params:
  del frozen
  return params


class Stage(NamedTuple):
  """One training loop, as functions."""

  name: str
  steps: int
  batch_size: int
  data_seed: int
  init: Callable[[Params], TrainState]
  given: Callable[..., Any]  # step, schedule, frozen, batch -> given
  step: Callable[..., Any]  # state, frozen, batch, given -> state, metrics
  write: Callable[..., Any] | None  # params, frozen, batch, key[, k] -> code
  saved: Callable[..., Any] | None  # source, code, d -> capability.Saved
  # state, frozen, batch -> state, metrics; a held-out batch, not learnt
  observe: Callable[..., Any] | None = None
  observe_every: int = 0  # steps; 0: never
  # What is trained, frozen -> the policy's parameters.
  bind: Callable[[Params, dict[str, Params]], Params] = as_trained
  start: str = "base"  # the phase whose parameters it begins with
  # Of an arm that mixes patterns: their steps, and whose turn it is.
  mixed: Mapping[str, Callable] = MappingProxyType({})
  pick: Callable[[int, int], str] | None = None  # step, phase -> name
  examine: Callable[..., Any] | None = None  # types.Pattern.examine, jitted
  carry: Callable[[], Any] = tuple  # what `examine` is given: a fresh one
  roles: tuple = ()  # (name, Role): the patterns' own, beside the setup's

  @property
  def sections(self) -> tuple[str, ...]:
    """Sections of the ledger that its own roles are charged to."""
    return tuple(dict.fromkeys(role.scope for _, role in self.roles))


def frozen_of(phase: Stage, trained: dict[str, Params]) -> dict[str, Params]:
  """What a phase reads and never trains: the base, and what it started from."""
  found = {"base": trained["base"], "reader": trained["base"]}
  if phase.start != "base":
    found["start"] = trained[phase.start]
  return found


def adapters(config) -> tuple[Callable, Callable]:
  """-> parameters to what is trained of them, and back (Phase.bind)."""
  block = config.get("lora")
  if not block or not block.rank:
    return copy_of, as_trained
  scale = block.alpha / block.rank
  key = jax.random.key(config.seed)
  adapt = lambda params: lora.init(
    key, params, rank=block.rank, targets=block.targets
  )
  attach = lambda params, frozen: lora.attach(frozen["base"], params, scale)
  return adapt, attach


def jit_step(setup: Setup, step: Callable, init: Callable) -> Callable:
  """Jits a step whose state comes back to where it came from.

  Without saying where the state is put out, XLA may name the same place in
  another way, and the second step would be compiled anew.
  """
  params = jax.eval_shape(setup.policy.init, jax.random.key(0))
  where = sharding.shardings(setup.mesh, jax.eval_shape(init, params))
  return jax.jit(step, donate_argnums=0, out_shardings=(where, None))
