"""The stage of an arm: it plays a pattern and learns from the rewards."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rsrc_jax.build import overrides, writers
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.patterns import block_of, numbers_of
from rsrc_jax.build.patterns import make as make_pattern
from rsrc_jax.build.setup import Setup
from rsrc_jax.lm import keys
from rsrc_jax.rl import (
  curriculum,
  entropy,
  learner,
  mixing,
  numbers,
)
from rsrc_jax.runtime import old_configs
from rsrc_jax.stages import stage, watch
from rsrc_jax.types import Given, Params, Pattern, TrainState


def make(setup: Setup, name: str, programs: dict | None = None) -> stage.Stage:
  """The stage of the arm `config.arms[name]`.

  programs: jitted steps of the arms made so far, by what is constant in them:
    arms whose steps differ in numbers alone share one. None: it shares none.
  """
  arm, config = setup.config.arms[name], arm_config(setup.config, name)
  writers.check_pattern(name, arm.pattern, arm.write)
  writer = writers.of(arm.write)
  prepare, write = writer.make(setup, config, arm.write)
  pattern = make_pattern(setup, config, arm.pattern)
  relax, every = make_curriculum(config)
  # A rule writes the codes of some arms: they have no reward.
  watches = bool(relax.rule.window) and not writer.rule
  observed = observe_of(arm.pattern, relax) if watches and not every else None
  levels, played = mixture(setup, config, name, pattern)
  tx = learner.optimizer(
    steps=config.steps * config.updates, **config.optimizer
  )
  adapt, bind = stage.adapters(config)
  carry = mixing.init_carries(played) if levels else pattern.init
  hold = make_hold(config)
  init = stage.jit_init(setup, make_init(adapt, tx, carry, relax, hold))
  flat = old_configs.flat(config.to_dict())
  given = {block_of(kind): numbers_of(kind) for kind in played}
  programs = {} if programs is None else programs
  # An arm that starts from another has that one's parameters as an argument.
  later = start_of(setup.config, name) != "base"
  seen = (relax.rule, relax.levels, observed is None)
  alike = (*played, bool(levels), later, seen, numbers.static(flat, given))
  if alike not in programs:
    programs[alike] = {
      kind: stage.jit_step(
        setup,
        make_step(
          setup,
          config,
          one,
          tx,
          bind,
          kind if levels else None,
          observed if kind == arm.pattern else None,
        ),
        init,
      )
      for kind, one in played.items()
    }
  steps = programs[alike]
  observe = None
  if looks := every and not writer.rule:
    observe = watch.make_observe(
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
    controls=jax.jit(
      make_controls(config, relax, prepare, numbers.of_config(flat, given))
    ),
    write=jax.jit(write),
    saved=writers.make_saved(setup, arm.write),
    symbols=writers.alphabet(setup, arm.write),
    rule=writer.rule,
    english=writer.english,
    reads_base=writer.reads_base,
    observe=observe,
    observe_every=every if looks else 0,
    ends_every=ends_every(arm, relax.rule, every),
    plateaus=(
      functools.partial(plateaus, arm, max(every, 1)) if watches else None
    ),
    bind=bind,
    start=start_of(setup.config, name),
    hears=bool(overrides.hearing(setup.config.to_dict(), [name])),
    programs=steps if levels else {},
    draw_pattern=(
      functools.partial(mixing.draw_pattern, levels, config.seed)
      if levels
      else None
    ),
    examine=make_examine(played, bool(levels)),
    roles=tuple(role for one in played.values() for role in one.roles),
  )


def make_init(adapt, tx, carry, relax, hold=None) -> Callable:
  """init(params, seed) -> the state before the first step."""

  def init(params: Params, seed: jax.Array) -> TrainState:
    trained = adapt(params, keys.parameters(seed))
    return TrainState(
      jnp.int32(0), trained, tx.init(trained), carry(), relax.init(), seed,
      hold.init() if hold else (),
    )  # fmt: skip

  return init


def make_controls(config, relax, prepare, given) -> Callable:
  """Builds controls(state, frozen, batch) -> types.Given.

  The draws are separate from those of the rollouts. With `config.augment.seed`
  they have a seed of their own, so that arms share them. given: the numbers of
  the arm's step, rl/numbers.py.
  """
  own = config.augment.seed

  def controls(state, frozen, batch):
    seed = own if own >= 0 else state.seed
    key = keys.child(keys.step_key(seed, state.step), keys.Step.CONSTRAINTS)
    relaxed = relax.update(state.curriculum, state.step)
    drawn = prepare(frozen, batch, key, relaxed.schedule)
    return Given(drawn, relaxed, jax.tree.map(jnp.asarray, given))

  return controls


def make_examine(played: dict[str, Pattern], mixed: bool) -> Callable | None:
  """The jitted Pattern.examine of an arm's patterns; None if none has one."""
  examines = {kind: one.examine for kind, one in played.items() if one.examine}
  if not examines:
    return None
  if not mixed:
    return jax.jit(*examines.values())

  def examine(params, frozen, carry, batch, code, key):
    scores, shown = {}, {}
    for kind, one in examines.items():
      found = one(params, frozen, carry[kind], batch, code, key)
      for into, what in zip((scores, shown), found, strict=True):
        into |= {f"{kind}.{name}": x for name, x in what.items()}
    return scores, shown

  return jax.jit(examine)


