"""C -> C -> V: old codes, rewritten without their sources (defragmentation).

A buffer keeps sources, their best codes and the step at which each was written.
Every step plays C -> D -> V on new sources and stores what it found; then R,
the compressor in another role, reads old codes alone and writes them anew. D
and V judge the rewrite on the source: what counts is what it has gained on its
parent, in verified bits and in length. No rewrite can know more of s than its
parent does: what is to be won are tokens, and bits that today's D can't read.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import likelihood, rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role, joined
from rsrc_jax.patterns import cdv
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

TARGETS = ("none", "next", "final")
PASSES = 3  # in which a chain of rewrites is followed at the end


class Buffer(NamedTuple):
  """Codes of the past. A row without a source was never filled."""

  source: Tokens  # [N, S]
  code: Tokens  # [N, k]
  best: Tokens  # [N, k], the best that was ever found for the source
  version: jax.Array  # [N] int32: the step at which it was written; -1: left
  passes: jax.Array  # [N] int32: how often it was rewritten
  step: jax.Array  # [] int32: steps played


def make(
  policy: Policy,
  roles: dict[str, Role],
  verify: verifier.Verifier,
  *,
  info: SourceInfo,
  fresh: dict[str, Any],
  buffer: int,
  parents: int,
  group: int,
  length_price: float,
  over_parent: float,
  targets: str,
  left: float,
  warmup: int,
) -> Pattern:
  """Builds the pattern.

  Args:
    policy: the model's functions, shared by all roles.
    roles: "C", "D" and "text".
    verify: V of the new codes; rewrites are judged by D's likelihood of s.
    about: passed on.
    fresh: settings of patterns/cdv.py for the new sources of a step.
    buffer: codes that are kept, N.
    parents: codes that a step rewrites.
    group: rewrites of a parent.
    length_price: of the reward, what a rewrite at full budget gives up; a
      parent is priced alike.
    over_parent: weight of the reward against the parent's, beside the reward
      against the group's mean: a group that is worse than its parent is then
      made less likely as a whole.
    targets: what R also learns by likelihood. "next": a verified rewrite that
      is better than the parent, the best of its group, nothing where there is
      none. "final": the best code known for the source, today's C reading it
      anew among them, if it is better than the parent. "none".
    left: share of the stored codes that are not today's: those that the policy
      with which the arm began leaves of the same sources.
    warmup: steps in which R learns to copy its parent, and nothing else.

  Raises:
    ValueError: a setting is out of its range.
  """
  _check(buffer, parents, group, targets, over_parent)
  if fresh.get("gate"):
    raise ValueError(
      "config.patterns.ccv.fresh.gate: injection is paid for by cdv alone; set "
      "it to None."
    )
  if not 0.0 <= left < 1.0 or warmup < 0:
    raise ValueError(
      f"config.patterns.ccv: left={left} is a share below 1 and "
      f"warmup={warmup} a number of steps."
    )
  C, D, text = roles["C"], roles["D"], roles["text"]
  R = joined(C, D)
  play_fresh = cdv.make(policy, roles, verify, info=info, **fresh).play

  def init() -> Buffer:
    blank = lambda T: Tokens(
      jnp.zeros((buffer, T), jnp.int32), jnp.zeros((buffer, T), bool)
    )
    number = lambda: jnp.zeros(buffer, jnp.int32)
    return Buffer(
      blank(D.length - 1), blank(C.length), blank(C.length), number(),
      number(), jnp.int32(0),
    )  # fmt: skip

  def worth(known, without, code: Tokens):
    """Gain on s, priced by length, as rewards are. Any shape; code [..., k]."""
    gain = verifier.relative_gain(known, without)
    used = jnp.sum(code.mask, -1) / C.length
    # A code that misleads is not made better by being short.
    return gain * jnp.where(gain > 0, 1.0 - length_price * used, 1.0)

  def play(params, frozen, carry: Buffer, batch: Batch, key, given: Controls):
    if len(batch.row) < parents or len(batch.row) > buffer:
      raise ValueError(
        f"config.patterns.ccv.parents={parents}, buffer={buffer}: the buffer "
        f"is empty until the first step has stored config.batch_size="
        f"{len(batch.row)} codes, which must be no fewer than the parents and "
        "fit into the buffer."
      )
    # Not a child of the step's key that the new codes use.
    k = jax.random.split(jax.random.fold_in(key, 11), 4)
    k_slot, k_old, k_r, k_left = k
    episode, _ = play_fresh(params, frozen, (), batch, key, given)
    codes = tokens.without_end(episode.rollouts["C"].output, C.end)
    best = _at(codes, jnp.argmax(episode.rewards["C"], -1))
    age, spent = jnp.full(len(batch.row), carry.step), jnp.float32(0.0)
    if left > 0:
      old = jax.vmap(jax.random.bernoulli, (0, None))(
        row_keys(k_left, batch.row), left
      )
      written = early(frozen, batch.source)
      spent = rollout.loops_at_most(written)
      best = _where(old, written, best)
      age = jnp.where(old, -1, age)
    carry = store(carry, batch.source, best, age, k_slot)

    # Of the codes that are there; in the first step, of those just stored.
    there = jnp.any(carry.source.mask, -1)
    noise = jax.random.gumbel(k_old, there.shape)
    _, rows = jax.lax.top_k(jnp.where(there, noise, -jnp.inf), parents)
    s, parent, known_best = (
      Tokens(*(x[rows] for x in y))
      for y in (carry.source, carry.code, carry.best)
    )
    with jax.named_scope("C"):
      r = rollout.sample(
        policy, params, R, R.prompt(parent), row_keys(k_r, rows),
        samples=group,
      )  # fmt: skip
      anew = rollout.greedy(policy, params, C, C.prompt(s))
    again = tokens.without_end(r.output, R.end)  # [M, G, k]
    with jax.named_scope("V"):
      every = Tokens(
        *(
          jnp.concatenate([x, *(y[:, None] for y in others)], 1)
          for x, *others in zip(again, parent, known_best, anew, strict=True)
        )
      )
      known = likelihood.of_source(policy, params, D, s, every)
      without = likelihood.without_code(policy, frozen["base"], text, s)[
        :, None
      ]
      value = worth(known, without, every)  # [M, G + 3]
    value, old, top, new = (
      value[:, :group], value[:, group], value[:, -2], value[:, -1]
    )  # fmt: skip
    known_best = _where(new > top, anew, known_best)
    top = jnp.maximum(top, new)
    gained = value - old[:, None]

    winner, won = jnp.argmax(value, -1), jnp.max(gained, -1) > 0
    chosen = _at(again, winner)
    known_best = _where(jnp.max(value, -1) > top, chosen, known_best)
    is_left = carry.version[rows] < 0
    carry = replace(carry, rows, chosen, won, known_best)
    top = jnp.maximum(top, jnp.max(value, -1))
    warm = carry.step <= warmup
    length = lambda x: jnp.sum(x.mask, -1) * 1.0
    metrics = {
      **episode.metrics,
      "C#2_loops": rollout.loops(r.output),
      "C#3_loops": rollout.loops_at_most(anew),
      "reference_loops": spent,
      "R_gain_over_parent": jnp.mean(gained),
      "R_gain_best": jnp.mean(jnp.max(gained, -1)),
      "R_dead": jnp.mean(~won * 1.0),
      "R_length": jnp.mean(length(again)),
      "R_length_parent": jnp.mean(length(parent)),
      "R_left": jnp.mean(is_left * 1.0),
      "R_over_anew": jnp.mean(jnp.max(value, -1) - new),
    }
    taught = dict(episode.lessons)
    if targets != "none" or warmup:
      target, weight = {
        "none": (parent, jnp.zeros_like(won)),
        "next": (chosen, won),
        "final": (known_best, top > old),
      }[targets]
      target, weight = _where(warm, parent, target), weight | warm
      taught["R"] = _lesson(R, parent, target, weight)
    # A copy is taught first: what R says before is not worth a reward.
    ready = jnp.where(warm, 0.0, 1.0)
    return Episode(
      {**episode.rollouts, "R": r},
      {**episode.rewards, "R": ready * value},
      taught,
      metrics,
      {"R": ready * over_parent * gained},
    ), carry

  def early(frozen, s: Tokens) -> Tokens:
    """What the policy with which the arm began writes for s. -> [B, k]"""
    start = frozen.get("start", frozen["base"])
    with jax.named_scope("reference"):
      return rollout.greedy(policy, start, C, C.prompt(s))

  def store(carry: Buffer, s: Tokens, code: Tokens, age, key) -> Buffer:
    """New codes go where nothing is yet, then to places drawn at random.

    So that what stays is of every age, the older the rarer.
    """
    # No place twice: in the last step that fills, some go here and some there.
    filled = jnp.any(carry.source.mask, -1)
    noise = jax.random.uniform(key, filled.shape)
    _, place = jax.lax.top_k(jnp.where(filled, noise, 2.0), len(s.ids))
    put = lambda old, new: Tokens(
      *(x.at[place].set(y) for x, y in zip(old, new, strict=True))
    )
    return Buffer(
      put(carry.source, s), put(carry.code, code), put(carry.best, code),
      carry.version.at[place].set(age),
      carry.passes.at[place].set(0), carry.step + 1,
    )  # fmt: skip

  def replace(carry: Buffer, rows, code: Tokens, won, best: Tokens) -> Buffer:
    """A rewrite that beats its parent takes its place: chains grow by one."""
    everyone = jnp.ones_like(won)

    def put(old, new, here):
      return Tokens(
        *(
          x.at[rows].set(jnp.where(here[:, None], y, x[rows]))
          for x, y in zip(old, new, strict=True)
        )
      )

    now = carry.step - 1  # `store` has counted this step
    version = jnp.where(won, now, carry.version[rows])
    return carry._replace(
      code=put(carry.code, code, won),
      best=put(carry.best, best, everyone),
      version=carry.version.at[rows].set(version),
      passes=carry.passes.at[rows].add(won),
    )

  def examine(params, frozen, carry, batch: Batch, code: Tokens, key):
    """Codes of the policy that the arm began with, and what becomes of them.

    old: as they are; again: rewritten greedily, pass after pass; chain: the
    best of a sampled group in each pass, while one beats its parent; once: by C
    from the source, greedily; tries_1, tries_2...: the best of as many samples
    of C from the source as a chain has drawn by then, so of as many tokens.
    Bits (D's gain over the base without a code) and tokens of each, read by
    today's D.
    """
    del carry
    s = batch.source
    without = likelihood.without_code(policy, frozen["base"], text, s)
    k_try, *k_pass = jax.random.split(key, PASSES + 1)
    read = lambda c: likelihood.of_source(policy, params, D, s, c)
    tell = lambda name, c, known: {
      f"{name}_bits": (known - without) / jnp.log(2.0),
      f"{name}_tokens": jnp.sum(c.mask, -1) * 1.0,
    }
    alone = lambda c: Tokens(*(x[:, None] for x in c))
    with jax.named_scope("C"):
      old = early(frozen, s)
      tries = rollout.sample(
        policy, params, C, C.prompt(s), row_keys(k_try, batch.row),
        samples=PASSES * group,
      )  # fmt: skip
    tries = tokens.without_end(tries.output, C.end)
    known_tries = read(tries)
    value_tries = worth(known_tries, without[:, None], tries)
    known_old = read(alone(old))[:, 0]
    scores = tell("old", old, known_old)
    scores |= tell("once", code, read(alone(code))[:, 0])
    shown = {"source": s, "old": old, "once": code}
    again, chain, known_chain = old, old, known_old
    live = jnp.ones(len(s.ids), bool)
    for number in range(PASSES):
      name = number + 1
      with jax.named_scope("C"):
        again = rollout.greedy(policy, params, R, R.prompt(again))
        r = rollout.sample(
          policy, params, R, R.prompt(chain),
          row_keys(k_pass[number], batch.row), samples=group,
        )  # fmt: skip
      scores |= tell(f"again_{name}", again, read(alone(again))[:, 0])
      r = tokens.without_end(r.output, R.end)
      known = read(r)
      value = worth(known, without[:, None], r)
      top = jnp.argmax(value, -1)
      won = _pick(value, top) > worth(known_chain, without, chain)
      live = live & won
      chain = Tokens(
        *(
          jnp.where(live[:, None], x, y)
          for x, y in zip(_at(r, top), chain, strict=True)
        )
      )
      known_chain = jnp.where(live, _pick(known, top), known_chain)
      scores |= tell(f"chain_{name}", chain, known_chain)
      scores[f"dead_{name}"] = ~live * 1.0
      top = jnp.argmax(value_tries[:, : name * group], -1)
      best = _pick(known_tries, top)
      scores |= tell(f"tries_{name}", _at(tries, top), best)
      shown |= {f"again_{name}": again, f"chain_{name}": chain}
    return scores, shown

  return Pattern(init, play, examine, (("R", R),))


def _check(buffer, parents, group, targets, over_parent) -> None:
  field = "config.patterns.ccv"
  if buffer < 1:
    raise ValueError(f"{field}.buffer={buffer} keeps no code: at least 1.")
  if not 1 <= parents <= buffer:
    raise ValueError(
      f"{field}.parents={parents} must be 1 to buffer={buffer}: no code is "
      "rewritten twice in a step."
    )
  if group < 2:
    raise ValueError(f"{field}.group={group}: at least 2 rewrites to compare.")
  if targets not in TARGETS:
    raise ValueError(f"{field}.targets={targets!r} is none of {TARGETS}.")
  if over_parent < 0:
    raise ValueError(f"{field}.over_parent={over_parent} can't be negative.")


def _lesson(R: Role, parent: Tokens, target: Tokens, weight) -> SupervisedBatch:
  """R learns to write `target` for `parent`, where `weight` says so."""
  target = Tokens(*(x[:, None] for x in tokens.with_end(target, R.end)))
  return SupervisedBatch(R.prompt(parent), target, weight[:, None] * 1.0)


def _at(codes: Tokens, index: jax.Array) -> Tokens:
  """One code of each group. codes [B, G, k], index [B] -> [B, k]"""
  index = index[:, None, None]
  return Tokens(*(jnp.take_along_axis(x, index, 1)[:, 0] for x in codes))


def _where(condition: jax.Array, then: Tokens, other: Tokens) -> Tokens:
  """Row by row, or all at once. condition [B] or []; codes [B, k]"""
  condition = jnp.expand_dims(condition, -1)
  return Tokens(
    *(jnp.where(condition, a, b) for a, b in zip(then, other, strict=True))
  )


def _pick(x: jax.Array, index: jax.Array) -> jax.Array:
  return jnp.take_along_axis(x, index[:, None], 1)[:, 0]
