"""(C -> D -> V) -> CC: a memory of bounded length that every round rewrites.

A stream is a row of sources that have something in common. C and D read the
memory cc beside s and c; after each round CC folds the round's own history (cc,
s, c, d and V's score) into the next cc. A cc is worth what it does to the round
that follows: R(next | cc') against R(next | cc) and R(next | empty), on a
source that it has not seen. Credit is cut there: of later rounds CC learns only
that what it leaves is what they begin with.

Which of a pool of sources comes next is for the present cc to fear: the one
that D expects least. A cc that did worse than none is given up, and the next
one is folded from what was there before it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import extracts, likelihood, rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role, joined
from rsrc_jax.rl import verifier
from rsrc_jax.types import (
  Batch,
  Controls,
  Episode,
  Pattern,
  Policy,
  SourceInfo,
  SupervisedBatch,
  Tokens,
)

LEVELS = 8  # in which CC is told V's score


class State(NamedTuple):
  """What goes from one round of n streams to the next."""

  source: Tokens  # [n, S], of this round
  cc: Tokens  # [n, M], what C and D read in it
  before: Tokens  # [n, M], what cc was folded from
  kept: jax.Array  # [n] bool: False where this cc does worse than none


def make(
  policy: Policy,
  roles: dict[str, Role],
  verify: verifier.Verifier,
  *,
  info: SourceInfo,
  rounds: int,
  pool: int,
  memory: int,
  shared: tuple[str, ...],
  drift: float,
  group: int,
  candidates: int,
  over_memory: float,
  over_empty: float,
  rollback: bool,
  warmup: int,
  imitate: bool,
  dropout: float,
  length_price: float = 0.0,
) -> Pattern:
  """Builds the pattern.

  Args:
    policy: the model's functions, shared by all roles.
    roles: "C", "D" and "text".
    verify: unused: V is D's likelihood of s, of a free-running d CC is told.
    about: where the facts of a source stand.
    rounds: sources of a stream, R.
    pool: sources of which the hardest is the next round's.
    memory: most tokens of cc, M.
    shared: facts that the sources of a stream have in common; none: there is
      nothing to remember.
    drift: chance that one of them is another from a round on.
    group: codes of a round, G.
    candidates: cc's of which one goes on (the first, whatever it is worth), H.
    over_memory: weight of a cc's worth over that of the one before it, beside
      its worth over its group's mean.
    over_empty: likewise over that of no memory at all.
    rollback: give up a cc that did worse than none.
    warmup: steps in which cc is an extract of the round's source, drawn at
      random, which CC learns to write and D to use.
    imitate: CC also learns the best of its candidates by likelihood, where it
      is worth more than the one before and than none.
    dropout: share of D's lessons without a memory, and of those without a code.
    length_price: share of CC's reward that a full cc gives up.

  Raises:
    ValueError: a setting is out of its range, or a fact is not known.
  """
  del verify
  C, D, text = roles["C"], roles["D"], roles["text"]
  _check(rounds, pool, memory, group, candidates, drift, D.length - 1)
  CC = joined(C, text)._replace(length=memory, use=None, avoid=None, slot=None)
  places = _places(info, shared)
  levels = jnp.asarray(np.flatnonzero(C.support)[:LEVELS], jnp.int32)

  def init():
    return jnp.int32(0)  # steps played

  def beside(cc: Tokens, other: Tokens) -> Tokens:
    """cc and, behind a separator, what is read with it; alone where cc is."""
    line = tokens.constant(C.separator, other.ids.shape[0])
    some = jnp.any(cc.mask, -1, keepdims=True)
    line = Tokens(jnp.where(some, line.ids, 0), line.mask & some)
    return tokens.concat(cc, line, other)

  def write(params, cc: Tokens, s: Tokens, ask, keys, samples: int, role=C):
    return rollout.sample(
      policy, params, role, role.prompt(beside(cc, s), ask), keys,
      samples=samples, constraints=ask,
    )  # fmt: skip

  def known(params, cc: Tokens, s: Tokens, code: Tokens):
    """ln p_D(s | cc, c): cc [N, M], s [N, S], code [N, G, k] -> [N, G]"""
    G = code.ids.shape[1]
    wide = lambda x: Tokens(*(jnp.repeat(y, G, 0) for y in x))
    target = Tokens(*(x[:, None] for x in tokens.with_end(wide(s), D.end)))
    prompt = D.prompt(beside(wide(cc), tokens.flatten(code)))
    found = rollout.likelihood(policy, params, D, prompt, target)
    return found.reshape(code.ids.shape[:2])

  def fold(params, s, cc, code, gain, key_of, samples: int, role=CC):
    """-> rollouts of CC and the d that it was shown."""
    with jax.named_scope("D"):
      d = rollout.greedy(policy, params, D, D.prompt(beside(cc, code)))
    with jax.named_scope("C"):
      level = jnp.clip(gain * LEVELS, 0, LEVELS - 1).astype(jnp.int32)
      score = Tokens(levels[level][:, None], jnp.ones((len(level), 1), bool))
      line = tokens.constant(C.separator, len(level))
      history = tokens.concat(beside(cc, s), line, code, line, d, line, score)
      found = rollout.sample(
        policy, params, role, role.prompt(history), key_of, samples=samples
      )
    return found, d

  def worth(params, frozen, cc: Tokens, s: Tokens, ask, key_of):
    """R(s | cc) of each memory: cc [n, H, M], s [n, S] -> [n, H]"""
    H = cc.ids.shape[1]
    wide = lambda x: jnp.repeat(x, H, 0)
    with jax.named_scope("V"):
      alone = likelihood.without_code(policy, frozen["base"], text, s)
    s = Tokens(*map(wide, s))
    ask = jax.tree.map(wide, ask)
    flat = tokens.flatten(cc)
    with jax.named_scope("C"):
      c = write(params, flat, s, ask, wide(key_of), 1, C.greedy())
    code = tokens.without_end(c.output, C.end)
    with jax.named_scope("V"):
      found = known(params, flat, s, code).reshape(-1, H)
    return verifier.relative_gain(found, alone[:, None]), c

  def hardest(params, cc: Tokens, candidates: Tokens) -> Tokens:
    """Of [n, P, S], what D expects least after reading cc alone. -> [n, S]"""
    if pool == 1:
      return Tokens(*(x[:, 0] for x in candidates))
    n = len(cc.ids)
    flat = tokens.flatten(candidates)
    nothing = Tokens(flat.ids[:, :1] * 0, flat.mask[:, :1] & False)
    wide = Tokens(*(jnp.repeat(x, pool, 0) for x in cc))
    with jax.named_scope("V"):
      found = known(
        params, wide, flat, Tokens(*(x[:, None] for x in nothing))
      ).reshape(n, pool)
    return _at(candidates, jnp.argmin(found, -1))

  def play(params, frozen, carry, batch: Batch, key, given: Controls):
    n = _streams(batch, rounds * pool, f"rounds={rounds} times pool={pool}")
    k_stream, k_rounds = jax.random.split(jax.random.fold_in(key, 13))
    cut = lambda x: x.reshape(n, rounds, pool, *x.shape[1:])
    s = stream(Tokens(*map(cut, batch.source)), k_stream)
    asks = jax.tree.map(lambda x: cut(x)[:, :, 0], given.constraints)
    rows = cut(batch.row)[:, 0, 0]
    none = empty(n)
    warm = carry < warmup
    first = Tokens(*(x[:, 0, 0] for x in s))
    start = State(first, none, none, jnp.ones(n, bool))

    def one(state: State, r):
      at = lambda tree, i: jax.tree.map(lambda x: x[:, i], tree)
      k = jax.random.split(jax.random.fold_in(k_rounds, r), 5)
      keys = [row_keys(x, rows) for x in k]
      ask, ask_next = at(asks, r), at(asks, r + 1)
      with jax.named_scope("C"):
        c = write(params, state.cc, state.source, ask, keys[0], group)
      code = tokens.without_end(c.output, C.end)
      with jax.named_scope("V"):
        likely = known(params, state.cc, state.source, code)
        alone = likelihood.without_code(
          policy, frozen["base"], text, state.source
        )
      gain = verifier.relative_gain(likely, alone[:, None])
      best = _at(code, jnp.argmax(likely, -1))
      # What a cc that has failed was folded from is where to fold from.
      held = _where(state.kept | (not rollback), state.cc, state.before)
      found, _ = fold(
        params, state.source, held, Tokens(*(x[:, 0] for x in code)),
        gain[:, 0], keys[1], candidates,
      )  # fmt: skip
      after = tokens.without_end(found.output, CC.end)  # [n, H, M]
      kept = random_extract(state.source, keys[2])
      first = Tokens(*(x[:, 0] for x in after))
      new = _where(jnp.broadcast_to(warm, (n,)), kept, first)
      following = hardest(params, held, at(s, r + 1))
      tried = Tokens(
        *(
          jnp.concatenate([x, y[:, None], z[:, None], w[:, None]], 1)
          for x, y, z, w in zip(after, held, none, new, strict=True)
        )
      )
      value, judged = worth(params, frozen, tried, following, ask_next, keys[3])
      value, old, without, mine = (
        value[:, :candidates], *value[:, candidates:].T
      )  # fmt: skip
      size = jnp.sum(after.mask, -1) / memory
      paid = value - length_price * size * jnp.maximum(value, 0.0)
      credit = over_memory * (value - old[:, None])
      credit += over_empty * (value - without[:, None])
      top = jnp.argmax(paid, -1)
      better = jnp.take_along_axis(value, top[:, None], 1)[:, 0]
      better = (better > old) & (better > without)
      target, weight = _at(after, top), better * (~warm) * imitate * 1.0
      target = _where(jnp.broadcast_to(warm, (n,)), kept, target)
      weight = jnp.where(warm, 1.0, weight)
      lessons = {
        "D": d_lesson(state.cc, state.source, best, k[4]),
        "CC": SupervisedBatch(
          found.prompt,
          Tokens(*(x[:, None] for x in tokens.with_end(target, CC.end))),
          weight[:, None],
        ),
      }
      metrics = {
        "C_loops": rollout.loops(c.output),
        "C#2_loops": rollout.loops(found.output),
        "C#3_loops": rollout.loops(judged.output),
        "D_loops": jnp.float32(D.length - 1),  # at most
        "reward": jnp.mean(gain),
        "length": jnp.mean(jnp.sum(code.mask, -1) * 1.0),
        "cc_worth": jnp.mean(value),
        "cc_over_memory": jnp.mean(value - old[:, None]),
        "cc_over_empty": jnp.mean(value - without[:, None]),
        "cc_worse_than_none": jnp.mean((mine < without) * 1.0),
        "cc_length": jnp.mean(jnp.sum(after.mask, -1) * 1.0),
      }
      state = State(following, new, held, mine >= without)
      # While cc is a rule's, CC is taught and not rewarded.
      quiet = jnp.where(warm, 0.0, 1.0)
      return state, (
        {"C": c, "CC": found},
        {"C": gain, "CC": quiet * paid},
        lessons,
        metrics,
        {"CC": quiet * credit},
      )

    _, (rollouts, returns, lessons, metrics, credit) = jax.lax.scan(
      one, start, jnp.arange(rounds - 1)
    )
    # Rounds are rows like others for the learner.
    merge = lambda tree: jax.tree.map(
      lambda x: x.reshape(-1, *x.shape[2:]), tree
    )
    metrics = {name: jnp.mean(x) for name, x in metrics.items()}
    return Episode(
      merge(rollouts), merge(returns), merge(lessons), metrics, merge(credit)
    ), carry + 1

  def stream(s: Tokens, key) -> Tokens:
    """Gives the sources of a stream what they have in common. [n, R, P, S]

    The first source's own words stand for all, until one drifts to the word
    that a later source brought.
    """
    if not places:
      return s
    place = jnp.asarray(places)
    words = s.ids[:, :, 0][..., place]  # [n, R, K], each round's own
    new = jax.random.bernoulli(key, drift, words.shape).at[:, 0].set(True)
    said = [words[:, 0]]
    for r in range(1, words.shape[1]):
      said.append(jnp.where(new[:, r], words[:, r], said[-1]))
    said = jnp.stack(said, 1)[:, :, None]  # the same in all of a pool
    return s._replace(ids=s.ids.at[..., place].set(said))

  def random_extract(s: Tokens, keys) -> Tokens:
    score = jax.vmap(lambda k: jax.random.uniform(k, s.ids.shape[1:]))(keys)
    said = s._replace(mask=s.mask & jnp.asarray(C.support)[s.ids])
    return extracts.keep(said, score, memory)

  def empty(n: int) -> Tokens:
    return Tokens(
      jnp.zeros((n, memory), jnp.int32), jnp.zeros((n, memory), bool)
    )

  def d_lesson(cc: Tokens, s: Tokens, code: Tokens, key) -> SupervisedBatch:
    """D learns s from cc and c; now and then from one of them, or from none."""
    some = jax.random.uniform(key, (2, len(s.ids), 1)) >= dropout
    cc, code = (
      Tokens(jnp.where(keep, x.ids, 0), x.mask & keep)
      for x, keep in ((cc, some[0]), (code, some[1]))
    )
    target = Tokens(*(x[:, None] for x in tokens.with_end(s, D.end)))
    return SupervisedBatch(
      D.prompt(beside(cc, code)), target, jnp.ones(target.ids.shape[:2])
    )

  def examine(params, frozen, carry, batch: Batch, code: Tokens, key):
    """What a memory is worth by round, in bits of D about s, on new streams.

    cc: as it unfolds, greedily; empty: none; frozen: that of the first round
    for ever; shuffled: another stream's. The same where nothing is shared
    ("alone_"): there no memory can help.
    """
    del carry, code
    n = len(batch.row) // rounds
    cut = lambda x: x[: n * rounds].reshape(n, rounds, 1, *x.shape[1:])
    plain = Tokens(*map(cut, batch.source))
    scores, shown = {}, {}
    for name, s in (("", stream(plain, key)), ("alone_", plain)):
      s = Tokens(*(x[:, :, 0] for x in s))
      found, unfolded = unfold(params, frozen, s)
      for control, bits in found.items():
        for r in range(1, rounds):
          scores[f"{name}{control}_{r}"] = bits[:, r]
        scores[f"{name}{control}"] = jnp.mean(bits[:, 1:], -1)
      shown = shown or unfolded
    return scores, shown

  def unfold(params, frozen, s: Tokens):
    """s [n, R, S] -> bits by control, [n, R] each, and what was written."""
    n, none, keys = len(s.ids), empty(len(s.ids)), jnp.zeros(len(s.ids), int)
    keys = row_keys(jax.random.key(0), keys)
    cc, fixed, said, bits = none, None, [], []
    for r in range(rounds):
      here = Tokens(*(x[:, r] for x in s))
      memories = {
        "cc": cc,
        "empty": none,
        "frozen": cc if fixed is None else fixed,
        "shuffled": Tokens(*(jnp.roll(x, 1, 0) for x in cc)),
      }
      found = {}
      for name, memory_of in memories.items():
        c = write(params, memory_of, here, None, keys, 1, C.greedy())
        code = tokens.without_end(c.output, C.end)
        alone = likelihood.without_code(policy, frozen["base"], text, here)
        likely = known(params, memory_of, here, code)[:, 0]
        found[name] = (likely - alone) / jnp.log(2.0)
        if name == "cc":
          mine = Tokens(*(x[:, 0] for x in code))
          gain = verifier.relative_gain(likely, alone)
      after, d = fold(params, here, cc, mine, gain, keys, 1, CC.greedy())
      said.append({"source": here, "cc": cc, "code": mine, "decoded": d})
      bits.append(found)
      after = tokens.without_end(after.output, CC.end)
      cc = Tokens(*(x[:, 0] for x in after))
      fixed = cc if r == 0 else fixed
    gather = lambda parts: jax.tree.map(lambda *x: jnp.stack(x, 1), *parts)
    del n
    return gather(bits), gather(said)

  return Pattern(init, play, examine, (("CC", CC),))


def ceiling_bits(words: list[int], drift: float) -> float:
  """Most bits that the sources before can tell of the next one.

  words: how many each shared fact may be, all equally likely.
  """
  bits = 0.0
  for m in words:
    same = 1.0 - drift + drift / m
    other = (m - 1) * drift / m
    left = -same * np.log2(same)
    if other > 0:
      left -= other * np.log2(drift / m)
    bits += np.log2(m) - left
  return float(bits)


def _places(info: SourceInfo, shared: tuple[str, ...]) -> tuple[int, ...]:
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


def _check(rounds, pool, memory, group, candidates, drift, longest) -> None:
  field = "config.patterns.cc"
  for name, value, least in (
    ("rounds", rounds, 2), ("pool", pool, 1), ("memory", memory, 1),
    ("group", group, 2), ("candidates", candidates, 2),
  ):  # fmt: skip
    if value < least:
      raise ValueError(f"{field}.{name}={value}: at least {least}.")
  if memory > longest:
    raise ValueError(
      f"{field}.memory={memory} is longer than the longest source, {longest} "
      "tokens: a warm-up can't fill it with an extract of one. Lower it."
    )
  if not 0.0 <= drift <= 1.0:
    raise ValueError(f"{field}.drift={drift} is no probability: give 0 to 1.")


def _streams(batch: Batch, size: int, said: str) -> int:
  rows = len(batch.row)
  if rows % size:
    raise ValueError(
      f"config.batch_size={rows} does not divide into streams of "
      f"config.patterns.cc {said}: make it a multiple of {size}."
    )
  return rows // size


def _at(codes: Tokens, index: jax.Array) -> Tokens:
  """One of each group. codes [B, G, k], index [B] -> [B, k]"""
  index = index[:, None, None]
  return Tokens(*(jnp.take_along_axis(x, index, 1)[:, 0] for x in codes))


def _where(condition: jax.Array, then: Tokens, other: Tokens) -> Tokens:
  return Tokens(
    *(
      jnp.where(condition[:, None], a, b)
      for a, b in zip(then, other, strict=True)
    )
  )
