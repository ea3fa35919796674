"""sample() and score(): outputs of one isolated context window.

A prompt is computed once and shared by its group, in the sampler and in the
learner's score with its gradient: [B, P] prompts, [B, G, T] outputs.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from rsrc_jax.lm import caches, compaction, tokens
from rsrc_jax.lm.compaction import Window
from rsrc_jax.lm.keys import uniform
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import distributions, token_stats
from rsrc_jax.types import (
  Cache,
  Constraints,
  Metrics,
  Params,
  Policy,
  Rollout,
  Tokens,
  TokenStats,
)

NONE = MappingProxyType({})

# With a vocabulary of this size or more, scoring never stores logits.
LARGE = 8_192


def _charged(function: Callable) -> Callable:
  """Charges the function's operations to its role's section of the ledger."""

  @functools.wraps(function)
  def run(policy, params, role, *args, **kwargs):
    with role.charged():
      return function(policy, params, role, *args, **kwargs)

  return run


@_charged
def sample(
  policy: Policy,
  params: Params,
  role: Role,
  prompt: Tokens,
  keys: jax.Array,
  *,
  samples: int,
  constraints: Constraints | None = None,
  stats: bool = False,
  of: jax.Array | None = None,
) -> Rollout:
  """Samples `samples` outputs of each prompt, until all have ended.

  Args:
    policy: the model's functions.
    params: its parameters.
    role: support, end token, length T, temperature and top-p.
    prompt: [B, P].
    keys: [B] random keys, one for each row, consumed. The outputs of a row are
      a function of its own key and prompt, whatever the batch.
    samples: G.
    constraints: ids banned and allowed, [B, 1, K] or [B, G, K], and the other
      constraints; an output ends at its budget without an end token.
    stats: also record statistics of the distributions, with the mass on the
      injected ids: masked, but untempered and untruncated.
    of: [M] int32, the prompt of each of M rows, for unequal numbers of outputs.
      Each prompt is still computed once. All that has a row for each prompt has
      one for each of the M then, the keys and the constraints among them.

  Returns:
    A Rollout with outputs [B, G, T].
  """
  with jax.named_scope("prefill"):
    prefix, last = _prefill(policy.apply, params, prompt)
  if of is not None:
    prefix, last = caches.prompts_of(prefix, of), last[of]
    prompt = jax.tree.map(lambda x: x[of], prompt)
  rows = prompt.ids.shape[0]
  w = _window(
    policy, params, role, prompt, prefix, keys, samples, constraints, stats
  )
  out = _nothing_written(w, rows, samples)
  token, found = _choose(w, last, 0)
  active = jnp.ones((rows, samples), bool)
  out = _write(out, (token, active, *found), 0)
  w, cache = compaction.opened(w, samples)
  loop = (jnp.int32(1), token, _continues(w, token, 0), cache, out)
  ids, mask, logp, *found = compaction.run(
    w, loop, _next, compaction.sizes(rows * samples, role.shapes)
  )
  found = TokenStats(*found) if stats else None
  return Rollout(prompt, Tokens(ids, mask), logp, constraints, found)


def greedy(
  policy: Policy, params: Params, role: Role, prompt: Tokens
) -> Tokens:
  """The greedy output of each prompt [N, P] without its end. -> [N, T]"""
  rows = jnp.arange(prompt.ids.shape[0])
  keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(rows)
  found = sample(policy, params, role.greedy(), prompt, keys, samples=1)
  return tokens.at(tokens.without_end(found.output, role.end), 0)


def loops(output: Tokens, role: Role) -> jax.Array:
  """How often each loop of `sample` ran for these outputs [B, G, T]. -> [K]

  float32, K of role.shapes at most. The first token comes from the prompt; a
  loop ends when so many rows have ended that the next one takes over.
  """
  going = jnp.sum(output.mask, (0, 1))[1:]  # rows that write the t-th token
  sizes = compaction.sizes(output.mask[..., 0].size, role.shapes)
  ends = (*sizes[1:], 0)
  return jnp.stack(
    [
      jnp.sum((going > end) & (going <= start)) * 1.0
      for start, end in zip(sizes, ends, strict=True)
    ]
  )


def loops_at_most(code: Tokens) -> jax.Array:
  """How often `sample` ran its loop to write these codes [B, k] without ends.

  For codes of a rule, which needs no loop, it is an upper bound.
  """
  spent = jnp.max(jnp.sum(code.mask, -1)) + 1.0  # the end too, if it fits
  return jnp.minimum(spent, code.ids.shape[-1]) - 1.0


def passes(
  *calls: tuple[Role, Rollout | jax.Array], after: Mapping[str, Any] = NONE
) -> Metrics:
  """Metrics by which the ledger counts the loops of a step's samplings.

  A section's first loop is "C_loops", its further ones "C#2_loops" and so on,
  as accounting.flops.count names the loops of a program.

  Args:
    *calls: of `sample`, in the order in which they are traced: the role, and
      its rollout or how often its loop ran.
    after: metrics that already count the loops before these.
  """
  found = {}
  for role, ran in calls:
    each = loops(ran.output, role) if isinstance(ran, Rollout) else [ran]
    for count in each:
      number = 1
      name = f"{role.scope}_loops"
      while name in after or name in found:
        number += 1
        name = f"{role.scope}#{number}_loops"
      found[name] = count
  return found


def score(
  policy: Policy,
  params: Params,
  role: Role,
  prompt: Tokens,
  output: Tokens,
  constraints: Constraints | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Log-probability and entropy of each output token, teacher-forced.

  prompt [B, P], output [B, G, T], constraints [B, g, K] -> two [B, G, T], 0
  where the output's mask is False. The same masks, temperature, truncation and
  numerics as `sample`, so score(sample(x)) == sample(x).log_probs.
  """
  states = hidden(policy.apply, params, prompt, output)
  allowed = allowed_ids(role, constraints)[:, :, None]
  temperature = _temperature(role, constraints)
  if isinstance(temperature, jax.Array):
    temperature = temperature[:, :, None]
  if role.support.size >= LARGE and policy.table and role.top_p >= 1.0:
    picked, entropy = _blocked(
      policy, params, states, output.ids, allowed, temperature
    )
  else:
    logp = distributions.log_probs(
      policy.unembed(params, states),
      allowed,
      temperature=temperature,
      top_p=role.top_p,
      keep=output.ids,
    )
    picked = distributions.pick(logp, output.ids)
    entropy = distributions.entropy(logp)
  return tuple(jnp.where(output.mask, x, 0.0) for x in (picked, entropy))


