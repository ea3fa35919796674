"""A supervised discrete autoencoder: codes without reinforcement learning.

  config.arms.autoencoder = {"stage": "experiments/core/autoencoder.py"}

C writes k ids, D is trained on the likelihood of s given them. Model, roles,
prompts, ids, masks, sources, optimizer, steps and the number of codes a step
are those of the RL arm that would stand in its place. Only the way in which C
learns is another, so that the arm tells "RL is hard" from "no such code
exists". `config.autoencoder.method` is one of two:

  em: hard EM. C samples `config.patterns.cdv.group` codes of a source, D says
    which of them makes s likeliest, and both learn that one by likelihood. Of
    the complete data's log-likelihood, ln p_D(s | c) + ln p_C(c | s), this is
    a step with c at its best sample. (As of vector-quantised autoencoders: Roy
    et al., arXiv 1805.11063.)
  gumbel: C samples as many codes by Gumbel-softmax, each id fed back and read
    by D as a one-hot mixture of embeddings with the gradient of the softmax,
    straight-through (Jang et al., Maddison et al., both ICLR 2017).

A step has as many codes as a step of RL, of which D decodes none, so that it
takes fewer FLOPs: bounds.md has both, and what either method has found.
"""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsrc_jax import rules
from rsrc_jax.build import writers
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import Setup
from rsrc_jax.lm import keys, likelihood, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import compression
from rsrc_jax.ops import distributions
from rsrc_jax.rl import learner
from rsrc_jax.stages import rl, stage
from rsrc_jax.types import (
  Batch,
  Constraints,
  Given,
  Metrics,
  Params,
  Policy,
  SupervisedBatch,
  Tokens,
  TrainState,
)

# Of the block `config.autoencoder`, which a config may leave out.
DEFAULTS = {
  "method": "em",
  "group": 0,  # codes of a source; 0: config.patterns.cdv.group
  # Weight of C's entropy in nats a token, against nats a token of s; it falls
  # to 0 with the curriculum's `explore`.
  "entropy": 0.01,
  # Of gumbel, the temperature of the softmax: it falls from `first` to `last`
  # by a constant factor a step, over a share `until` of the steps.
  "first": 1.0,
  "last": 0.5,
  "until": 0.7,
}
RULES = {
  "method": rules.one_of("em", "gumbel"),
  "group": rules.whole(),
  "entropy": rules.number(0),
  "first": rules.number(above=0),
  "last": rules.number(above=0),
  "until": rules.share(),
}


class Autoencoder(NamedTuple):
  """What the functions below share."""

  policy: Policy
  C: Role
  D: Role
  k: int  # tokens of every code
  group: int  # G: codes of a source
  entropy: float  # and the settings as in DEFAULTS
  method: str
  first: float
  last: float
  until: float
  steps: int
  dropout: float  # as in RL's lessons: the share of D's codes that are cut
  empty: bool  # or dropped whole


class Written(NamedTuple):
  """Codes of a batch, and what C's distributions were."""

  choice: jax.Array  # [B, G, k, V]: one-hot, with the gradient of the softmax
  entropy: jax.Array  # [B, G, k] nats, over the ids that were allowed
  end: jax.Array  # [B, G, k]: p of the end token, which no code has here

  @property
  def code(self) -> Tokens:
    """The ids, [B, G, k]."""
    ids = jnp.argmax(self.choice, -1).astype(jnp.int32)
    return Tokens(ids, jnp.ones(ids.shape, bool))


def make(setup: Setup, name: str) -> stage.Stage:
  """The stage of the arm `config.arms[name]`.

  The arm's `write` says what C may write, as for RL: "force" if it is left out.
  Its codes are evaluated, and it can be the `start` of an RL arm.

  Raises:
    ValueError: codes of several lengths, a rule as `write`, a model that takes
      no mixtures of ids, or a setting that can't be.
  """
  arm, config = setup.config.arms[name], arm_config(setup.config, name)
  mode = arm.get("write") or "force"
  _check(setup, config, name, mode)
  prepare, write = writers.of(mode).make(setup, config, mode)
  relax, _ = rl.make_curriculum(config)
  tx = learner.optimizer(steps=config.steps, **config.optimizer)
  adapt, bind = stage.adapters(config)
  init = rl.make_init(adapt, tx, tuple, relax, None)
  own = {**DEFAULTS, **(config.get("autoencoder") or {})}
  cdv = config.patterns.cdv
  own["group"] = own["group"] or cdv.group
  p = Autoencoder(
    setup.policy, setup.roles["C"], setup.roles["D"],
    max(config.budgets, default=config.budget), steps=config.steps,
    dropout=cdv.dropout, empty=cdv.get("empty", False), **own,
  )  # fmt: skip
  init = stage.jit_init(setup, init)
  return stage.Stage(
    name=name,
    steps=config.steps,
    batch_size=config.batch_size,
    data_seed=config.seed + 1,
    init=init,
    step=stage.jit_step(setup, functools.partial(step, p, tx, bind), init),
    controls=jax.jit(rl.make_controls(config, relax, prepare, {})),
    write=jax.jit(write),
    saved=writers.make_saved(setup, mode),
    symbols=writers.alphabet(setup, mode),
    english=writers.of(mode).english,
    bind=bind,
    start=rl.start_of(setup.config, name),
  )


