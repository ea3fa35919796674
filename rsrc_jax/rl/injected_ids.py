"""Injected ids in codes: found, added, removed and counted."""

import jax
import jax.numpy as jnp

from rsrc_jax.metrics import use
from rsrc_jax.ops import rewards
from rsrc_jax.types import Metrics, Rollout, Tokens


def monitors(
  c: Rollout,
  code: Tokens,
  uses: jax.Array,
  gap: jax.Array | None,
  deleted: jax.Array | None,
  threshold: jax.Array,
  decoys: jax.Array,
) -> Metrics:
  """Statistics of how codes use injected ids. Scalars, float32.

  A user is a code that uses an injected id. Shares of users are over users.

  use_rate: share of codes that use an injected id.
  decoy_rate: share of codes that hold a decoy: as many ids, which C was not
    shown, so this is the rate of chance.
  used: injected ids that a code uses.
  tail_share: share of users whose injected ids form one unbroken run at the
    end, with other tokens before it.
  rote_share: share of users that lose at most `threshold` nats in the swap.
  junk_share: share of users that lose below use.JUNK bits an id in the swap.
  swap_bits: bits that a user loses for each id that is swapped.
  delete_bits: and for each that is deleted, a cross-check: deletion moves the
    tokens behind it, which alone costs D something.
  mass, varentropy, collision: means at the uses and at the other tokens.

  Args:
    c: C's rollout, with statistics.
    code: [B, G, T].
    uses: [B, G, T] bool, of rewards.first_uses.
    gap: [B, G] nats that are lost in the swap; None: not measured.
    deleted: [B, G] nats that are lost by deletion; None: not measured.
    threshold: [] nats, tau.
    decoys: [B, 1, N] int32.
  """
  count = jnp.sum(uses, -1)
  user = count > 0
  users = jnp.maximum(jnp.sum(user), 1)
  hit = hits(code, c.constraints.injected)
  later = jnp.flip(jnp.cumprod(jnp.flip(hit | ~code.mask, -1), -1), -1)
  tail = jnp.all(~hit | (later == 1), -1) & jnp.any(~hit & code.mask, -1)
  found = {
    "use_rate": jnp.mean(user * 1.0),
    "decoy_rate": jnp.mean(jnp.any(hits(code, decoys), -1) * 1.0),
    "used": jnp.mean(count * 1.0),
    "tail_share": jnp.sum(user & tail) / users,
  }
  if gap is not None:
    found["rote_share"] = jnp.sum(user & (gap <= threshold)) / users
    each = gap / jnp.maximum(count, 1) / jnp.log(2.0)
    found["junk_share"] = jnp.sum(user & (each < use.JUNK)) / users
    found["swap_bits"] = jnp.sum(jnp.where(user, each, 0.0)) / users
  if deleted is not None:
    each = deleted / jnp.maximum(count, 1) / jnp.log(2.0)
    found["delete_bits"] = jnp.sum(jnp.where(user, each, 0.0)) / users
  for field in ("mass", "varentropy", "collision"):
    x = getattr(c.stats, field)
    for where, mask in (("used", uses), ("other", code.mask & ~uses)):
      total = jnp.sum(jnp.where(mask, x, 0.0))
      found[f"{field}_{where}"] = total / jnp.maximum(jnp.sum(mask), 1)
  return found


def hits(code: Tokens, injected: jax.Array) -> jax.Array:
  """Which tokens [B, G, T] are among the injected ids [B, 1, N]. bool"""
  return code.mask & jnp.any(rewards.matches(code.ids, injected), -1)


def append(code: Tokens, used: jax.Array, budget: jax.Array | int) -> Tokens:
  """Appends ids [N, M] to codes [N, k], which are cut to make room for them.

  At least one token of a code stays. budget: [N] or one for all. -> [N, k]
  """
  k, count = code.ids.shape[-1], jnp.sum(used >= 0, -1)
  length = jnp.minimum(jnp.sum(code.mask, -1), jnp.maximum(budget - count, 1))
  place = jnp.arange(k) - length[:, None]
  last = jnp.minimum(length + count, budget)[:, None]
  tail = (place >= 0) & (jnp.arange(k) < last)
  index = jnp.clip(place, 0, used.shape[-1] - 1)
  ids = jnp.where(tail, jnp.take_along_axis(used, index, 1), code.ids)
  mask = tail | (jnp.arange(k) < length[:, None])
  return Tokens(jnp.where(mask, ids, 0), mask)


def remove_injected(code: Tokens, injected: jax.Array) -> Tokens:
  """Codes [B, G, T] without the injected ids, padded on the right."""
  kept = code.mask & ~hits(code, injected)
  order = jnp.argsort(~kept, -1, stable=True)
  mask = jnp.take_along_axis(kept, order, -1)
  ids = jnp.take_along_axis(code.ids, order, -1)
  return Tokens(jnp.where(mask, ids, 0), mask)


def shown(
  code: Tokens, injected: jax.Array, end: int, row_keys: jax.Array
) -> tuple[Tokens, jax.Array]:
  """Codes in which a random token is replaced by a listed id: one for each id.

  What RL forgets within a hundred steps, C is shown again. Each id has a place
  of its own.

  Args:
    code: outputs [B, T] as C wrote them, with their end.
    injected: [B, 1, N] int32; -1 pads.
    end: the end token, which is not replaced.
    row_keys: [B], consumed.

  Returns:
    [B, N, T], and which of them hold an id, [B, N] bool: not where the list is
    shorter, and not where the code is empty.
  """
  listed = injected[:, 0]
  free = (code.mask & (code.ids != end))[:, None]
  shape = (listed.shape[1], 1)
  draw = jax.vmap(lambda key: jax.random.uniform(key, shape))(row_keys)
  nth = jnp.floor(draw * jnp.sum(free, -1, keepdims=True))
  # The first place up to which there are more than nth tokens.
  place = jnp.argmax(jnp.cumsum(free, -1) > nth, -1)[..., None]
  some = (listed >= 0) & jnp.any(free, -1)
  here = (jnp.arange(code.ids.shape[-1]) == place) & some[..., None]
  ids = jnp.where(here, listed[..., None], code.ids[:, None])
  return Tokens(ids, jnp.broadcast_to(code.mask[:, None], ids.shape)), some
