"""What becomes of old codes on held-out sources, beside reading s again."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.rl import equal_length, fragments, judging
from rsrc_jax.types import (
  Batch,
  Metrics,
  Params,
  Policy,
  Rollout,
  Tokens,
)

PASSES = 3  # in which a chain of rewrites is followed


class Rewriter(NamedTuple):
  """Who writes, who rewrites and who judges; as in patterns/ccv.py."""

  policy: Policy
  C: Role
  D: Role
  R: Role
  text: Role
  start: Role
  hearing: judging.Hearing
  group: int
  joint: int
  length_price: float


# codes [B, G, k] -> what V says of them, priced, [B, G]
Value = Callable[[Tokens], jax.Array]


def examine(
  w: Rewriter,
  params: Params,
  frozen: dict[str, Params],
  batch: Batch,
  code: Tokens,
  key: jax.Array,
) -> tuple[Metrics, dict[str, Tokens]]:
  """Codes of the policy that the arm began with, and what becomes of them.

  Codes, all read by today's D:
    old: as they are, the greedy one of each source; parent: of all that R
      reads, V's pick. R reads the greedy code and, where it reads several,
      samples of the same policy.
    again_1, again_2...: rewritten greedily, pass after pass. chain_1...: the
      best of a sampled group in each pass, while one beats all that R reads.
    alone_again, alone_best: where R reads several, the same of one pass in
      which all that it reads is the one parent.
    once: by C from the source, greedily. tries_1, tries_2...: the best of as
      many samples of C from the source as a chain has drawn by then.
    same_greedy, same_second: by C from the source, greedily and a sample, as
      long as again_1. same_best: the best of as many samples of C as chain_1
      has read and drawn, as long as chain_1.
  The best is V's pick, by its word on greedy decodes and the price.

  Returns:
    Scores [B] by name: of each code those of equal_length.scores; dead_1,
    dead_2...: no rewrite of this pass was better; codes_read: the different
    codes that R has read; again_shorter, chain_shorter: whether again_1 and
    chain_1 are shorter than the parent. And the texts to be shown.
  """
  s = batch.source
  read = _old_codes(w, frozen, batch, key)
  value = functools.partial(_value, w, params, frozen, s, batch.row, key)
  again, chain, live = _chains(w, params, batch, read, key, value)
  tries = resample(w, params, batch, key, value)
  codes = {"old": tokens.at(read, 0), "once": code}
  for i in range(PASSES):
    codes |= {
      f"{name}_{i + 1}": tokens.at(found, i, axis=0)
      for name, found in (("again", again), ("chain", chain), ("tries", tries))
    }
  shown = {"source": s, **codes}
  codes["parent"] = codes["old"]
  if w.joint > 1:
    shown["read"] = read
    codes["parent"] = _best(read, value(read))
    codes |= _alone(w, params, batch, codes["parent"], key, value)
  codes |= _as_long(
    w, params, batch, codes["again_1"], codes["chain_1"], key, value
  )
  scores = equal_length.scores(
    w.policy, params, frozen["base"], (w.D, w.text), s, codes
  )
  length = {name: scores[f"{name}_tokens"] for name in codes}
  scores |= {f"dead_{i + 1}": ~live[i] * 1.0 for i in range(PASSES)}
  scores |= {
    "codes_read": fragments.different(read) * 1.0,
    "again_shorter": (length["again_1"] < length["parent"]) * 1.0,
    "chain_shorter": (length["chain_1"] < length["parent"]) * 1.0,
  }
  shown = {k: x for k, x in shown.items() if not k.startswith("tries")}
  return scores, shown


def write_at_start(
  policy: Policy, start: Role, frozen: dict[str, Params], s: Tokens
) -> Tokens:
  """What the policy with which the arm began writes for s. -> [B, k]"""
  return rollout.greedy(policy, first_of(frozen), start, start.prompt(s))


def sample_at_start(
  policy: Policy,
  start: Role,
  frozen: dict[str, Params],
  s: Tokens,
  keys: jax.Array,
  samples: int,
) -> Rollout:
  """Its samples for s, keys [B]. -> outputs [B, samples, k]"""
  return rollout.sample(
    policy, first_of(frozen), start, start.prompt(s), keys, samples=samples
  )


def first_of(frozen: dict[str, Params]) -> Params:
  """The parameters with which the arm began."""
  return frozen.get("start", frozen["base"])


def resample(
  w: Rewriter, params: Params, batch: Batch, key: jax.Array, value: Value
) -> Tokens:
  """V's pick of C's samples from the source, of more and more. -> [n, B, k]"""
  key = keys.child(key, keys.Chains.TRIES)
  found = rollout.sample(
    w.policy, params, w.C, w.C.prompt(batch.source),
    keys.row_keys(key, batch.row), samples=PASSES * w.group,
  )  # fmt: skip
  found = tokens.without_end(found.output, w.C.end)
  # A pass at a time: all decodes at once would take much memory.
  cut = lambda x: jnp.stack(jnp.split(x, PASSES, 1))
  worth = jax.lax.map(value, jax.tree.map(cut, found))  # [n, B, G]
  worth = jnp.concatenate([*worth], 1)
  tops = [_best(found, worth[:, : n * w.group]) for n in range(1, PASSES + 1)]
  return jax.tree.map(lambda *x: jnp.stack(x), *tops)


def _old_codes(w: Rewriter, frozen, batch: Batch, key: jax.Array) -> Tokens:
  """What R reads: the first policy's greedy code, then samples. [B, n, k]"""
  s = batch.source
  greedy = write_at_start(w.policy, w.start, frozen, s)
  if w.joint == 1:
    return tokens.expand(greedy)
  row_keys = keys.row_keys(keys.child(key, keys.Chains.START), batch.row)
  more = sample_at_start(
    w.policy, w.start, frozen, s, row_keys, w.joint - 1
  ).output
  more = tokens.without_end(more, w.start.end)
  return tokens.concat(tokens.expand(greedy), more, axis=1)


