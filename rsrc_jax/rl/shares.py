"""What the rewards of a step consist of, where it counts: within groups.

Advantages compare the members of a group, so that what differs between groups
teaches nothing. A part of the reward counts by its share of the spread within
groups.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from rsrc_jax.types import Metrics

EQUAL = 1e-6  # rewards of a group that differ by less are taken as equal


def measure(
  role: str, rewards: jax.Array, parts: Mapping[str, jax.Array] | None
) -> Metrics:
  """Metrics of a role's rewards [N, G] and of their parts, [N, G] each.

  ROLE_share_PART: sum of cov(part, reward) over that of var(reward), within
    groups; the shares add up to 1.
  ROLE_spread_PART: standard deviation of the part within groups over that of
    the reward; these do not add up.
  Dead groups teach nothing and count in neither; both are 0 where all are dead.
  ROLE_dead_groups: share of groups whose rewards are equal.
  ROLE_reward_std: mean over groups of the standard deviation in a group.
  """
  width = jnp.max(rewards, -1) - jnp.min(rewards, -1)
  dead = width <= EQUAL

  def centred(x):
    spread = x - jnp.mean(x, -1, keepdims=True)
    return jnp.where(dead[..., None], 0.0, spread)

  whole = centred(rewards)
  total = jnp.sum(whole**2)
  safe = jnp.where(total > 0, total, 1.0)
  found = {}
  for name, part in (parts or {}).items():
    own = centred(part)
    found[f"{role}_share_{name}"] = jnp.sum(own * whole) / safe
    found[f"{role}_spread_{name}"] = jnp.sqrt(jnp.sum(own**2) / safe)
  found[f"{role}_dead_groups"] = jnp.mean(dead * 1.0)
  found[f"{role}_reward_std"] = jnp.mean(jnp.std(rewards, -1))
  return found
