"""(C -> D -> V) -> CC: a memory of bounded length that every round rewrites.

A stream is a row of sources that have something in common. C and D read the
memory cc beside s and c. After each round CC turns the round's history (cc, s,
c, d and V's score) into the next cc. A cc is worth what it does to the round
that follows: R(next | cc') against R(next | cc) and R(next | empty), on a
source that it has not seen. R is V's word on the d that D writes from cc and a
code, above that on a d from nothing. Credit is cut there: of later rounds CC
learns only that they begin with what it leaves.

The next source is one of a pool: any, the hardest, or the one on which the
memory does most harm (an opponent of CC; lm/memory.py). A cc that did worse
than none is given up, and the next one is made from the cc before it.

Streams begin anew at every training step, or go on with the memories of the
step before (`carry`; rl/carried.py).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import rules
from rsrc_jax.lm import extracts, keys, memory, rollout, tokens
from rsrc_jax.lm.keys import Round
from rsrc_jax.lm.memory import Memory, places
from rsrc_jax.lm.roles import joined
from rsrc_jax.ops import rewards
from rsrc_jax.rl import carried, judging, numbers, unfolding
from rsrc_jax.rl.carried import Carried, State
from rsrc_jax.types import (
  Batch,
  Constraints,
  Context,
  Controls,
  Episode,
  Judged,
  Metrics,
  Params,
  Pattern,
  Rollout,
  SupervisedBatch,
  Tokens,
)

LEVELS = 8  # in which CC is told V's score
NUMBERS = ("drift", "over_memory", "over_empty", "dropout", "length_price")


RULES = {
  "rounds": rules.whole(2, why="a memory is for the next round"),
  **dict.fromkeys(("pool", "memory", "decodes"), rules.whole(1)),
  "choose": rules.one_of(*memory.CHOICES),
  "shared": rules.items(rules.text),
  **dict.fromkeys(("group", "candidates"), rules.whole(2)),
  **dict.fromkeys(
    ("drift", "dropout", "length_price", "carry", "unshared"), rules.share()
  ),
  **dict.fromkeys(("over_memory", "over_empty"), rules.number(0)),
  **dict.fromkeys(("rollback", "imitate"), rules.flag),
  "warmup": rules.whole(),
  rules.BLOCK: (carried.whole_streams,),
}


class Parts(NamedTuple):
  """What the functions of this pattern share; the settings as in `make`."""

  memory: Memory  # the model's functions and all roles
  hearing: judging.Hearing
  places: tuple[int, ...]  # positions of the shared facts
  rounds: int
  pool: int
  choose: str
  drift: float
  group: int
  candidates: int
  over_memory: float
  over_empty: float
  rollback: bool
  warmup: int
  imitate: bool
  dropout: float
  length_price: float
  carry: float
  unshared: float


class Update(NamedTuple):
  """What a round has made of the memories of n streams, and their worth."""

  rollout: Rollout  # CC's candidates
  after: Tokens  # [n, H, M], the same without their ends
  extract: Tokens  # [n, M], what stands for a memory in the warm-up
  new: Tokens  # [n, M], the cc of the next round
  source: Tokens  # [n, S], of the next round
  # What was found to choose that source, and of the memories: V's judgements
  # and C's codes. The last is of that source beside each of the H candidates,
  # the cc that they were made from, no memory, and `new`, [n, H + 3].
  judged: tuple[tuple[Judged, Rollout], ...]

  @property
  def tried(self) -> Judged:
    return self.judged[-1][0]


def make(
  context: Context,
  *,
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
  choose: str = "hardest",
  decodes: int = 1,
  carry: float = 0.0,
  unshared: float = 0.0,
) -> Pattern:
  """Builds the pattern.

  Args:
    context: roles "C", "D" and "text"; V; where the facts of a source stand;
      with `carry` also the rows of a step.
    rounds: sources of a stream, R.
    pool, choose: of P sources one is the next round's; memory.next_source.
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
    dropout: share of D's supervised batch without a memory, and of that without
      a code.
    length_price: share of what a cc is worth that a full one gives up.
    decodes: free-running decodes of a code that V hears, J; of one D is greedy.
      D is not decoded but for CC's prompt if V hears nothing.
    carry: chance that a stream goes on at the next step, from the memory that
      it ends with at this one. It lasts 1 / (1 - carry) steps in the mean; 0:
      all streams begin anew, without a memory.
    unshared: share of the streams, drawn at each step, whose sources have
      nothing in common: there a memory is not to be relied on.

  Raises:
    ValueError: a setting is out of its range, or a fact is not known.
  """
  rules.check_some(RULES, locals(), "config.patterns.cc")
  C, D, text = (context.roles[x] for x in ("C", "D", "text"))
  if memory > (longest := D.length - 1):
    raise ValueError(
      f"config.patterns.cc.memory={memory} is longer than the longest source, "
      f"{longest} tokens, of which a warm-up takes extracts. Lower it."
    )
  CC = joined(C, text, "CC")._replace(
    length=memory, use_tag=None, avoid_tag=None, length_tag=None
  )
  levels = jnp.asarray(np.flatnonzero(C.support)[:LEVELS], jnp.int32)
  p = Parts(
    Memory(context.policy, C, D, CC, text, levels),
    judging.make(context.policy, context.roles, context.verify, decodes),
    places(context.info, shared), rounds, pool, choose, drift, group,
    candidates, over_memory, over_empty, rollback, warmup, imitate, dropout,
    length_price, carry, unshared,
  )  # fmt: skip
  init = lambda: jnp.int32(0)  # steps played
  if carry:
    if not context.rows:
      raise ValueError(
        f"config.patterns.cc.carry={carry}: the context does not say how many "
        "rows a step has: give Context.rows, or carry=0."
      )
    streams = context.rows // (rounds * pool)
    init = lambda: carried.empty(streams, longest, memory)
  looks = functools.partial(examine, p, context.budget)
  return Pattern(init, functools.partial(play, p), looks, (("CC", CC),))


def play(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  carry: jax.Array | Carried,
  batch: Batch,
  key: jax.Array,
  controls: Controls,
) -> tuple[Episode, jax.Array | Carried]:
  """types.Pattern.play; key: a step's, of which Step.STREAM is used."""
  n = len(batch.row) // (p.rounds * p.pool)
  p = numbers.replaced(p, controls.numbers, "patterns.cc")
  p = p._replace(hearing=p.hearing._replace(numbers=controls.numbers))
  key = keys.child(key, keys.Step.STREAM)
  cut = lambda x: x.reshape(n, p.rounds, p.pool, *x.shape[1:])
  rows = cut(batch.row)[:, 0, 0]
  before, step = (carry.state, carry.step) if p.carry else (None, carry)
  s, start, more = carried.start(
    jax.tree.map(cut, batch.source), rows, key, before,
    memory=p.memory.CC.length, places=p.places, drift=p.drift, share=p.carry,
    unshared=p.unshared,
  )  # fmt: skip
  constraints = jax.tree.map(lambda x: cut(x)[:, :, 0], controls.constraints)
  warm = step < p.warmup
  k_rounds = keys.child(key, keys.Stream.ROUNDS)

  def one(state: State, r):
    at = lambda tree, i: jax.tree.map(lambda x: x[:, i], tree)
    after, episode = play_round(
      p, params, frozen, state, at(s, r + 1), at(constraints, r),
      at(constraints, r + 1), keys.child(k_rounds, r), rows, warm,
    )  # fmt: skip
    return after, (episode, state if p.carry else ())

  rounds = jnp.arange(p.rounds - 1)
  last, (episode, states) = jax.lax.scan(one, start, rounds)
  # Rounds are rows like others for the learner.
  metrics = jax.tree.map(jnp.mean, episode.metrics)
  flat = lambda x: x.reshape(-1, *x.shape[2:])
  merged = jax.tree.map(flat, episode._replace(metrics={}))
  if not p.carry:
    return merged._replace(metrics=metrics), step + 1
  metrics |= more | carried.doses(states, last, p.rollback)
  return merged._replace(metrics=metrics), Carried(step + 1, last)


