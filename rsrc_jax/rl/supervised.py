"""The supervised loop: language modelling, and a warm-up of the roles.

RL does not start from codes that the roles have never seen. So both roles first
learn English extracts by likelihood: C learns to write them, D to read them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsrc_jax import rules
from rsrc_jax.lm import extracts, keys, likelihood, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.rl import curriculum, injected_ids, learner
from rsrc_jax.types import (
  Batch,
  Constraints,
  Controls,
  Metrics,
  Params,
  Policy,
  SupervisedBatch,
  Tokens,
  TrainState,
)

DEMONSTRATIONS = ("", "weave", "append")
# Those of config.pretrain that the warm-up takes.
RULES = {
  "warmup_from": rules.whole(),
  "dropout": rules.share(),
  "empty": rules.flag,
  "demonstrate": rules.one_of(*DEMONSTRATIONS),
  "unannounced": rules.share(),
}
AVOIDED = -1e9  # score of a token that is taken only if there is no other
FULL = curriculum.full()  # before any relaxation


class Warmup(NamedTuple):
  """The settings of the warm-up; see config.pretrain."""

  policy: Policy
  roles: dict[str, Role]  # "text", "C" and "D"
  # From constraints.make: budgets, and the injected and avoided ids. A budget
  # is the size of the row's extract, whether or not it is announced.
  constrain: Callable[..., Controls]
  budget: int  # most tokens of an extract, and of a code
  warmup_from: int  # the step from which the roles are trained
  dropout: float  # share of D's extracts that are cut short
  empty: bool = False  # drop an extract whole instead of cutting it
  # How C's targets use the injected ids, on half of the sources: one of
  # DEMONSTRATIONS. D's targets do not depend on it.
  demonstrate: str = ""
  ends: bool = True  # codes may end before their budget
  withheld: np.ndarray | None = None  # [V] bool: ids that no extract may have


def make_step(
  policy: Policy,
  roles: dict[str, Role],
  tx: optax.GradientTransformation,
  constrain: Callable[..., Controls],
  **settings,
) -> Callable:
  """Builds train_step(state, frozen, batch, controls) -> (state, metrics).

  Args:
    policy: see Warmup.
    roles: see Warmup.
    tx: the optimizer.
    constrain: see Warmup.
    **settings: the other fields of Warmup.

  Raises:
    ValueError: an unknown demonstration.
  """
  return step_of(Warmup(policy, roles, constrain, **settings), tx)


def step_of(how: Warmup, tx: optax.GradientTransformation) -> Callable:
  """`make_step` of settings that are put together."""
  if how.demonstrate not in DEMONSTRATIONS:
    raise ValueError(
      f"config.pretrain.demonstrate={how.demonstrate!r} is none of "
      f"{', '.join(map(repr, DEMONSTRATIONS))}."
    )
  return functools.partial(train_step, how, tx)


def train_step(
  how: Warmup,
  tx: optax.GradientTransformation,
  state: TrainState,
  frozen,
  batch: Batch,
  controls,
) -> tuple[TrainState, Metrics]:
  """One update by likelihood."""
  del frozen, controls
  key = keys.step_key(state.seed, state.step)
  with jax.named_scope("reference"):
    found = sft_batches(how, state.params, batch, key)
    found = jax.lax.stop_gradient(found)
  ready = (state.step >= how.warmup_from) * 1.0
  with jax.named_scope("update"):
    (value, metrics), grads = jax.value_and_grad(
      functools.partial(loss, how), has_aux=True
    )(state.params, found, ready)
    change, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, change)
  metrics |= {"loss": value, "gradient_norm": optax.tree.norm(grads)}
  return state._replace(
    step=state.step + 1, params=params, opt_state=opt_state
  ), metrics


def sft_batches(
  how: Warmup, params: Params, batch: Batch, key: jax.Array
) -> dict[str, SupervisedBatch]:
  """The supervised batch of each role, by its name."""
  roles, s = how.roles, batch.source
  k_c, k_cut, k_constraints = (keys.child(key, x) for x in keys.Supervised)
  k_demonstration = keys.child(
    k_constraints, keys.SupervisedConstraints.DEMONSTRATION
  )
  k_half, k_woven = (keys.child(k_demonstration, x) for x in keys.Demonstration)
  constraints = how.constrain(k_constraints, batch, FULL).constraints
  constraints = constrain_half(constraints, k_half, batch.row)
  text = _batch(roles["text"], tokens.empty(len(s.ids)), s)
  score = extracts.surprisal(how.policy, params, roles["text"], s)
  score = extracts.noisy(score, k_c, batch.row)
  if constraints.avoided is not None:
    avoid = jnp.any(rewards.matches(s.ids[:, None], constraints.avoided), -1)
    score = jnp.where(avoid[:, 0], AVOIDED, score)
  budget = constraints.budget
  size = None if budget is None else budget[:, 0]
  # C is not trained on tokens that it may never write (byte pieces).
  support = jnp.asarray(roles["C"].support)
  if how.withheld is not None:
    support &= ~jnp.asarray(how.withheld)
  allowed = s._replace(mask=s.mask & support[s.ids])
  code = extracts.keep(allowed, score, how.budget, size)
  target = with_injected(how.demonstrate, code, constraints, k_woven, batch.row)
  return {
    "text": text,
    "C": code_batch(how, s, target, constraints),
    "D": likelihood.decode_batch(
      roles["D"], s, code, k_cut, how.dropout, how.empty
    ),
  }


def code_batch(
  how: Warmup, s: Tokens, code: Tokens, constraints: Constraints
) -> SupervisedBatch:
  """C learns to write codes [B, k] as a sampler would leave them.

  A code that fills its budget has no end token (rollout.sample), so none is
  taught there: C would end at that length whatever its budget. One that is
  shorter ends by itself, and so does one of any size whose budget is not
  announced, below the largest.
  """
  C, size = how.roles["C"], constraints.budget
  limit = jnp.full((len(code.ids), 1), how.budget)
  if size is not None:
    told = constraints.announced
    limit = size if told is None else jnp.where(told, size, limit)
  target = tokens.with_end(code, C.end) if how.ends else code
  target = tokens.cut(target, limit[:, 0])
  target = Tokens(*(x[:, : how.budget] for x in target))
  weights = jnp.ones((len(code.ids), 1))
  return SupervisedBatch(
    C.prompt(s, constraints), tokens.expand(target), weights
  )


def with_injected(
  demonstrate: str,
  code: Tokens,
  constraints: Constraints,
  key: jax.Array,
  rows: jax.Array,
) -> Tokens:
  """C's target where ids are injected: code [B, k] -> [B, k]."""
  injected, budget = constraints.injected, constraints.budget
  if injected is None or not demonstrate:
    return code
  if demonstrate == "weave":
    return weave(code, injected[:, 0], key, rows)
  size = jnp.full(len(code.ids), code.ids.shape[-1])
  size = size if budget is None else budget[:, 0]
  return injected_ids.append(code, injected[:, 0], size)


