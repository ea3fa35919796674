"""C -> C -> V: old codes, rewritten without their sources (defragmentation).

A buffer keeps sources, their best codes and the step at which each was written.
Every step plays C -> D -> V on new sources and stores what it found. Then R,
the compressor in another role, reads old codes alone and writes them anew. D
and V judge the rewrite on the source: what counts is what it has gained on its
parent, in verified bits and in length. No rewrite can know more of s than its
parent does. What can be won are tokens, and bits that today's D can't read.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import keys, likelihood, rollout, tokens
from rsrc_jax.lm.roles import Role, joined
from rsrc_jax.patterns import cdv
from rsrc_jax.rl import code_buffer, numbers
from rsrc_jax.rl.code_buffer import Buffer
from rsrc_jax.types import (
  Batch,
  Context,
  Controls,
  Episode,
  Metrics,
  Params,
  Pattern,
  Policy,
  SupervisedBatch,
  Tokens,
)

TARGETS = ("none", "next", "final")
PASSES = 3  # in which a chain of rewrites is followed at the end
NUMBERS = ("length_price", "over_parent", *(f"fresh.{x}" for x in cdv.NUMBERS))


def _parents(settings, run):
  """The rule of what the buffer holds, and a step rewrites."""
  buffer, parents = settings["buffer"], settings["parents"]
  if parents > buffer:
    return (
      "parents",
      f"1 to {rules.HERE}.buffer={buffer}: none is rewritten twice in a step",
    )
  rows, parts = run.get("batch_size"), run.get("micro_batches", 1)
  if rows and not parents <= rows <= buffer:
    return "parents", (
      f"at most config.batch_size={rows}, and {rules.HERE}.buffer={buffer} at "
      "least that: it is empty until the first step has stored its codes"
    )
  if parents % parts:
    return "parents", f"a multiple of config.micro_batches={parts}"
  return None


RULES = {
  # What is injected is paid for by cdv alone.
  "fresh": cdv.RULES | {"gate": rules.one_of(None)},
  "buffer": rules.whole(1),
  "parents": rules.whole(1),
  "group": rules.whole(2, why="a rewrite is judged against the others"),
  "length_price": rules.share(),
  "over_parent": rules.number(0),
  "targets": rules.one_of(*TARGETS),
  "left": rules.number(0, below=1, why="a share below 1"),
  "warmup": rules.whole(),
  rules.BLOCK: (_parents,),
}


class Parts(NamedTuple):
  """What the functions of this pattern share; the settings as in `make`."""

  policy: Policy
  C: Role
  D: Role
  R: Role
  text: Role
  start: Role  # C with the parameters that the arm began with
  fresh: Callable[..., tuple[Episode, Any]]  # cdv's play
  buffer: int
  parents: int
  group: int
  length_price: float
  over_parent: float
  targets: str
  left: float
  warmup: int


class Judged(NamedTuple):
  """M parents, G rewrites of each, and what each code is worth."""

  parent: Tokens  # [M, k]
  rewrites: Tokens  # [M, G, k]
  winner: Tokens  # [M, k], the best rewrite
  best: Tokens  # [M, k], the best code known by now
  value: jax.Array  # [M, G], of the rewrites
  gained: jax.Array  # [M, G], on the parent
  parent_value: jax.Array  # [M]
  anew_value: jax.Array  # [M], of a code that C writes of s today
  best_value: jax.Array  # [M]
  won: jax.Array  # [M] bool: the winner is better than the parent


def make(
  context: Context,
  *,
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
    context: roles "C", "D" and "text"; V of the new codes: rewrites are judged
      by D's likelihood of s.
    fresh: settings of patterns/cdv.py for the new sources of a step.
    buffer: codes that are kept, N.
    parents: codes that a step rewrites, M.
    group: rewrites of a parent, G.
    length_price: of the reward, what a rewrite at full budget gives up; a
      parent is priced alike.
    over_parent: weight of the reward against the parent's, beside the reward
      against the group's mean: a group that is worse than its parent is then
      made less likely as a whole.
    targets: what R also learns by likelihood. "next": a verified rewrite that
      is better than the parent, the best of its group, nothing where there is
      none. "final": the best code known for the source, one that C writes today
      among them, if it is better than the parent. "none".
    left: share of the stored codes that are not today's: those that the policy
      with which the arm began writes of the same sources.
    warmup: steps in which R learns to copy its parent, and nothing else.

  Raises:
    ValueError: a setting is out of its range.
  """
  rules.check_some(RULES, locals(), "config.patterns.ccv")
  C, D, text = (context.roles[x] for x in ("C", "D", "text"))
  R = joined(C, D, "R")
  first = cdv.make(context, field="config.patterns.ccv.fresh", **fresh)
  p = Parts(
    context.policy, C, D, R, text, C._replace(section="reference"), first.play,
    buffer, parents, group, length_price, over_parent, targets, left, warmup,
  )  # fmt: skip

  empty = lambda: code_buffer.empty(buffer, D.length - 1, C.length)
  mine = (functools.partial(f, p) for f in (play, examine))
  return Pattern(empty, *mine, (("R", R),))


