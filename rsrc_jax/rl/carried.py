"""Where streams of sources stand, between rounds and between training steps.

The carry of patterns/cc.py where memories outlive a step ("compress its
training history into cc as it unfolds", "Theory of RSI ...", Methodology).
These are pure functions on it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import keys, tokens
from rsrc_jax.lm import memory as streams
from rsrc_jax.types import Metrics, Tokens


class State(NamedTuple):
  """What goes from one round of n streams to the next."""

  source: Tokens  # [n, S], of this round
  cc: Tokens  # [n, M], what C and D read in it
  before: Tokens  # [n, M], what cc was made from
  kept: jax.Array  # [n] bool: False where this cc does worse than none


class Carried(NamedTuple):
  """The carry of a pattern whose streams go on from step to step."""

  step: jax.Array  # [] int32: steps played
  # The round that the last step did not play: its source was used to try the
  # last memories on. Without sources before the first step.
  state: State


def whole_streams(settings, run):
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


def first(source: Tokens, memory: int) -> State:
  """The first round of streams [n, S], without a memory of M tokens."""
  none = tokens.empty(len(source.ids), memory)
  return State(source, none, none, jnp.ones(len(source.ids), bool))


def empty(streams: int, source: int, memory: int) -> Carried:
  """n streams of which none has begun; sources of S tokens, memories of M."""
  return Carried(
    jnp.int32(0), first(tokens.empty(streams, source), memory)
  )  # fmt: skip


def go_on(
  state: State, s: Tokens, share: float, row_keys: jax.Array
) -> tuple[Tokens, jax.Array]:
  """Draws which streams go on, and puts their sources before the new ones.

  A stream that goes on plays the source of `state` in its first round, and the
  step's own first sources are not used. What is common to its sources goes on
  too, since lm.memory.stream takes it from the first of them.

  Args:
    state: at the end of the step before.
    s: the step's sources [n, R, P, S].
    share: chance that a stream goes on. One that has not begun does not.
    row_keys: [n], one for each stream; they are consumed.

  Returns:
    The sources, [n, R, P, S], and which streams go on, [n] bool.

  Raises:
    ValueError: the step has another number of streams, or longer sources.
  """
  n, _, pool, length = s.ids.shape
  if state.source.ids.shape != (n, length):
    raise ValueError(
      f"config.patterns.cc.carry={share}: {n} streams of sources of {length} "
      f"tokens are played, and {state.source.ids.shape} are carried. Build the "
      "pattern with as many rows as a step has (Context.rows)."
    )
  drawn = jax.vmap(jax.random.bernoulli, (0, None))(row_keys, share)
  on = drawn & jnp.any(state.source.mask, -1)
  wide = lambda x: jnp.repeat(x[:, None], pool, 1)
  old = jax.tree.map(wide, state.source)  # [n, P, S]
  begun = tokens.where(on[:, None], old, tokens.at(s, 0))
  put = lambda x, new: x.at[:, 0].set(new)
  return jax.tree.map(put, s, begun), on


def start(
  came: Tokens,
  rows: jax.Array,
  key: jax.Array,
  before: State | None,
  *,
  memory: int,
  places: tuple[int, ...],
  drift: float | jax.Array,
  share: float,
  unshared: float,
) -> tuple[Tokens, State, Metrics]:
  """The streams of a step, and the round that they begin with.

  Args:
    came: the step's sources [n, R, P, S].
    rows: [n], the numbers of the streams.
    key: of Step.STREAM, whose children FACTS, GOES_ON and UNSHARED are used.
    before: at the end of the step before; None: all streams begin anew.
    memory: tokens of a memory, M.
    places, drift: see lm.memory.stream.
    share: see `go_on`; not used without `before`.
    unshared: share of the streams whose sources stay as they came.

  Returns:
    The sources as they are played, the first round, and metrics.
  """
  child = lambda number: keys.child(key, number)
  of_rows = lambda number: keys.row_keys(child(number), rows)
  on, metrics = None, {}
  if before is not None:
    came, on = go_on(before, came, share, of_rows(keys.Stream.GOES_ON))
    metrics["cc_carried"] = jnp.mean(on * 1.0)
  s = streams.stream(came, places, drift, child(keys.Stream.FACTS))
  if unshared:
    draw = jax.vmap(jax.random.bernoulli, (0, None))
    alone = draw(of_rows(keys.Stream.UNSHARED), unshared)
    s = tokens.where(alone[:, None, None], came, s)
  source = tokens.at(tokens.at(s, 0), 0)
  state = first(source, memory)
  if on is not None:
    state = State(
      source,
      tokens.where(on, before.cc, state.cc),
      tokens.where(on, before.before, state.before),
      jnp.where(on, before.kept, state.kept),
    )
  return s, state, metrics


def doses(states: State, last: State, rollback: bool) -> Metrics:
  """How far memories were used, shares of the rounds of a step.

  Args:
    states: of all rounds, [R - 1, n, ...].
    last: behind the last round, [n, ...].
    rollback: whether a memory that did worse than none is passed over.
  """
  join = lambda x, end: jnp.concatenate([x[1:], end[None]])
  new = jax.tree.map(join, states.cc, last.cc)
  held = tokens.where(states.kept | (not rollback), states.cc, states.before)
  other = jnp.any((held.ids != new.ids) | (held.mask != new.mask), -1)
  return {
    "cc_read": jnp.mean(jnp.any(states.cc.mask, -1) * 1.0),
    "cc_changed": jnp.mean(other * 1.0),
    "cc_rolled_back": jnp.mean(~states.kept * 1.0) * rollback,
  }
