"""What memories are worth on held-out streams, and the tokens they cost.

Rounds are played greedily, with several kinds of memory beside each other:

  cc        the memory of the round
  empty     no memory
  frozen    the memory after the first round, in all rounds
  shuffled  the memory of another stream
  long      no memory, and a code of M + k tokens of the same policy
  chosen    of cc and empty the one from which D finds s likelier, and a bit
            that says which: C knows s, and has the weights of D

Tokens are counted in two ways (`scores`): all that D reads in a round, and the
code with what is new of the memory. A memory that stays as it was costs nothing
in the rounds behind the first that reads it.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax.lm import keys, likelihood, memory, rollout, tokens
from rsrc_jax.lm.memory import Judge, Memory
from rsrc_jax.metrics import compression
from rsrc_jax.rl import judging
from rsrc_jax.types import Batch, Constraints, Metrics, Params, Tokens

KINDS = ("cc", "empty", "frozen", "shuffled")  # of memories that D reads
LONG, CHOSEN = "long", "chosen"
FLAG = 1.0  # bits that say which of two was chosen


class Look(NamedTuple):
  """What codes and memories are worth in a round, [n] each."""

  bits: jax.Array  # D's gain about s over the base, which reads nothing
  nll_bits: jax.Array  # of s, its end included
  exact: jax.Array  # 1 where the greedy d is s
  edit: jax.Array  # edit similarity of the greedy d and s
  code: jax.Array  # tokens of the code
  memory: jax.Array  # tokens of the memory
  sent: jax.Array  # the same, 0 where it is the one of the round before


def examine(
  m: Memory,
  how: judging.Hearing,
  params: Params,
  frozen: dict[str, Params],
  batch: Batch,
  key: jax.Array,
  *,
  rounds: int,
  places: tuple[int, ...],
  drift: float,
  budget: int | None,
) -> tuple[Metrics, dict[str, Tokens]]:
  """Pattern.examine: `scores` of whole streams [n], and their texts.

  Args:
    m: see Memory.
    how: how V hears what CC is told of.
    params: the policy's.
    frozen: "base" and "reader".
    batch: rows of which every `rounds` are a stream; what is left is not used.
    key: of what streams have in common.
    rounds: sources of a stream, R.
    places, drift: see lm.memory.stream.
    budget: see `unfold`.
  """
  judge = functools.partial(
    judging.beside, how, m.C.separator, params, frozen,
    jnp.arange(len(batch.row) // rounds), key,
  )  # fmt: skip
  found, shown = {}, {}
  for prefix, s in streams(batch.source, rounds, places, drift, key).items():
    looks, texts = unfold(m, params, frozen["base"], judge, s, budget)
    found |= scores(looks, prefix)
    shown = shown or texts
  return found, shown


def streams(
  source: Tokens,
  rounds: int,
  places: tuple[int, ...],
  drift: float,
  key: jax.Array,
) -> dict[str, Tokens]:
  """Held-out streams of sources [B, S]: that share facts, and that do not.

  -> [n, R, S] each, by the prefixes of their scores: "" and "alone_".
  """
  n = len(source.ids) // rounds
  cut = lambda x: x[: n * rounds].reshape(n, rounds, 1, *x.shape[1:])
  plain = jax.tree.map(cut, source)
  shared = memory.stream(plain, places, drift, key)
  pick = lambda s: tokens.at(s, 0, axis=2)
  return {"": pick(shared), "alone_": pick(plain)}


def unfold(
  m: Memory,
  params: Params,
  base: Params,
  judge: Judge,
  s: Tokens,
  budget: int | None = None,
) -> tuple[dict[str, Look], dict[str, Tokens]]:
  """Plays the rounds of streams s [n, R, S] with all kinds of memory.

  Args:
    m: see Memory.
    params: the policy's.
    base: the frozen base's.
    judge: what V says of codes beside memories; CC is told it.
    s: the sources.
    budget: of the codes, where prompts say one. None: C's length.

  Returns:
    By kind what each round is worth, [n, R], and the texts of each round.
  """
  n, count = len(s.ids), len(KINDS)
  # All outputs are greedy, so the keys have no effect.
  row_keys = keys.row_keys(jax.random.key(0), jnp.zeros(count * n, int))
  none = tokens.empty(n, m.CC.length)

  def one(state: tuple[Tokens, Tokens, Tokens], now):
    (cc, fixed, last), (here, r) = state, now
    base_log_lik = likelihood.without_code(m.policy, base, m.text, here)
    every = tokens.concat(cc, none, fixed, tokens.roll(cc), axis=0)
    wide = jax.tree.map(lambda x: jnp.tile(x, (count, 1)), here)
    codes = _written(m, params, every, wide, row_keys, told(count * n, budget))
    look = look_at(
      m, params, wide, jnp.tile(base_log_lik, count), every, last, codes
    )
    each = zip(*(x.reshape(count, n) for x in look), strict=True)
    found = {kind: Look(*x) for kind, x in zip(KINDS, each, strict=True)}
    found[LONG] = long(m, params, here, base_log_lik, row_keys[:n], budget)
    found[CHOSEN] = chosen(found["cc"], found["empty"])
    code = jax.tree.map(lambda x: x[:n], codes)  # that beside cc
    said = judge(tokens.expand(cc), tokens.expand(code), here)
    after, d = memory.update(
      m, params, here, cc, code, memory.heard(said), said.word[:, 0],
      row_keys[:n], 1, greedy=True,
    )  # fmt: skip
    shown = {"source": here, "cc": cc, "code": code, "decoded": d}
    cc = tokens.at(tokens.without_end(after.output, m.CC.end), 0)
    fixed = tokens.where(r == 0, cc, fixed)
    return (cc, fixed, every), (found, shown)

  turned = lambda tree: jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), tree)
  rounds = jnp.arange(s.ids.shape[1])
  start = (none, none, tokens.empty(count * n, m.CC.length))
  _, found = jax.lax.scan(one, start, (turned(s), rounds))
  return turned(found)


def _written(m, params, cc, s, row_keys, limits) -> Tokens:
  """C's greedy codes of s [N, S] beside cc [N, M], without ends. -> [N, k]"""
  c = memory.write(m, params, cc, s, limits, row_keys, 1, greedy=True)
  return tokens.at(tokens.without_end(c.output, m.C.end), 0)


