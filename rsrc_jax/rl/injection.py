"""The reward of C for codes with injected ids: gate, load L and bonus.

The bonus rewards C for giving a meaning to ids that it did not choose. The gate
removes the bonus from ids that were only appended ("Theory of RSI ...",
Augmentation). Rewards are constants to the learner, so nothing here is
differentiated.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.rl import injected_ids, numbers
from rsrc_jax.types import Controls, Metrics, Params, Policy, Rollout, Tokens

FLOOR = 1e-3  # of v0 and h0
REFRESH = 100  # batches
LOADS = ("none", "message", "token")


def _others(settings, run):
  """The rule of the other sources that a counterfactual gate compares with."""
  others, rows = settings.get("others", 1), run.get("batch_size", rules.LARGEST)
  if settings.get("name") != "counterfactual" or 1 <= others < rows:
    return None
  return "others", (
    f"1 to config.batch_size - 1 = {rows - 1}: the counterfactual gate "
    "compares a code with other sources of its batch"
  )


RULES = {
  "name": rules.one_of(*rewards.GATES),
  "load_bearing": rules.one_of(*LOADS),
  "bonus": rules.number(0),
  "mode": rules.one_of(*rewards.MODES),
  "share": rules.share(),
  "threshold": rules.optional(rules.number(0)),
  "nats_per_token": rules.number(above=0),
  "others": rules.whole(),
  "decay": rules.share(),
  "beyond_bound": rules.flag,  # see rewards.check_bonus
  rules.BLOCK: (_others,),
}


class Norms(NamedTuple):
  """Typical statistics of tokens that were not injected: a gated arm's carry.

  The gate divides by v0 and h0. They are copies of the running medians, taken
  when a level of the curriculum begins and then every REFRESH batches.
  """

  v: jax.Array  # [] running median of varentropy
  h: jax.Array  # [] running median of collision entropy
  v0: jax.Array  # []
  h0: jax.Array  # []
  tau: jax.Array  # [] nats D loses when rote ids are swapped, 95th percentile
  level: jax.Array  # [] int32; -1 before the first batch
  age: jax.Array  # [] int32: batches since v0 and h0 were taken


class Gate(NamedTuple):
  """init() -> carry; pay(...) -> (reward, its bonus [B, G], metrics, carry)."""

  init: Callable[[], Any]
  pay: Callable[..., tuple[jax.Array, jax.Array, Metrics, Any]]


# Those of Terms that a step can be given: see rl/numbers.py.
NUMBERS = ("bonus", "share", "threshold", "nats_per_token", "decay")


class Terms(NamedTuple):
  """The settings of the gate; see config.patterns.cdv.gate."""

  name: str  # of the gate, one of rewards.GATES
  # "none": L is 1. "message": one L for each code. "token": one L for each
  # injected token, by leaving it out.
  load_bearing: str
  bonus: float  # beta, the bonus of a code that uses all its injected ids fully
  mode: str  # "bonus" or "multiply", see rewards.gated
  share: float  # gamma of "multiply"
  # tau in nats: what D loses by chance when rote tokens are swapped. None: tau
  # is measured on codes whose injected ids were only appended.
  threshold: float | None
  nats_per_token: float  # nats that an injected token must carry for L = 1
  others: int  # J, other sources that "counterfactual" compares a code with
  decay: float  # of the running medians, each batch
  monitor: bool = False  # measure L even where it earns no bonus
  block: str = "patterns.cdv"  # of the config, whose `gate` this is


def make(policy: Policy, role: Role, **settings) -> Gate:
  """Builds the gate.

  Args:
    policy: the model's functions.
    role: C.
    **settings: the fields of Terms.

  Raises:
    ValueError: an unknown gate or load, or a counterfactual gate without other
      sources.
  """
  terms = Terms(**settings)
  rules.check_some(RULES, terms._asdict(), f"config.{terms.block}.gate")
  return Gate(_init, functools.partial(pay, policy, role, terms))


def pay(
  policy: Policy,
  role: Role,
  terms: Terms,
  params: Params,
  carry: Norms,
  s: Tokens,
  c: Rollout,
  code: Tokens,
  fidelity: jax.Array,
  log_lik: jax.Array,
  likelihood: Callable[[Params, Tokens, Tokens], jax.Array],
  price: float | jax.Array,
  controls: Controls,
) -> tuple[jax.Array, jax.Array, Metrics, Norms]:
  """Gate.pay: the reward of C for its codes.

  Args:
    policy: the model's functions.
    role: C.
    terms: the settings of the gate.
    params: the parameters of the policy.
    carry: the medians so far.
    s: sources [B, S].
    c: C's rollout, outputs [B, G, T], with its constraints and statistics.
    code: the outputs without their end token, [B, G, T].
    fidelity: [B, G], what a code is worth before price and bonus.
    log_lik: [B, G] nats, ln p_D(s|c).
    likelihood: (params, s, code) -> ln p_D(s|c) [B, G].
    price: of length, see rewards.priced; [] or [B, 1].
    controls: the decoys, the share of the bonus and the level of the batch.

  Returns:
    The reward of C and the bonus in it, [B, G] each, metrics of the components,
    and the new carry.
  """
  terms = _given(terms, controls)
  injected = c.constraints.injected
  uses = rewards.first_uses(code.ids, code.mask, injected)
  carry = _observe(carry, c, code.mask & ~uses, controls.level, terms.decay)
  budget = role.length
  if c.constraints.budget is not None:
    budget = c.constraints.budget
  pmi = None
  if terms.name == "counterfactual":
    with jax.named_scope("C"):
      pmi = _pmi(policy, params, role, s, c, terms.others)
  gates = rewards.gate(terms.name, c.stats, v0=carry.v0, h0=carry.h0, pmi=pmi)
  if terms.name == "shuffled":
    gates = rewards.shuffled(gates, uses)
  of_code = functools.partial(likelihood, params, s)
  gap = deleted = None
  if terms.load_bearing != "none" or terms.monitor:
    with jax.named_scope("V"):
      swapped = rewards.swap(code.ids, uses, injected, controls.decoys)
      gap = log_lik - of_code(code._replace(ids=swapped))
      if terms.monitor:
        without = injected_ids.remove_injected(code, injected)
        deleted = log_lik - of_code(without)
      carry = _measure(
        carry, code, uses, injected, controls.decoys, budget, of_code,
        terms.decay, terms.threshold,
      )  # fmt: skip
  load = _load(
    terms, carry.tau, code, uses, log_lik, gap, of_code, controls.decoys,
    injected,
  )  # fmt: skip
  reward, parts = rewards.gated(
    fidelity, jnp.sum(code.mask, -1), gates, uses, load,
    budget=role.length, price=price,
    listed=jnp.sum(injected >= 0, -1), bonus=terms.bonus * controls.bonus,
    mode=terms.mode, share=terms.share,
  )  # fmt: skip
  metrics = {f"pay_{k}": jnp.mean(v) for k, v in parts.items()}
  metrics |= injected_ids.monitors(
    c, code, uses, gap, deleted, carry.tau, controls.decoys
  )
  metrics |= {"v0": carry.v0, "h0": carry.h0, "tau": carry.tau}
  return reward, parts["bonus"], metrics, carry


def _given(terms: Terms, controls: Controls) -> Terms:
  """The terms with the numbers of these controls."""
  return numbers.replaced(terms, controls.numbers, f"{terms.block}.gate")


def _load(
  terms: Terms, tau, code, uses, log_lik, gap, of_code, decoys, injected
) -> jax.Array:
  """L of each code [B, G] or of each token [B, G, T]; 1 for "none".

  log_lik [B, G]: nats, ln p_D(s|c). gap [B, G]: nats that are lost when the
  uses are swapped.
  """
  count = jnp.sum(uses, -1)
  if terms.load_bearing == "message":
    return rewards.load_bearing(
      gap, count, threshold=tau, nats_per_token=terms.nats_per_token
    )
  if terms.load_bearing == "none":
    return jnp.ones(count.shape)
  with jax.named_scope("V"):
    gaps = log_lik[..., None] - _one_by_one(
      lambda x: of_code(code._replace(ids=x)),
      code.ids, uses, injected, decoys,
    )  # fmt: skip
  return rewards.load_bearing_tokens(
    gaps, uses, threshold=tau, nats_per_token=terms.nats_per_token
  )


def _init() -> Norms:
  whole = lambda value: jnp.full((), value, jnp.int32)
  ones = (jnp.ones(()) for _ in range(4))
  return Norms(*ones, -jnp.ones(()), whole(-1), whole(0))


def _observe(carry: Norms, c: Rollout, plain, level, decay: float) -> Norms:
  """Updates the medians, and v0 and h0 where a level begins or REFRESH ends."""

  def move(before, x):
    # If there is no such position, the median stays.
    median = jnp.nanmedian(jnp.where(plain, x, jnp.nan))
    median = jnp.where(jnp.isnan(median), before, jnp.maximum(median, FLOOR))
    mixed = decay * before + (1.0 - decay) * median
    return jnp.where(carry.level < 0, median, mixed)

  v, h = move(carry.v, c.stats.varentropy), move(carry.h, c.stats.collision)
  new = (carry.level != level) | (carry.age >= REFRESH)
  return carry._replace(
    v=v, h=h, v0=jnp.where(new, v, carry.v0), h0=jnp.where(new, h, carry.h0),
    age=jnp.where(new, 0, carry.age) + 1, level=jnp.asarray(level, jnp.int32),
  )  # fmt: skip


def _measure(
  carry, code, uses, injected, decoys, budget, of_code, decay, threshold
) -> Norms:
  """Updates tau: the loss of a scripted rote policy in the swap.

  The script removes the injected ids from one code of each source and appends
  as many ids of the list as the code used, at least one. It also measures how
  far a decoy misleads a D that reads it as content.
  """
  if threshold is not None:
    return carry._replace(tau=jnp.float32(threshold))
  one = jax.tree.map(lambda x: x[:, :1], code)
  plain = tokens.at(injected_ids.remove_injected(one, injected), 0)
  size = jnp.broadcast_to(jnp.reshape(budget, (-1,)), (len(plain.ids),))
  number = jnp.maximum(jnp.sum(uses[:, 0], -1, keepdims=True), 1)

  def rote(listed):
    # Ids that the curriculum has dropped leave holes anywhere in a list.
    order = jnp.argsort(listed < 0, -1, stable=True)
    listed = jnp.take_along_axis(listed, order, -1)
    listed = jnp.where(jnp.arange(listed.shape[-1]) < number, listed, -1)
    return tokens.expand(injected_ids.append(plain, listed, size))

  log_lik = [of_code(rote(listed[:, 0])) for listed in (injected, decoys)]
  found = jnp.maximum(jnp.percentile(log_lik[0] - log_lik[1], 95), 0.0)
  mixed = decay * carry.tau + (1.0 - decay) * found
  return carry._replace(tau=jnp.where(carry.tau < 0, found, mixed))


def _pmi(policy, params, role, s, c, others):
  """Pointwise mutual information of each token of c with s. [B, G, T]

  The other sources are the next rows of the batch. The injected ids U in the
  prompt stay those of the code.
  """

  def log_probs(shift):
    prompt = role.prompt(tokens.roll(s, shift), c.constraints)
    found, _ = rollout.score(
      policy, params, role, prompt, c.output, c.constraints
    )
    return found

  apart = jnp.stack([log_probs(shift) for shift in range(1, others + 1)])
  return rewards.pmi(log_probs(0), apart)


def _one_by_one(likelihood, ids, uses, injected, decoys):
  """ln p_D(s|c) with one injected token swapped at a time. [B, G, T]"""
  swapped = rewards.swap(ids, uses, injected, decoys)

  def at(t):
    here = jnp.arange(ids.shape[-1]) == t
    return likelihood(jnp.where(here & uses, swapped, ids))

  found = jax.lax.map(at, jnp.arange(ids.shape[-1]))
  return jnp.moveaxis(found, 0, -1)
