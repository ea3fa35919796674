"""The stage of an arm: a pattern is played, and what it earns is learnt."""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from rsrc_jax import types
from rsrc_jax.build import writers
from rsrc_jax.build.setup import Setup, arm_config, make_info
from rsrc_jax.lm import keys
from rsrc_jax.ops import rewards
from rsrc_jax.rl import (
  curriculum,
  learner,
  mixing,
  verifier,
)
from rsrc_jax.runtime import configs
from rsrc_jax.stages import stage
from rsrc_jax.types import Context, Params, Pattern, TrainState


def make(setup: Setup, name: str, programs: dict | None = None) -> stage.Stage:
  """The stage of the arm `config.arms[name]`.

  programs: jitted steps of the arms made before it, by what they depend on:
    arms that train alike share one. Left out, it shares none.
  """
  arm, config = setup.config.arms[name], arm_config(setup.config, name)
  writers.check_pattern(name, arm.pattern, arm.write)
  writer = writers.of(arm.write)
  prepare, write = writer.make(setup, config, arm.write)
  pattern = make_pattern(setup, config, arm.pattern)
  relax, every = make_curriculum(config)
  levels, played = mixture(setup, config, name, pattern)
  tx = learner.optimizer(
    steps=config.steps * config.updates, **config.optimizer
  )
  adapt, bind = stage.adapters(config)
  init = make_init(
    adapt, tx, mixing.init_carries(played) if levels else pattern.init, relax,
    config.seed,
  )  # fmt: skip
  programs = {} if programs is None else programs
  overrides = tuple(arm.get("overrides", ()))
  alike = (arm.pattern, overrides, arm.get("start"), levels)
  if alike not in programs:
    programs[alike] = {
      kind: stage.jit_step(
        setup,
        make_step(
          setup, config, one, relax, tx, bind, kind if levels else None
        ),
        init,
      )
      for kind, one in played.items()
    }
  steps = programs[alike]
  observe = None
  if looks := every and not writer.rule:
    observe = make_observe(
      setup, config, arm.pattern, relax, prepare, bind, bool(levels)
    )
    observe = stage.jit_step(setup, observe, init)
  return stage.Stage(
    name=name,
    steps=config.steps,
    batch_size=config.batch_size,
    data_seed=config.seed + 1,
    init=init,
    step=steps[arm.pattern],
    controls=jax.jit(make_controls(config, relax, prepare)),
    write=jax.jit(write),
    saved=writers.make_saved(setup, arm.write),
    english=writer.english,
    reads_base=writer.reads_base,
    observe=observe,
    observe_every=every if looks else 0,
    bind=bind,
    start=start_of(setup.config, name),
    programs=steps if levels else {},
    draw_pattern=(
      functools.partial(mixing.draw_pattern, levels, config.seed)
      if levels
      else None
    ),
    examine=make_examine(played, bool(levels)),
    roles=tuple(role for one in played.values() for role in one.roles),
  )


def make_init(adapt, tx, carry, relax, seed: int) -> Callable:
  """init(params) -> the state before the first step."""

  def init(params: Params) -> TrainState:
    trained = adapt(params)
    return TrainState(
      jnp.int32(0), trained, tx.init(trained), carry(), relax.init(),
      jnp.uint32(seed),
    )  # fmt: skip

  return init


def make_controls(config, relax, prepare) -> Callable:
  """given(step, curriculum state, frozen, batch) -> controls, or rule's codes.

  Drawn apart from the rollouts, and with a seed of their own where
  `config.augment.seed` gives one: arms then meet the same draws.
  """
  seed = config.augment.seed if config.augment.seed >= 0 else config.seed

  def controls(step, state, frozen, batch):
    key = keys.child(keys.step_key(seed, step), keys.Step.CONSTRAINTS)
    schedule = relax.update(state, step).schedule
    return prepare(frozen, batch, key, schedule)

  return controls


def make_examine(played: dict[str, Pattern], mixed: bool) -> Callable | None:
  """What the patterns of an arm measure of themselves; None if they don't."""
  looks = {kind: one.examine for kind, one in played.items() if one.examine}
  if not looks:
    return None
  if not mixed:
    return jax.jit(*looks.values())

  def examine(params, frozen, carry, batch, code, key):
    scores, shown = {}, {}
    for kind, look in looks.items():
      found = look(params, frozen, carry[kind], batch, code, key)
      for into, what in zip((scores, shown), found, strict=True):
        into |= {f"{kind}.{name}": x for name, x in what.items()}
    return scores, shown

  return jax.jit(examine)


def start_of(config, name: str) -> str:
  """Whose parameters an arm begins with.

  Raises:
    ValueError: another arm's, by one that trains adapters of the base's.
  """
  start = config.arms[name].get("start") or "base"
  config = arm_config(config, name)
  if start != "base" and (block := config.get("lora")) and block.rank:
    raise ValueError(
      f"config.arms: start={start!r} goes on from weights that "
      f"config.lora.rank={block.rank} freezes at the base's: set the rank to 0 "
      "or start='base'."
    )
  return start


