"""A fixed number of slots in which items are worked on until they are done.

A slot whose item is done takes another, so that shapes never change and each
item takes as many supersteps as it needs. Recursive models are trained in this
way; it is the carry of TRM.
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
  """Slots that are all done, whose first items end at different steps.

  The first item of slot i stays for (i mod limit) + 1 steps. After that a batch
  holds items of every step, instead of all at the same one.

  Args:
    item: leaves [N, ...]; only their shapes count.
    state: leaves [N, ...].
    limit: steps after which an item leaves.

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
  """Puts row i of `item` and `state` into slot i if that slot is done.

  item, state: leaves [N, ...]. limit: of the steps of new items.
  """
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
  """The slots after one step on all of them.

  state: the new one, leaves [N, ...]. done: [N] bool, items that end early.
  """
  step = slots.step + 1
  return slots._replace(
    state=state, step=step, done=done | (step >= slots.limit)
  )
