"""From a config to functions: the one place where the config's blocks meet.

A block is the keyword arguments of one make(); a file name is the registry
(`config.model_name`, `arm.pattern`). Nothing below this module sees a config.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from rsrc_jax import (
  augment,
  curriculum,
  evaluate,
  learner,
  mixing,
  pretrain,
  sharding,
  types,
  verifier,
  weights,
)
from rsrc_jax import config as configs
from rsrc_jax.data import pretrained as spelling
from rsrc_jax.data import reasoning, sources, tokenizer
from rsrc_jax.metrics import capability
from rsrc_jax.models import lora
from rsrc_jax.ops import rewards, token_stats
from rsrc_jax.patterns import extract
from rsrc_jax.roles import Role
from rsrc_jax.types import Params, Pattern, Policy, TrainState


class World(NamedTuple):
  """What all phases of a run share."""

  config: ml_collections.ConfigDict
  corpus: sources.Corpus
  policy: Policy
  roles: dict[str, Role]
  mesh: Mesh
  checkpoint: weights.Checkpoint | None = None  # that config.model.path names


def _own(params: Params) -> Params:
  """A copy: the step that trains it gives its memory away."""
  return jax.tree.map(jnp.copy, params)


def _itself(params: Params, frozen: dict[str, Params]) -> Params:
  del frozen
  return params


class Phase(NamedTuple):
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
  bind: Callable[[Params, dict[str, Params]], Params] = _itself
  start: str = "base"  # the phase whose parameters it begins with
  # Of an arm that mixes patterns: their steps, and whose turn it is.
  mixed: Mapping[str, Callable] = MappingProxyType({})
  pick: Callable[[int, int], str] | None = None  # step, phase -> name
  examine: Callable[..., Any] | None = None  # types.Pattern.examine, jitted
  carry: Callable[[], Any] = tuple  # what `examine` is given: a fresh one


def world(config: ml_collections.ConfigDict, cache: Path) -> World:
  """Reads the data and builds the model's functions; nothing is compiled.

  cache: a folder for trained tokenizers.

  Raises:
    ValueError: a setting that can't work, named, with the remedy.
  """
  mesh = sharding.make_mesh(**config.mesh)
  _check(config, mesh)
  opened = _opened(config)
  if opened is not None:
    weights.check_memory(opened, mesh, _copies(config), _stored(config))
  corpus = _corpus(config, cache, opened)
  for split in (corpus.valid, corpus.test):
    capability.check_disjoint(corpus.train, split)
  module = importlib.import_module(f"rsrc_jax.models.{config.model_name}")
  settings = {"vocab_size": corpus.vocab.size, **config.model}
  if opened is not None:
    settings = opened.settings | settings
    del settings["path"]
  policy = module.make(**settings)
  if mesh.shape["tensor"] > 1:
    head = token_stats.over(mesh, rows=sharding.BATCH[0], ids="tensor")
    policy = policy._replace(head=head)
  return World(config, corpus, policy, roles(config, corpus), mesh, opened)


def initial(world: World) -> Params:
  """The parameters before any training: drawn, or a checkpoint's."""
  if world.checkpoint is None:
    params = world.policy.init(jax.random.key(world.config.seed))
    return sharding.put(params, sharding.shardings(world.mesh, params))
  return weights.load(world.checkpoint, world.mesh, _stored(world.config))


def _copies(config) -> int:
  """Of the parameters that a run holds at once, at the least.

  The frozen base; where an arm trains all of them, what it trains, its gradient
  and two moments.
  """
  return 5 if _trains_all(config) else 1


def _trains_all(config) -> str:
  """The first phase that trains more than adapters, or nothing."""
  names = [x for x in config.only.split(",") if x] or [*config.arms]
  blocks = {
    x: settings(config, x).get("lora") for x in names if x in config.arms
  }
  arms = [x for x, block in blocks.items() if not block or not block.rank]
  return "base" if config.pretrain.steps else next(iter(arms), "")


