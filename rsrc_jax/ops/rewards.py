"""The reward of a code: fidelity, a price on length, and a gated bonus.

T_U, the uses of a list U, are a code's first occurrences of each listed id.
Gates and load are parts of a reward, so no gradient passes through them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rsrc_jax.types import TokenStats

GATES = ("none", "literal", "density", "shuffled", "counterfactual")
MODES = ("bonus", "multiply")
EMPTY_ROOM = 0.05  # least room above the word on an empty code


def above_empty(
  word: Float[Array, "*lead"], empty: Float[Array, "*#lead"]
) -> Float[Array, "*lead"]:
  """(word - empty) / (1 - empty): V's word above that on an empty code.

  D answers well without any code where sources are alike, so that a reward on
  the plain word pays for the shortest code. An empty code earns 0 here, a
  perfect one 1, and one that misleads D less than 0.

  Args:
    word: [...] at most 1, what V says of d.
    empty: [...] what V says of what D writes without a code; where that is all
      but 1 there is nothing to convey, and the difference alone is paid.
  """
  return (word - empty) / jnp.maximum(1.0 - empty, EMPTY_ROOM)


def parts_above_empty(
  parts: dict[str, Float[Array, "*lead"]],
  empty: dict[str, Float[Array, "*#lead"]],
) -> dict[str, Float[Array, "*lead"]]:
  """`above_empty` of a word that is a sum of parts, part by part."""
  room = jnp.maximum(1.0 - sum(empty.values()), EMPTY_ROOM)
  return {name: (x - empty[name]) / room for name, x in parts.items()}


def priced(
  value: Float[Array, "*lead"],
  length: Int[Array, "*lead"],
  *,
  budget: int | Int[Array, "*#lead"],
  price: float | Float[Array, "*#lead"],
) -> Float[Array, "*lead"]:
  """min(R, 0) + max(R, 0) (1 - price * length / budget), elementwise.

  The price is on what was conveyed, so that a failed code gains nothing by
  being short (an additive price trains a policy to fail fast, and is all or
  nothing where R grows evenly with length), and one more token that D does not
  use always costs. `budget` is a constant of the run for the same reason.

  Args:
    value: [...] R, at most 1; see `above_empty`. Negative values stay.
    length: [...] tokens of the code, the end token not counted.
    budget: the most tokens that a code can have.
    price: share of R that a code at full budget loses, in [0, 1].
  """
  used = length.astype(jnp.float32) / budget
  return jnp.minimum(value, 0.0) + jnp.maximum(value, 0.0) * (
    1.0 - price * used
  )


def gate(
  name: str,
  stats: TokenStats,
  *,
  v0: float | Float[Array, ""],
  h0: float | Float[Array, ""],
  pmi: Float[Array, "*lead T"] | None = None,
) -> Float[Array, "*lead T"]:
  """How far a token was a real choice, in [0, 1]. -> [..., T].

  "none": 1.
  "literal": V / (V + v0): more varentropy, more reward, in the words of the
    founding document ("Theory of RSI on LLMs through ordinary RL", varentropy
    gate). A half-learned habit with a fat tail passes this gate.
  "density": min(1, 4 (1 - m)^2 rho(H2/h0) rho(V/v0)) with rho(x) = x / (1 + x):
    many ids outside the list were likely, with uneven probabilities. The factor
    4 makes it about 1 at a typical content token. Ours.
  "shuffled": as "density"; `shuffled` then moves the values between the uses.
  "counterfactual": 1 - exp(-max(pmi, 0)): the token is likelier for this
    source than for others. Ours.

  No gradient passes: a policy should choose other tokens, not widen its
  distributions.

  Args:
    name: one of GATES.
    stats: [..., T] of the distributions of the tokens, at temperature 1 and
      before truncation.
    v0, h0: medians of V (nats squared) and H2 (nats) where no listed id was
      written; positive.
    pmi: [..., T] nats, of `pmi`; for "counterfactual".

  Raises:
    ValueError: an unknown name, or no pmi for "counterfactual".
  """
  if name not in GATES:
    raise ValueError(
      f"config.patterns.cdv.gate.name {name!r} is none of {GATES}."
    )
  rho = lambda x, usual: x / (x + usual)
  if name == "none":
    value = jnp.ones_like(stats.varentropy)
  elif name == "literal":
    value = rho(stats.varentropy, v0)
  elif name in ("density", "shuffled"):
    shape = rho(stats.collision, h0) * rho(stats.varentropy, v0)
    value = 4.0 * (1.0 - stats.mass) ** 2 * shape
  elif pmi is None:
    raise ValueError(
      "config.patterns.cdv.gate.name 'counterfactual' needs pmi: "
      "log-probabilities of the codes given other sources."
    )
  else:
    value = -jnp.expm1(-jnp.maximum(pmi, 0.0))
  return jax.lax.stop_gradient(jnp.clip(value, 0.0, 1.0))


def first_uses(
  ids: Int[Array, "B G T"],
  mask: Bool[Array, "B G T"],
  injected: Int[Array, "B 1 N"],
) -> Bool[Array, "B G T"]:
  """Where a code uses a listed id for the first time. -> bool [B, G, T].

  Args:
    ids: [B, G, T] int32.
    mask: [B, G, T] bool, the tokens that were chosen: False on pads and on
      tokens that were forced.
    injected: [B, 1, N] int32, the listed ids; -1 pads.
  """
  same = matches(ids, injected) & mask[..., None]
  return jnp.any(same & (jnp.cumsum(same, -2) == 1), -1)


def shuffled(
  values: Float[Array, "B G T"], uses: Bool[Array, "B G T"]
) -> Float[Array, "B G T"]:
  """Gives each use the gate of another use. -> [B, G, T].

  A control: what is paid has the distribution of the gate and nothing to do
  with the token. Of n uses, the i-th is given the value of use i + n // 2, the
  last being followed by the first: that of another source. Elsewhere the values
  stay. Ours.
  """
  flat = uses.reshape(-1)
  places = jnp.argsort(~flat, stable=True)  # of the uses first, in order
  count = jnp.maximum(jnp.sum(flat), 1)
  other = places[(jnp.cumsum(flat) - 1 + count // 2) % count]
  moved = values.reshape(-1)[other].reshape(values.shape)
  return jnp.where(uses, moved, values)


def swap(
  ids: Int[Array, "B G T"],
  uses: Bool[Array, "B G T"],
  injected: Int[Array, "B 1 N"],
  decoys: Int[Array, "B 1 N"],
) -> Int[Array, "B G T"]:
  """Replaces the listed ids of a code by their decoys, to remove their content.

  All copies of an id that `uses` marks are replaced, not only the marked one,
  because a second copy would still carry the content. Equal ids get equal
  decoys, so the pattern of repetitions stays, which D may have learnt to read.
  Replacing keeps positions; deleting would move them.

  Args:
    ids: [B, G, T] int32.
    uses: [B, G, T] bool, of `first_uses`, or only one of them, to leave one
      out.
    injected: [B, 1, N] int32; -1 pads.
    decoys: [B, 1, N] int32, the replacement of the id at the same index,
      distinct; an id without one (-1) stays.

  Returns:
    [B, G, T] int32.
  """
  same = matches(ids, injected)
  used = jnp.any(same & uses[..., None], -2, keepdims=True)
  decoys = decoys[..., None, :].astype(ids.dtype)
  decoy = jnp.max(jnp.where(same & used, decoys, -1), -1)
  return jnp.where(decoy >= 0, decoy, ids)


def pmi(
  own: Float[Array, "*lead T"], others: Float[Array, "J *lead T"]
) -> Float[Array, "*lead T"]:
  """How much likelier tokens are for their source than for others, in nats.

  ln p(c_t; s) - ln (1/J) sum_j p(c_t; s_j), with the same prefix and list. It
  is 0 for a habit, which is equally likely whatever the source.

  own [B, G, T], others [J, B, G, T] (log-probabilities) -> [B, G, T]
  """
  mean = jax.nn.logsumexp(others, 0) - jnp.log(others.shape[0])
  return jax.lax.stop_gradient(own - mean)


def load_bearing(
  gap: Float[Array, "*lead"],
  uses_count: Int[Array, "*lead"],
  *,
  threshold: float | Float[Array, ""],
  nats_per_token: float,
) -> Float[Array, "*lead"]:
  """L: how much of a source depends on a code's listed ids, in [0, 1]. [B, G]

  clip((gap - threshold) / (nats_per_token * uses), 0, 1); 0 without a use.
  Ours.

  Args:
    gap: [B, G] nats by which D's surprisal of s rises when they are swapped.
    uses_count: [B, G] how many are used.
    threshold: the 95th percentile, in nats, of the gap of a list without
      content. Without it the positive half of the noise would earn a bonus.
    nats_per_token: nats that a use must carry for L to be 1.
  """
  needed = nats_per_token * jnp.maximum(uses_count, 1)
  share = jnp.clip((gap - threshold) / needed, 0.0, 1.0)
  return jax.lax.stop_gradient(jnp.where(uses_count > 0, share, 0.0))


def load_bearing_tokens(
  gaps: Float[Array, "B G T"],
  uses: Bool[Array, "B G T"],
  *,
  threshold: float | Float[Array, ""],
  nats_per_token: float,
) -> Float[Array, "B G T"]:
  """L of each listed id, so that a useful id earns nothing for the others.

  gaps [B, G, T]: nats by which D's surprisal of s rises when only this id is
  swapped; uses [B, G, T] bool -> [B, G, T], 0 where there is no use. The other
  arguments as in `load_bearing`.
  """
  return load_bearing(
    gaps,
    uses.astype(jnp.int32),
    threshold=threshold,
    nats_per_token=nats_per_token,
  )


def gated(
  fidelity: Float[Array, "B G"],
  length: Int[Array, "B G"],
  gates: Float[Array, "B G T"],
  uses: Bool[Array, "B G T"],
  load: Float[Array, "B G"] | Float[Array, "B G T"],
  *,
  budget: int | Int[Array, "B 1"],
  price: float | Float[Array, ""] | Float[Array, "B 1"],
  listed: Int[Array, " B"] | Int[Array, "B 1"],
  bonus: float | Float[Array, ""] | Float[Array, "B G"],
  mode: str,
  share: float,
) -> tuple[Float[Array, "B G"], dict[str, Float[Array, "B G"]]]:
  """The reward of a code that was asked to use listed ids. [B, G]

  "bonus": priced + bonus * fidelity * (1/N) sum over uses of load * gate
  "multiply": priced * (1 - share + share * mean gate of the uses)

  Both are multiplied by fidelity, so that an unreadable code earns nothing.
  Without a list (N = 0) both are `priced`. With a list that no token uses, the
  sum and the mean are 0. `load` has no part in "multiply", which is as in the
  founding document; to include it, pass gates * load.

  Args:
    fidelity: [B, G], R, at most 1; where it is negative there is no bonus.
    length: [B, G] tokens of the code, the end token not counted.
    gates: [B, G, T] of `gate`.
    uses: [B, G, T] bool, of `first_uses`.
    load: [B, G] of a code or [B, G, T] of a token.
    budget: the most tokens that a code can have, a constant of the run or, as
      [B, 1], of the prompt.
    price: share of the reward that a code at full budget loses, [] or [B, 1].
    listed: [B] or [B, 1], N: ids in the list.
    bonus: beta, [] or [B, G]; see `largest_bonus`.
    mode: "bonus" or "multiply".
    share: gamma in [0, 1], of "multiply".

  Returns:
    The reward and its components, each [B, G], without gradients: the clipped
    `fidelity`, `priced`, `bonus` (what the list adds: reward = priced + bonus;
    never positive in "multiply"), `gate` and `load` (means over the uses, 0
    without one) and `uses` (how many).

  Raises:
    ValueError: an unknown mode.
  """
  if mode not in MODES:
    raise ValueError(
      f"config.patterns.cdv.gate.mode {mode!r} is none of {MODES}."
    )
  if load.ndim < uses.ndim:
    load = load[..., None]
  # where, not a product: values at other tokens may be nan.
  total = lambda x: jnp.sum(jnp.where(uses, x, 0.0), -1)
  count = jnp.sum(uses, -1)
  mean = lambda x: total(x) / jnp.maximum(count, 1)
  worth = priced(fidelity, length, budget=budget, price=price)
  fidelity = jnp.maximum(fidelity, 0.0)
  listed = jnp.reshape(listed, (-1, 1))
  if mode == "bonus":
    added = bonus * fidelity * total(load * gates) / jnp.maximum(listed, 1)
  else:
    added = jnp.maximum(worth, 0.0) * share * (mean(gates) - 1.0)
  added = jnp.where(listed > 0, added, 0.0)
  parts = {
    "fidelity": fidelity,
    "priced": worth,
    "bonus": added,
    "gate": mean(gates),
    "load": mean(load),
    "uses": count.astype(jnp.float32),
  }
  return jax.lax.stop_gradient((worth + added, parts))


def largest_bonus(*, price: float, listed: int, budget: int) -> float:
  """The largest beta at which appending a useless listed id gains nothing.

  The id loses price * R / budget and earns at most beta * R / N; the two are
  equal at beta = price * N / budget. Replacing another token by a listed id
  adds no length, so it gains under any beta. `listed` is the smallest N of a
  code, `budget` the largest of the run; gate and load are taken as 1. Ours.
  """
  return price * listed / budget


def check_bonus(
  *, bonus: float, price: float, listed: int, budget: int, beyond: bool
) -> None:
  """Refuses a bonus above `largest_bonus`, unless `beyond` allows it.

  Raises:
    ValueError: it is larger, and `beyond` is False.
  """
  most = largest_bonus(price=price, listed=listed, budget=budget)
  if beyond or not listed or bonus <= most * (1.0 + 1e-6):
    return
  raise ValueError(
    f"config.patterns.cdv.gate.bonus {bonus:g} is above {most:g}, which is "
    f"config.patterns.cdv.length_price ({price:g}) * config.augment.inject "
    f"({listed}) / config.budget ({budget}): a useless appended token would "
    f"earn up to {bonus / listed:.3g} R and cost {price / budget:.3g} R, and "
    f"pay wherever gate * load is above {most / bonus:.3g}. Lower it, or set "
    "config.patterns.cdv.gate.beyond_bound=True to rely on gate and load alone."
  )


def matches(
  ids: Int[Array, "B G T"], injected: Int[Array, "B 1 N"]
) -> Bool[Array, "B G T N"]:
  """ids [B, G, T], injected [B, 1, N] -> bool [B, G, T, N]."""
  injected = injected[..., None, :]
  return (ids[..., None] == injected) & (injected >= 0)
