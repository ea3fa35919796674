"""One tiny setup for all tests with a real model, to reuse programs."""

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.data import tokenizer
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import transformer
from rsrc_jax.rl import curriculum
from rsrc_jax.types import Batch, Constraints, Controls, Tokens

VOCAB = 24
SETTINGS = dict(
  vocab_size=VOCAB, width=16, depth=1, heads=4, kv_heads=2, hidden=24
)
ROWS, GROUP, SOURCE, BUDGET = 8, 4, 6, 3
POLICY = transformer.make(**SETTINGS)

_ids = np.arange(VOCAB)
_end = _ids == tokenizer.END
WORDS = (_ids >= len(tokenizer.SPECIALS)) & (_ids < 20)
CODE = _ids >= len(tokenizer.SPECIALS)


def role(name: str, tag: int, length: int, support: np.ndarray) -> Role:
  """A role of the tiny vocabulary."""
  return Role(
    tag, tokenizer.SEPARATOR, tokenizer.END, length, support | _end, name=name
  )


ROLES = {
  "text": role("text", tokenizer.TEXT, SOURCE + 1, WORDS),
  "C": role("C", tokenizer.C, BUDGET, CODE),
  "D": role("D", tokenizer.D, SOURCE + 1, WORDS),
  "V": role("V", tokenizer.V, SOURCE + 1, WORDS),
}


@jax.jit
def _init(key):
  return jax.tree.map(lambda x: x * 1.5, POLICY.init(key))


def params(seed: int = 0):
  """Random weights, large enough that distributions are far from uniform."""
  return _init(jax.random.key(seed))


def tokens(rng, *shape, lengths=None) -> Tokens:
  """Random words; rows are padded on the right to random lengths."""
  ids = rng.integers(len(tokenizer.SPECIALS), 20, shape)
  if lengths is None:
    lengths = rng.integers(1, shape[-1] + 1, shape[:-1])
  mask = np.arange(shape[-1]) < np.asarray(lengths)[..., None]
  return Tokens(
    jnp.asarray(np.where(mask, ids, 0), jnp.int32), jnp.asarray(mask)
  )


def batch(seed: int = 0, rows: int = ROWS) -> Batch:
  """Sources of unequal lengths."""
  rng = np.random.default_rng(seed)
  return Batch(tokens(rng, rows, SOURCE), jnp.arange(rows, dtype=jnp.int32))


def schedule(level: int = 0, **changes) -> curriculum.Schedule:
  """Nothing relaxed and nothing hidden, but for the changes."""
  full = curriculum.full()._replace(level=np.int32(level))
  changes = {k: np.float32(v) for k, v in changes.items()}
  return full._replace(hidden=np.float32(0.0))._replace(**changes)


def ask(limits: Constraints, decoys=None, bonus=1.0, level=0) -> Controls:
  """The controls of a pattern; without decoys nothing is injected."""
  if decoys is None:
    decoys = jnp.full((len(limits.allowed), 1, 0), -1, jnp.int32)
  return Controls(limits, decoys, jnp.float32(bonus), jnp.int32(level))
