"""train_step: play -> advantages -> update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsrc_jax import rules
from rsrc_jax.lm import rollout
from rsrc_jax.lm.keys import step_key
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import grpo
from rsrc_jax.rl import entropy as entropies
from rsrc_jax.rl import numbers as settings
from rsrc_jax.rl import shares
from rsrc_jax.types import (
  Batch,
  Controls,
  Episode,
  Given,
  Metrics,
  Params,
  Pattern,
  Policy,
  SupervisedBatch,
  TrainState,
)


def _something_to_hold(block, run):
  """The rule that a controller has a bonus to multiply."""
  del run
  bonus = block.get("entropy_bonus") or {}
  if block.get("hold") is None or bonus.get(entropies.ROLE, 0.0) > 0:
    return None
  return f"entropy_bonus.{entropies.ROLE}", (
    f"above 0 with {rules.HERE}.hold, which multiplies it"
  )


# The rules of config.optimizer and config.loss.
OPTIMIZER = {
  "learning_rate": rules.number(above=0, why="at 0 nothing is learnt"),
  "warmup": rules.whole(),
  "decay": rules.share(),
  "clip_norm": rules.number(above=0, why="a gradient cut to 0 teaches nothing"),
  "b2": rules.number(0, below=1),
  "weight_decay": rules.number(0),
}
LOSS = {
  "weights": {rules.OTHERS: rules.number(0)},
  "lesson_weights": {rules.OTHERS: rules.number(0)},
  "entropy_bonus": {rules.OTHERS: rules.number()},
  "clip_low": rules.share(),
  "clip_high": rules.number(0),
  "importance_cap": rules.number(above=0, why="at 0 no sample counts"),
  "per_token": rules.flag,
  "entropy_per_code": rules.flag,
  "entropy_reference": rules.number(above=0, why="at 0 there is no bonus"),
  "hold": rules.optional(entropies.RULES),
  rules.BLOCK: (_something_to_hold,),
}


def optimizer(
  *,
  learning_rate: float,
  steps: int,
  warmup: int,
  decay: float,
  clip_norm: float,
  b2: float,
  weight_decay: float,
) -> optax.GradientTransformation:
  """AdamW after a clip by global norm.

  The learning rate rises linearly over the first `warmup` updates, stays
  constant, and falls linearly to 0 over the last share `decay` of `steps`
  updates.
  """
  tail = max(int(decay * steps), 1)
  schedule = optax.join_schedules(
    [
      optax.linear_schedule(0.0, learning_rate, max(warmup, 1)),
      optax.constant_schedule(learning_rate),
      optax.linear_schedule(learning_rate, 0.0, tail),
    ],
    [warmup, max(steps - tail, warmup)],
  )
  return optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.adamw(schedule, b2=b2, weight_decay=weight_decay),
  )


def make_step(
  policy: Policy,
  roles: dict[str, Role],
  pattern: Pattern,
  tx: optax.GradientTransformation,
  *,
  loss: Callable[..., tuple[jax.Array, Metrics]],
  updates: int = 1,
  micro_batches: int = 1,
  normalize_std: bool = False,
  kl: float = 0.0,
  hold: entropies.Controller | None = None,
  bind: Callable[[Params, dict[str, Params]], Params] = lambda params, _: (
    params
  ),
  observe: Callable[[Any, Metrics], Any] | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """Builds train_step(state, frozen, batch, given) -> (state, metrics).

  `given` is a types.Given. Of its numbers, those that it lacks are as here.

  Args:
    policy: the model's functions.
    roles: the roles that the pattern's rollouts and supervised batches name.
    pattern: C -> D -> V or another.
    tx: the optimizer.
    loss: from make_loss.
    updates: gradient steps on each batch of rollouts.
    micro_batches: parts of a batch whose gradients are summed, to save memory.
    normalize_std: see grpo.advantages.
    kl: reward that is subtracted for each nat of KL to the frozen base.
    hold: of the entropy of C, whose multiplier then stands in the place of the
      curriculum's `explore`.
    bind: (trained parameters, frozen) -> the parameters of the policy, for
      adapters on a frozen base.
    observe: (curriculum's state, metrics of the step) -> its state after the
      step; None: the step leaves it as it was given.

  The `frozen` parameters are read and never trained. They are an argument, so
  that the program does not hold them as constants and does not donate them with
  the state.
  """

  def train_step(state: TrainState, frozen, batch: Batch, given: Given):
    key = step_key(state.seed, state.step)
    numbers, schedule = given.numbers or {}, given.curriculum.schedule
    controls = given.controls
    if isinstance(controls, Controls):
      controls = controls._replace(numbers=numbers)
    episode, carry = pattern.play(
      bind(state.params, frozen), frozen, state.carry, batch, key, controls
    )
    price = numbers.get("kl", kl) if kl else 0.0
    returns = _shaped(policy, roles, frozen, episode, price)
    paid = _paid(episode, returns, bool(kl))
    credit = episode.credit or {}
    advantages = {
      role: grpo.advantages(r, normalize_std=normalize_std)
      for role, r in returns.items()
    }
    for role, more in credit.items():
      advantages[role] += more
    with jax.named_scope("update"):
      full = bind(state.params, frozen)
      old = _old_log_probs(policy, roles, full, episode, updates)
      work = jax.lax.stop_gradient((episode, advantages, old))
      params, opt_state = state.params, state.opt_state
      held = {entropies.ROLE: hold.multiplier(state.entropy)} if hold else {}
      of = lambda params, *rest: loss(
        bind(params, frozen), *rest, numbers, held
      )
      for _ in range(updates):
        value, watched, grads = _gradient(
          of, params, work, schedule.explore, micro_batches
        )
        change, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, change)
    watched |= entropies.shares(roles, episode.rollouts, watched)
    kept, share = state.entropy, watched.get(f"{entropies.ROLE}_entropy_share")
    if hold and share is not None:
      kept, more = hold.update(kept, state.step, share, numbers)
      watched |= more
    metrics = {
      **episode.metrics,
      **paid,
      **watched,
      "loss": value,
      "gradient_norm": optax.tree.norm(grads),
      **schedule._asdict(),
    }
    # metrics.jsonl stores the level under this key.
    metrics["curriculum_phase"] = metrics.pop("level")
    relaxed = given.curriculum
    if observe is not None:
      relaxed = observe(relaxed, metrics)
    return TrainState(
      state.step + 1, params, opt_state, carry, relaxed, state.seed, kept
    ), metrics

  return train_step


def make_loss(
  policy: Policy,
  roles: dict[str, Role],
  *,
  weights: dict[str, float],
  lesson_weights: dict[str, float],
  entropy_bonus: dict[str, float],
  clip_low: float,
  clip_high: float,
  importance_cap: float,
  per_token: bool,
  entropy_per_code: bool = False,
  entropy_reference: float = 1.0,
) -> Callable[..., tuple[jax.Array, Metrics]]:
  """Builds loss(params, work, counts, explore, numbers, held).

  -> a scalar, metrics.

  `work` is (episode, advantages, old), of a whole batch or of some of its rows.
  `counts` has the denominators of the whole batch, so that the losses of its
  parts add up. Each role's sum is divided by its own count and then weighted,
  so that long decodes do not outweigh short codes. `old` has the log-probs
  before a series of updates; None means that there is one update only, whose
  ratio is 1. `explore` scales the entropy bonus, but for the roles that `held`
  has another scale for. The bonus sums over tokens or, with `entropy_per_code`,
  is the mean over the tokens of an output times `entropy_reference`, the number
  of tokens at which both are the same: it then does not grow with the budget,
  just as the credit for a reward does not. `numbers` has the settings that a
  step is given, in the place of these; what has the weight 0 here is left out
  of the gradient whatever they are.
  """
  ratio = Ratio(clip_low, clip_high, importance_cap)

  def loss(params: Params, work, counts, explore, numbers=None, held=None):
    episode, advantages, old = work
    total, metrics = 0.0, {}
    clip = settings.replaced(ratio, numbers, "loss")._asdict()
    by_role, by_lesson, bonuses = (
      settings.under(numbers, f"loss.{name}", constants)
      for name, constants in zip(
        settings.WEIGHTS, (weights, lesson_weights, entropy_bonus), strict=True
      )
    )
    for role, r in episode.rollouts.items():
      logp, entropy = rollout.score(
        policy, params, roles[role], r.prompt, r.output, r.constraints
      )
      before = jax.lax.stop_gradient(logp) if old is None else old[role]
      surrogate, watched = grpo.policy_loss(
        logp, before, r.log_probs, advantages[role], r.output.mask, **clip
      )
      sequences, sampled = counts[role]
      value = surrogate
      if entropy_bonus.get(role, 0.0):
        spread = entropy
        if entropy_per_code:
          length = jnp.sum(r.output.mask, -1, keepdims=True)
          spread = entropy * entropy_reference / jnp.maximum(length, 1)
        scale = (held or {}).get(role, explore) * bonuses[role]
        value = surrogate - scale * jnp.sum(spread)
      if weights[role]:
        size = sampled if per_token else sequences
        total += by_role[role] * value / size
      metrics |= {f"{role}_{k}": v / sampled for k, v in watched.items()}
      metrics[f"{role}_entropy"] = jnp.sum(entropy) / sampled
    for role, batch in episode.sft_batches.items():
      nll = nll_loss(
        policy, params, roles[role], batch, counts[f"{role}_lesson"]
      )
      if lesson_weights[role]:
        total += by_lesson[role] * nll
      metrics[f"{role}_nll"] = nll
    return total, metrics

  return loss


class Ratio(NamedTuple):
  """Limits of the ratio of new and old probabilities; see ops/grpo.py."""

  clip_low: float
  clip_high: float
  importance_cap: float


def nll_loss(
  policy: Policy,
  params: Params,
  role: Role,
  batch: SupervisedBatch,
  count: jax.Array,
) -> jax.Array:
  """Summed weighted negative log-likelihood, in nats, over `count` tokens."""
  plain = role._replace(temperature=1.0, top_p=1.0)
  logp, _ = rollout.score(policy, params, plain, batch.prompt, batch.target)
  return -jnp.sum(logp * token_weights(batch)) / count


def token_weights(batch: SupervisedBatch) -> jax.Array:
  """Weight of each target token, [N, J, T]."""
  return batch.weights[..., None] * batch.target.mask


def counts(episode: Episode) -> dict[str, Any]:
  """Denominators of a batch.

  A rollout has two: its slots (sequences times the longest output) and its
  sampled tokens. A supervised batch has one: its summed weight, or what it says
  is counted.
  """
  sizes = {
    role: (jnp.float32(r.output.mask.size), jnp.sum(r.output.mask) * 1.0)
    for role, r in episode.rollouts.items()
  }
  for role, batch in episode.sft_batches.items():
    if batch.counted is not None:
      batch = batch._replace(weights=batch.counted)
    weight = jnp.sum(token_weights(batch))
    sizes[f"{role}_lesson"] = jnp.maximum(weight, 1e-6)
  return sizes


def _gradient(loss, params, work, explore, micro_batches):
  """Loss, metrics and gradient, summed over micro-batches of rows."""
  sizes = counts(work[0])
  value_and_grad = jax.value_and_grad(loss, has_aux=True)
  work = (work[0]._replace(metrics={}, parts=None), *work[1:])
  if micro_batches == 1:
    (value, metrics), grads = value_and_grad(params, work, sizes, explore)
    return value, metrics, grads

  def cut(x):
    if x.shape[0] % micro_batches:
      raise ValueError(
        f"config.micro_batches={micro_batches} does not divide "
        f"{x.shape[0]} rows."
      )
    return x.reshape(micro_batches, -1, *x.shape[1:])

  def add(total, part):
    (value, metrics), grads = value_and_grad(params, part, sizes, explore)
    return jax.tree.map(jnp.add, total, (value, metrics, grads)), None

  parts = jax.tree.map(cut, work)
  first = jax.tree.map(lambda x: x[0], parts)
  (value, metrics), grads = jax.eval_shape(
    value_and_grad, params, first, sizes, explore
  )
  zero = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), (value, metrics, grads)
  )
  return jax.lax.scan(add, zero, parts)[0]


def _shaped(policy, roles, frozen, episode, kl):
  """Rewards minus the KL penalty to the frozen base."""
  shaped = {}
  for role, r in episode.rollouts.items():
    reward = episode.rewards[role]
    if isinstance(kl, jax.Array) or kl:
      with jax.named_scope("reference"):
        reference, _ = rollout.score(
          policy, frozen["base"], roles[role], r.prompt, r.output, r.constraints
        )
      penalty = grpo.kl_penalty(r.log_probs, reference, r.output.mask)
      reward = reward - kl * penalty
    shaped[role] = reward
  return shaped


def _paid(episode: Episode, returns: dict[str, jax.Array], kl: bool) -> Metrics:
  """shares.measure of every role; what the KL penalty takes is a part too."""
  found = {}
  for role, reward in returns.items():
    parts = dict((episode.parts or {}).get(role) or {})
    if kl and parts:
      parts["kl"] = reward - episode.rewards[role]
    found |= shares.measure(role, reward, parts)
  return found


def _old_log_probs(policy, roles, params, episode, updates):
  """Log-probs before a series of updates; None if there is one update."""
  if updates == 1:
    return None
  return {
    role: rollout.score(
      policy, params, roles[role], r.prompt, r.output, r.constraints
    )[0]
    for role, r in episode.rollouts.items()
  }