def step(
  p: Autoencoder,
  tx: optax.GradientTransformation,
  bind,
  state: TrainState,
  frozen: dict[str, Params],
  batch: Batch,
  given: Given,
) -> tuple[TrainState, Metrics]:
  """One update by the likelihood of the sources. Stage.step."""
  key, schedule = (
    keys.step_key(state.seed, state.step),
    given.curriculum.schedule,
  )
  limits, bonus = given.controls.constraints, p.entropy * schedule.explore
  metrics, full = {"hidden": schedule.hidden}, bind(state.params, frozen)
  if p.method == "em":
    code, metrics["C_loops"] = best_codes(p, full, batch, limits, key)
    learn = functools.partial(em_loss, code=code)
  else:
    metrics["heat"] = heat = temperature(p, state.step)
    learn = functools.partial(gumbel_loss, heat=heat)
  of = lambda params: learn(
    p, bind(params, frozen), batch, limits, key, bonus=bonus
  )
  with jax.named_scope("update"):
    (value, more), grads = jax.value_and_grad(of, has_aux=True)(state.params)
    change, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, change)
  metrics |= {**more, "loss": value, "gradient_norm": optax.tree.norm(grads)}
  return state._replace(
    step=state.step + 1, params=params, opt_state=opt_state,
    curriculum=given.curriculum,
  ), metrics  # fmt: skip


def best_codes(
  p: Autoencoder, params: Params, batch: Batch, limits: Constraints, key
) -> tuple[Tokens, jax.Array]:
  """Of G samples of each source the code that D reads best. The E-step.

  The end token is banned, so that every code has k ids.

  -> code [B, k], and how often the sampler's loop ran, [].
  """
  s, end = batch.source, jnp.full_like(limits.banned[..., :1], p.C.end)
  limits = limits._replace(banned=jnp.concatenate([limits.banned, end], -1))
  c = rollout.sample(
    p.policy, params, p.C, p.C.prompt(s, limits),
    keys.row_keys(keys.child(key, keys.Cdv.C), batch.row), samples=p.group,
    constraints=limits,
  )  # fmt: skip
  code = Tokens(*(x[..., : p.k] for x in c.output))
  with jax.named_scope("V"):
    known = likelihood.of_source(p.policy, params, p.D, s, code)
  best = tokens.pick(code, jnp.argmax(known, -1))
  return jax.lax.stop_gradient(best), rollout.passes((p.C, c))["C_loops"]


def em_loss(
  p: Autoencoder,
  params: Params,
  batch: Batch,
  limits: Constraints,
  key: jax.Array,
  *,
  code: Tokens,
  bonus: jax.Array,
) -> tuple[jax.Array, Metrics]:
  """Nats of s given codes [B, k] and of these given s, a token of s.

  The M-step, less the bonus [] times C's entropy.
  """
  s, prompt = batch.source, p.C.prompt(batch.source, limits)
  logp, entropy = rollout.score(
    p.policy, params, p.C, prompt, tokens.expand(code)
  )
  lessons = lessons_of(p, s, code, key)
  count = jnp.sum(learner.token_weights(lessons))
  D = learner.nll_loss(p.policy, params, p.D, lessons, count)
  C, spread = -jnp.sum(logp) / count, jnp.mean(entropy)
  return C + D - bonus * spread, {
    "D_nll": D, "C_nll": C, "C_entropy": spread,
    "novel_fraction": jnp.mean(compression.novel_fraction(s, code)),
  }  # fmt: skip


def lessons_of(
  p: Autoencoder, s: Tokens, code: Tokens, key: jax.Array
) -> SupervisedBatch:
  """D's lessons on codes [N, k], some cut as in RL, so that it knows them."""
  return likelihood.decode_batch(
    p.D, s, code, keys.child(key, keys.Cdv.D_BATCH), p.dropout, p.empty
  )


def temperature(p: Autoencoder, step: jax.Array) -> jax.Array:
  """Of the softmax at a step, [] float32."""
  done = jnp.minimum(step / max(p.until * p.steps, 1.0), 1.0)
  return p.first * (p.last / p.first) ** done


def gumbel_loss(
  p: Autoencoder,
  params: Params,
  batch: Batch,
  limits: Constraints,
  key: jax.Array,
  *,
  heat: jax.Array,
  bonus: jax.Array,
) -> tuple[jax.Array, Metrics]:
  """D's nats a token of s, less the bonus, plus the nats of not ending.

  heat [], bonus []: temperature of the softmax, weight of C's entropy.
  """
  s, shape = batch.source, (p.group, p.k, p.C.support.size)
  each = keys.row_keys(keys.child(key, keys.Cdv.C), batch.row)
  noise = jax.vmap(lambda k: jax.random.gumbel(k, shape))(each)
  written = write(p, params, p.C.prompt(s, limits), limits, noise, heat)
  lessons = lessons_of(p, s, tokens.flatten(written.code), key)
  nll = read(p, params, lessons, written.choice)
  # A code fills its budget here. So that a C which may end does so too, what
  # it gives to the end is taught away, by the likelihood of not ending.
  going = -jnp.mean(jnp.log1p(-jnp.minimum(written.end, 1.0 - 1e-6)))
  entropy = jnp.mean(written.entropy)
  novel = compression.novel_fraction(tokens.expand(s), written.code)
  return nll + going - bonus * entropy, {
    "D_nll": nll, "C_entropy": entropy, "C_end": jnp.mean(written.end),
    "novel_fraction": jnp.mean(novel),
  }  # fmt: skip