def play_round(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  state: State,
  candidates: Tokens,
  constraints: Constraints,
  next_constraints: Constraints,
  key: jax.Array,
  rows: jax.Array,
  warm: jax.Array,
) -> tuple[State, Episode]:
  """One round of n streams; the next source is of the candidates [n, P, S]."""
  m, k = p.memory, functools.partial(keys.child, key)
  c = memory.write(
    m, params, state.cc, state.source, constraints,
    keys.row_keys(k(Round.C), rows), p.group,
  )  # fmt: skip
  code = tokens.without_end(c.output, m.C.end)
  read = tokens.reshape(tokens.repeat(state.cc, p.group), len(rows), p.group)
  judge = functools.partial(
    judging.beside, p.hearing, m.C.separator, params, frozen
  )
  said = judge(rows, k(Round.D), read, code, state.source)
  log_lik = said.log_lik
  if log_lik is None:
    with jax.named_scope("V"):
      log_lik = memory.read(m, params, state.cc, state.source, code)
  best = tokens.pick(code, jnp.argmax(log_lik, -1))
  # A cc that has failed is passed over: what it was made from is used again.
  held = tokens.where(state.kept | (not p.rollback), state.cc, state.before)
  found = remember(
    p, params, judge, state.source, held, tokens.at(code, 0), said, candidates,
    next_constraints, k, rows, warm,
  )  # fmt: skip
  paid, parts, credit, cc_batch = pay(p, found, warm)
  d = said.sampled
  metrics = judging.measure(found.tried, found.after, code, said.worth)
  metrics |= rollout.passes(
    (m.C, c), (m.D, jnp.float32(m.D.length - 1) if d is None else d),  # at most
    (m.CC, found.rollout), *judging.sampled(m.C, p.hearing.D, found.judged),
  )  # fmt: skip
  d_batch = memory.decode_batch(
    m, state.cc, state.source, best, k(Round.D_BATCH), p.dropout
  )
  *_, none, new = found.tried.worth.T
  state = State(found.source, found.new, held, new >= none)
  # While a rule writes cc, CC learns by likelihood alone.
  quiet = jnp.where(warm, 0.0, 1.0)
  return state, Episode(
    {"C": c, "CC": found.rollout}, {"C": said.worth, "CC": quiet * paid},
    {"D": d_batch, "CC": cc_batch}, metrics, {"CC": quiet * credit},
    {"C": said.parts, "CC": {name: quiet * x for name, x in parts.items()}},
  )  # fmt: skip


