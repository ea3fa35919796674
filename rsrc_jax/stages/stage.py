"""A training stage as a set of functions, and helpers of all stages."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build.setup import Setup
from rsrc_jax.models import lora
from rsrc_jax.rl import curriculum
from rsrc_jax.runtime import sharding
from rsrc_jax.types import Metrics, Params, Tokens, TrainState

# The stages that are no arms, and what they start from.
READER, BASE, UNTRAINED = "reader", "base", "untrained"


def copy_of(params: Params) -> Params:
  """Copies the parameters, because a step donates its input buffers."""
  return jax.tree.map(jnp.copy, params)


def as_trained(params: Params, frozen: dict[str, Params]) -> Params:
  """Stage.bind without adapters: the trained parameters are the policy's."""
  del frozen
  return params


def no_controls(state, frozen, batch) -> tuple:
  """Stage.controls of a stage whose step needs only its batch."""
  del state, frozen, batch
  return ()


def at_reward_plateau(state: TrainState) -> bool:
  """Stage.ended of an arm: its reward was flat without constraints."""
  return curriculum.converged(state.curriculum)


class Stage(NamedTuple):
  """One training loop, as functions. training/lane.py runs it.

  A stage that is not RL and writes no code sets the fields without defaults.
  Its own measurements go through `config.evals`.
  """

  name: str
  steps: int
  batch_size: int
  data_seed: int  # orders the sources
  init: Callable[[Params], TrainState]  # initial parameters -> state
  # (state, frozen, batch, controls) -> (state, metrics), jitted, state donated
  step: Callable[..., tuple[TrainState, Metrics]]
  # (state, frozen, batch) -> controls of the step that follows, jitted
  controls: Callable[..., Any] = jax.jit(no_controls)
  # (params, frozen, batch, key[, k]) -> code [B, k]; None: writes no code
  write: Callable[..., Tokens] | None = None
  # (source, code, d) -> capability.Saved, where it writes
  saved: Callable[..., Any] | None = None
  symbols: int | None = None  # ids that its codes may use, where it writes
  rule: bool = False  # it writes by a rule, which has no length of its own
  english: bool = False  # its codes are an English arm of the comparison
  reads_base: bool = False  # its service needs the base's parameters too
  # (state, frozen, held-out batch) -> (state, metrics), without learning
  observe: Callable[..., tuple[TrainState, Metrics]] | None = None
  observe_every: int = 0  # steps; 0: never
  # Steps from one moment at which it may end before `steps`, where `ended` says
  # so, to the next; 0: after `steps` alone.
  ends_every: int = 0
  ended: Callable[[TrainState], bool] = at_reward_plateau
  # The last state -> how its levels have ended; None: nothing looks for it.
  plateaus: Callable[[TrainState], list[dict[str, Any]]] | None = None
  # (trained parameters, frozen) -> the policy's parameters
  bind: Callable[[Params, dict[str, Params]], Params] = as_trained
  # The stage whose parameters it starts from; UNTRAINED: it is no arm, and
  # starts from what a run has before any training.
  start: str = BASE
  hears: bool = False  # its V weighs the reader
  rows: Any = None  # what it trains on; None: the train split of the corpus
  # (charge, trained parameters) -> facts for the summary; see stages/reader.py.
  # Unless it is "accepted", the run ends with what is "said".
  verdict: Callable[..., dict[str, Any]] | None = None
  # For mixed patterns: a step for each, and (step, level) -> a pattern's name.
  programs: Mapping[str, Callable] = MappingProxyType({})
  draw_pattern: Callable[[int, int], str] | None = None
  examine: Callable[..., Any] | None = None  # types.Pattern.examine, jitted
  roles: tuple = ()  # (name, Role) of the patterns, in addition to the setup's

  @property
  def sections(self) -> tuple[str, ...]:
    """The sections of the ledger of its own roles."""
    return tuple(dict.fromkeys(role.scope for _, role in self.roles))

  def at_its_plateau(self, state: TrainState) -> bool:
    """Whether it has ended before `steps`. It waits for the device."""
    return bool(self.ends_every and self.ended(state))

  @property
  def charged(self) -> tuple[str, ...]:
    """The stages whose training it is charged for."""
    return (*((READER,) if self.hears else ()), BASE, self.name)


def arms_of(stages: Sequence[Stage]) -> list[Stage]:
  """The stages of arms: not those that all arms build on."""
  return [x for x in stages if x.start != UNTRAINED]


def frozen_of(stage: Stage, trained: dict[str, Params]) -> dict[str, Params]:
  """Parameters that a stage reads and does not train, by name.

  Args:
    stage: which.
    trained: by stage, of those before it; UNTRAINED is the base until there is
      one. Where no reader was trained there are no parameters of one.
  """
  base = trained[BASE if BASE in trained else UNTRAINED]
  found = {"base": base, "reader": trained.get(READER, {})}
  if stage.start not in (BASE, UNTRAINED):
    found["start"] = trained[stage.start]
  return found


def adapters(config) -> tuple[Callable, Callable]:
  """adapt: parameters, key -> trained parameters; the way back (Stage.bind)."""
  block = config.get("lora")
  if not block or not block.rank:
    return lambda params, key: copy_of(params), as_trained
  scale = block.alpha / block.rank
  adapt = lambda params, key: lora.init(
    key, params, rank=block.rank, targets=block.targets
  )
  attach = lambda params, frozen: lora.attach(frozen["base"], params, scale)
  return adapt, attach


def jit_init(setup: Setup, init: Callable) -> Callable:
  """Stage.init from init(params, seed [] uint32): one program, state placed.

  The seed is an argument, so that all seeds find one program in the cache.
  """
  seed = np.uint32(setup.config.seed)
  params = jax.eval_shape(setup.policy.init, jax.random.key(0))
  where = sharding.shardings(setup.mesh, jax.eval_shape(init, params, seed))
  jitted = jax.jit(init, out_shardings=where)
  return lambda params: jitted(params, seed)


def jit_step(setup: Setup, step: Callable, init: Callable) -> Callable:
  """Jits a step whose state keeps its sharding.

  Without out_shardings, XLA may describe the same sharding in another way, and
  the second step would be compiled again.
  """
  params = jax.eval_shape(setup.policy.init, jax.random.key(0))
  where = sharding.shardings(setup.mesh, jax.eval_shape(init, params))
  return jax.jit(step, donate_argnums=0, out_shardings=(where, None))