def told(rows: int, budget: int | None) -> Constraints | None:
  """Nothing forced, and a prompt that says a budget; None without one."""
  if budget is None:
    return None
  nothing = jnp.full((rows, 1, 1), -1, jnp.int32)
  budgets = jnp.full((rows, 1), budget, jnp.int32)
  return Constraints(nothing, nothing, budget=budgets)


def look_at(
  m: Memory,
  params: Params,
  s: Tokens,
  base_log_lik: jax.Array,
  cc: Tokens,
  last: Tokens,
  code: Tokens,
) -> Look:
  """A round of one kind: s [n, S], cc [n, M], code [n, k].

  base_log_lik: [n] nats. last [n, M]: the memory of the round before.
  """
  log_lik = memory.read(m, params, cc, s, tokens.expand(code))[:, 0]
  both = memory.with_memory(cc, code, m.C.separator)
  d = rollout.greedy(m.policy, params, m.D, m.D.prompt(both))
  size = jnp.sum(cc.mask, -1) * 1.0
  same = jnp.all((cc.ids == last.ids) & (cc.mask == last.mask), -1)
  return Look(
    (log_lik - base_log_lik) / jnp.log(2.0),
    -log_lik / jnp.log(2.0),
    compression.exact_match(s, d),
    compression.edit_similarity(s, d),
    jnp.sum(code.mask, -1) * 1.0,
    size,
    jnp.where(same, 0.0, size),
  )


def long(
  m: Memory,
  params: Params,
  s: Tokens,
  base_log_lik: jax.Array,
  row_keys: jax.Array,
  budget: int | None,
) -> Look:
  """Codes of the same policy, of as many tokens as a full memory and a code.

  Unless the policy has learnt codes of that length too, this row says little.
  Arguments as in `look_at` and `unfold`.
  """
  n, length = len(s.ids), m.CC.length + (budget or m.C.length)
  longer = m._replace(C=m.C._replace(length=max(length, m.C.length)))
  none = tokens.empty(n, m.CC.length)
  limits = None if budget is None else told(n, length)
  code = _written(longer, params, none, s, row_keys, limits)
  return look_at(m, params, s, base_log_lik, none, none, code)


def chosen(cc: Look, empty: Look) -> Look:
  """The likelier of two, at the price of FLAG.

  The memory is charged in all rounds: the next one is made from it.
  """
  take = cc.nll_bits <= empty.nll_bits
  pick = jax.tree.map(lambda a, b: jnp.where(take, a, b), cc, empty)
  return pick._replace(
    bits=pick.bits - FLAG, nll_bits=pick.nll_bits + FLAG,
    memory=cc.memory, sent=cc.sent,
  )  # fmt: skip


def scores(looks: dict[str, Look], prefix: str) -> Metrics:
  """Bits in each round behind the first, and means over those rounds, [n].

  looks: of `unfold`. The first round has no memory and does not count. Of the
  kind "cc" the means are called "cc" (bits), "cc_nll_bits", "cc_exact",
  "cc_edit", "cc_tokens" (of code and memory), "cc_amortised" (of the code, and
  of the memory where it is new), "cc_read" and "cc_changed" (rounds that have a
  memory, and one that is new), behind the prefix.
  """
  found = {}
  for kind, look in looks.items():
    name, later = f"{prefix}{kind}", lambda x: jnp.mean(x[:, 1:], -1)
    for r in range(1, look.bits.shape[1]):
      found[f"{name}_{r}"] = look.bits[:, r]
    found |= {
      name: later(look.bits),
      f"{name}_nll_bits": later(look.nll_bits),
      f"{name}_exact": later(look.exact),
      f"{name}_edit": later(look.edit),
      f"{name}_tokens": later(look.code + look.memory),
      f"{name}_amortised": later(look.code + look.sent),
      f"{name}_read": later((look.memory > 0) * 1.0),
      f"{name}_changed": later((look.sent > 0) * 1.0),
    }
  return found