def _stored(config) -> np.dtype:
  """In what the weights of a checkpoint are kept.

  Raises:
    ValueError: less than float32, of weights that are trained.
  """
  kept = (config.get("lora") or {}).get("base", "float32")
  if kept not in ("float32", "bfloat16"):
    raise ValueError(
      f"config.lora.base={kept!r} is neither 'float32' nor 'bfloat16'."
    )
  if kept != "float32" and (name := _trains_all(config)):
    raise ValueError(
      f"config.lora.base={kept!r} loses the small steps of weights that are "
      f"trained, and {name!r} trains all of them: leave it out with "
      "config.only, or set config.lora.base='float32'."
    )
  return jnp.dtype(kept)


def _opened(config) -> weights.Checkpoint | None:
  if config.model_name != "pretrained":
    return None
  return weights.open_folder(config.model.path)


def phases(world: World) -> list[Phase]:
  """The base, then every arm, those that others start from before them."""
  arms = world.config.arms
  only = [name for name in world.config.only.split(",") if name]
  if set(only) - set(arms):
    raise ValueError(
      f"config.only={world.config.only!r}: the arms are {', '.join(arms)}."
    )
  step_of = {}  # arms that train alike share one compiled program
  names = _in_order({name: _start(world.config, name) for name in only or arms})
  return [_base(world), *(_arm(world, name, step_of) for name in names)]


def _in_order(starts: dict[str, str]) -> list[str]:
  """Arms, each behind the one that it starts from."""
  names, left = [], dict(starts)
  while left:
    ready = [x for x, start in left.items() if start in ("base", *names)]
    if not ready:
      name, start = next(iter(left.items()))
      raise ValueError(
        f"config.arms.{name}.start={start!r} is no arm that is trained before "
        f"it: there are base, {', '.join(x for x in starts if x != name)}."
      )
    names += ready[:1]
    del left[ready[0]]
  return names


def frozen_of(phase: Phase, trained: dict[str, Params]) -> dict[str, Params]:
  """What a phase reads and never trains: the base, and what it started from."""
  found = {"base": trained["base"], "reader": trained["base"]}
  if phase.start != "base":
    found["start"] = trained[phase.start]
  return found


def _base(world: World) -> Phase:
  config, settings = world.config, world.config.pretrain
  tx = learner.optimizer(steps=settings.steps, **settings.optimizer)
  constrain = _constrain(world, config, "free")
  step = pretrain.make_step(
    world.policy,
    world.roles,
    tx,
    constrain,
    budget=config.budget,
    warmup_from=settings.warmup_from,
    dropout=settings.dropout,
    reader=config.verifier.reader > 0,
    empty=settings.empty,
    demonstrate=settings.demonstrate,
  )

  def init(params: Params) -> TrainState:
    # Of what won't be trained, no copy and no moments.
    p, moments = (
      (_own(params), tx.init(params)) if settings.steps else (params, ())
    )
    return TrainState(jnp.int32(0), p, moments, (), (), jnp.uint32(config.seed))

  return Phase(
    name="base",
    steps=settings.steps,
    batch_size=settings.batch_size,
    data_seed=config.seed,
    init=init,
    given=jax.jit(lambda step, schedule, frozen, batch: ()),
    step=_jit(world, step, init),
    write=None,
    saved=None,
  )


