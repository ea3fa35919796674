"""The effect of one step of a recursion on a distribution.

A step takes the readout pi_u = softmax(before) to pi_c = softmax(after). Its
advantage is A = ln pi_c - ln pi_u; guided by w it is pi_w = softmax(before + w
(after - before)), which is proportional to pi_u^(1-w) pi_c^w. Raising w lowers
the cross-entropy of a target y exactly where A(y) exceeds the mean of A under
pi_w ("Your Latent Reasoning is Secretly Policy Improvement Operator",
arXiv 2511.16886; also in "Rethinking Recursive Models"):

  d/dw [-ln pi_w(y)] = E_w[A] - A(y),   d^2/dw^2 = Var_w(A) >= 0.

At w = 0 that mean is -KL(pi_u || pi_c), at w = 1 it is KL(pi_c || pi_u).
Differences of logits can replace A everywhere except in A(y) itself, because
the constant between them cancels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rsrc_jax.ops import token_stats


class Steps(NamedTuple):
  """Measures of a step, each [...] float32, in nats; flips are 0 or 1."""

  log_prob: jax.Array  # ln pi_c(y), of the target after the step
  advantage: jax.Array  # A(y) = ln pi_c(y) - ln pi_u(y)
  margin: jax.Array  # A(y) - E_{pi_c}[A]
  kl: jax.Array  # KL(pi_u || pi_c)
  kl_back: jax.Array  # KL(pi_c || pi_u)
  entropy: jax.Array  # of pi_c
  varentropy: jax.Array  # of pi_c, nats squared
  flip: jax.Array  # the most likely answer changes
  mended: jax.Array  # wrong before, right after
  broken: jax.Array  # right before, wrong after


def between(
  before: Float[Array, "*lead V"],
  after: Float[Array, "*lead V"],
  target: Int[Array, "*lead"],
) -> Steps:
  """before, after [..., V] logits, target [...] int32 -> Steps of [...].

  Computed in float32 whatever the dtype of the logits. An id that both mask (by
  -1e30) has no probability and changes nothing.
  """
  no_ids = jnp.zeros((*target.shape, 0), jnp.int32)
  u, c = (token_stats.from_logits(x, target, no_ids) for x in (before, after))
  logp_u, logp_c = (
    jax.nn.log_softmax(x.astype(jnp.float32)) for x in (before, after)
  )
  change = logp_c - logp_u  # A of every id
  advantage = c.log_prob - u.log_prob
  back = jnp.sum(jnp.exp(logp_c) * change, -1)
  was, now = (jnp.argmax(x, -1) for x in (before, after))
  bit = lambda x: x.astype(jnp.float32)
  return Steps(
    log_prob=c.log_prob,
    advantage=advantage,
    margin=advantage - back,
    kl=-jnp.sum(jnp.exp(logp_u) * change, -1),
    kl_back=back,
    entropy=c.entropy,
    varentropy=c.varentropy,
    flip=bit(was != now),
    mended=bit((was != target) & (now == target)),
    broken=bit((was == target) & (now != target)),
  )


def guided(
  before: Float[Array, "*lead V"],
  after: Float[Array, "*lead V"],
  w: float | Float[Array, "..."],
) -> Float[Array, "*lead V"]:
  """Logits of pi_w [..., V]: w = 0 is `before`, w = 1 is `after`."""
  before, after = (x.astype(jnp.float32) for x in (before, after))
  return before + w * (after - before)
