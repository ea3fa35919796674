"""What each step of a recursion should say: from the question to the answer.

Deep Improvement Supervision (arXiv 2511.16886) gives every superstep a target
of its own, each strictly closer to the answer than the one before. A path from
question to answer says of every cell when it is due: frame s of S has the first
floor(s * n / S) cells of the path replaced, n being how many differ. What tells
one scheme from another is the order of the path alone.

`verified_chain` is the same for C -> C -> V, where what is improved is a code
and what is closer is what V says of it.
"""

import jax
import jax.numpy as jnp
import numpy as np

NAMES = ("final", "random_linear", "solver_order")


def due(
  name: str,
  key: jax.Array,
  question: jax.Array,
  answer: jax.Array,
  order: jax.Array,
  steps: int,
) -> jax.Array:
  """The step from which each cell should say its answer. [N, L] int32

  question, answer, order [N, L]; 0 where the question has the answer already.

  final: 1 everywhere, so that every frame is the answer: no path.
  random_linear: over S steps in an order drawn for each item, as in the paper.
  solver_order: likewise by `order`, ties drawn.

  Raises:
    ValueError: no such scheme.
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


def frame(
  step: jax.Array, due: jax.Array, question: jax.Array, answer: jax.Array
) -> jax.Array:
  """The target [N, L] after `step` [N] supersteps; 0 gives the question."""
  return jnp.where(step[:, None] >= due, answer, question)


def verified_chain(value: np.ndarray, *, final: bool = False):
  """Which later code of a chain each code should be taken to by likelihood.

  Only strict improvements count, so that a chain is monotone however it was
  found: rewrites that V likes no better than what they came from teach nothing
  (LLM-made steps that were not filtered so did worse than random ones: 10
  against 24 % on ARC-1, arXiv 2511.16886, its table of sources of targets).

  Args:
    value: [..., R + 1] what V says of c_0 (the first code) to c_R, priced by
      length: higher is better.
    final: the best code that comes later, instead of the next better one.

  Returns:
    index: [..., R + 1] int32, of the code to learn; its own where there is no
      better one.
    live: [..., R + 1] bool, whether there is one.
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