def _arm(world: World, name: str, step_of: dict) -> Phase:
  arm = world.config.arms[name]
  config = settings(world.config, name)
  seed = config.seed
  pattern = _pattern(world, config, arm.pattern)
  relax, every = _curriculum(config)
  phases, played = _mixture(world, config, name, pattern)
  carry = mixing.apart(played) if phases else pattern.init
  tx = learner.optimizer(
    steps=config.steps * config.updates, **config.optimizer
  )
  adapt, bind = _trained(config)

  def init(params: Params) -> TrainState:
    p = adapt(params)
    return TrainState(
      jnp.int32(0), p, tx.init(p), carry(), relax.init(),
      jnp.uint32(seed),
    )  # fmt: skip

  same = (arm.pattern, tuple(arm.overrides), arm.get("start"), phases)
  if same not in step_of:
    step_of[same] = {
      kind: _jit(world, _arm_step(world, config, one, relax, tx, bind,
                                  kind if phases else None), init)
      for kind, one in played.items()
    }  # fmt: skip
  steps = step_of[same]
  prepare, write = (_ruled if arm.pattern == "extract" else _written)(
    world, config, arm.write
  )

  def given(step, state, frozen, batch):
    # Apart from the key of the rollouts, which folds in the step alone.
    drawn = config.augment.seed if config.augment.seed >= 0 else seed
    key = jax.random.fold_in(learner.step_key(drawn, step), 1)
    schedule = relax.update(state, step).schedule
    return prepare(frozen, batch, key, schedule)

  looks = every and arm.pattern != "extract"
  return Phase(
    name=name,
    steps=config.steps,
    batch_size=config.batch_size,
    data_seed=seed + 1,
    init=init,
    given=jax.jit(given),
    step=steps[arm.pattern],
    write=jax.jit(write),
    saved=_saved(world, arm.write),
    observe=(
      _jit(
        world,
        _observe(
          world, config, arm.pattern, relax, prepare, bind, bool(phases)
        ),
        init,
      )
      if looks
      else None
    ),
    observe_every=every if looks else 0,
    bind=bind,
    start=_start(world.config, name),
    mixed=steps if phases else {},
    pick=(
      (lambda step, phase: mixing.pick(phases, seed, step, phase))
      if phases
      else None
    ),
    examine=_examine(played, bool(phases)),
    carry=carry,
  )


def _examine(played: dict[str, Pattern], mixed: bool) -> Callable | None:
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


def _start(config, name: str) -> str:
  """Whose parameters an arm begins with.

  Raises:
    ValueError: another arm's, by one that trains adapters of the base's.
  """
  start = config.arms[name].get("start") or "base"
  config = settings(config, name)
  if start != "base" and (block := config.get("lora")) and block.rank:
    raise ValueError(
      f"config.arms: start={start!r} goes on from weights that "
      f"config.lora.rank={block.rank} freezes at the base's: set the rank to 0 "
      "or start='base'."
    )
  return start


def _mixture(world, config, name: str, pattern: Pattern):
  """-> phases, and the patterns that an arm plays: one, where it mixes none."""
  arm = world.config.arms[name]
  if not arm.get("phases"):
    return (), {arm.pattern: pattern}
  phases = mixing.check(
    name, arm.phases, arm.pattern, config.curriculum.to_dict()
  )
  kinds = sorted({kind for part in phases for kind, _ in part})
  if "extract" in kinds:
    raise ValueError(
      f"config.arms.{name}.phases: extract is given codes that a rule writes, "
      "the other patterns write their own; it can't be mixed with them."
    )
  others = {k: _pattern(world, config, k) for k in kinds if k != arm.pattern}
  return phases, {arm.pattern: pattern, **others}


def _trained(config) -> tuple[Callable, Callable]:
  """-> parameters to what is trained of them, and back (Phase.bind)."""
  block = config.get("lora")
  if not block or not block.rank:
    return _own, _itself
  scale = block.alpha / block.rank
  key = jax.random.key(config.seed)
  adapt = lambda params: lora.init(
    key, params, rank=block.rank, targets=block.targets
  )
  attach = lambda params, frozen: lora.attach(frozen["base"], params, scale)
  return adapt, attach


def settings(
  config: ml_collections.ConfigDict, arm: str
) -> ml_collections.ConfigDict:
  """The config as one arm sees it: its overrides applied."""
  mine = config.copy_and_resolve_references()
  mine.update_from_flattened_dict(dict(config.arms[arm].overrides))
  return mine


def english(config: ml_collections.ConfigDict, arm: str) -> bool:
  """Whether an arm's codes are English: made of words alone, by no code."""
  known = (*extract.RULES, "source", "words")
  return config.arms[arm].write in known and config.arms[arm].write != "hash"


def _curriculum(config) -> tuple[curriculum.Curriculum, int]:
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


