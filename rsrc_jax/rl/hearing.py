"""What V hears: D decodes codes, and V's word on the decodes is their worth.

All decodes of a step are one batch, with one prefill a code: those of every
code, further ones of a group that D learns from, and some of the code without
tokens, above whose worth all others are measured (rewards.above_empty).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.ops import rewards
from rsrc_jax.rl.numbers import Numbers
from rsrc_jax.rl.verifier import Verifier
from rsrc_jax.types import (
  Constraints,
  Metrics,
  Params,
  Policy,
  Rollout,
  Tokens,
)

EMPTY = 8  # decodes of the empty code in a step; 1 where D decodes greedily
Parts = dict[str, jax.Array]  # of a reward, by name


class Heard(NamedTuple):
  """What D has written for the codes of a batch, without ends."""

  each: Tokens  # [B, G, J, T], of every code
  empty: Tokens  # [E, T], of the code without tokens
  group: Rollout | None  # outputs [N, J, T], from which D learns by RL
  own: jax.Array | None  # [B]: which of a source's codes it is of; None: of all


def decode(
  policy: Policy,
  params: Params,
  D: Role,
  code: Tokens,
  each: jax.Array,
  key: jax.Array,
  *,
  decodes: int = 1,
  own: jax.Array | None = None,
  size: int = 0,
  temperature: float | jax.Array = 1.0,
) -> tuple[Rollout, Heard]:
  """D reads codes, each in a context of its own.

  Args:
    policy: the model's functions.
    params: its parameters.
    D: the role. Greedy, all decodes of a code are equal.
    code: [B, G, k], without ends.
    each: [B * G] keys, one a code.
    key: of the decodes of the empty code.
    decodes: J, of every code.
    own: [B] int32, one code of each source that is decoded `size` times more,
      as a group from which D learns; needs decodes=1. None: with decodes above
      1 D learns from all decodes of all codes.
    size: see `own`.
    temperature: times the role's own, of the decodes of every code. Those of a
      group of its own have the role's, since D has to explore there.

  Returns:
    The whole rollout, rows [M, 1, T], and what was heard.
  """
  sources, group = code.ids.shape[:2]
  codes, count = tokens.flatten(code), sources * group
  # The code that each row decodes, and the number of this decode of it.
  rows, nth = np.divmod(np.arange(count * decodes), decodes)
  if own is not None:
    chosen = jnp.arange(sources) * group + own
    rows = jnp.concatenate([rows, jnp.repeat(chosen, size)])
    nth = np.concatenate([nth, np.tile(np.arange(1, size + 1), sources)])
  alone = EMPTY if D.temperature else 1
  child = jax.vmap(keys.child)
  drawn = child(each[rows], jnp.asarray(nth))
  of_empty = child(jnp.repeat(key[None], alone), jnp.arange(alone))
  cooler = jnp.arange(len(nth) + alone)[:, None]
  cooler = (cooler < count * decodes) | (cooler >= len(nth))
  nothing = tokens.empty(1, codes.ids.shape[-1])
  d = rollout.sample(
    policy, params, D, D.prompt(tokens.concat(codes, nothing, axis=0)),
    jnp.concatenate([drawn, of_empty]), samples=1,
    constraints=_at_temperature(jnp.where(cooler, temperature, 1.0)),
    of=jnp.concatenate([rows, jnp.full(alone, count)]),
  )  # fmt: skip
  said = tokens.at(tokens.without_end(d.output, D.end), 0)
  cut = lambda tree, *at: jax.tree.map(lambda x: x[slice(*at)], tree)
  heard = tokens.reshape(cut(said, count * decodes), sources, group, decodes)
  taught = None
  if own is not None:
    taught = _grouped(cut(d, count, -alone), size)
  elif decodes > 1:
    taught = _grouped(cut(d, count * decodes), decodes)
  return d, Heard(heard, cut(said, -alone, None), taught, own)


def _at_temperature(temperature: jax.Array) -> Constraints:
  """Nothing banned, all allowed, at a temperature [N, 1]."""
  nothing = jnp.full((len(temperature), 1, 1), -1, jnp.int32)
  return Constraints(nothing, nothing, temperature=temperature)


def _grouped(d: Rollout, size: int) -> Rollout:
  """Rows of one output each -> a row for each `size` of them."""
  first = lambda tree: jax.tree.map(lambda x: x[::size], tree)
  each = lambda x: x[:, 0].reshape(-1, size, x.shape[-1])
  return d._replace(
    prompt=first(d.prompt), output=jax.tree.map(each, d.output),
    log_probs=each(d.log_probs), constraints=first(d.constraints),
  )  # fmt: skip


def worth(
  verify: Verifier,
  frozen: Params,
  s: Tokens,
  heard: Heard | None,
  log_lik: jax.Array,
  base_log_lik: jax.Array,
  numbers: Numbers = None,
) -> tuple[Parts, Metrics]:
  """What codes are worth before price and bonus, in weighted parts [B, G].

  V's word above that on the empty code (mean over decodes), and shaping.

  Args:
    verify: V.
    frozen: the parameters of its reader.
    s: sources [B, S].
    heard: of `decode`; None: V hears nothing.
    log_lik: [B, G] nats, ln p_D(s|c).
    base_log_lik: [B, 1] nats, ln p(s) of the frozen base.
    numbers: of types.Controls.

  Returns:
    The parts, and metrics: the scorers' means, `word` and `word_best` (V's
    plain word, its mean over codes and over the best of each group) and
    `word_empty`.
  """
  parts, scores = {}, {}
  if heard is not None:
    said, scores = verify.words(frozen, s, heard.each, numbers)
    rows = len(s.ids)
    everywhere = lambda x: jnp.broadcast_to(x, (rows, 1, *x.shape))
    empty, _ = verify.words(
      frozen, s, jax.tree.map(everywhere, heard.empty), numbers
    )
    said, empty = (
      {k: jnp.mean(x, -1) for k, x in found.items()} for found in (said, empty)
    )
    word = sum(said.values())
    scores |= {
      "word": jnp.mean(word),
      "word_best": jnp.mean(jnp.max(word, -1)),
      "word_empty": jnp.mean(sum(empty.values())),
    }
    above = rewards.parts_above_empty(said, empty)
    parts = {k: verify.share(numbers) * x for k, x in above.items()}
  if verify.shapes:
    parts["shaping"] = verify.shaping(log_lik, base_log_lik, numbers)
  return parts, scores


def group_worth(
  verify: Verifier,
  frozen: Params,
  s: Tokens,
  heard: Heard,
  end: int,
  numbers: Numbers = None,
) -> tuple[jax.Array, Parts]:
  """D's reward for its own group [N, J], V's word alone, and its parts.

  s: sources [B, S]. end: D's end token.
  """
  decoded = heard.each
  if heard.own is not None:
    decoded = tokens.expand(tokens.without_end(heard.group.output, end))
  said, _ = verify.words(frozen, s, decoded, numbers)
  said = {k: x.reshape(-1, x.shape[-1]) for k, x in said.items()}
  return sum(said.values()), said
