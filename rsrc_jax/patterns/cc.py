"""(C -> D -> V) -> CC: a memory of bounded length that every round rewrites.

A stream is a row of sources that have something in common. C and D read the
memory cc beside s and c. After each round CC turns the round's history (cc, s,
c, d and V's score) into the next cc. A cc is worth what it does to the round
that follows: R(next | cc') against R(next | cc) and R(next | empty), on a
source that it has not seen. Credit is cut there: of later rounds CC learns only
that they begin with what it leaves.

The next source is one of a pool: any, the hardest, or the one on which the
memory does most harm (an opponent of CC; lm/memory.py). A cc that did worse
than none is given up, and the next one is made from the cc before it.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import rules
from rsrc_jax.lm import extracts, keys, likelihood, memory, rollout, tokens
from rsrc_jax.lm.memory import Memory
from rsrc_jax.lm.roles import joined
from rsrc_jax.rl import numbers
from rsrc_jax.types import (
  Batch,
  Constraints,
  Context,
  Controls,
  Episode,
  Metrics,
  Params,
  Pattern,
  Rollout,
  SourceInfo,
  SupervisedBatch,
  Tokens,
)

LEVELS = 8  # in which CC is told V's score
NUMBERS = ("drift", "over_memory", "over_empty", "dropout", "length_price")


def _whole_streams(settings, run):
  """The rule of a batch, which is whole streams."""
  rows, parts = run.get("batch_size"), run.get("micro_batches", 1)
  size = settings["rounds"] * (pool := settings["pool"])
  if rows and rows % size:
    return "rounds", (
      f"such that it times {rules.HERE}.pool={pool} divides config.batch_size="
      f"{rows}: a multiple of {size}"
    )
  if rows and rows // size * (settings["rounds"] - 1) % parts:
    return "rounds", f"such that config.micro_batches={parts} divides them"
  return None


RULES = {
  "rounds": rules.whole(2, why="a memory is for the next round"),
  **dict.fromkeys(("pool", "memory"), rules.whole(1)),
  "choose": rules.one_of(*memory.CHOICES),
  "shared": rules.items(rules.text),
  **dict.fromkeys(("group", "candidates"), rules.whole(2)),
  **dict.fromkeys(("drift", "dropout", "length_price"), rules.share()),
  **dict.fromkeys(("over_memory", "over_empty"), rules.number(0)),
  **dict.fromkeys(("rollback", "imitate"), rules.flag),
  "warmup": rules.whole(),
  rules.BLOCK: (_whole_streams,),
}


class Parts(NamedTuple):
  """What the functions of this pattern share; the settings as in `make`."""

  memory: Memory  # the model's functions and all roles
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


class State(NamedTuple):
  """What goes from one round of n streams to the next."""

  source: Tokens  # [n, S], of this round
  cc: Tokens  # [n, M], what C and D read in it
  before: Tokens  # [n, M], what cc was made from
  kept: jax.Array  # [n] bool: False where this cc does worse than none


class Update(NamedTuple):
  """What a round has made of the memories of n streams, and their worth."""

  rollout: Rollout  # CC's candidates
  after: Tokens  # [n, H, M], the same without their ends
  extract: Tokens  # [n, M], what stands for a memory in the warm-up
  new: Tokens  # [n, M], the cc of the next round
  source: Tokens  # [n, S], of the next round
  judged: tuple[Rollout, ...]  # C's: to choose that source, and of its worth
  value: jax.Array  # [n, H] R(next | cc') of the candidates
  held_value: jax.Array  # [n] of the cc that they were made from
  empty_value: jax.Array  # [n] of no memory
  new_value: jax.Array  # [n] of `new`


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
) -> Pattern:
  """Builds the pattern.

  Args:
    context: roles "C", "D" and "text"; where the facts of a source stand. V is
      not used: a code is scored by D's likelihood of s; CC reads a greedy d.
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
    length_price: share of CC's reward that a full cc gives up.

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
    _places(context.info, shared), rounds, pool, choose, drift, group,
    candidates, over_memory, over_empty, rollback, warmup, imitate, dropout,
    length_price,
  )  # fmt: skip

  mine = (functools.partial(f, p) for f in (play, examine))
  return Pattern(lambda: jnp.int32(0), *mine, (("CC", CC),))  # steps played