def hidden(
  run: Callable, params: Params, prompt: Tokens, output: Tokens
) -> jax.Array:
  """Hidden states that predict each output token, teacher-forced.

  run: policy.apply, or policy.trace for those of every loop. prompt [B, P],
  output [B, G, T] -> [B, G, T, D] or [R, B, G, T, D]. The first token is
  predicted from the prompt, once for a group.
  """
  prefix, last = _prefill(run, params, prompt)
  shape = (*last.shape[:-2], output.ids.shape[1], 1, last.shape[-1])
  states = jnp.broadcast_to(last[..., None, :], shape)
  if output.ids.shape[2] > 1:
    written = Tokens(output.ids[..., :-1], output.mask[..., :-1])
    start = jnp.sum(prompt.mask, -1, dtype=jnp.int32)[:, None, None]
    rest, _ = run(
      params,
      written,
      tokens.positions(written.mask, start),
      prefix=prefix,
    )
    states = jnp.concatenate([states, rest], -2)
  return states


def likelihood(
  policy: Policy, params: Params, role: Role, prompt: Tokens, target: Tokens
) -> jax.Array:
  """log p(target | prompt), untempered: [N, P], [N, J, T] -> [N, J] nats."""
  plain = role._replace(temperature=1.0, top_p=1.0)
  log_probs, _ = score(policy, params, plain, prompt, target)
  return jnp.sum(log_probs, -1)


def allowed_ids(role: Role, constraints: Constraints | None) -> jax.Array:
  """The ids that each row may write: bool [B, g, V], or [1, 1, V] if all may.

  The end token is allowed whatever `constraints.allowed` is, unless it is
  banned. Where no other id is left, it is allowed even if banned.
  """
  support = jnp.asarray(role.support)
  if constraints is None:
    return support[None, None]
  only = _scatter(constraints.allowed, support.size)
  free = ~jnp.any(constraints.allowed >= 0, -1, keepdims=True)
  end = jnp.arange(support.size) == role.end
  banned = _scatter(constraints.banned, support.size)
  allowed = support & (only | free | end) & ~banned
  return allowed | (end & ~jnp.any(allowed, -1, keepdims=True))


def _window(
  policy, params, role, prompt, prefix, keys, samples, constraints, stats
) -> Window:
  params = policy.unrolled(params)
  if isinstance(prefix.k, jax.Array):  # layers that a scan has stacked
    prefix = prefix._replace(k=tuple(prefix.k), v=tuple(prefix.v))
  budget = role.length
  if constraints is not None and constraints.budget is not None:
    budget = constraints.budget
  return Window(
    policy,
    params,
    role,
    constraints,
    prefix,
    0,
    allowed=allowed_ids(role, constraints),
    injected=_injected(constraints, prompt.ids.shape[0], samples),
    budget=budget,
    start=jnp.sum(prompt.mask, -1, dtype=jnp.int32)[:, None, None],
    uniform=uniform(keys, samples, role.length),
    stats=stats,
  )