def mixture(setup, config, name: str, pattern: Pattern):
  """-> levels, and the patterns that an arm plays: one, where it mixes none.

  levels: for each level of the curriculum the patterns and their weights.
  """
  arm = setup.config.arms[name]
  if not arm.get("phases"):
    return (), {arm.pattern: pattern}
  levels = mixing.check(
    name, arm.phases, arm.pattern, config.curriculum.to_dict()
  )
  kinds = sorted({kind for part in levels for kind, _ in part})
  if "extract" in kinds:
    raise ValueError(
      f"config.arms.{name}.phases: extract is given codes that a rule writes, "
      "the other patterns write their own; it can't be mixed with them."
    )
  others = {
    k: make_pattern(setup, config, k) for k in kinds if k != arm.pattern
  }
  return levels, {arm.pattern: pattern, **others}


def make_curriculum(config) -> tuple[curriculum.Curriculum, int]:
  """-> the curriculum, and after how many steps held-out reward is measured."""
  block = config.curriculum.to_dict()
  name, every = block.pop("name"), block.pop("every")
  kinds = {"linear": curriculum.linear, "plateau": curriculum.plateau}
  if name not in kinds:
    raise ValueError(
      f"config.curriculum.name={name!r} is not in {list(kinds)}."
    )
  if name == "plateau" and every < 1:
    raise ValueError(
      f"config.curriculum.every={every}: a plateau is seen in the held-out "
      "reward; give the steps between two measurements, at least 1."
    )
  return kinds[name](**block), every


def make_observe(
  setup: Setup, config, kind: str, relax, prepare, bind, mixed: bool
) -> Callable:
  """Plays a held-out batch and shows its reward to the curriculum."""
  pattern = make_pattern(setup, config, kind, monitor=True)

  def observe(state, frozen, batch):
    # Not a child of the step's key that its rollouts or lessons use.
    key = keys.step_key(state.seed, state.step)
    k_ask, k_play = _held_out_keys(keys.child(key, keys.Step.HELD_OUT))
    ask = prepare(frozen, batch, k_ask, state.curriculum.schedule)
    episode, _ = pattern.play(
      bind(state.params, frozen), frozen,
      state.carry[kind] if mixed else state.carry, batch, k_play, ask,
    )  # fmt: skip
    seen = relax.observe(state.curriculum, episode.metrics["reward"])
    metrics = {f"held_{k}": v for k, v in episode.metrics.items()}
    return state._replace(curriculum=seen), metrics

  return observe


def watched(setup: Setup, arm: str) -> Callable[..., types.Metrics]:
  """look(params, frozen, batch, key, schedule) -> metrics of injection.py.

  Of an arm that injects, under its own settings and the given schedule; L is
  measured whether it is paid for or not, and nothing is learnt.
  """
  config = arm_config(setup.config, arm)
  kind, mode = setup.config.arms[arm].pattern, setup.config.arms[arm].write
  pattern = make_pattern(setup, config, kind, monitor=True)
  constrain = writers.make_controls(setup, config, mode)

  def look(params, frozen, batch, key, schedule):
    k_ask, k_play = _held_out_keys(key)
    ask = constrain(k_ask, batch, schedule)
    carry = pattern.init()
    return pattern.play(params, frozen, carry, batch, k_play, ask)[0].metrics

  return jax.jit(look)


def _held_out_keys(key):
  """-> what constraints are drawn by, and what stands for a step's key."""
  return (
    keys.child(key, keys.HeldOut.CONSTRAINTS),
    keys.child(key, keys.HeldOut.PLAY),
  )


def make_pattern(setup, config, name: str, monitor: bool = False) -> Pattern:
  verify = verifier.make(
    setup.policy,
    setup.roles["V"],
    weights=config.verifier.to_dict(),
    positions=setup.corpus.slots,
  )
  # A file of the user's is a pattern as good as one of ours.
  foreign = name.endswith(".py")
  module = (
    configs.module(name)
    if foreign
    else importlib.import_module(f"rsrc_jax.patterns.{name}")
  )
  kwargs = config.patterns[Path(name).stem if foreign else name].to_dict()
  if kwargs.get("gate"):
    rewards.check_bonus(
      bonus=kwargs["gate"]["bonus"],
      price=kwargs["length_price"],
      listed=config.augment.inject,
      budget=config.budget,
      beyond=kwargs["gate"].pop("beyond_bound"),
    )
    kwargs["monitor"] = monitor
  context = Context(setup.policy, setup.roles, verify, make_info(setup.corpus))
  return module.make(context, **kwargs)


def make_step(setup, config, pattern, relax, tx, bind, carry) -> Callable:
  """carry: the pattern's name where the state holds several carries."""
  roles = setup.roles | dict(pattern.roles)
  step = learner.make_step(
    setup.policy,
    roles,
    pattern,
    relax,
    tx,
    loss=learner.make_loss(setup.policy, roles, **config.loss.to_dict()),
    updates=config.updates,
    micro_batches=config.micro_batches,
    normalize_std=config.normalize_std,
    kl=config.kl,
    bind=bind,
  )
  return mixing.with_own_carry(step, carry) if carry else step