def remember(
  p: Parts,
  params: Params,
  judge: Callable[..., Judged],
  s: Tokens,
  held: Tokens,
  code: Tokens,
  said: Judged,
  candidates: Tokens,
  constraints: Constraints,
  k: Callable[[Round], jax.Array],
  rows: jax.Array,
  warm: jax.Array,
) -> Update:
  """Makes memories of a round, and tries them on the next source.

  s [n, S], held [n, M], code [n, k] and what V said: of this round; candidates
  [n, P, S] and constraints: of the next. warm [] bool.
  """
  m, of_rows = p.memory, lambda x: keys.row_keys(k(x), rows)
  found, _ = memory.update(
    m, params, s, held, code, memory.heard(said), said.word[:, 0],
    of_rows(Round.CC), p.candidates,
  )  # fmt: skip
  after = tokens.without_end(found.output, m.CC.end)
  extract = extracts.drawn(s, m.C.support, of_rows(Round.EXTRACT), m.CC.length)
  new = tokens.where(warm, extract, tokens.at(after, 0))
  pool = p.pool
  each = jnp.repeat(rows, pool) * pool + jnp.tile(jnp.arange(pool), len(rows))
  following, chosen = memory.next_source(
    m, params, functools.partial(judge, each, k(Round.CHOICE_D)), p.choose,
    held, candidates, constraints, of_rows(Round.CHOICE),
  )  # fmt: skip
  none = tokens.empty(len(s.ids), m.CC.length)
  tried = tokens.concat(after, *map(tokens.expand, (held, none, new)), axis=1)
  value, judged = memory.value(
    m, params, functools.partial(judge, rows, k(Round.VALUE_D)), tried,
    following, constraints, of_rows(Round.VALUE),
  )  # fmt: skip
  return Update(
    found, after, extract, new, following, (*chosen, (value, judged))
  )  # fmt: skip


def pay(
  p: Parts, found: Update, warm: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array], jax.Array, SupervisedBatch]:
  """-> CC's rewards, [n, H], their parts, its credit, and its lessons."""
  value, held, none, _ = judging.of_memories(found.tried, p.candidates)
  parts = jax.tree.map(lambda x: x[:, : p.candidates], found.tried.parts)
  paid = rewards.priced(
    value, jnp.sum(found.after.mask, -1), budget=p.memory.CC.length,
    price=p.length_price,
  )  # fmt: skip
  credit = p.over_memory * (value - held) + p.over_empty * (value - none)
  top = jnp.argmax(paid, -1)
  best = jnp.take_along_axis(value, top[:, None], 1)[:, 0]
  better = (best > held[:, 0]) & (best > none[:, 0])
  target = tokens.where(warm, found.extract, tokens.pick(found.after, top))
  weight = jnp.where(warm, 1.0, better * (~warm) * p.imitate * 1.0)
  batch = SupervisedBatch(
    found.rollout.prompt,
    tokens.expand(tokens.with_end(target, p.memory.CC.end)),
    weight[:, None],
  )
  return paid, parts | {"price": paid - value}, credit, batch


def examine(
  p: Parts,
  budget: int | None,
  params: Params,
  frozen: dict[str, Params],
  carry: jax.Array | Carried,
  batch: Batch,
  code: Tokens,
  key: jax.Array,
) -> tuple[Metrics, dict[str, Tokens]]:
  """What a memory is worth by round, in bits of D about s, on new streams.

  By the memories of rl/unfolding.py, whose streams begin without one. The same
  where nothing is shared ("alone_"): there no memory can help.
  """
  del carry, code
  return unfolding.examine(
    p.memory, judging.greedy(p.hearing), params, frozen, batch, key,
    rounds=p.rounds, places=p.places, drift=p.drift, budget=budget,
  )  # fmt: skip