def write(
  p: Autoencoder,
  params: Params,
  prompt: Tokens,
  limits: Constraints,
  noise: jax.Array,
  heat: jax.Array,
) -> Written:
  """k ids of G codes, each fed back as the mixture that it is.

  prompt [B, P], noise [B, G, k, V] of Gumbel draws. The ids are samples of C's
  distribution under the masks of `limits`, without its end token.
  """
  (rows, group), end = noise.shape[:2], p.C.end
  support = rollout.allowed_ids(p.C, limits)
  free = support & (jnp.arange(support.shape[-1]) != end)
  one = tokens.expand(prompt)
  states, prefix = p.policy.apply(params, one, tokens.positions(one.mask))
  start = jnp.sum(prompt.mask, -1, dtype=jnp.int32)[:, None, None]
  cache = p.policy.init_cache(rows, group, max(p.k - 1, 1))
  hidden, found = states[:, :, -1], []
  for t in range(p.k):
    if t:
      here = Tokens(
        jnp.zeros((rows, group, 1), jnp.int32), jnp.ones((rows, group, 1), bool)
      )
      states, cache = p.policy.apply(
        params, here, jnp.broadcast_to(start + t - 1, here.ids.shape),
        prefix=prefix, cache=cache, index=t - 1,
        weights=found[-1].choice[:, :, None],
      )  # fmt: skip
      hidden = states[:, :, 0]
    logits = p.policy.unembed(params, hidden)  # [B, 1, V] from the prompt
    ends = distributions.log_probs(logits, support)
    logp = distributions.log_probs(logits, free)
    spread = lambda x: jnp.broadcast_to(x, (rows, group))
    found.append(
      Written(
        straight_through(logp, noise[:, :, t], heat),
        spread(distributions.entropy(logp)),
        spread(jnp.exp(ends[..., end])),
      )
    )
  return jax.tree.map(lambda *x: jnp.stack(x, 2), *found)


def straight_through(
  logp: jax.Array, noise: jax.Array, heat: jax.Array
) -> jax.Array:
  """One-hot samples with the gradient of a softmax. -> [..., V]

  logp [..., V]: log-probabilities, of which the noise [..., V], Gumbel draws,
  takes a sample. heat []: temperature of the softmax.
  """
  scores = logp + noise
  soft = jax.nn.softmax(scores / heat)
  hard = jax.nn.one_hot(jnp.argmax(scores, -1), scores.shape[-1])
  return hard + (soft - jax.lax.stop_gradient(soft))


def read(
  p: Autoencoder, params: Params, lessons: SupervisedBatch, choice: jax.Array
) -> jax.Array:
  """D's nats a token of its lessons, [], its prompts' codes being mixtures.

  lessons: N = B * G rows, whose prompts hold codes of k ids behind D's tag.
  choice [B, G, k, V]: those ids; what is cut from a prompt stays cut.
  """
  rows = jax.nn.one_hot(lessons.prompt.ids, choice.shape[-1])
  begin, flat = np.size(p.D.tag), choice.reshape(-1, *choice.shape[2:])
  rows = rows.at[:, begin : begin + flat.shape[1]].set(flat)

  def apply(params, text, positions, *, prefix=None, **more):
    # A call without a prefix is that of the prompts.
    weights = rows[:, None] if prefix is None else None
    return p.policy.apply(
      params, text, positions, prefix=prefix, weights=weights, **more
    )

  count = jnp.sum(learner.token_weights(lessons))
  policy = p.policy._replace(apply=apply)
  return learner.nll_loss(policy, params, p.D, lessons, count)


def _check(setup: Setup, config, name: str, mode: str) -> None:
  field = f"config.arms.{name}"
  if writers.of(mode).rule:
    raise ValueError(
      f"{field}.write={mode!r} is a rule, and C learns to write here: give "
      "force, free, words or source."
    )
  if len(set(config.budgets)) > 1:
    raise ValueError(
      f"{field}: config.budgets={tuple(config.budgets)}, but this stage writes "
      "codes of one length: override budgets with one."
    )
  rules.check(RULES, (config.get("autoencoder") or {}), "config.autoencoder")
  takes = inspect.signature(setup.policy.apply).parameters
  method = (config.get("autoencoder") or DEFAULTS).get("method")
  if method == "gumbel" and "weights" not in takes:
    raise ValueError(
      f"config.autoencoder.method='gumbel': config.model_name="
      f"{config.model_name!r} takes ids alone, and the gradient goes through "
      "mixtures of ids: use 'em'."
    )
