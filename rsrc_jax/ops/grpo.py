"""Group-relative policy gradients for several roles on one set of weights.

Credit follows the diagram: C is compared among the codes of a source, D among
the decodes of a code. Sums and their denominators are kept apart until the end,
so that a loss does not depend on how its batch was split.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num


def advantages(
  rewards: Float[Array, "*lead G"],
  *,
  normalize_std: bool = False,
  epsilon: float = 1e-6,
) -> Float[Array, "*lead G"]:
  """rewards [..., G] -> reward minus its group's mean, [..., G].

  Mean-only is the default: dividing by the group's standard deviation
  (DeepSeekMath, arXiv 2402.03300, eq. 3) gives sources more weight the less
  their codes differ (Dr.GRPO, arXiv 2503.20783). Groups of equal rewards get
  exactly 0 either way.

  Raises:
    ValueError: a group of one, which has no signal.
  """
  if rewards.shape[-1] < 2:
    raise ValueError(
      f"advantages need at least 2 samples a group, got {rewards.shape[-1]}: "
      "raise the pattern's own setting, config.patterns.NAME.group for C or "
      "config.patterns.NAME.decodes for D."
    )
  # The first reward is subtracted first, so that near ties round alike.
  rewards = rewards - rewards[..., :1]
  equal = jnp.all(rewards == 0.0, -1, keepdims=True)
  centred = rewards - jnp.mean(rewards, -1, keepdims=True)
  if normalize_std:
    centred = centred / (jnp.std(rewards, -1, keepdims=True) + epsilon)
  return jnp.where(equal, 0.0, centred)


def policy_loss(
  log_probs: Float[Array, "*lead G T"],
  old_log_probs: Float[Array, "*lead G T"],
  behaviour_log_probs: Float[Array, "*lead G T"],
  advantages: Float[Array, "*lead G"],
  mask: Bool[Array, "*lead G T"],
  *,
  clip_low: float = 0.2,
  clip_high: float = 0.28,
  importance_cap: float = 2.0,
) -> tuple[Float[Array, ""], dict[str, Num[Array, ""]]]:
  """Summed clipped surrogate, to be divided by a count over the whole batch.

  -sum_t min(r_t A, clip(r_t, 1 - low, 1 + high) A) w_t, with r the ratio of the
  learner to the learner before the update and w = min(old / behaviour, cap) the
  truncated importance weight of the learner against the sampler (PPO, arXiv
  1707.06347, eq. 7; clip-higher, DAPO, arXiv 2503.14476, eq. 10).

  Args:
    log_probs: [..., G, T] under the parameters being updated.
    old_log_probs: [..., G, T] under the parameters before the update.
    behaviour_log_probs: [..., G, T] as the sampler recorded them.
    advantages: [..., G].
    mask: [..., G, T] bool, the sampled tokens.
    clip_low: how far a ratio may fall while the advantage is negative.
    clip_high: how far it may rise while the advantage is positive.
    importance_cap: the largest w.

  Returns:
    The sum, and metrics summed over tokens: `clipped`, and `mismatch_kl` (k3 of
    the sampler against the learner).
  """
  old = jax.lax.stop_gradient(old_log_probs)
  gap = jnp.where(mask, old - behaviour_log_probs, 0.0)
  weight = jnp.minimum(jnp.exp(gap), importance_cap)
  ratio = jnp.exp(jnp.where(mask, log_probs - old, 0.0))
  a = jax.lax.stop_gradient(advantages)[..., None]
  clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
  surrogate = jnp.minimum(ratio * a, clipped * a)
  total = -jnp.sum(jnp.where(mask, surrogate * weight, 0.0))
  watched = {
    "clipped": jnp.sum(mask & (clipped * a < ratio * a)),
    "mismatch_kl": jnp.sum(jnp.exp(gap) - 1.0 - gap),
  }
  return total, watched


def kl_penalty(
  log_probs: Float[Array, "*lead T"],
  reference: Float[Array, "*lead T"],
  mask: Bool[Array, "*lead T"],
) -> Float[Array, "*lead"]:
  """Single-sample estimate of KL(policy || reference), for the reward.

  log_probs, reference, mask [..., T] -> [...]. Subtracted from the reward,
  its policy gradient is that of the KL itself. As a loss, k3 would have the
  gradient of the reverse direction (arXiv 2512.21852).
  """
  return jnp.sum(jnp.where(mask, log_probs - reference, 0.0), -1)
