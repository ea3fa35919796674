"""The target of each superstep of a recursion, from the question to the answer.

Deep Improvement Supervision (arXiv 2511.16886) gives every superstep a target
of its own, each strictly closer to the answer than the one before. A path from
question to answer orders the n cells in which the two differ. The target of
superstep s of S has the first floor(s * n / S) of them replaced. Schemes differ
only in the order of the path.

`verified_chain` does the same for C -> C -> V, where codes take the place of
answers and the value that V gives says which code is closer.
"""

import jax
import jax.numpy as jnp
import numpy as np

NAMES = ("final", "random_linear", "solver_order")


def target_schedule(
  name: str,
  key: jax.Array,
  question: jax.Array,
  answer: jax.Array,
  order: jax.Array,
  steps: int,
) -> jax.Array:
  """The superstep from which the target of each cell is its answer.

  Args:
    name: the scheme. "final": 1 everywhere, so that every target is the whole
      answer. "random_linear": over S steps in an order drawn for each item, as
      in the paper. "solver_order": over S steps by `order`, ties drawn.
    key: consumed.
    question: [N, L] int32.
    answer: [N, L] int32.
    order: [N, L] int32, see data.grids.Puzzles.
    steps: S.

  Returns:
    [N, L] int32; 0 where the question has the answer already.

  Raises:
    ValueError: there is no such scheme.
  """
  if name not in NAMES:
    raise ValueError(f"targets={name!r} is none of {', '.join(NAMES)}.")
  differs = question != answer
  if name == "final":
    return differs.astype(jnp.int32)
  noise = jax.random.uniform(key, question.shape)
  score = noise + (order if name == "solver_order" else 0.0)
  place = _places(jnp.where(differs, score, jnp.inf))
  count = jnp.maximum(jnp.sum(differs, -1, keepdims=True), 1)
  # The first s with floor(s * count / steps) > place.
  at = -(-(place + 1) * steps // count)
  return jnp.where(differs, at, 0)


def target_at(
  step: jax.Array, schedule: jax.Array, question: jax.Array, answer: jax.Array
) -> jax.Array:
  """The target [N, L] after `step` [N] supersteps; 0 gives the question.

  schedule: [N, L] int32, of `target_schedule`.
  """
  return jnp.where(step[:, None] >= schedule, answer, question)


def verified_chain(value: np.ndarray, *, final: bool = False):
  """Which later code of a chain is the target of each code.

  Only strict improvements are targets, so that the targets of a chain improve
  monotonically. A rewrite to which V gives no higher value is no target: in
  arXiv 2511.16886 (table of sources of targets), steps made by an LLM that were
  not filtered so did worse than random ones, 10 against 24 % on ARC-1.

  Args:
    value: [..., R + 1], the value that V gives to c_0 (the first code) to c_R,
      less a price of length. Higher is better.
    final: take the best of all later codes instead of the next better one.

  Returns:
    index: [..., R + 1] int32, of the target; a code's own index where no later
      code is better.
    live: [..., R + 1] bool, whether one is.
  """
  value = jnp.asarray(value)
  size = value.shape[-1]
  later = jnp.arange(size)[None] > jnp.arange(size)[:, None]
  better = later & (value[..., None, :] > value[..., :, None])
  score = value[..., None, :] if final else -jnp.arange(size, dtype=value.dtype)
  score = jnp.where(better, score, -jnp.inf)
  live = jnp.any(better, -1)
  return jnp.where(live, jnp.argmax(score, -1), jnp.arange(size)).astype(
    jnp.int32
  ), live


def _places(score):
  """[..., L] -> the place of each in increasing order, int32."""
  return jnp.argsort(jnp.argsort(score, -1), -1).astype(jnp.int32)