def play(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  carry: Buffer,
  batch: Batch,
  key: jax.Array,
  controls: Controls,
) -> tuple[Episode, Buffer]:
  """types.Pattern.play; key: a step's, whose children are keys.Cdv too."""
  p = numbers.replaced(p, controls.numbers, "patterns.ccv")
  mine = keys.child(key, keys.Step.REWRITE)
  k_slots, k_parents, k_r, k_start = (keys.child(mine, x) for x in keys.Rewrite)
  episode, _ = p.fresh(params, frozen, (), batch, key, controls)
  codes = tokens.without_end(episode.rollouts["C"].output, p.C.end)
  best = tokens.pick(codes, jnp.argmax(episode.rewards["C"], -1))
  best, age, ran = from_start(p, frozen, batch, best, carry.step, k_start)
  carry = code_buffer.store(carry, batch.source, best, age, k_slots)

  rows = code_buffer.draw(carry, p.parents, k_parents)
  s, parent, known_best = jax.tree.map(
    lambda x: x[rows], (carry.source, carry.code, carry.best)
  )
  r = rollout.sample(
    p.policy, params, p.R, p.R.prompt(parent), keys.row_keys(k_r, rows),
    samples=p.group,
  )  # fmt: skip
  anew = rollout.greedy(p.policy, params, p.C, p.C.prompt(s))
  rewrites = tokens.without_end(r.output, p.R.end)
  found = judge(p, params, frozen, s, parent, rewrites, known_best, anew)
  was_start = carry.version[rows] < 0
  carry = code_buffer.replace(carry, rows, found.winner, found.won, found.best)

  warm = carry.step <= p.warmup
  metrics = episode.metrics | measure(found, was_start) | rollout.passes(
    (p.R, r), (p.C, rollout.loops_at_most(anew)), (p.start, ran),
    after=episode.metrics,
  )  # fmt: skip
  sft_batches = dict(episode.sft_batches)
  if p.targets != "none" or p.warmup:
    sft_batches["R"] = rewrite_batch(p, found, warm)
  # A copy is taught first: what R writes before is not worth a reward.
  ready = jnp.where(warm, 0.0, 1.0)
  return Episode(
    {**episode.rollouts, "R": r},
    {**episode.rewards, "R": ready * found.value},
    sft_batches,
    metrics,
    {"R": ready * p.over_parent * found.gained},
  ), carry


def value_of(
  p: Parts, log_lik: jax.Array, base_log_lik: jax.Array, code: Tokens
) -> jax.Array:
  """Gain on s, priced by length, as rewards are. Any shape; code [..., k]."""
  gain = likelihood.relative_gain(log_lik, base_log_lik)
  used = jnp.sum(code.mask, -1) / p.C.length
  # A code that misleads is not made better by being short.
  return gain * jnp.where(gain > 0, 1.0 - p.length_price * used, 1.0)


