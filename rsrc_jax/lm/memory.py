"""A memory cc of bounded length, in the prompt with a source or a code.

C reads cc and the source and writes a code. D reads cc and the code. CC reads
the history of the round and writes the next cc. A stream is a sequence of
sources with common facts, so that a memory can help.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import keys, likelihood, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.types import (
  Constraints,
  Metrics,
  Params,
  Policy,
  Rollout,
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
  gain: jax.Array,
  row_keys: jax.Array,
  samples: int,
  greedy: bool = False,
) -> tuple[Rollout, Tokens]:
  """CC reads the history of a round and writes new memories.

  s [n, S], cc [n, M], code [n, k], gain [n] -> CC's rollout, outputs
  [n, samples, M], and the d [n, T] of its prompt.
  """
  CC = m.CC.greedy() if greedy else m.CC
  separator, L = m.C.separator, len(m.levels)
  both = with_memory(cc, code, separator)
  d = rollout.greedy(m.policy, params, m.D, m.D.prompt(both))
  level = jnp.clip(gain * L, 0, L - 1).astype(jnp.int32)
  score = Tokens(m.levels[level][:, None], jnp.ones((len(level), 1), bool))
  line = tokens.constant(separator, len(level))
  history = tokens.concat(
    with_memory(cc, s, separator), line, code, line, d, line, score
  )
  found = rollout.sample(
    m.policy, params, CC, CC.prompt(history), row_keys, samples=samples
  )
  return found, d


def next_source(
  m: Memory,
  params: Params,
  base: Params,
  choose: str,
  cc: Tokens,
  candidates: Tokens,
  constraints: Constraints,
  row_keys: jax.Array,
) -> tuple[Tokens, tuple[Rollout, ...]]:
  """The source of the next round, of a pool [n, P, S].

  All three rules look at the memory cc [n, M] that new ones are made from, and
  at none of the new ones, so that candidates are compared on equal terms.

  Args:
    m: see Memory.
    params: the policy's.
    base: the frozen base's.
    choose: "random": the first of the pool, whose order is random. "hardest":
      see hardest_source. "misled": see misled_source.
    cc: the memory.
    candidates: the pool. Of one source nothing is computed.
    constraints: of the codes of the next round, a row for each stream.
    row_keys: [n].

  Returns:
    [n, S], and C's rollouts that the choice took, for rollout.passes.
  """
  if candidates.ids.shape[1] == 1 or choose == "random":
    return tokens.at(candidates, 0), ()
  if choose == "hardest":
    return hardest_source(m, params, cc, candidates), ()
  found, c = misled_source(
    m, params, base, cc, candidates, constraints, row_keys
  )
  return found, (c,)


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
  base: Params,
  cc: Tokens,
  candidates: Tokens,
  constraints: Constraints,
  row_keys: jax.Array,
) -> tuple[Tokens, Rollout]:
  """Of [n, P, S] the source on which the memory does most harm.

  It has the lowest R(s | cc) - R(s | no memory), with R of `value`. Where cc
  is empty all are equal, and the first is taken. Arguments as in next_source.

  -> [n, S], and C's rollout of n * P * 2 rows.
  """
  n, pool = candidates.ids.shape[:2]
  wide = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, pool, 0), tree)
  none = tokens.empty(n, cc.ids.shape[-1])
  tried = tokens.concat(tokens.expand(cc), tokens.expand(none), axis=1)
  worth, c = value(
    m, params, base, wide(tried), tokens.flatten(candidates),
    wide(constraints), wide(row_keys),
  )  # fmt: skip
  gain = (worth[:, 0] - worth[:, 1]).reshape(n, pool)
  return tokens.pick(candidates, jnp.argmin(gain, -1)), c


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
  base: Params,
  cc: Tokens,
  s: Tokens,
  constraints: Constraints,
  row_keys: jax.Array,
) -> tuple[jax.Array, Rollout]:
  """R(s | cc) of each memory under a greedy C: cc [n, H, M], s [n, S].

  R is the share of the base's surprisal of s that D's reading removes.

  -> [n, H], and C's rollout of n * H rows.
  """
  H = cc.ids.shape[1]
  wide = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, H, 0), tree)
  with jax.named_scope("V"):
    base_log_lik = likelihood.without_code(m.policy, base, m.text, s)
  s, cc = wide(s), tokens.flatten(cc)
  c = write(m, params, cc, s, wide(constraints), wide(row_keys), 1, greedy=True)
  code = tokens.without_end(c.output, m.C.end)
  with jax.named_scope("V"):
    log_lik = read(m, params, cc, s, code).reshape(-1, H)
  return likelihood.relative_gain(log_lik, base_log_lik[:, None]), c


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


def unfold(
  m: Memory, params: Params, base: Params, s: Tokens
) -> tuple[Metrics, dict[str, Tokens]]:
  """Plays the rounds of streams greedily, with four kinds of memory.

  s [n, R, S] -> the bits that D gains about s with each kind, [n, R], and the
  texts of each round. The kinds are "cc", the memory of the round; "empty", no
  memory; "frozen", the memory after the first round; and "shuffled", the memory
  of another stream.
  """
  n = len(s.ids)
  # All outputs are greedy, so the keys have no effect.
  row_keys = keys.row_keys(jax.random.key(0), jnp.zeros(n, int))
  cc = none = tokens.empty(n, m.CC.length)
  first, shown, bits = None, [], []
  for r in range(s.ids.shape[1]):
    here = tokens.at(s, r)
    base_log_lik = likelihood.without_code(m.policy, base, m.text, here)
    memories = {
      "cc": cc, "empty": none, "frozen": cc if first is None else first,
      "shuffled": tokens.roll(cc),
    }  # fmt: skip
    codes, log_lik = {}, {}
    for name, memory in memories.items():
      c = write(m, params, memory, here, None, row_keys, 1, greedy=True)
      codes[name] = tokens.without_end(c.output, m.C.end)
      log_lik[name] = read(m, params, memory, here, codes[name])[:, 0]
    bits.append(
      {k: (x - base_log_lik) / jnp.log(2.0) for k, x in log_lik.items()}
    )
    code = tokens.at(codes["cc"], 0)
    gain = likelihood.relative_gain(log_lik["cc"], base_log_lik)
    after, d = update(m, params, here, cc, code, gain, row_keys, 1, greedy=True)
    shown.append({"source": here, "cc": cc, "code": code, "decoded": d})
    cc = tokens.at(tokens.without_end(after.output, m.CC.end), 0)
    first = cc if r == 0 else first
  gather = lambda parts: jax.tree.map(lambda *x: jnp.stack(x, 1), *parts)
  return gather(bits), gather(shown)
