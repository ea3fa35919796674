"""What it is worth to have written with the injected ids: gate, L, bonus.

The bonus invites C to install meaning in ids that it did not choose; the gate
withholds it from ids that were only appended ("Theory of RSI ...",
Augmentation). Rewards are constants to the learner: nothing here is
differentiated.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.types import Controls, Metrics, Params, Policy, Rollout, Tokens

FLOOR = 1e-3  # of v0 and h0
REFRESH = 100  # batches
LOADS = ("none", "message", "token")


class Norms(NamedTuple):
  """What is typical where nothing was injected; the carry of a gated arm.

  v0 and h0 are what the gate divides by: the running medians as they were when
  the curriculum's level began, and again every REFRESH batches.
  """

  v: jax.Array  # [] running median of varentropy
  h: jax.Array  # [] running median of collision entropy
  v0: jax.Array  # []
  h0: jax.Array  # []
  tau: jax.Array  # [] nats that swapping rote ids costs D, 95th percentile
  level: jax.Array  # [] int32; -1 before the first batch
  age: jax.Array  # [] int32: batches since v0 and h0 were taken


class Gate(NamedTuple):
  """init() -> carry; pay(...) -> (reward [B, G], metrics, carry)."""

  init: Callable[[], Any]
  pay: Callable[..., tuple[jax.Array, Metrics, Any]]


class Terms(NamedTuple):
  """What is paid for, and by which tests."""

  name: str  # of the gate, one of rewards.GATES
  # "none"; "message": L, one a code; "token": leave-one-out, one an injected
  # token.
  load_bearing: str
  bonus: float  # beta, reward of a code that uses all its injected ids fully
  mode: str  # "bonus" or "multiply", see rewards.gated
  share: float  # gamma of "multiply"
  # tau in nats: what swapping rote tokens costs D by chance; None: measured on
  # codes whose injected ids were only appended.
  threshold: float | None
  nats_per_token: float  # nats an injected token has to carry for L = 1
  others: int  # J, other sources that "counterfactual" scores a code against
  decay: float  # of the running medians, a batch
  length_price: float  # see rewards.priced
  monitor: bool = False  # measure L even where it is not paid for


def make(policy: Policy, role: Role, **settings) -> Gate:
  """Builds the gate.

  Args:
    policy: the model's functions.
    role: C.
    **settings: the fields of Terms.
  """
  terms = Terms(**settings)
  if terms.name not in rewards.GATES or terms.load_bearing not in LOADS:
    raise ValueError(
      f"config.patterns.cdv.gate: name={terms.name!r} must be one of "
      f"{rewards.GATES} and load_bearing={terms.load_bearing!r} one of {LOADS}."
    )
  if terms.name == "counterfactual" and terms.others < 1:
    raise ValueError(
      f"config.patterns.cdv.gate.others={terms.others}: the counterfactual "
      "gate needs at least one other source."
    )
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
  known: jax.Array,
  likelihood: Callable[[Params, Tokens, Tokens], jax.Array],
  ask: Controls,
) -> tuple[jax.Array, Metrics, Norms]:
  """Args: fidelity, known (ln p_D(s|c)) [B, G]; likelihood(params, s, code).

  Returns the reward of C, its components by name, and the new carry.
  """
  injected = c.constraints.injected
  uses = rewards.first_uses(code.ids, code.mask, injected)
  carry = _observe(carry, c, code.mask & ~uses, ask.level, terms.decay)
  budget = role.length
  if c.constraints.budget is not None:
    budget = c.constraints.budget
  pmi = None
  if terms.name == "counterfactual":
    with jax.named_scope("C"):
      pmi = _pmi(policy, params, role, s, c, terms.others)
  gates = rewards.gate(terms.name, c.stats, v0=carry.v0, h0=carry.h0, pmi=pmi)
  of_code = functools.partial(likelihood, params, s)
  gap = None
  if terms.load_bearing != "none" or terms.monitor:
    with jax.named_scope("V"):
      swapped = rewards.swap(code.ids, uses, injected, ask.decoys)
      gap = known - of_code(code._replace(ids=swapped))
      carry = _measure(
        carry, code, uses, injected, ask.decoys, budget, of_code,
        terms.decay, terms.threshold,
      )  # fmt: skip
  load = _load(terms, carry.tau, code, uses, known, gap, of_code, ask.decoys,
               injected)  # fmt: skip
  reward, parts = rewards.gated(
    fidelity, jnp.sum(code.mask, -1), gates, uses, load,
    budget=budget, price=terms.length_price,
    listed=jnp.sum(injected >= 0, -1), bonus=terms.bonus * ask.bonus,
    mode=terms.mode, share=terms.share,
  )  # fmt: skip
  metrics = {f"pay_{k}": jnp.mean(v) for k, v in parts.items()}
  metrics |= monitors(c, code, uses, gap, carry.tau, ask.decoys)
  metrics |= {"v0": carry.v0, "h0": carry.h0, "tau": carry.tau}
  return reward, metrics, carry


def _load(
  terms: Terms, tau, code, uses, known, gap, of_code, decoys, injected
) -> jax.Array:
  """L, [B, G] of a code or [B, G, T] of a token; 1 where it is not asked for.

  known, gap [B, G]: nats of s given the code, and lost when its uses are
  swapped.
  """
  count = jnp.sum(uses, -1)
  if terms.load_bearing == "message":
    return rewards.load_bearing(
      gap, count, threshold=tau, nats_per_token=terms.nats_per_token
    )
  if terms.load_bearing == "none":
    return jnp.ones(count.shape)
  with jax.named_scope("V"):
    gaps = known[..., None] - _one_by_one(
      lambda x: of_code(code._replace(ids=x)),
      code.ids, uses, injected, decoys,
    )  # fmt: skip
  return rewards.load_bearing_tokens(
    gaps, uses, threshold=tau, nats_per_token=terms.nats_per_token
  )


def monitors(
  c: Rollout,
  code: Tokens,
  uses: jax.Array,
  gap: jax.Array | None,
  threshold: jax.Array,
  decoys: jax.Array,
) -> Metrics:
  """How injected ids are used: means over codes, or over the users among them.

  use_rate: codes that use any; decoy_rate: codes that hold any of as many ids
  which C never heard of, its chance; used: ids used a code; tail_share: users
  whose injected ids stand in one unbroken run at the end, and are not all of
  the code; rote_share: users that lose no more than `threshold` nats when they
  are swapped; swap_bits: bits lost for an id that was swapped; mass, varentropy
  and collision at the uses and elsewhere.
  """
  count = jnp.sum(uses, -1)
  user = count > 0
  users = jnp.maximum(jnp.sum(user), 1)
  hit = hits(code, c.constraints.injected)
  later = jnp.flip(jnp.cumprod(jnp.flip(hit | ~code.mask, -1), -1), -1)
  tail = jnp.all(~hit | (later == 1), -1) & jnp.any(~hit & code.mask, -1)
  found = {
    "use_rate": jnp.mean(user * 1.0),
    "decoy_rate": jnp.mean(jnp.any(hits(code, decoys), -1) * 1.0),
    "used": jnp.mean(count * 1.0),
    "tail_share": jnp.sum(user & tail) / users,
  }
  if gap is not None:
    found["rote_share"] = jnp.sum(user & (gap <= threshold)) / users
    each = jnp.where(user, gap / jnp.maximum(count, 1), 0.0)
    found["swap_bits"] = jnp.sum(each) / users / jnp.log(2.0)
  for field in ("mass", "varentropy", "collision"):
    x = getattr(c.stats, field)
    for where, mask in (("used", uses), ("other", code.mask & ~uses)):
      total = jnp.sum(jnp.where(mask, x, 0.0))
      found[f"{field}_{where}"] = total / jnp.maximum(jnp.sum(mask), 1)
  return found


def hits(code: Tokens, injected: jax.Array) -> jax.Array:
  """Which tokens [B, G, T] are of the injected ids [B, 1, N]. bool"""
  return code.mask & jnp.any(rewards.matches(code.ids, injected), -1)


def append(code: Tokens, used: jax.Array, budget: jax.Array | int) -> Tokens:
  """Puts ids [N, M] behind codes [N, k] that are cut to make room for them.

  The cut leaves one token at least; budget [N] or one for all.
  """
  k, count = code.ids.shape[-1], jnp.sum(used >= 0, -1)
  length = jnp.minimum(jnp.sum(code.mask, -1), jnp.maximum(budget - count, 1))
  place = jnp.arange(k) - length[:, None]
  last = jnp.minimum(length + count, budget)[:, None]
  tail = (place >= 0) & (jnp.arange(k) < last)
  index = jnp.clip(place, 0, used.shape[-1] - 1)
  ids = jnp.where(tail, jnp.take_along_axis(used, index, 1), code.ids)
  mask = tail | (jnp.arange(k) < length[:, None])
  return Tokens(jnp.where(mask, ids, 0), mask)


def without(code: Tokens, injected: jax.Array) -> Tokens:
  """The codes [B, G, T] with the injected ids taken out, pads on the right."""
  kept = code.mask & ~hits(code, injected)
  order = jnp.argsort(~kept, -1, stable=True)
  mask = jnp.take_along_axis(kept, order, -1)
  ids = jnp.take_along_axis(code.ids, order, -1)
  return Tokens(jnp.where(mask, ids, 0), mask)


def _init() -> Norms:
  whole = lambda value: jnp.full((), value, jnp.int32)
  ones = (jnp.ones(()) for _ in range(4))
  return Norms(*ones, -jnp.ones(()), whole(-1), whole(0))


def _observe(carry: Norms, c: Rollout, plain, level, decay: float) -> Norms:
  """Moves the medians; takes v0 and h0 where a level begins, or again."""

  def move(before, x):
    # Without a single such position the median stays.
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
  """Moves tau: what a scripted rote policy would lose in the swap.

  Of one code a source the injected ids are taken out, and as many of the list
  as it used are appended, one at least. Where D is misled by a decoy that it
  reads as content, this shows it.
  """
  if threshold is not None:
    return carry._replace(tau=jnp.float32(threshold))
  one = jax.tree.map(lambda x: x[:, :1], code)
  plain = tokens.at(without(one, injected), 0)
  size = jnp.broadcast_to(jnp.reshape(budget, (-1,)), (len(plain.ids),))
  number = jnp.maximum(jnp.sum(uses[:, 0], -1, keepdims=True), 1)

  def rote(listed):
    # What was relaxed away leaves holes anywhere in a list.
    order = jnp.argsort(listed < 0, -1, stable=True)
    listed = jnp.take_along_axis(listed, order, -1)
    listed = jnp.where(jnp.arange(listed.shape[-1]) < number, listed, -1)
    return tokens.expand(append(plain, listed, size))

  known = [of_code(rote(listed[:, 0])) for listed in (injected, decoys)]
  found = jnp.maximum(jnp.percentile(known[0] - known[1], 95), 0.0)
  mixed = decay * carry.tau + (1.0 - decay) * found
  return carry._replace(tau=jnp.where(carry.tau < 0, found, mixed))


def _pmi(policy, params, role, s, c, others):
  """Pointwise mutual information of each token of c with s. [B, G, T]

  The other sources are the next rows of the batch; U stays that of the code.
  """

  def given(shift):
    prompt = role.prompt(tokens.roll(s, shift), c.constraints)
    return rollout.score(policy, params, role, prompt, c.output, c.constraints)[
      0
    ]

  apart = jnp.stack([given(shift) for shift in range(1, others + 1)])
  return rewards.pmi(given(0), apart)


def _one_by_one(likelihood, ids, uses, injected, decoys):
  """ln p_D(s|c) with one injected token swapped at a time. [B, G, T]"""
  swapped = rewards.swap(ids, uses, injected, decoys)

  def at(t):
    here = jnp.arange(ids.shape[-1]) == t
    return likelihood(jnp.where(here & uses, swapped, ids))

  found = jax.lax.map(at, jnp.arange(ids.shape[-1]))
  return jnp.moveaxis(found, 0, -1)
