"""C -> C -> V: old codes, rewritten without their sources (defragmentation).

A buffer keeps sources, their best codes and the step at which each was written.
Every step plays C -> D -> V on new sources and stores what it found. Then R,
the compressor in another role, reads old codes alone and writes them anew. D
decodes the rewrite and V hears d: what counts is what V's word, less the price
of the length, has gained on the parent's. No rewrite can know more of s than
its parent does. What can be won are tokens, and what today's D can't read.
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
from rsrc_jax.rl import code_buffer, judging, numbers, rewriting
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
  Tokens,
)

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
  "decodes": rules.whole(1),
  "length_price": rules.share(),
  "over_parent": rules.number(0),
  "targets": rules.one_of(*rewriting.TARGETS),
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
  hearing: judging.Hearing
  fresh: Callable[..., tuple[Episode, Any]]  # cdv's play
  buffer: int
  parents: int
  group: int
  length_price: float
  over_parent: float
  targets: str
  left: float
  warmup: int


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
  decodes: int = 1,
) -> Pattern:
  """Builds the pattern.

  Args:
    context: roles "C", "D" and "text"; V.
    fresh: settings of patterns/cdv.py for the new sources of a step.
    buffer: codes that are kept, N.
    parents: codes that a step rewrites, M.
    group: rewrites of a parent, G.
    length_price: share of what a rewrite conveys that it costs at full budget;
      a parent is priced alike.
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
    decodes: free-running decodes of a rewrite, and of what it is held against,
      that V hears, J; of one D is greedy, so that no rewrite wins by a lucky d.

  Raises:
    ValueError: a setting is out of its range.
  """
  rules.check_some(RULES, locals(), "config.patterns.ccv")
  C, D, text = (context.roles[x] for x in ("C", "D", "text"))
  R = joined(C, D, "R")
  first = cdv.make(context, field="config.patterns.ccv.fresh", **fresh)
  p = Parts(
    context.policy, C, D, R, text, C._replace(section="reference"),
    judging.make(context.policy, context.roles, context.verify, decodes),
    first.play, buffer, parents, group, length_price, over_parent, targets,
    left, warmup,
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
  k_slots, k_parents, k_r, k_start, k_d = (
    keys.child(mine, x) for x in keys.Rewrite
  )
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
  how = p.hearing._replace(numbers=controls.numbers)
  found = rewriting.judge(
    how, params, frozen, s, parent, rewrites, known_best, anew, rows, k_d,
    budget=p.C.length, price=p.length_price,
  )  # fmt: skip
  was_start = carry.version[rows] < 0
  carry = code_buffer.replace(carry, rows, found.winner, found.won, found.best)

  warm = carry.step <= p.warmup
  d = found.sampled
  metrics = rewriting.measure(found, was_start) | rollout.passes(
    (p.R, r), (p.C, rollout.loops_at_most(anew)), (p.start, ran),
    *([] if d is None else [(how.D, d)]), after=episode.metrics,
  )  # fmt: skip
  sft_batches = dict(episode.sft_batches)
  if p.targets != "none" or p.warmup:
    sft_batches["R"] = rewriting.rewrite_batch(p.R, p.targets, found, warm)
  # A copy is taught first: what R writes before is not worth a reward.
  ready = jnp.where(warm, 0.0, 1.0)
  return Episode(
    {**episode.rollouts, "R": r},
    {**episode.rewards, "R": ready * found.value},
    sft_batches,
    episode.metrics | metrics,
    {"R": ready * p.over_parent * found.gained},
    episode.parts | {"R": {k: ready * x for k, x in found.parts.items()}},
  ), carry


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
  from the source as a chain has drawn by then, so of as many tokens. The best
  is V's pick, by its word on greedy decodes and the price. Bits (D's gain over
  the base without a code) and tokens of each, read by today's D.
  """
  del carry
  s, passes = batch.source, range(1, PASSES + 1)
  start = write_at_start(p, frozen, s)
  value = functools.partial(_value, p, params, frozen, s, batch.row, key)

  def one(state, number):
    again, chain, live = state
    again = rollout.greedy(p.policy, params, p.R, p.R.prompt(again))
    row_keys = keys.row_keys(keys.child(key, number), batch.row)
    chain, live = _extend(p, params, chain, live, row_keys, value)
    return (again, chain, live), (again, chain, live)

  first = (start, start, jnp.ones(len(s.ids), bool))
  _, (again, chain, live) = jax.lax.scan(one, first, jnp.array([*passes]))
  tries = _resample(p, params, batch, key, value)
  codes = {"old": start, "once": code}
  for number in passes:
    codes |= {
      f"{name}_{number}": tokens.at(found, number - 1, axis=0)
      for name, found in (("again", again), ("chain", chain), ("tries", tries))
    }
  every = tokens.concat(*map(tokens.expand, codes.values()), axis=1)
  base_log_lik = likelihood.without_code(p.policy, frozen["base"], p.text, s)
  log_lik = likelihood.of_source(p.policy, params, p.D, s, every)
  bits = (log_lik - base_log_lik[:, None]) / jnp.log(2.0)
  length = jnp.sum(every.mask, -1) * 1.0
  scores = {f"{name}_bits": bits[:, i] for i, name in enumerate(codes)}
  scores |= {f"{name}_tokens": length[:, i] for i, name in enumerate(codes)}
  scores |= {f"dead_{number}": ~live[number - 1] * 1.0 for number in passes}
  shown = {k: x for k, x in codes.items() if not k.startswith("tries")}
  return scores, {"source": s, **shown}


def _value(p: Parts, params, frozen, s, rows, key, code: Tokens) -> jax.Array:
  """What codes [B, G, k] are worth by greedy decodes, priced. -> [B, G]"""
  each = keys.prompt_keys(key, rows, code.ids.shape[1])  # without effect
  found = judging.judge(
    judging.greedy(p.hearing), params, frozen, s, code, each, key
  )
  return judging.priced(found, code, budget=p.C.length, price=p.length_price)[0]


def _resample(p: Parts, params, batch: Batch, key, value) -> Tokens:
  """V's pick of C's samples from the source, of more and more. -> [n, B, k]"""
  key = keys.child(key, keys.Chains.TRIES)
  found = rollout.sample(
    p.policy, params, p.C, p.C.prompt(batch.source),
    keys.row_keys(key, batch.row), samples=PASSES * p.group,
  )  # fmt: skip
  found = tokens.without_end(found.output, p.C.end)
  # A pass at a time: all decodes at once would take much memory.
  cut = lambda x: jnp.stack(jnp.split(x, PASSES, 1))
  worth = jax.lax.map(value, jax.tree.map(cut, found))  # [n, B, G]
  worth = jnp.concatenate([*worth], 1)
  tops = [
    tokens.pick(found, jnp.argmax(worth[:, : n * p.group], -1))
    for n in range(1, PASSES + 1)
  ]
  return jax.tree.map(lambda *x: jnp.stack(x), *tops)


def _extend(p: Parts, params, chain: Tokens, live, row_keys, value):
  """One more pass of best-of-group chains, [B, k]; live [B]: that gain."""
  r = rollout.sample(
    p.policy, params, p.R, p.R.prompt(chain), row_keys, samples=p.group
  )
  r = tokens.without_end(r.output, p.R.end)
  worth = value(tokens.concat(tokens.expand(chain), r, axis=1))
  before, worth = worth[:, 0], worth[:, 1:]
  live = live & (jnp.max(worth, -1) > before)
  best = tokens.pick(r, jnp.argmax(worth, -1))
  return tokens.where(live, best, chain), live