def loss(
  how: Warmup,
  params: Params,
  batches: dict[str, SupervisedBatch],
  ready: jax.Array,
) -> tuple[jax.Array, Metrics]:
  """nll of the text, and of the roles where they are `ready` [], 0 or 1."""
  losses = {
    name: learner.nll_loss(
      how.policy, params, how.roles[name], one,
      jnp.sum(learner.token_weights(one)),
    )
    for name, one in batches.items()
  }  # fmt: skip
  roles_loss = sum(x for name, x in losses.items() if name != "text")
  metrics = {f"{name}_nll": x for name, x in losses.items()}
  return losses["text"] + ready * roles_loss, metrics


def constrain_half(
  constraints: Constraints, key, rows: jax.Array
) -> Constraints:
  """Drops the injected and avoided ids of about half of the rows.

  C then learns both cases: prompts with constraints and without.
  """
  keep = jax.vmap(jax.random.bernoulli)(keys.row_keys(key, rows))
  some = lambda x: None if x is None else jnp.where(keep[:, None, None], x, -1)
  return constraints._replace(
    injected=some(constraints.injected), avoided=some(constraints.avoided)
  )


def weave(code: Tokens, used: jax.Array, key, rows: jax.Array) -> Tokens:
  """Replaces random tokens of a code [B, k] by the injected ids [B, N].

  At most half of a code is replaced. The ids carry nothing about the source.
  """
  count = min(used.shape[-1], code.ids.shape[-1])
  room = jnp.sum(code.mask, -1, keepdims=True) // 2
  draw = lambda k: jax.random.uniform(k, code.ids.shape[1:])
  noise = jax.vmap(draw)(keys.row_keys(key, rows))
  _, place = jax.lax.top_k(jnp.where(code.mask, noise, -1.0), count)
  new = used[:, :count]
  here = (new >= 0) & (jnp.arange(count) < room)
  row = jnp.arange(len(used))[:, None]
  old = jnp.take_along_axis(code.ids, place, 1)
  return code._replace(
    ids=code.ids.at[row, place].set(jnp.where(here, new, old))
  )


def _batch(role: Role, prompt: Tokens, target: Tokens) -> SupervisedBatch:
  target = tokens.expand(tokens.with_end(target, role.end))
  weights = jnp.ones(target.ids.shape[:2])
  return SupervisedBatch(role.prompt(prompt), target, weights)