def start_of(config, name: str) -> str:
  """The stage whose parameters an arm starts from.

  Raises:
    ValueError: an arm with adapters of the base starts from another arm.
  """
  start = config.arms[name].get("start") or "base"
  config = arm_config(config, name)
  if start != "base" and (block := config.get("lora")) and block.rank:
    raise ValueError(
      f"config.arms: start={start!r} starts from the weights of "
      f"another arm, but config.lora.rank={block.rank} trains adapters of the "
      "base: set the rank to 0, or start='base'."
    )
  return start


def mixture(setup, config, name: str, pattern: Pattern):
  """The levels of a mixture, and the patterns of an arm by name.

  levels: for each level of the curriculum the patterns and their weights; ()
    for
  an arm with one pattern.

  Raises:
    ValueError: a mixture with "extract", or see mixing.check.
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
      f"config.arms.{name}.phases: extract takes the codes of a rule, and "
      "the other patterns write their own; they can't be mixed."
    )
  others = {
    k: make_pattern(setup, config, k) for k in kinds if k != arm.pattern
  }
  return levels, {arm.pattern: pattern, **others}


def make_curriculum(config) -> tuple[curriculum.Curriculum, int]:
  """The curriculum, and the number of steps between held-out rewards.

  Raises:
    ValueError: an unknown curriculum.
  """
  block = config.curriculum.to_dict()
  name, every = block.pop("name"), block.pop("every")
  kinds = {"linear": curriculum.linear, "plateau": curriculum.plateau}
  if name not in kinds:
    raise ValueError(
      f"config.curriculum.name={name!r} is not in {list(kinds)}."
    )
  return kinds[name](**block), every


def make_hold(config) -> entropy.Controller | None:
  """The controller of C's entropy; None without config.loss.hold."""
  block = config.loss.get("hold")
  if block is None:
    return None
  return entropy.make(steps=config.steps, **block.to_dict())


def observe_of(name: str, relax: curriculum.Curriculum) -> Callable:
  """learner.make_step's `observe`: the reward that a pattern reports.

  Raises:
    ValueError: it reports none; when it is called.
  """

  def observe(state, metrics):
    if "reward" not in metrics:
      raise ValueError(
        f"config.curriculum.window={relax.rule.window}: the plateau rule sees "
        f"the metric 'reward', which the pattern {name!r} does not report; add "
        "it to Episode.metrics, or set the window to 0."
      )
    return relax.observe(state, metrics["reward"])

  return observe


def ends_every(arm, rule: curriculum.Rule, every: int) -> int:
  """Stage.ends_every: the steps from one look of the plateau rule to the next.

  0 for an arm that ends after its steps.
  """
  by_plateau = arm.get("until", "steps") == "plateau"
  return rule.look * max(every, 1) * by_plateau


def plateaus(arm, every: int, state: TrainState) -> list:
  """Stage.plateaus: how the levels of a trained arm have ended."""
  ended = arm.get("until", "steps") == "plateau"
  return curriculum.record(state.curriculum, every, ended=ended)


def make_step(
  setup, config, pattern, tx, bind, carry, observe=None
) -> Callable:
  """The learner's step.

  carry: the pattern's name, if there are several. observe: learner.make_step's.
  """
  roles = setup.roles | dict(pattern.roles)
  loss = {k: v for k, v in config.loss.to_dict().items() if k != "hold"}
  if missing := dict(pattern.roles).keys() - config.loss.weights.keys():
    name = min(missing)
    raise ValueError(
      f"config.loss.weights={config.loss.weights.to_dict()} lacks {name}, a "
      f"role of the pattern: set config.loss.weights.{name}, to 0 where it "
      "should not learn from rewards."
    )
  step = learner.make_step(
    setup.policy,
    roles,
    pattern,
    tx,
    loss=learner.make_loss(setup.policy, roles, **loss),
    updates=config.updates,
    micro_batches=config.micro_batches,
    normalize_std=config.normalize_std,
    kl=config.kl,
    hold=make_hold(config),
    bind=bind,
    observe=observe,
  )
  return mixing.with_own_carry(step, carry) if carry else step
