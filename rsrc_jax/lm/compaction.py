"""The loop of `rollout.sample`, over batches that shrink as rows end.

Rows end at different lengths. A batch of one size pays for the longest of them
in every row. Here the rows that go on move to a batch of a quarter of the size
as soon as they fit into it, a fixed number of times, so that the program has a
bounded number of shapes. For lengths that are geometric, three sizes cost about
twice the mean length; one size costs ln(rows) times the mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import caches
from rsrc_jax.lm.roles import Role
from rsrc_jax.types import Cache, Constraints, Params, Policy

SHRINK = 4  # a batch is that many times the next
SMALLEST = 8  # rows; products of fewer cost as much


class Window(NamedTuple):
  """The constants of the sampling loop of a batch."""

  policy: Policy
  params: Params  # unrolled
  role: Role
  constraints: Constraints | None
  prefix: Cache | None  # of the prompts; None: they begin the own segment
  offset: int  # slots of the own segment that they take
  start: jax.Array  # [B, 1, 1] int32: position of the first token
  uniform: jax.Array  # [B, G, T]: the draw of each token
  allowed: jax.Array  # bool [B, g, V]
  injected: jax.Array  # [B, G, N]
  budget: jax.Array | int  # most tokens, [B, 1] or one for all
  stats: bool


def opened(w: Window, samples: int) -> tuple[Window, Cache]:
  """The empty cache; of prompts with one output each, it begins with them."""
  rows, length = len(w.uniform), max(w.role.length - 1, 1)
  if samples > 1 or not jax.tree.leaves(w.prefix.mask):
    return w, w.policy.init_cache(rows, samples, length)
  cache = caches.folded(caches.extended(w.prefix, length))
  return w._replace(prefix=None, offset=w.prefix.mask.shape[-1]), cache


def sizes(rows: int, shapes: int) -> tuple[int, ...]:
  """The batch sizes of a loop that begins with so many rows."""
  found = [rows]
  while len(found) < shapes and found[-1] >= SHRINK * SMALLEST:
    found.append(found[-1] // SHRINK)
  return tuple(found)


def run(w: Window, loop: tuple, step: Callable, sizes: tuple) -> tuple:
  """Runs the loop (t, token, active, cache, out) until all rows have ended.

  Args:
    w: the constants of its rows.
    loop: its state.
    step: (w, loop) -> the loop after one more token.
    sizes: of `sizes`, of which the first is that of the loop.

  Returns:
    `out`, its arrays [B, G, T].
  """
  fits = sizes[1] if len(sizes) > 1 else 0
  going = lambda loop: (loop[0] < w.role.length) & (jnp.sum(loop[2]) > fits)
  t, token, active, cache, out = jax.lax.while_loop(
    going, lambda loop: step(w, loop), loop
  )
  if not fits:
    return out
  # Rows that go on come first; if there are fewer, ended ones fill the batch.
  rows = jnp.argsort(~active.reshape(-1), stable=True)[:fits]
  few = Few(rows, *active.shape)
  small = (t, few.of(token), few.of(active), caches.folded(few.cache(w, cache)),
           tuple(map(few.of, out)))  # fmt: skip
  done = run(few.window(w), small, step, sizes[1:])
  return tuple(
    jax.tree.map(few.put_back, whole, part)
    for whole, part in zip(out, done, strict=True)
  )


class Few(NamedTuple):
  """Some outputs of a batch [B, G], as prompts of one output each."""

  rows: jax.Array  # [n], places in B * G
  batch: int  # B
  group: int  # G

  def of(self, x: jax.Array) -> jax.Array:
    """[B or 1, G or 1, ...] -> [n, 1, ...]"""
    place = jnp.where(x.shape[0] > 1, self.rows // self.group, 0)
    sample = jnp.where(x.shape[1] > 1, self.rows % self.group, 0)
    return x[place, sample][:, None]

  def put_back(self, whole: jax.Array, part: jax.Array) -> jax.Array:
    """Writes [n, 1, ...] to its places in [B, G, ...]."""
    place, sample = self.rows // self.group, self.rows % self.group
    return whole.at[place, sample].set(part[:, 0])

  def cache(self, w: Window, cache: Cache) -> Cache:
    """The cache of these outputs; the prompts' segment comes before it."""
    heads_first = lambda x: jnp.moveaxis(x, 2, 1)  # [B, G, H, ...]
    of = lambda x: jnp.moveaxis(self.of(heads_first(x)), 1, 2)
    if w.prefix is None:
      cache = caches.unfolded(cache)
      return Cache(
        tuple(map(of, cache.k)), tuple(map(of, cache.v)), self.of(cache.mask)
      )
    both = lambda axis: (
      lambda before, own: jnp.concatenate([of(before), of(own)], axis)
    )
    return Cache(
      tuple(map(both(4), w.prefix.k, cache.k)),
      tuple(map(both(3), w.prefix.v, cache.v)),
      jnp.concatenate([self.of(w.prefix.mask), self.of(cache.mask)], 2),
    )

  def window(self, w: Window) -> Window:
    """The constants of these outputs."""
    budget, limits = w.budget, w.constraints
    if isinstance(budget, jax.Array):
      budget = self.of(budget)
    if limits is not None and limits.temperature is not None:
      limits = limits._replace(temperature=self.of(limits.temperature))
    before = 0 if w.prefix is None else w.prefix.mask.shape[-1]
    return w._replace(
      constraints=limits,
      prefix=None,
      offset=w.offset + before,
      start=self.of(w.start[:, :, 0])[..., None],
      uniform=self.of(w.uniform),
      allowed=self.of(w.allowed),
      injected=self.of(w.injected),
      budget=budget,
    )
