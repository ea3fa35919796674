"""Codes of a given length from the source, and the scores of codes beside them.

A rewrite is worth something only beside what reading the source again gives at
the same cost. Here C writes, for every source, as many tokens as another code
of it has.
"""

import jax
import jax.numpy as jnp

from rsrc_jax.lm import likelihood, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import compression
from rsrc_jax.types import Constraints, Metrics, Params, Policy, Tokens


def write(
  policy: Policy,
  params: Params,
  C: Role,
  s: Tokens,
  length: jax.Array,
  keys: jax.Array,
  samples: int = 1,
) -> Tokens:
  """C's codes of s, each as long as it is told.

  C is told the length as its budget, where its prompts can say one, and can't
  end before. Nothing else is forced.

  Args:
    policy: the model's functions.
    params: its parameters.
    C: the role; greedy, all samples are equal.
    s: [B, S].
    length: [B] int32, at most C.length.
    keys: [B] random keys, one a row, consumed.
    samples: G.

  Returns:
    [B, G, k], without ends, `length` tokens each.
  """
  one = lambda x: jnp.full((len(s.ids), 1, 1), x, jnp.int32)
  limits = Constraints(
    banned=one(C.end), allowed=one(-1),
    budget=jnp.maximum(length, 1)[:, None].astype(jnp.int32),
  )  # fmt: skip
  c = rollout.sample(
    policy, params, C, C.prompt(s, limits), keys, samples=samples,
    constraints=limits,
  )  # fmt: skip
  code = tokens.without_end(c.output, C.end)
  return tokens.cut(code, length[:, None])  # of no token, where it is 0


def scores(
  policy: Policy,
  params: Params,
  base: Params,
  roles: tuple[Role, Role],
  s: Tokens,
  codes: dict[str, Tokens],
) -> Metrics:
  """What D makes of codes of s [B, S]. codes: [B, k] by name.

  NAME_bits: what D gains about s over the frozen base that reads no code;
  NAME_exact and NAME_edit: whether D's greedy d is s, and its edit similarity
  to s; NAME_tokens. All [B] float32. roles: D, and that of the base's text.
  """
  D, text = roles
  base_log_lik = likelihood.without_code(policy, base, text, s)

  def one(code: Tokens) -> Metrics:
    log_lik = likelihood.of_source(policy, params, D, s, tokens.expand(code))
    d = rollout.greedy(policy, params, D, D.prompt(code))
    return {
      "bits": (log_lik[:, 0] - base_log_lik) / jnp.log(2.0),
      "exact": compression.exact_match(s, d),
      "edit": compression.edit_similarity(s, d),
      "tokens": jnp.sum(code.mask, -1) * 1.0,
    }

  # A code at a time: all decodes at once would take much memory.
  every = jax.tree.map(lambda *x: jnp.stack(x), *codes.values())
  found = jax.lax.map(one, every)
  return {
    f"{name}_{score}": x[i]
    for score, x in found.items()
    for i, name in enumerate(codes)
  }
