"""A memory cc of bounded length, in the prompt with a source or a code.

C reads cc and the source and writes a code. D reads cc and the code. CC reads
the history of the round and writes the next cc. A stream is a sequence of
sources with common facts, so that a memory can help.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.types import (
  Constraints,
  Judged,
  Params,
  Policy,
  Rollout,
  SourceInfo,
  SupervisedBatch,
  Tokens,
)

# How the next source is chosen from a pool; see next_source.
CHOICES = ("random", "hardest", "misled")


class Memory(NamedTuple):
  """The policy and the roles that read and write the memory."""

  policy: Policy
  C: Role
  D: Role
  CC: Role  # its length is the memory's, M
  text: Role  # of the frozen base, which scores s without a code
  levels: jax.Array  # [L] int32: the ids of a score in [0, 1] in CC's prompt


# (cc [n, G, M], code [n, G, k], s [n, S]) -> what V says of s as D has read it
Judge = Callable[[Tokens, Tokens, Tokens], Judged]


def with_memory(cc: Tokens, other: Tokens, separator) -> Tokens:
  """cc [N, M], a separator, other [N, T]; only `other` where cc is empty."""
  line = tokens.constant(separator, other.ids.shape[0])
  some = jnp.any(cc.mask, -1, keepdims=True)
  return tokens.concat(cc, tokens.keep(line, some), other)


def write(
  m: Memory,
  params: Params,
  cc: Tokens,
  s: Tokens,
  constraints: Constraints | None,
  row_keys: jax.Array,
  samples: int,
  greedy: bool = False,
) -> Rollout:
  """C's codes of s [N, S] with cc [N, M]. -> outputs [N, samples, k]"""
  C = m.C.greedy() if greedy else m.C
  prompt = C.prompt(with_memory(cc, s, C.separator), constraints)
  return rollout.sample(
    m.policy, params, C, prompt, row_keys, samples=samples,
    constraints=constraints,
  )  # fmt: skip


def read(
  m: Memory, params: Params, cc: Tokens, s: Tokens, code: Tokens
) -> jax.Array:
  """ln p_D(s | cc, c): cc [N, M], s [N, S], code [N, G, k] -> [N, G]."""
  G = code.ids.shape[1]
  target = tokens.expand(tokens.with_end(tokens.repeat(s, G), m.D.end))
  both = with_memory(tokens.repeat(cc, G), tokens.flatten(code), m.C.separator)
  found = rollout.likelihood(m.policy, params, m.D, m.D.prompt(both), target)
  return found.reshape(code.ids.shape[:2])


def update(
  m: Memory,
  params: Params,
  s: Tokens,
  cc: Tokens,
  code: Tokens,
  d: Tokens | None,
  word: jax.Array,
  row_keys: jax.Array,
  samples: int,
  greedy: bool = False,
) -> tuple[Rollout, Tokens]:
  """CC reads the history of a round and writes new memories.

  s [n, S], cc [n, M], code [n, k]; d [n, T] as V has heard it, or None: D reads
  cc and the code greedily; word [n], V's, told in levels -> CC's rollout,
  outputs [n, samples, M], and the d of its prompt.
  """
  CC = m.CC.greedy() if greedy else m.CC
  separator, L = m.C.separator, len(m.levels)
  if d is None:
    both = with_memory(cc, code, separator)
    d = rollout.greedy(m.policy, params, m.D, m.D.prompt(both))
  level = jnp.clip(word * L, 0, L - 1).astype(jnp.int32)
  score = Tokens(m.levels[level][:, None], jnp.ones((len(level), 1), bool))
  line = tokens.constant(separator, len(level))
  history = tokens.concat(
    with_memory(cc, s, separator), line, code, line, d, line, score
  )
  found = rollout.sample(
    m.policy, params, CC, CC.prompt(history), row_keys, samples=samples
  )
  return found, d


def heard(found: Judged) -> Tokens | None:
  """The d of each source's first code, [n, T]; None where V hears none."""
  return None if found.decoded is None else tokens.at(found.decoded, 0)


def next_source(
  m: Memory,
  params: Params,
  judge: Judge,
  choose: str,
  cc: Tokens,
  candidates: Tokens,
  constraints: Constraints,
  row_keys: jax.Array,
) -> tuple[Tokens, tuple[tuple[Judged, Rollout], ...]]:
  """The source of the next round, of a pool [n, P, S].

  All three rules look at the memory cc [n, M] that new ones are made from, and
  at none of the new ones, so that candidates are compared on equal terms.

  Args:
    m: see Memory.
    params: the policy's.
    judge: what V says of codes beside memories.
    choose: "random": the first of the pool, whose order is random. "hardest":
      see hardest_source. "misled": see misled_source.
    cc: the memory.
    candidates: the pool. Of one source nothing is computed.
    constraints: of the codes of the next round, a row for each stream.
    row_keys: [n].

  Returns:
    [n, S], and what `value` has found for the choice, for rollout.passes.
  """
  if candidates.ids.shape[1] == 1 or choose == "random":
    return tokens.at(candidates, 0), ()
  if choose == "hardest":
    return hardest_source(m, params, cc, candidates), ()
  found, tried = misled_source(
    m, params, judge, cc, candidates, constraints, row_keys
  )
  return found, (tried,)


