"""Log-likelihoods of s with and without a code, and D's supervised batch."""

import jax
import jax.numpy as jnp

from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.types import (
  Params,
  Policy,
  SupervisedBatch,
  Tokens,
)


def of_source(
  policy: Policy, params: Params, D: Role, s: Tokens, code: Tokens
) -> jax.Array:
  """ln p_D(s | c) of every code, teacher-forced.

  s [B, S], code [B, G, k] -> [B, G] nats, end included.
  """
  target = tokens.repeat(tokens.with_end(s, D.end), code.ids.shape[1])
  prompt = D.prompt(tokens.flatten(code))
  return rollout.likelihood(
    policy, params, D, prompt, tokens.expand(target)
  ).reshape(code.ids.shape[:2])


def without_code(
  policy: Policy, params: Params, text: Role, s: Tokens
) -> jax.Array:
  """ln p(s) of a language model without context. s [B, S] -> [B] nats"""
  target = tokens.expand(tokens.with_end(s, text.end))
  prompt = text.prompt(tokens.empty(len(s.ids)))
  return rollout.likelihood(policy, params, text, prompt, target)[:, 0]


def relative_gain(log_lik: jax.Array, base_log_lik: jax.Array) -> jax.Array:
  """Share of the surprisal of s that x removes: 1 - ln p(s|x) / ln p(s).

  Log-likelihoods in nats, [...] -> [...], at most 1; negative where x misleads.
  """
  return 1.0 - log_lik / jnp.minimum(base_log_lik, -1e-6)


def bounded_gain(log_lik: jax.Array, base_log_lik: jax.Array) -> jax.Array:
  """(L0 - L) / (L0 + L), L = -ln p(s|x), L0 = -ln p(s). [...] -> [...]

  What x tells about s, in (-1, 1]: 1 where s is certain, 0 where x tells
  nothing, below 0 where it misleads. It rises everywhere, so that two readings
  of different likelihood are never worth the same, and none is worth much more
  than the others.
  """
  base = jnp.maximum(-base_log_lik, 1e-6)
  return (base + log_lik) / (base - log_lik)


def decode_batch(
  role: Role,
  s: Tokens,
  code: Tokens,
  key: jax.Array,
  dropout: float,
  empty: bool = False,
) -> SupervisedBatch:
  """The batch by which D learns to reconstruct s from its codes.

  s [B, S], code [B * M, k] -> B * M rows with one target each. A share
  `dropout` of the codes is cut to a random length, or dropped whole if `empty`.
  The key is consumed.
  """
  rows, k = code.ids.shape
  k_drop = keys.child(key, keys.DBatch.DROP)
  k_length = keys.child(key, keys.DBatch.LENGTH)
  short = jax.random.randint(k_length, (rows,), 0, k)
  short = jnp.zeros_like(short) if empty else short
  drop = jax.random.uniform(k_drop, (rows,)) < dropout
  code = tokens.cut(code, jnp.where(drop, short, k))
  repeat = rows // s.ids.shape[0]
  target = tokens.repeat(tokens.with_end(s, role.end), repeat)
  return SupervisedBatch(
    role.prompt(code), tokens.expand(target), jnp.ones((rows, 1))
  )
