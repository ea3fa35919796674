"""C -> C -> V: old codes, rewritten without their sources (defragmentation).

A buffer keeps sources, their best codes and the step at which each was written.
Every step plays C -> D -> V on new sources and stores what it found. Then R,
the compressor in another role, reads old codes alone and writes them anew. D
decodes the rewrite and V hears d: what counts is what V's word, less the price
of the length, has gained on the parent's. No rewrite can know more of s than
its parent does. What can be won are tokens, and what today's D can't read.

With `joint` above 1 R reads several codes of one source at once and writes one
code for them. That is what we take defragmentation to mean in "Theory of RSI on
LLMs through ordinary RL (Kolmogorov Compressor)": what past codes know of a
source is scattered over them, each in the language of its time, and is brought
together. The codes are different samples, by today's policy and by the one that
the arm began with, and earlier rewrites. Such a rewrite can know all that any
of them knows, and is held against the one that V values most. Codes of
different sources are not joined: V could not say of which source a rewrite is.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.lm.roles import Role, joined
from rsrc_jax.patterns import cdv
from rsrc_jax.rl import (
  code_buffer,
  fragments,
  judging,
  numbers,
  rewrite_chains,
  rewriting,
)
from rsrc_jax.rl.code_buffer import Buffer, More
from rsrc_jax.types import (
  Batch,
  Context,
  Controls,
  Episode,
  Metrics,
  Params,
  Pattern,
  Policy,
  Rollout,
  Tokens,
)

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


def _joint(settings, run):
  """The rule of how many codes there are to read, and room for."""
  joint, group = settings.get("joint", 1), settings["fresh"]["group"]
  if joint > group:
    return "joint", (
      f"1 to {rules.HERE}.fresh.group={group}: what is read together was "
      "written in one group"
    )
  places, budget = run.get("places"), run.get("budget")
  if joint > 1 and places and joint > fragments.longest(places, budget):
    return "joint", (
      f"at most {max(fragments.longest(places, budget), 1)}: a prompt with so "
      f"many codes of config.budget={budget} tokens, and a rewrite, are longer "
      f"than config.model.absolute={places}"
    )
  return None


RULES = {
  # What is injected is paid for by cdv alone.
  "fresh": cdv.RULES | {"gate": rules.one_of(None)},
  "buffer": rules.whole(1),
  "parents": rules.whole(1),
  "group": rules.whole(2, why="a rewrite is judged against the others"),
  "decodes": rules.whole(1),
  "joint": rules.whole(1, why="1 rewrites each code by itself"),
  "length_price": rules.share(),
  "over_parent": rules.number(0),
  "targets": rules.one_of(*rewriting.TARGETS),
  "left": rules.number(0, below=1, why="a share below 1"),
  "warmup": rules.whole(),
  rules.BLOCK: (_parents, _joint),
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
  joint: int


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
  joint: int = 1,
) -> Pattern:
  """Builds the pattern.

  Args:
    context: roles "C", "D" and "text"; V.
    fresh: settings of patterns/cdv.py for the new sources of a step.
    buffer: codes that are kept, N.
    parents: codes that a step rewrites, M; with `joint` sources, of each of
      which R reads so many codes.
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
    warmup: steps in which R learns to copy its parent (of several codes, the
      one that V values most), and nothing else.
    decodes: free-running decodes of a rewrite, and of what it is held against,
      that V hears, J; of one D is greedy, so that no rewrite wins by a lucky d.
    joint: codes of a source that R reads at once, n. A rewrite that beats all
      of them is stored before them, and the last falls out. Of n codes n - 1
      are other samples of the group whose best is the first; each is the
      starting policy's instead with the probability `left`.

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
    left, warmup, joint,
  )  # fmt: skip

  empty = lambda: code_buffer.empty(buffer, D.length - 1, C.length, joint)
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
  k_slots, k_parents, k_r, k_start, k_d, *k_more = (
    keys.child(mine, x) for x in keys.Rewrite
  )
  episode, _ = p.fresh(params, frozen, (), batch, key, controls)
  codes = tokens.without_end(episode.rollouts["C"].output, p.C.end)
  top = jnp.argmax(episode.rewards["C"], -1)
  best = tokens.pick(codes, top)
  best, age, ran = from_start(p, frozen, batch, best, carry.step, k_start)
  others = fragments.beside(codes, top, p.joint - 1)
  more, again = more_from_start(p, frozen, batch, others, carry.step, *k_more)
  carry = code_buffer.store(carry, batch.source, best, age, k_slots, more)

  rows = code_buffer.draw(carry, p.parents, k_parents)
  s, known_best = jax.tree.map(lambda x: x[rows], (carry.source, carry.best))
  parents, versions = code_buffer.codes_of(carry, rows)
  r = rollout.sample(
    p.policy, params, p.R, p.R.prompt(fragments.join(parents, p.R.separator)),
    keys.row_keys(k_r, rows), samples=p.group,
  )  # fmt: skip
  anew = rollout.greedy(p.policy, params, p.C, p.C.prompt(s))
  rewrites = tokens.without_end(r.output, p.R.end)
  how = p.hearing._replace(numbers=controls.numbers)
  found = rewriting.judge(
    how, params, frozen, s, parents, rewrites, known_best, anew, rows, k_d,
    budget=p.C.length, price=p.length_price,
  )  # fmt: skip
  carry = code_buffer.replace(carry, rows, found.winner, found.won, found.best)

  warm = carry.step <= p.warmup
  d = found.sampled
  metrics = rewriting.measure(found, versions < 0) | rollout.passes(
    (p.R, r), (p.C, rollout.loops_at_most(anew)), (p.start, ran),
    *((p.start, x) for x in again),
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
  written = rewrite_chains.write_at_start(
    p.policy, p.start, frozen, batch.source
  )
  code = tokens.where(old, written, code)
  return code, jnp.where(old, -1, age), rollout.loops_at_most(written)


def more_from_start(
  p: Parts,
  frozen: dict[str, Params],
  batch: Batch,
  code: Tokens,
  step: jax.Array,
  key: jax.Array,
  sampled: jax.Array,
) -> tuple[More | None, list[Rollout]]:
  """Replaces a share `left` of codes [B, n - 1, k] by the first policy's.

  Its codes are sampled, since it has one greedy code. key: which are replaced;
  sampled: of the samples. -> the codes with their versions, None where there
  are none; and the rollouts that this took.
  """
  count = p.joint - 1
  if not count:
    return None, []
  age = jnp.full((len(batch.row), count), step)
  if p.left == 0:
    return More(code, age), []
  draw = lambda k: jax.random.bernoulli(k, p.left, (count,))
  old = jax.vmap(draw)(keys.row_keys(key, batch.row))
  written = rewrite_chains.sample_at_start(
    p.policy, p.start, frozen, batch.source,
    keys.row_keys(sampled, batch.row), count,
  )  # fmt: skip
  codes = tokens.without_end(written.output, p.start.end)
  code = tokens.where(old, codes, code)
  return More(code, jnp.where(old, -1, age)), [written]


def examine(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  carry: Buffer,
  batch: Batch,
  code: Tokens,
  key: jax.Array,
) -> tuple[Metrics, dict[str, Tokens]]:
  """types.Pattern.examine: see rl/rewrite_chains.py."""
  del carry  # of training's sources
  of = rewrite_chains.Rewriter
  who = of(*(getattr(p, name) for name in of._fields))
  return rewrite_chains.examine(who, params, frozen, batch, code, key)
