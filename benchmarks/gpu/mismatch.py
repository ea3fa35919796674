"""How far the learner's log-probabilities are from the sampler's, by dtype.

Both compute the same numbers by different programs: the sampler a token at a
time from a cache, the learner all at once. What is left between them is
rounding, and it enters the importance ratios of GRPO.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.speed import SHAPES, TINY
from benchmarks.gpu.table import BATCHES, PRECISIONS
from benchmarks.gpu.timing import pieces
from rsrc_jax.lm import rollout
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import pretrained
from rsrc_jax.types import Rollout, Tokens

DEPTH, PROMPT, GROUP, NEW = 4, 64, 4, 32


def mismatch(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  del out
  yield from pieces(
    (name, lambda name=name: iter([(name, one(name, toy))]))
    for name in PRECISIONS
  )


def one(name: str, toy: bool) -> dict:
  """The cells of a dtype and precision."""
  dtype, _, precision = name.partition(" ")
  with jax.default_matmul_precision(precision or None):
    sample, score, prompt, keys, params = build(dtype, toy)
    cut = lambda x, size: jax.tree.map(lambda y: y[:size], x)
    drawn = {
      size: sample(params, cut(prompt, size), keys[:size]) for size in BATCHES
    }
    # Scored is what was sampled at the largest batch.
    whole = drawn[BATCHES[-1]]
    learnt = {
      size: score(params, cut(prompt, size), cut(whole.output, size))
      for size in BATCHES
    }
  last = BATCHES[-1]
  found = compared(
    np.asarray(whole.log_probs), np.asarray(learnt[last]),
    np.asarray(whole.output.mask),
  )  # fmt: skip
  logp = {size: np.asarray(x.log_probs) for size, x in drawn.items()}
  return found | {
    "learner: rows with the same bits": alike(
      {size: np.asarray(x) for size, x in learnt.items()}
    ),
    "sampler: rows with the same bits": alike(logp),
  }


def build(dtype: str, toy: bool) -> tuple[Callable, Callable, Tokens, jax.Array,
                                          dict]:  # fmt: skip
  """-> sample, score, prompts [B, P], keys [B], parameters; on the device."""
  shape = SHAPES["135M"] | {"num_hidden_layers": DEPTH} | (TINY if toy else {})
  new = 6 if toy else NEW
  policy = pretrained.make(**pretrained.settings(shape), dtype=dtype)
  vocab = shape["vocab_size"]
  role = Role(0, 0, vocab, new, np.ones(vocab, bool))  # no id ends it

  @jax.jit
  def sample(params, prompt, keys) -> Rollout:
    return rollout.sample(policy, params, role, prompt, keys, samples=GROUP)

  @jax.jit
  def score(params, prompt, output):
    return rollout.score(policy, params, role, prompt, output)[0]

  @jax.jit
  def make(key):
    a, b, c = jax.random.split(key, 3)
    ids = jax.random.randint(a, (BATCHES[-1], PROMPT), 0, vocab)
    prompt = Tokens(ids, jnp.ones(ids.shape, bool))
    return prompt, jax.random.split(b, BATCHES[-1]), policy.init(c)

  return sample, score, *make(jax.random.key(0))


def compared(
  sampler: np.ndarray, learner: np.ndarray, mask: np.ndarray
) -> dict[str, float]:
  """Of log-probabilities [B, G, T] of what the sampler has drawn.

  With d = learner - sampler and r = e^d, KL(sampler || learner) is the mean of
  -d, and of r - 1 - d, which is never negative and spreads less (k3 of
  Schulman, "Approximating KL divergence", 2020). The effective sample size of
  weights w is (sum w)^2 / (n sum w^2); of outputs, w is the product over their
  tokens.
  """
  d = np.where(mask, np.float64(learner) - np.float64(sampler), 0.0)
  size = lambda w: float(np.sum(w) ** 2 / (w.size * np.sum(w * w)))
  return {
    "KL a token, nats": float(np.mean((np.expm1(d) - d)[mask])),
    "the same, estimated directly": float(np.mean(-d[mask])),
    "largest difference of a log-probability": float(np.abs(d).max()),
    "effective sample size, tokens": size(np.exp(d[mask])),
    "effective sample size, outputs": size(np.exp(d.sum(-1))),
  }


def alike(found: dict[int, np.ndarray]) -> str:
  """ "at 1: 1 of 1, at 8: 8 of 8": rows [b, ...] as in the largest batch."""
  *small, last = found
  said = []
  for size in small:
    a, b = found[size], found[last][:size]
    same = (a.view(np.uint32) == b.view(np.uint32)).reshape(size, -1).all(1)
    said.append(f"at {size}: {same.sum()} of {size}")
  return ", ".join(said)