def _chains(w: Rewriter, params, batch: Batch, read: Tokens, key, value: Value):
  """Both kinds of rewriting, by pass: [n, B, k] twice, and live [n, B]."""

  def one(state, number):
    again, chain, live = state
    new = rollout.greedy(w.policy, params, w.R, _prompt(w, again))
    again = fragments.newest_first(again, new, jnp.ones_like(live))
    row_keys = keys.row_keys(keys.child(key, number), batch.row)
    chain, best, live = _extend(w, params, chain, live, row_keys, value)
    return (again, chain, live), (new, best, live)

  first = (read, read, jnp.ones(len(batch.row), bool))
  return jax.lax.scan(one, first, jnp.arange(1, PASSES + 1))[1]


def _extend(w: Rewriter, params, chain: Tokens, live, row_keys, value: Value):
  """One more pass of best-of-group chains.

  chain [B, n, k]: what R reads, the newest first; live [B]: those that gain.
  -> the next of both, and between them V's pick of all so far [B, k]
  """
  r = rollout.sample(
    w.policy, params, w.R, _prompt(w, chain), row_keys, samples=w.group
  )
  r = tokens.without_end(r.output, w.R.end)
  worth = value(tokens.concat(chain, r, axis=1))
  before, worth = worth[:, : w.joint], worth[:, w.joint :]
  live = live & (jnp.max(worth, -1) > jnp.max(before, -1))
  best = _best(r, worth)
  found = tokens.where(live, best, _best(chain, before))
  return fragments.newest_first(chain, best, live), found, live


def _alone(
  w: Rewriter, params, batch: Batch, parent: Tokens, key, value: Value
):
  """One pass in which all that R reads is one parent [B, k], by name."""
  one = lambda x: jnp.repeat(x[:, None], w.joint, 1)
  read, live = jax.tree.map(one, parent), jnp.ones(len(batch.row), bool)
  row_keys = keys.row_keys(keys.child(key, keys.Chains.ALONE), batch.row)
  _, best, _ = _extend(w, params, read, live, row_keys, value)
  again = rollout.greedy(w.policy, params, w.R, _prompt(w, read))
  return {"alone_again": again, "alone_best": best}


def _as_long(
  w: Rewriter, params, batch: Batch, again: Tokens, chain: Tokens, key, value
) -> dict[str, Tokens]:
  """Codes of C from the source, as long as those of two kinds [B, k]."""

  def write(C, like: Tokens, number, samples):
    row_keys = keys.row_keys(keys.child(key, number), batch.row)
    length = jnp.sum(like.mask, -1)
    return equal_length.write(
      w.policy, params, C, batch.source, length, row_keys, samples
    )

  second = keys.Chains.SECOND
  many = write(w.C, chain, keys.Chains.EQUAL, w.joint + w.group)
  return {
    "same_greedy": tokens.at(write(w.C.greedy(), again, second, 1), 0),
    "same_second": tokens.at(write(w.C, again, second, 1), 0),
    "same_best": _best(many, value(many)),
  }


def _prompt(w: Rewriter, codes: Tokens) -> Tokens:
  return w.R.prompt(fragments.join(codes, w.R.separator))


def _best(codes: Tokens, worth: jax.Array) -> Tokens:
  """Of codes [B, G, k] that with the highest worth [B, G]. -> [B, k]"""
  return tokens.pick(codes, jnp.argmax(worth, -1))


def _value(
  w: Rewriter, params, frozen, s, rows, key, code: Tokens
) -> jax.Array:
  """What codes [B, G, k] are worth by greedy decodes, priced. -> [B, G]"""
  each = keys.prompt_keys(key, rows, code.ids.shape[1])  # without effect
  found = judging.judge(
    judging.greedy(w.hearing), params, frozen, s, code, each, key
  )
  return judging.priced(found, code, budget=w.C.length, price=w.length_price)[0]