def _ruled(world: World, config, rule: str) -> tuple[Callable, Callable]:
  """Codes by a rule: -> what is given to a step, and write()."""
  vocab, budgets = world.corpus.vocab, tuple(config.budgets)
  idf = None
  if rule == "tfidf":  # one look at the whole split
    idf = extract.inverse_frequency(world.corpus.train, vocab.size)
  make = lambda rule: extract.writer(
    world.policy, world.roles, rule, config.budget, idf=idf, code=vocab.code
  )
  # D learns from the best of some extracts what the greedy search will give.
  taught = make("sampled_oracle" if rule == "oracle" else rule)
  written = make(rule)

  def prepare(frozen, batch, key, schedule):
    keys = augment.row_keys(key, batch.row)
    drawn = augment.draw_budget(keys, schedule.budgets, budgets)
    budget = None if drawn is None else drawn[:, 0]
    return taught(frozen["base"], frozen, batch, key, budget)

  def write(params, frozen, batch, key, budget=None):
    return written(params, frozen, batch, key, _budget(config, batch, budget))

  return prepare, write


def _written(world: World, config, mode: str) -> tuple[Callable, Callable]:
  """Codes by C: -> what is given to a step, and write()."""
  constrain = _constrain(world, config, mode)
  vocab = world.corpus.vocab
  limits = augment.relaxed(
    mode, vocab.code, words=_words(vocab, mode), end=_end(vocab, config)
  )
  greedy = evaluate.code_writer(world.policy, world.roles["C"], limits)

  def write(params, frozen, batch, key, budget=None):
    return greedy(params, frozen, batch, key, _budget(config, batch, budget))

  return lambda _, batch, key, schedule: constrain(key, batch, schedule), write


def _constrain(world: World, config, mode: str) -> Callable[..., types.Ask]:
  asked, vocab = config.augment, world.corpus.vocab
  for name, value, ask in (
    ("augment.inject", asked.inject, "use"),
    ("augment.ban", asked.ban, "avoid"),
    ("budgets", config.budgets, "slot"),
  ):
    if value and ask not in vocab.asks:
      remedy = (
        "a pretrained vocabulary has none for budgets: leave it empty"
        if world.checkpoint
        else "set config.data.asks=True"
      )
      raise ValueError(
        f"config.{name}={value} is asked for in the prompt, in tokens that the "
        f"vocabulary lacks: {remedy}."
      )
  return augment.make(
    mode,
    vocab.code,
    words=_words(vocab, mode),
    draws=config.subsets,
    inject=asked.inject,
    ban=asked.ban,
    pool=asked.pool,
    force=asked.force,
    end=_end(vocab, config),
    budgets=tuple(config.budgets),
  )


def _budget(config, batch, budget):
  """[B] int32: as asked, or the largest; None where there is but one."""
  if not config.budgets:
    return None
  budget = config.budget if budget is None else budget
  return jnp.broadcast_to(jnp.int32(budget), batch.row.shape)


def _words(vocab, mode: str):
  return vocab.text if mode == "words" else None


def _end(vocab, config) -> int | None:
  return vocab.end if config.augment.fixed_length else None


def _observe(
  world: World, config, kind: str, relax, prepare, bind, mixed: bool
) -> Callable:
  """Plays a held-out batch and shows its reward to the curriculum."""
  pattern = _pattern(world, config, kind, monitor=True)

  def observe(state, frozen, batch):
    # Not a child of the step's key that its rollouts or lessons use.
    key = jax.random.fold_in(learner.step_key(state.seed, state.step), 7)
    k_ask, k_play = jax.random.split(key)
    ask = prepare(frozen, batch, k_ask, state.curriculum.schedule)
    episode, _ = pattern.play(
      bind(state.params, frozen), frozen,
      state.carry[kind] if mixed else state.carry, batch, k_play, ask,
    )  # fmt: skip
    seen = relax.observe(state.curriculum, episode.metrics["reward"])
    metrics = {f"held_{k}": v for k, v in episode.metrics.items()}
    return state._replace(curriculum=seen), metrics

  return observe