def play(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  carry: jax.Array,
  batch: Batch,
  key: jax.Array,
  controls: Controls,
) -> tuple[Episode, jax.Array]:
  """types.Pattern.play; key: a step's, of which Step.STREAM is used."""
  n = len(batch.row) // (p.rounds * p.pool)
  p = numbers.replaced(p, controls.numbers, "patterns.cc")
  key = keys.child(key, keys.Step.STREAM)
  k_facts, k_rounds = (keys.child(key, x) for x in keys.Stream)
  cut = lambda x: x.reshape(n, p.rounds, p.pool, *x.shape[1:])
  s = memory.stream(jax.tree.map(cut, batch.source), p.places, p.drift, k_facts)
  constraints = jax.tree.map(lambda x: cut(x)[:, :, 0], controls.constraints)
  rows, warm = cut(batch.row)[:, 0, 0], carry < p.warmup
  none = tokens.empty(n, p.memory.CC.length)
  start = State(tokens.at(tokens.at(s, 0), 0), none, none, jnp.ones(n, bool))

  def one(state: State, r):
    at = lambda tree, i: jax.tree.map(lambda x: x[:, i], tree)
    return play_round(
      p, params, frozen, state, at(s, r + 1), at(constraints, r),
      at(constraints, r + 1), keys.child(k_rounds, r), rows, warm,
    )  # fmt: skip

  _, episode = jax.lax.scan(one, start, jnp.arange(p.rounds - 1))
  # Rounds are rows like others for the learner.
  metrics = jax.tree.map(jnp.mean, episode.metrics)
  flat = lambda x: x.reshape(-1, *x.shape[2:])
  merged = jax.tree.map(flat, episode._replace(metrics={}))
  return merged._replace(metrics=metrics), carry + 1


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
  k_c, *_, k_d_batch = (keys.child(key, x) for x in keys.Round)
  m = p.memory
  c = memory.write(
    m, params, state.cc, state.source, constraints, keys.row_keys(k_c, rows),
    p.group,
  )  # fmt: skip
  code = tokens.without_end(c.output, m.C.end)
  with jax.named_scope("V"):
    log_lik = memory.read(m, params, state.cc, state.source, code)
    base_log_lik = likelihood.without_code(
      m.policy, frozen["base"], m.text, state.source
    )
  gain = likelihood.relative_gain(log_lik, base_log_lik[:, None])
  best = tokens.pick(code, jnp.argmax(log_lik, -1))
  # A cc that has failed is passed over: what it was made from is used again.
  held = tokens.where(state.kept | (not p.rollback), state.cc, state.before)
  found = remember(
    p, params, frozen, state.source, held, tokens.at(code, 0), gain[:, 0],
    candidates, next_constraints, key, rows, warm,
  )  # fmt: skip
  paid, credit, cc_batch = pay(p, found, warm)
  metrics = measure(found, code, gain) | rollout.passes(
    (m.C, c), (m.D, jnp.float32(m.D.length - 1)),  # of D at most
    (m.CC, found.rollout), *((m.C, x) for x in found.judged),
  )  # fmt: skip
  d_batch = memory.decode_batch(
    m, state.cc, state.source, best, k_d_batch, p.dropout
  )
  state = State(
    found.source, found.new, held, found.new_value >= found.empty_value
  )
  # While a rule writes cc, CC learns by likelihood alone.
  quiet = jnp.where(warm, 0.0, 1.0)
  return state, Episode(
    {"C": c, "CC": found.rollout}, {"C": gain, "CC": quiet * paid},
    {"D": d_batch, "CC": cc_batch}, metrics, {"CC": quiet * credit},
  )  # fmt: skip


