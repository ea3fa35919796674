"""Slots of a fixed number in which items are worked on until they are done.

Shapes never change: a slot whose item is done takes another in its place. So
recursive models are trained, each item for as many supersteps as it needs, and
batches are decoded that way; the carry of TRM is this.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Slots(NamedTuple):
  """N slots; leaves of `item` and `state` are [N, ...]."""

  item: Any  # what is worked on
  state: Any  # how far it is
  step: jax.Array  # [N] int32: steps done on it
  limit: jax.Array  # [N] int32: steps after which it leaves whatever it says
  done: jax.Array  # [N] bool: it leaves before the next step


def empty(item: Any, state: Any, limit: int) -> Slots:
  """All slots done; the items to come are spread evenly over steps.

  The first item of slot i stays for (i mod limit) + 1 steps, so that from then
  on a batch holds items of every step, and not all of the same one.

  Raises:
    ValueError: a limit under 1.
  """
  if limit < 1:
    raise ValueError(f"limit={limit}: an item needs at least one step.")
  count = len(jax.tree.leaves(item)[0])
  zeros = jnp.zeros(count, jnp.int32)
  first = jnp.arange(count, dtype=jnp.int32) % limit + 1
  return Slots(item, state, zeros, first, jnp.ones(count, bool))


def refill(slots: Slots, item: Any, state: Any, limit: int) -> Slots:
  """Puts row i of `item` and `state` into slot i where that is done."""
  put = lambda new, old: jnp.where(
    slots.done.reshape(-1, *[1] * (old.ndim - 1)), new, old
  )
  first = slots.done & (slots.step == 0)  # never used: its spread-out limit
  return Slots(
    item=jax.tree.map(put, item, slots.item),
    state=jax.tree.map(put, state, slots.state),
    step=put(jnp.zeros_like(slots.step), slots.step),
    limit=jnp.where(slots.done & ~first, limit, slots.limit),
    done=jnp.zeros_like(slots.done),
  )


def advance(slots: Slots, state: Any, done: jax.Array) -> Slots:
  """After one step on all of them; `done` [N] is what they say themselves."""
  step = slots.step + 1
  return slots._replace(
    state=state, step=step, done=done | (step >= slots.limit)
  )