def _nothing_written(w: Window, rows: int, samples: int) -> tuple:
  """ids, mask, log-probabilities and statistics, each [B, G, T]."""
  shape = (rows, samples, w.role.length)
  measured = len(TokenStats._fields) if w.stats else 0
  return (
    jnp.zeros(shape, jnp.int32),
    jnp.zeros(shape, bool),
    *[jnp.zeros(shape, jnp.float32)] * (1 + measured),
  )


def _choose(w: Window, hidden: jax.Array, t: jax.Array | int):
  """Hidden state [B, g, D] -> token at t, log-prob and statistics, [B, G]."""
  shape = w.uniform.shape[:2]
  logits = w.policy.unembed(w.params, hidden)
  left = distributions.removed(
    logits,
    w.allowed,
    temperature=_temperature(w.role, w.constraints),
    top_p=w.role.top_p,
  )
  if w.role.temperature == 0:
    token = jnp.argmax(left, -1).astype(jnp.int32)
    chosen = jnp.max(left, -1) - jax.nn.logsumexp(left, -1)
    token, chosen = (jnp.broadcast_to(x, shape) for x in (token, chosen))
  else:
    uniform = jax.lax.dynamic_index_in_dim(w.uniform, t, 2, keepdims=False)
    token, chosen = distributions.draw(uniform, left)
  if not w.stats:
    return token, (chosen,)
  logits = jnp.broadcast_to(logits, (*shape, logits.shape[-1]))
  return token, (
    chosen,
    *token_stats.from_logits(logits, token, w.injected, w.allowed),
  )


def _write(arrays: tuple, values: tuple, t: jax.Array | int) -> tuple:
  """Puts values [B, G] at t into arrays [B, G, T]."""
  return tuple(
    jax.lax.dynamic_update_index_in_dim(a, v.astype(a.dtype), t, 2)
    for a, v in zip(arrays, values, strict=True)
  )


def _next(w: Window, loop: tuple) -> tuple:
  """Samples one more token. loop: (t, token at t - 1, active, cache, out)."""
  t, token, active, cache, out = loop
  hidden, cache = w.policy.apply(
    w.params,
    Tokens(token[..., None], active[..., None]),
    jnp.broadcast_to(w.start + t - 1, (*token.shape, 1)),
    prefix=w.prefix,
    cache=cache,
    index=w.offset + t - 1,
  )
  token, found = _choose(w, hidden[:, :, 0], t)
  token = jnp.where(active, token, 0)
  found = [jnp.where(active, x, 0.0) for x in found]
  out = _write(out, (token, active, *found), t)
  return t + 1, token, active & _continues(w, token, t), cache, out


def _continues(w: Window, token: jax.Array, t: jax.Array | int) -> jax.Array:
  """Which outputs continue after this token at t. bool [B, G]"""
  return (token != w.role.end) & (t + 1 < w.budget)


def _temperature(role: Role, constraints: Constraints | None):
  """The role's temperature times the constraints' [B, g, 1]; greedy is 0."""
  if constraints is None or constraints.temperature is None:
    return role.temperature
  if role.temperature == 0:
    return 0.0
  return role.temperature * constraints.temperature[..., None]


def _injected(constraints, rows, samples):
  """U of every sample, [B, G, N]; N is 0 where nothing is injected."""
  if constraints is None or constraints.injected is None:
    return jnp.zeros((rows, samples, 0), jnp.int32)
  ids = constraints.injected
  return jnp.broadcast_to(ids, (rows, samples, ids.shape[-1]))


def _scatter(ids: jax.Array, vocab_size: int) -> jax.Array:
  """ids [B, g, K], -1 pads -> bool [B, g, V]."""
  rows, groups = jnp.indices(ids.shape[:2])
  # Pads are written to an extra column, which is removed.
  hit = jnp.zeros((*ids.shape[:2], vocab_size + 1), bool)
  index = (rows[..., None], groups[..., None])
  return hit.at[(*index, jnp.where(ids < 0, vocab_size, ids))].set(True)[
    ..., :-1
  ]


def _prefill(
  run: Callable, params: Params, prompt: Tokens
) -> tuple[Cache, jax.Array]:
  """Runs the prompts once. -> their segment and last hidden state [B, 1, D]."""
  one = tokens.expand(prompt)
  states, prefix = run(params, one, tokens.positions(one.mask))
  return prefix, states[..., -1, :]


def _blocked(policy, params, hidden, ids, allowed, temperature):
  """Log-probability and entropy without logits [B, G, T, V]."""
  if isinstance(temperature, jax.Array):
    hidden = hidden / temperature.astype(hidden.dtype)
  elif temperature not in (0, 1):
    hidden = hidden / jnp.asarray(temperature, hidden.dtype)
  nothing = jnp.zeros((*ids.shape, 0), jnp.int32)
  head = policy.head or token_stats.from_hidden
  found = head(hidden, policy.table(params), ids, nothing, allowed)
  return found.log_prob, found.entropy