def hardest_source(
  m: Memory, params: Params, cc: Tokens, candidates: Tokens
) -> Tokens:
  """Of [n, P, S] the source that D finds least likely given cc. -> [n, S]

  Hard-example mining: a source may be hard for reasons other than the memory.
  """
  n, pool = candidates.ids.shape[:2]
  nothing = tokens.expand(tokens.empty(n * pool, 1))
  with jax.named_scope("V"):
    log_lik = read(
      m, params, tokens.repeat(cc, pool), tokens.flatten(candidates), nothing
    )
  return tokens.pick(candidates, jnp.argmin(log_lik.reshape(n, pool), -1))


def misled_source(
  m: Memory,
  params: Params,
  judge: Judge,
  cc: Tokens,
  candidates: Tokens,
  constraints: Constraints,
  row_keys: jax.Array,
) -> tuple[Tokens, tuple[Judged, Rollout]]:
  """Of [n, P, S] the source on which the memory does most harm.

  It has the lowest R(s | cc) - R(s | no memory), with R of `value`. Where cc
  is empty all are equal, and the first is taken. Arguments as in next_source.

  -> [n, S], and what `value` has found for n * P sources.
  """
  n, pool = candidates.ids.shape[:2]
  wide = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, pool, 0), tree)
  none = tokens.empty(n, cc.ids.shape[-1])
  tried = tokens.concat(tokens.expand(cc), tokens.expand(none), axis=1)
  found = value(
    m, params, judge, wide(tried), tokens.flatten(candidates),
    wide(constraints), wide(row_keys),
  )  # fmt: skip
  worth = found[0].worth
  gain = (worth[:, 0] - worth[:, 1]).reshape(n, pool)
  return tokens.pick(candidates, jnp.argmin(gain, -1)), found


def decode_batch(
  m: Memory,
  cc: Tokens,
  s: Tokens,
  code: Tokens,
  key: jax.Array,
  dropout: float,
) -> SupervisedBatch:
  """The batch by which D learns s from cc and c.

  cc [n, M], s [n, S], code [n, k] -> n rows. A share `dropout` of the memories
  and of the codes is left out. The key is consumed.
  """
  some = jax.random.uniform(key, (2, len(s.ids), 1)) >= dropout
  cc, code = tokens.keep(cc, some[0]), tokens.keep(code, some[1])
  target = tokens.expand(tokens.with_end(s, m.D.end))
  prompt = m.D.prompt(with_memory(cc, code, m.C.separator))
  return SupervisedBatch(prompt, target, jnp.ones(target.ids.shape[:2]))


def value(
  m: Memory,
  params: Params,
  judge: Judge,
  cc: Tokens,
  s: Tokens,
  constraints: Constraints,
  row_keys: jax.Array,
) -> tuple[Judged, Rollout]:
  """R(s | cc) of each memory under a greedy C: cc [n, H, M], s [n, S].

  C writes a code beside each memory, D reads both, and V hears d.

  -> of n * H codes V's judgement [n, H], and C's rollout.
  """
  n, H = cc.ids.shape[:2]
  wide = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, H, 0), tree)
  c = write(
    m, params, tokens.flatten(cc), wide(s), wide(constraints), wide(row_keys),
    1, greedy=True,
  )  # fmt: skip
  code = tokens.reshape(tokens.without_end(c.output, m.C.end), n, H)
  return judge(cc, code, s), c


def stream(
  s: Tokens, places: tuple[int, ...], drift: float, key: jax.Array
) -> Tokens:
  """Gives the sources [n, R, P, S] of a stream common facts. -> the same shape

  At `places`, all sources of a stream have the words of its first source. At
  each round, a word changes with the probability `drift` to the word of that
  round's source, and stays so.
  """
  if not places:
    return s
  place = jnp.asarray(places)
  words = s.ids[:, :, 0][..., place]  # [n, R, K], of each round's first source
  new = jax.random.bernoulli(key, drift, words.shape).at[:, 0].set(True)
  common = [words[:, 0]]
  for r in range(1, words.shape[1]):
    common.append(jnp.where(new[:, r], words[:, r], common[-1]))
  common = jnp.stack(common, 1)[:, :, None]  # the same in all of a pool
  return s._replace(ids=s.ids.at[..., place].set(common))


def places(info: SourceInfo, shared: tuple[str, ...]) -> tuple[int, ...]:
  """Where the facts stand that the sources of a stream share.

  Raises:
    ValueError: a fact is not known, or the facts have no fixed places.
  """
  if not shared:
    return ()
  if info.slots is None:
    raise ValueError(
      f"config.patterns.cc.shared={shared}: sources without facts at fixed "
      "places have none in common; set config.data.source='facts' and "
      "config.data.omit=0, or shared=()."
    )
  if set(shared) - set(info.names):
    raise ValueError(
      f"config.patterns.cc.shared={shared}: the facts are "
      f"{', '.join(info.names)}."
    )
  return tuple(info.slots[info.names.index(name)] for name in shared)