def judge(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  s: Tokens,
  parent: Tokens,
  rewrites: Tokens,
  known_best: Tokens,
  anew: Tokens,
) -> Judged:
  """Values all codes of s [M, S] by today's D: [M, k] each, [M, G, k]."""
  with jax.named_scope("V"):
    others = map(tokens.expand, (parent, known_best, anew))
    every = tokens.concat(rewrites, *others, axis=1)
    log_lik = likelihood.of_source(p.policy, params, p.D, s, every)
    base_log_lik = likelihood.without_code(p.policy, frozen["base"], p.text, s)[
      :, None
    ]
    value = value_of(p, log_lik, base_log_lik, every)  # [M, G + 3]
  value, old, top, new = (
    value[:, : p.group], value[:, p.group], value[:, -2], value[:, -1]
  )  # fmt: skip
  best = tokens.where(new > top, anew, known_best)
  top = jnp.maximum(top, new)
  gained, highest = value - old[:, None], jnp.max(value, -1)
  winner = tokens.pick(rewrites, jnp.argmax(value, -1))
  best = tokens.where(highest > top, winner, best)
  return Judged(
    parent, rewrites, winner, best, value, gained, old, new,
    jnp.maximum(top, highest), jnp.max(gained, -1) > 0,
  )  # fmt: skip


def measure(found: Judged, was_start: jax.Array) -> Metrics:
  """Means over the parents, or over their rewrites."""
  length = lambda x: jnp.sum(x.mask, -1) * 1.0
  return {
    "R_gain_over_parent": jnp.mean(found.gained),
    "R_gain_best": jnp.mean(jnp.max(found.gained, -1)),
    "R_dead": jnp.mean(~found.won * 1.0),
    "R_length": jnp.mean(length(found.rewrites)),
    "R_length_parent": jnp.mean(length(found.parent)),
    "R_left": jnp.mean(was_start * 1.0),
    "R_over_anew": jnp.mean(jnp.max(found.value, -1) - found.anew_value),
  }


def rewrite_batch(p: Parts, found: Judged, warm: jax.Array) -> SupervisedBatch:
  """R learns to write a better code for the parent, or to copy it first."""
  target, weight = {
    "none": (found.parent, jnp.zeros_like(found.won)),
    "next": (found.winner, found.won),
    "final": (found.best, found.best_value > found.parent_value),
  }[p.targets]
  target, weight = tokens.where(warm, found.parent, target), weight | warm
  target = tokens.expand(tokens.with_end(target, p.R.end))
  prompt = p.R.prompt(found.parent)
  return SupervisedBatch(prompt, target, weight[:, None] * 1.0)


def from_start(
  p: Parts,
  frozen: dict[str, Params],
  batch: Batch,
  code: Tokens,
  step: jax.Array,
  key: jax.Array,
) -> tuple[Tokens, jax.Array, jax.Array]:
  """Replaces a share `left` of the codes [B, k] by the first policy's.

  -> codes, versions [B], and how often the loop ran that wrote them.
  """
  age = jnp.full(len(batch.row), step)
  if p.left == 0:
    return code, age, jnp.float32(0.0)
  row_keys = keys.row_keys(key, batch.row)
  old = jax.vmap(jax.random.bernoulli, (0, None))(row_keys, p.left)
  written = write_at_start(p, frozen, batch.source)
  code = tokens.where(old, written, code)
  return code, jnp.where(old, -1, age), rollout.loops_at_most(written)


def write_at_start(p: Parts, frozen: dict[str, Params], s: Tokens) -> Tokens:
  """What the policy with which the arm began writes for s. -> [B, k]"""
  start = frozen.get("start", frozen["base"])
  return rollout.greedy(p.policy, start, p.start, p.start.prompt(s))


