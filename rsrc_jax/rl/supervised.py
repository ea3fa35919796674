"""The supervised loop: language modelling, and a warm-up of the roles.

Cold RL on unseen codes stalls, so both roles first learn English extracts: C to
write one, D to read one. All of it is learning by likelihood, of Lessons.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsrc_jax.lm import extracts, likelihood, tokens
from rsrc_jax.lm.keys import row_keys, step_key
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.rl import curriculum, injection, learner
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
AVOIDED = -1e9  # score of a token that is taken only if there is no other
FULL = curriculum.full()  # nothing is relaxed yet


class Warmup(NamedTuple):
  """What the roles are shown beside the language."""

  policy: Policy
  roles: dict[str, Role]  # "text", "C", "D" and "V"
  # From augment.make: budgets, and what C is asked to use.
  constrain: Callable[..., Controls]
  budget: int  # tokens of an extract
  warmup_from: int  # the step from which the roles are taught
  dropout: float  # share of D's extracts that are cut short
  reader: bool  # also teach V to read a noisy text back into the clean one
  empty: bool = False  # extracts that are cut are dropped whole instead
  # What C is shown to do with injected ids, on half of the sources: see
  # DEMONSTRATIONS. Nothing of it means anything to D.
  demonstrate: str = ""


def make_step(
  policy: Policy,
  roles: dict[str, Role],
  tx: optax.GradientTransformation,
  constrain: Callable[..., Controls],
  **settings,
) -> Callable:
  """Builds train_step(state, frozen, batch, given) -> (state, metrics).

  Args:
    policy: see Warmup.
    roles: see Warmup.
    tx: the optimizer.
    constrain: see Warmup.
    **settings: the other fields of Warmup.
  """
  how = Warmup(policy, roles, constrain, **settings)
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
  given,
) -> tuple[TrainState, Metrics]:
  """One update on the lessons of a batch."""
  del frozen, given
  key = step_key(state.seed, state.step)
  with jax.named_scope("reference"):
    taught = jax.lax.stop_gradient(lessons(how, state.params, batch, key))
  ready = (state.step >= how.warmup_from) * 1.0
  with jax.named_scope("update"):
    (value, metrics), grads = jax.value_and_grad(
      functools.partial(loss, how), has_aux=True
    )(state.params, taught, ready)
    change, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, change)
  metrics |= {"loss": value, "gradient_norm": optax.tree.norm(grads)}
  return state._replace(
    step=state.step + 1, params=params, opt_state=opt_state
  ), metrics


def lessons(
  how: Warmup, params: Params, batch: Batch, key: jax.Array
) -> dict[str, SupervisedBatch]:
  """What each role is shown of a batch, by its name."""
  roles = how.roles
  s, (k_c, k_cut, k_v) = batch.source, jax.random.split(key, 3)
  # A fourth child, so that the three stay what they are.
  k_ask = jax.random.fold_in(key, 3)
  k_heard, k_shown = jax.random.split(jax.random.fold_in(k_ask, 1))
  asked = how.constrain(k_ask, batch, FULL).constraints
  asked = heard(asked, k_heard, batch.row)
  nothing = Tokens(s.ids[:, :0], s.mask[:, :0])
  text = _lesson(roles["text"], nothing, s)
  score = extracts.surprisal(how.policy, params, roles["text"], s)
  score = extracts.noisy(score, k_c, batch.row)
  if asked.avoided is not None:
    avoid = jnp.any(rewards.matches(s.ids[:, None], asked.avoided), -1)
    score = jnp.where(avoid[:, 0], AVOIDED, score)
  size = None if asked.budget is None else asked.budget[:, 0]
  # What C may never write (byte pieces) it is not shown either.
  support = jnp.asarray(roles["C"].support)
  said = s._replace(mask=s.mask & support[s.ids])
  code = extracts.keep(said, score, how.budget, size)
  shown = shows(how.demonstrate, code, asked, k_shown, batch.row)
  taught = {
    "text": text,
    "C": _lesson(roles["C"], s, shown, asked),
    "D": likelihood.decode_batch(
      roles["D"], s, code, k_cut, how.dropout, how.empty
    ),
  }
  if how.reader:
    taught["V"] = _lesson(roles["V"], noised(s, k_v, batch.row), s)
  return taught


def shows(
  demonstrate: str,
  code: Tokens,
  asked: Constraints,
  key: jax.Array,
  rows: jax.Array,
) -> Tokens:
  """What C is shown to write when it is asked so. [B, k]"""
  if asked.injected is None or not demonstrate:
    return code
  if demonstrate == "weave":
    return weave(code, asked.injected[:, 0], key, rows)
  size = jnp.full(len(code.ids), code.ids.shape[-1])
  size = size if asked.budget is None else asked.budget[:, 0]
  return injection.append(code, asked.injected[:, 0], size)


def loss(
  how: Warmup,
  params: Params,
  taught: dict[str, SupervisedBatch],
  ready: jax.Array,
) -> tuple[jax.Array, Metrics]:
  """nll of the text, and of the roles where they are `ready` [], 0 or 1."""
  losses = {
    name: learner.nll_loss(
      how.policy, params, how.roles[name], lesson,
      jnp.sum(learner.token_weights(lesson)),
    )
    for name, lesson in taught.items()
  }  # fmt: skip
  roles_loss = sum(x for name, x in losses.items() if name != "text")
  metrics = {f"{name}_nll": x for name, x in losses.items()}
  return losses["text"] + ready * roles_loss, metrics


def noised(s: Tokens, key: jax.Array, rows: jax.Array) -> Tokens:
  """Replaces a random share of each text's tokens by tokens of its neighbour.

  The share is uniform in [0, 1], so that a reader meets every quality of d.
  """
  k_share, k_which = jax.random.split(key)
  share = jax.vmap(jax.random.uniform)(row_keys(k_share, rows))
  draw = lambda k: jax.random.uniform(k, s.ids.shape[1:])
  hit = jax.vmap(draw)(row_keys(k_which, rows)) < share[:, None]
  other = Tokens(*(jnp.roll(x, 1, 0) for x in s))
  return Tokens(jnp.where(hit & other.mask & s.mask, other.ids, s.ids), s.mask)


def heard(asked: Constraints, key, rows: jax.Array) -> Constraints:
  """Half of the sources ask for nothing, so that C knows both."""
  keep = jax.vmap(jax.random.bernoulli)(row_keys(key, rows))
  some = lambda x: None if x is None else jnp.where(keep[:, None, None], x, -1)
  return asked._replace(
    injected=some(asked.injected), avoided=some(asked.avoided)
  )


def weave(code: Tokens, used: jax.Array, key, rows: jax.Array) -> Tokens:
  """Puts each injected id [B, N] in the place of some token of a code [B, k].

  No more than half of a code, and nothing that says anything about it.
  """
  count = min(used.shape[-1], code.ids.shape[-1])
  room = jnp.sum(code.mask, -1, keepdims=True) // 2
  draw = lambda k: jax.random.uniform(k, code.ids.shape[1:])
  noise = jax.vmap(draw)(row_keys(key, rows))
  _, place = jax.lax.top_k(jnp.where(code.mask, noise, -1.0), count)
  new = used[:, :count]
  here = (new >= 0) & (jnp.arange(count) < room)
  row = jnp.arange(len(used))[:, None]
  old = jnp.take_along_axis(code.ids, place, 1)
  return code._replace(
    ids=code.ids.at[row, place].set(jnp.where(here, new, old))
  )


def _lesson(
  role: Role, prompt: Tokens, target: Tokens, asked=None
) -> SupervisedBatch:
  target = Tokens(*(x[:, None] for x in tokens.with_end(target, role.end)))
  weights = jnp.ones(target.ids.shape[:2])
  return SupervisedBatch(role.prompt(prompt, asked), target, weights)
