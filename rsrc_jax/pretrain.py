"""The supervised loop: language modelling, and a warm-up of the roles.

Cold RL on unseen codes stalls, so both roles first learn English extracts: C to
write one, D to read one. All of it is learning by likelihood, of Lessons.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rsrc_jax import augment, learner, prompts
from rsrc_jax.patterns import cdv, extract
from rsrc_jax.roles import Role
from rsrc_jax.types import Batch, Lesson, Policy, Tokens, TrainState


def make_step(
  policy: Policy,
  roles: dict[str, Role],
  tx: optax.GradientTransformation,
  *,
  seed: int,
  budget: int,
  warmup_from: int,
  dropout: float,
  reader: bool,
) -> Callable:
  """Builds train_step(state, frozen, batch, given) -> (state, metrics).

  Args:
    policy: the model's functions.
    roles: "text", "C", "D" and "V".
    tx: the optimizer.
    seed: of the extracts.
    budget: tokens of an extract.
    warmup_from: the step from which the roles are taught beside the language.
    dropout: share of D's extracts that are cut short.
    reader: also teach V to read a noisy text back into the clean one.
  """

  def lessons(params, batch: Batch, key) -> dict[str, Lesson]:
    s, (k_c, k_cut, k_v) = batch.source, jax.random.split(key, 3)
    empty = Tokens(s.ids[:, :0], s.mask[:, :0])
    text = _lesson(roles["text"], empty, s)
    score = extract.surprisal(policy, params, roles["text"], s)
    code = extract.keep(s, extract.noisy(score, k_c, batch.row), budget)
    taught = {
      "text": text,
      "C": _lesson(roles["C"], s, code),
      "D": cdv.code_lesson(roles["D"], s, code, k_cut, dropout),
    }
    if reader:
      taught["V"] = _lesson(roles["V"], noised(s, k_v, batch.row), s)
    return taught

  def loss(params, taught, ready):
    losses = {
      name: learner.lesson_loss(
        policy, params, roles[name], lesson,
        jnp.sum(learner.lesson_weight(lesson)),
      )
      for name, lesson in taught.items()
    }  # fmt: skip
    roles_loss = sum(x for name, x in losses.items() if name != "text")
    metrics = {f"{name}_nll": x for name, x in losses.items()}
    return losses["text"] + ready * roles_loss, metrics

  def train_step(state: TrainState, frozen, batch: Batch, given):
    del frozen, given
    key = learner.step_key(seed, state.step)
    with jax.named_scope("reference"):
      taught = jax.lax.stop_gradient(lessons(state.params, batch, key))
    ready = (state.step >= warmup_from) * 1.0
    with jax.named_scope("update"):
      (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(
        state.params, taught, ready
      )
      change, opt_state = tx.update(grads, state.opt_state, state.params)
      params = optax.apply_updates(state.params, change)
    metrics |= {"loss": value, "gradient_norm": optax.tree.norm(grads)}
    return state._replace(
      step=state.step + 1, params=params, opt_state=opt_state
    ), metrics

  return train_step


def noised(s: Tokens, key: jax.Array, rows: jax.Array) -> Tokens:
  """Replaces a random share of each text's tokens by tokens of its neighbour.

  The share is uniform in [0, 1], so that a reader meets every quality of d.
  """
  k_share, k_which = jax.random.split(key)
  share = jax.vmap(jax.random.uniform)(augment.row_keys(k_share, rows))
  draw = lambda k: jax.random.uniform(k, s.ids.shape[1:])
  hit = jax.vmap(draw)(augment.row_keys(k_which, rows)) < share[:, None]
  other = Tokens(*(jnp.roll(x, 1, 0) for x in s))
  return Tokens(jnp.where(hit & other.mask & s.mask, other.ids, s.ids), s.mask)


def _lesson(role: Role, prompt: Tokens, target: Tokens) -> Lesson:
  target = Tokens(*(x[:, None] for x in prompts.with_end(target, role.end)))
  weights = jnp.ones(target.ids.shape[:2])
  return Lesson(role.prompt(prompt), target, weights)