def watched(world: World, arm: str) -> Callable[..., types.Metrics]:
  """look(params, frozen, batch, key, schedule) -> metrics of injection.py.

  Of an arm that injects, under its own settings and the given schedule; L is
  measured whether it is paid for or not, and nothing is learnt.
  """
  config = settings(world.config, arm)
  kind, mode = world.config.arms[arm].pattern, world.config.arms[arm].write
  pattern = _pattern(world, config, kind, monitor=True)
  constrain = _constrain(world, config, mode)

  def look(params, frozen, batch, key, schedule):
    k_ask, k_play = jax.random.split(key)
    ask = constrain(k_ask, batch, schedule)
    carry = pattern.init()
    return pattern.play(params, frozen, carry, batch, k_play, ask)[0].metrics

  return jax.jit(look)


def _saved(world: World, write: str) -> Callable[..., capability.Saved]:
  """Verified bits of an arm's codes, each arm by its own alphabet.

  V knows the alphabet of the sources and nothing else.
  """
  vocab = world.corpus.vocab
  words = int(vocab.text.sum())
  # What was taught on extracts may still write any symbol.
  written_in_words = write in (*extract.RULES, "source", "words")
  written_in_words &= write not in ("sft", "hash")
  symbols = words if written_in_words else int(vocab.code.sum())

  def saved(source, code, decoded, token_bits=None):
    if token_bits is None:
      token_bits = capability.uniform_bits(source, words)
    return capability.verified_bits(
      source, code, decoded, token_bits,
      symbols=symbols, budget=world.config.budget,
    )  # fmt: skip

  return saved