def examine(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  carry: Buffer,
  batch: Batch,
  code: Tokens,
  key: jax.Array,
) -> tuple[Metrics, dict[str, Tokens]]:
  """Codes of the policy that the arm began with, and what becomes of them.

  old: as they are; again: rewritten greedily, pass after pass; chain: the best
  of a sampled group in each pass, while one beats its parent; once: by C from
  the source, greedily; tries_1, tries_2...: the best of as many samples of C
  from the source as a chain has drawn by then, so of as many tokens. Bits (D's
  gain over the base without a code) and tokens of each, read by today's D.
  """
  del carry
  s = batch.source
  base_log_lik = likelihood.without_code(p.policy, frozen["base"], p.text, s)
  k_pass = [keys.child(key, i) for i in range(1, PASSES + 1)]
  read = lambda c: likelihood.of_source(p.policy, params, p.D, s, c)
  read_one = lambda c: read(tokens.expand(c))[:, 0]
  score = lambda name, c, log_lik: {
    f"{name}_bits": (log_lik - base_log_lik) / jnp.log(2.0),
    f"{name}_tokens": jnp.sum(c.mask, -1) * 1.0,
  }
  start = write_at_start(p, frozen, s)
  resamples = _resample(p, params, batch, key, read, base_log_lik)
  start_log_lik = read_one(start)
  scores = score("old", start, start_log_lik)
  scores |= score("once", code, read_one(code))
  shown = {"source": s, "old": start, "once": code}
  greedy_rewrite = start
  chain, live = (start, start_log_lik), jnp.ones(len(s.ids), bool)
  for number, k in enumerate(k_pass, 1):
    prompt = p.R.prompt(greedy_rewrite)
    greedy_rewrite = rollout.greedy(p.policy, params, p.R, prompt)
    log_lik = read_one(greedy_rewrite)
    scores |= score(f"again_{number}", greedy_rewrite, log_lik)
    chain, live = _extend(
      p, params, chain, live, keys.row_keys(k, batch.row), read, base_log_lik
    )
    scores |= score(f"chain_{number}", *chain)
    scores[f"dead_{number}"] = ~live * 1.0
    scores |= score(f"tries_{number}", *resamples(number * p.group))
    shown |= {f"again_{number}": greedy_rewrite, f"chain_{number}": chain[0]}
  return scores, shown


def _resample(p: Parts, params, batch: Batch, key, read, base_log_lik):
  """-> best(n): of n samples of C from s the best code, its likelihood [B]."""
  key = keys.child(key, keys.Chains.TRIES)
  found = rollout.sample(
    p.policy, params, p.C, p.C.prompt(batch.source),
    keys.row_keys(key, batch.row), samples=PASSES * p.group,
  )  # fmt: skip
  found = tokens.without_end(found.output, p.C.end)
  log_lik = read(found)
  value = value_of(p, log_lik, base_log_lik[:, None], found)

  def best(n: int) -> tuple[Tokens, jax.Array]:
    top = jnp.argmax(value[:, :n], -1)
    return tokens.pick(found, top), _at(log_lik, top)

  return best


def _extend(p: Parts, params, chain, live, row_keys, read, base_log_lik):
  """One more pass of best-of-group chains, [B, k] and [B]; live: that gain."""
  code, code_log_lik = chain
  r = rollout.sample(
    p.policy, params, p.R, p.R.prompt(code), row_keys, samples=p.group
  )
  r = tokens.without_end(r.output, p.R.end)
  log_lik = read(r)
  value = value_of(p, log_lik, base_log_lik[:, None], r)
  top = jnp.argmax(value, -1)
  before = value_of(p, code_log_lik, base_log_lik, code)
  live = live & (_at(value, top) > before)
  code = tokens.where(live, tokens.pick(r, top), code)
  return (code, jnp.where(live, _at(log_lik, top), code_log_lik)), live


def _at(x: jax.Array, index: jax.Array) -> jax.Array:
  """x [B, G], index [B] -> [B]"""
  return jnp.take_along_axis(x, index[:, None], 1)[:, 0]
