"""What V says of codes that D reads, alone or beside a memory."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import keys, likelihood, memory, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.rl import hearing
from rsrc_jax.rl.numbers import Numbers
from rsrc_jax.rl.verifier import Verifier
from rsrc_jax.types import (
  Judged,
  Metrics,
  Params,
  Policy,
  Rollout,
  Tokens,
)


class Hearing(NamedTuple):
  """How codes are heard."""

  policy: Policy
  D: Role  # greedy if a code is decoded once: no code wins by a lucky d
  text: Role  # of the frozen base, which scores s without a code
  verify: Verifier
  decodes: int  # of every code, J; none if V hears nothing
  numbers: Numbers = None  # of types.Controls


def make(policy: Policy, roles: dict[str, Role], verify, decodes) -> Hearing:
  """roles: "D" and "text". decodes: free-running ones of a code, J."""
  D = roles["D"] if decodes > 1 else roles["D"].greedy()
  return Hearing(policy, D, roles["text"], verify, decodes)


def greedy(how: Hearing) -> Hearing:
  """One greedy decode of every code, as in an evaluation."""
  return how._replace(D=how.D.greedy(), decodes=1)


def judge(
  how: Hearing,
  params: Params,
  frozen: dict[str, Params],
  s: Tokens,
  read: Tokens,
  each: jax.Array,
  empty: jax.Array,
) -> Judged:
  """D reads texts, and V hears what it writes.

  Args:
    how: see Hearing.
    params: the policy's.
    frozen: "base" and "reader".
    s: [n, S].
    read: [n, G, L], G texts about each source: codes, or a memory and a code.
    each: [n * G] keys of D's samples.
    empty: the key of its samples from an empty text.
  """
  d = heard = log_lik = base_log_lik = None
  if how.verify.hears:
    d, heard = hearing.decode(
      how.policy, params, how.D, read, each, empty, decodes=how.decodes
    )
  with jax.named_scope("V"):
    if how.verify.shapes:
      log_lik = likelihood.of_source(how.policy, params, how.D, s, read)
      base_log_lik = likelihood.without_code(
        how.policy, frozen["base"], how.text, s
      )[:, None]
    parts, _ = hearing.worth(
      how.verify, frozen["reader"], s, heard, log_lik, base_log_lik, how.numbers
    )
  if heard is None:
    return Judged(parts, parts["shaping"], None, None, log_lik)
  share = how.verify.share(how.numbers)
  word = sum(x / share for name, x in parts.items() if name != "shaping")
  return Judged(parts, word, tokens.at(heard.each, 0, axis=2), d, log_lik)


def beside(
  how: Hearing,
  separator,
  params: Params,
  frozen: dict[str, Params],
  rows: jax.Array,
  key: jax.Array,
  cc: Tokens,
  code: Tokens,
  s: Tokens,
) -> Judged:
  """A memory.Judge, once all but the last three arguments are bound.

  rows: [n], the numbers of the streams. key: of D's samples. cc [n, G, M], code
  [n, G, k], s [n, S]. Worth is above that of a d from neither cc nor code.
  """
  both = memory.with_memory(*map(tokens.flatten, (cc, code)), separator)
  read = tokens.reshape(both, *code.ids.shape[:2])
  k_each, k_empty = (keys.child(key, x) for x in keys.Judged)
  each = keys.prompt_keys(k_each, rows, code.ids.shape[1])
  return judge(how, params, frozen, s, read, each, k_empty)


def sampled(
  C: Role, D: Role, judged: Iterable[tuple[Judged, Rollout]]
) -> list[tuple[Role, Rollout]]:
  """The samplings behind judgements of C's codes, for rollout.passes."""
  found = []
  for said, c in judged:
    found += [
      (C, c),
      *([(D, said.sampled)] if said.sampled is not None else []),
    ]
  return found


def of_memories(tried: Judged, candidates: int) -> tuple[jax.Array, ...]:
  """R(next | cc) of candidates [n, H], and [n, 1] of cc, of none, of the new.

  tried: of these H + 3 memories, in this order.
  """
  cuts = (candidates, candidates + 1, candidates + 2)
  return tuple(jnp.split(tried.worth, cuts, 1))


def measure(
  tried: Judged, after: Tokens, code: Tokens, worth: jax.Array
) -> Metrics:
  """Means over the streams of a round of cc.

  tried: as in `of_memories`. after [n, H, M]: the candidates. code [n, G, k]
  and worth [n, G]: of the round.
  """
  value, held, none, new = of_memories(tried, after.ids.shape[1])
  return {
    "reward": jnp.mean(worth),
    "length": jnp.mean(jnp.sum(code.mask, -1) * 1.0),
    "cc_worth": jnp.mean(value),
    "cc_over_memory": jnp.mean(value - held),
    "cc_over_empty": jnp.mean(value - none),
    "cc_worse_than_none": jnp.mean((new < none) * 1.0),
    "cc_length": jnp.mean(jnp.sum(after.mask, -1) * 1.0),
  }


def priced(
  found: Judged, code: Tokens, *, budget: int, price: float | jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """What codes [n, G, k] are worth less their price, and its parts, [n, G]."""
  length = jnp.sum(code.mask, -1)
  value = rewards.priced(found.worth, length, budget=budget, price=price)
  return value, found.parts | {"price": value - found.worth}