def _pattern(world, config, name: str, monitor: bool = False) -> Pattern:
  policy, roles = world.policy, world.roles
  verify = verifier.make(
    policy,
    roles["V"],
    weights=config.verifier.to_dict(),
    positions=world.corpus.slots,
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
  return module.make(policy, roles, verify, about=about(world.corpus), **kwargs)


def about(corpus: sources.Corpus) -> types.About:
  """What a pattern is told of the sources."""
  if corpus.questions is None:
    train, own = corpus.train, 0
    if isinstance(train, types.Quiz):
      own = train.answer.ids.shape[-1] + 1
    return types.About(
      slots=corpus.slots, unknown=tokenizer.UNKNOWN, answer_tokens=own
    )
  ids = np.asarray([q for q, _ in corpus.questions], np.int32)
  return types.About(
    corpus.facts, ids, corpus.answers, corpus.slots, tokenizer.UNKNOWN
  )


def _arm_step(world, config, pattern, relax, tx, bind, carry) -> Callable:
  """carry: the pattern's name where the state holds several carries."""
  roles = world.roles | dict(pattern.roles)
  step = learner.make_step(
    world.policy,
    roles,
    pattern,
    relax,
    tx,
    loss=learner.make_loss(world.policy, roles, **config.loss.to_dict()),
    updates=config.updates,
    micro_batches=config.micro_batches,
    normalize_std=config.normalize_std,
    kl=config.kl,
    rarity_bonus=config.rarity_bonus.to_dict(),
    bind=bind,
  )
  return mixing.among(step, carry) if carry else step


def _jit(world: World, step: Callable, init: Callable) -> Callable:
  """Jits a step whose state comes back to where it came from.

  Without saying where the state is put out, XLA may name the same place in
  another way, and the second step would be compiled anew.
  """
  params = jax.eval_shape(world.policy.init, jax.random.key(0))
  where = sharding.shardings(world.mesh, jax.eval_shape(init, params))
  return jax.jit(step, donate_argnums=0, out_shardings=(where, None))


def roles(config, corpus) -> dict[str, Role]:
  """Every role by its name, as the config and the vocabulary say.

  Raises:
    ValueError: the budget is longer than the longest source.
  """
  vocab, longest = corpus.vocab, corpus.train.ids.shape[-1]
  if config.budget > longest:
    raise ValueError(
      f"config.budget={config.budget} is longer than the longest source, "
      f"{longest} tokens: there is nothing to compress. Lower it."
    )
  end = np.arange(vocab.size) == vocab.end

  def role(name, length, support):
    tag, separator = vocab.tags[name]
    return Role(tag, separator, vocab.end, length, support | end)

  sampling = {"temperature": config.temperature, "top_p": config.top_p}
  asks = vocab.asks
  sampling |= {"use": asks.get("use"), "avoid": asks.get("avoid")}
  if config.budgets:
    sampling["slot"] = asks.get("slot")
  return {
    "text": role("text", longest + 1, vocab.text),
    "C": role("C", config.budget, vocab.code)._replace(**sampling),
    "D": role("D", longest + 1, vocab.text),
    "V": role("V", longest + 1, vocab.text),
  }


def _corpus(config, cache, opened) -> sources.Corpus:
  settings = config.data.to_dict()
  if opened is not None:
    if settings["source"] != "text":
      raise ValueError(
        f"config.data.source={settings['source']!r}: a pretrained model reads "
        "text; set it to 'text'."
      )
    settings["vocab"] = spelling.vocabulary(
      opened.folder,
      opened.settings["vocab_size"],
      settings.pop("instructions", None) or spelling.INSTRUCTIONS,
    )
  kind, path = settings.pop("source"), settings.pop("path")
  if kind == "facts":
    if path:
      raise ValueError(
        f"config.data.path={path!r} needs config.data.source='text': use "
        "--config=configs/cdv_text.py."
      )
    return sources.facts(seed=config.seed, **settings)
  if kind == "text":
    return sources.text(
      path=path or None, seed=config.seed, cache_dir=cache, **settings
    )
  if kind == "reasoning":
    family, count = settings["family"], settings.pop("tasks")
    options = settings.pop("options").get(family, {})
    made = reasoning.tasks(family, count, config.seed, options)
    return reasoning.corpus(tasks_made=made, cache_dir=cache, **settings)
  raise ValueError(
    f"config.data.source={kind!r} is neither facts, text nor reasoning."
  )


def _check(config, mesh: Mesh) -> None:
  """Refuses what could not work, before anything is read or compiled."""
  positive = ("steps", "budget", "batch_size", "log_every", "updates",
              "micro_batches", "pretrain.batch_size",
              "eval.every", "eval.rows", "eval.batch_size", "eval.test_rows",
              "checkpoint.every", "checkpoint.keep_last")  # fmt: skip
  for name in positive:
    if (value := _at(config, name)) < 1:
      raise ValueError(f"config.{name}={value} must be at least 1.")
  least = 0 if config.model_name == "pretrained" else 1
  if config.pretrain.steps < least:
    raise ValueError(
      f"config.pretrain.steps={config.pretrain.steps} must be at least {least}."
    )
  for name in ("batch_size", "pretrain.batch_size", "eval.batch_size"):
    sharding.check_batch(mesh, f"config.{name}", _at(config, name))
  if not 0 <= config.seed < 2**32:
    raise ValueError(f"config.seed={config.seed} must be 0 to 2**32 - 1.")
  if config.batch_size % config.micro_batches:
    raise ValueError(
      f"config.micro_batches={config.micro_batches} does not divide "
      f"config.batch_size={config.batch_size}."
    )
  if config.temperature <= 0:
    raise ValueError(
      f"config.temperature={config.temperature}: the codes of a group would be "
      "equal, and C learns nothing from them; set it above 0."
    )
  for k in config.budgets:
    if not 1 <= k <= config.budget:
      raise ValueError(
        f"config.budgets has {k}; each must be 1 to "
        f"config.budget={config.budget}."
      )
  books = config.ledger
  for name, least in (
    ("pue", 1.0),
    ("samples_served", 1),
    ("service_seconds", 0.01),
  ):
    if not books[name] >= least:
      raise ValueError(f"config.ledger.{name}={books[name]}: at least {least}.")
  for k in config.eval.budgets:
    if not 1 <= k <= config.budget:
      raise ValueError(
        f"config.eval.budgets has {k}; codes are trained for 1 to "
        f"config.budget={config.budget} tokens."
      )


def _at(config, name: str):
  for part in name.split("."):
    config = config[part]
  return config