def remember(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  s: Tokens,
  held: Tokens,
  code: Tokens,
  gain: jax.Array,
  candidates: Tokens,
  constraints: Constraints,
  key: jax.Array,
  rows: jax.Array,
  warm: jax.Array,
) -> Update:
  """Makes memories of a round, and tries them on the next source.

  s [n, S], held [n, M], code [n, k], gain [n]: of this round; candidates
  [n, P, S] and constraints: of the next. warm [] bool.
  """
  _, k_cc, k_extract, k_value, _ = (
    keys.row_keys(keys.child(key, x), rows) for x in keys.Round
  )
  m = p.memory
  found, _ = memory.update(m, params, s, held, code, gain, k_cc, p.candidates)
  after = tokens.without_end(found.output, p.memory.CC.end)
  extract = extracts.drawn(s, m.C.support, k_extract, m.CC.length)
  new = tokens.where(warm, extract, tokens.at(after, 0))
  following, chosen = memory.next_source(
    m, params, frozen["base"], p.choose, held, candidates, constraints, k_value
  )
  none = tokens.empty(len(s.ids), m.CC.length)
  tried = tokens.concat(after, *map(tokens.expand, (held, none, new)), axis=1)
  value, judged = memory.value(
    m, params, frozen["base"], tried, following, constraints, k_value
  )
  others = value[:, p.candidates :].T
  return Update(
    found, after, extract, new, following, (*chosen, judged),
    value[:, : p.candidates], *others,
  )  # fmt: skip


def pay(
  p: Parts, found: Update, warm: jax.Array
) -> tuple[jax.Array, jax.Array, SupervisedBatch]:
  """-> CC's rewards and credit, [n, H], and what it learns by likelihood."""
  value = found.value
  over_held = value - found.held_value[:, None]
  over_empty = value - found.empty_value[:, None]
  size = jnp.sum(found.after.mask, -1) / p.memory.CC.length
  paid = value - p.length_price * size * jnp.maximum(value, 0.0)
  credit = p.over_memory * over_held + p.over_empty * over_empty
  top = jnp.argmax(paid, -1)
  best = jnp.take_along_axis(value, top[:, None], 1)[:, 0]
  better = (best > found.held_value) & (best > found.empty_value)
  target = tokens.where(warm, found.extract, tokens.pick(found.after, top))
  weight = jnp.where(warm, 1.0, better * (~warm) * p.imitate * 1.0)
  batch = SupervisedBatch(
    found.rollout.prompt,
    tokens.expand(tokens.with_end(target, p.memory.CC.end)),
    weight[:, None],
  )
  return paid, credit, batch


def measure(found: Update, code: Tokens, gain: jax.Array) -> Metrics:
  """Means over the streams of a round."""
  value, none = found.value, found.empty_value
  return {
    "reward": jnp.mean(gain),
    "length": jnp.mean(jnp.sum(code.mask, -1) * 1.0),
    "cc_worth": jnp.mean(value),
    "cc_over_memory": jnp.mean(value - found.held_value[:, None]),
    "cc_over_empty": jnp.mean(value - none[:, None]),
    "cc_worse_than_none": jnp.mean((found.new_value < none) * 1.0),
    "cc_length": jnp.mean(jnp.sum(found.after.mask, -1) * 1.0),
  }


def examine(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  carry: jax.Array,
  batch: Batch,
  code: Tokens,
  key: jax.Array,
) -> tuple[Metrics, dict[str, Tokens]]:
  """What a memory is worth by round, in bits of D about s, on new streams.

  By the memories of lm.memory.unfold. The same where nothing is shared
  ("alone_"): there no memory can help.
  """
  del carry, code
  n = len(batch.row) // p.rounds
  cut = lambda x: x[: n * p.rounds].reshape(n, p.rounds, 1, *x.shape[1:])
  plain = jax.tree.map(cut, batch.source)
  shared = memory.stream(plain, p.places, p.drift, key)
  scores, shown = {}, {}
  for name, s in (("", shared), ("alone_", plain)):
    found, unfolded = memory.unfold(
      p.memory, params, frozen["base"], tokens.at(s, 0, axis=2)
    )
    for control, bits in found.items():
      for r in range(1, p.rounds):
        scores[f"{name}{control}_{r}"] = bits[:, r]
      scores[f"{name}{control}"] = jnp.mean(bits[:, 1:], -1)
    shown = shown or unfolded
  return scores, shown


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
