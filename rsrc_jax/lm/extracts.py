"""Codes by a rule: extracts, which are tokens of s in order, and a hash."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role
from rsrc_jax.types import (
  Batch,
  Constraints,
  Params,
  Policy,
  Tokens,
)

# See writer.
RULES = ("lead", "surprising", "sft", "tfidf", "oracle", "random", "hash")
SAMPLED = "sampled_oracle"  # the rule that the oracle's D is trained on
CHUNK = 8  # codes of a source that D reads at once: bounds memory, not results
TRIES = 16  # extracts of a source that it chooses from


def keep(
  s: Tokens, score: jax.Array, k: int, budget: jax.Array | None = None
) -> Tokens:
  """The best-scored real tokens of s, in order. [B, S], [B, S] -> [B, k].

  k of them, or min(k, budget[b]) where a row has a budget [B] int32 of its own.
  Among equal scores the earlier token comes first. Shorter sources are kept
  whole, with pads on the right.

  Raises:
    ValueError: k is larger than S.
  """
  if k > s.ids.shape[-1]:
    raise ValueError(
      f"budget={k} is longer than the longest source, {s.ids.shape[-1]} "
      "tokens: lower config.budget or raise config.data.max_tokens."
    )
  _, index = jax.lax.top_k(jnp.where(s.mask, score, -jnp.inf), k)
  real = _at(s.mask, index)
  if budget is not None:
    real &= jnp.arange(k) < budget[:, None]
  index = jnp.sort(jnp.where(real, index, s.ids.shape[-1]), -1)
  real = index < s.ids.shape[-1]
  index = jnp.where(real, index, 0)
  return Tokens(jnp.where(real, _at(s.ids, index), 0), real)


def lead(s: Tokens) -> jax.Array:
  """Scores the first tokens best."""
  return jnp.broadcast_to(-jnp.arange(s.ids.shape[-1]) * 1.0, s.ids.shape)


def surprisal(policy: Policy, params, text: Role, s: Tokens) -> jax.Array:
  """Nats of each token under a language model without context. [B, S]"""
  prompt = text.prompt(tokens.empty(len(s.ids)))
  log_probs, _ = rollout.score(policy, params, text, prompt, tokens.expand(s))
  return -log_probs[:, 0]


def noisy(score: jax.Array, key: jax.Array, rows: jax.Array) -> jax.Array:
  """Gumbel-top-k of log scores: sampling without replacement by weight."""
  draw = lambda k: jax.random.gumbel(k, score.shape[-1:])
  noise = jax.vmap(draw)(row_keys(key, rows))
  return jnp.log(jnp.maximum(score, 1e-6)) + noise


def inverse_frequency(sources: Tokens, vocab_size: int) -> np.ndarray:
  """ln((1 + n) / (1 + df)) + 1 of each id over n sources [n, S]. -> [V]

  df: number of sources with the id. It is smoothed, so that an id of no source
  has the largest finite value.
  """
  ids, mask = (np.asarray(x) for x in sources)
  row = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)
  pairs = np.unique(np.stack([row[mask], ids[mask]]), axis=1)
  df = np.bincount(pairs[1], minlength=vocab_size)
  return (np.log((1 + len(ids)) / (1 + df)) + 1).astype(np.float32)


def tfidf(s: Tokens, idf: jax.Array) -> jax.Array:
  """How often s holds each of its tokens, times idf [V]. -> [B, S]"""
  same = (s.ids[:, :, None] == s.ids[:, None]) & s.mask[:, None]
  return jnp.sum(same, -1) * jnp.asarray(idf)[s.ids]


def likelihood(
  policy: Policy, params: Params, D: Role, s: Tokens, code: Tokens
) -> jax.Array:
  """ln p_D(s | c), teacher-forced, end included: [B, S], [B, n, k] -> [B, n].

  CHUNK codes of a source at a time.
  """
  rows, n, k = code.ids.shape
  rounds = -(-n // CHUNK)
  width = -(-n // rounds)
  pad = ((0, 0), (0, rounds * width - n), (0, 0))
  chunks = lambda x: jnp.swapaxes(
    jnp.pad(x, pad).reshape(rows, rounds, width, k), 0, 1
  )
  target = tokens.expand(tokens.repeat(tokens.with_end(s, D.end), width))

  def log_lik(part: Tokens):
    prompt = D.prompt(tokens.flatten(part))
    found = rollout.likelihood(policy, params, D, prompt, target)
    return found.reshape(rows, width)

  found = jax.lax.map(log_lik, jax.tree.map(chunks, code))
  return jnp.swapaxes(found, 0, 1).reshape(rows, -1)[:, :n]


def oracle(
  policy: Policy,
  params: Params,
  D: Role,
  s: Tokens,
  k: int,
  budget: jax.Array | None = None,
) -> Tokens:
  """The extract with the largest ln p_D(s | c), built greedily.

  It adds the best token of s one at a time, up to the row's budget, even where
  a shorter code would be better. It is a greedy estimate of the best extract
  for this D, and evaluates D k * S times for each source. [B, S] -> [B, k]
  """
  rows, size = s.ids.shape
  if budget is None:
    budget = jnp.full(rows, k, jnp.int32)
  each = jnp.eye(size, dtype=bool)

  def extract(chosen):
    """Masks [N, S] of the N / B candidates of each source -> codes [N, k]."""
    ids = jnp.repeat(s.ids, len(chosen) // rows, 0)
    chosen = Tokens(ids, chosen)
    return keep(chosen, lead(chosen), k)

  def add(chosen, t):
    free = s.mask & ~chosen & (t < budget[:, None])
    tried = (chosen[:, None] | each) & s.mask[:, None]
    code = tokens.reshape(extract(tried.reshape(-1, size)), rows, size)
    log_lik = likelihood(policy, params, D, s, code)
    best = jnp.argmax(jnp.where(free, log_lik, -jnp.inf), -1)
    return chosen | (each[best] & free), None

  chosen, _ = jax.lax.scan(add, jnp.zeros_like(s.mask), jnp.arange(k))
  return extract(chosen)


def sampled_oracle(
  policy: Policy,
  params: Params,
  D: Role,
  batch: Batch,
  key: jax.Array,
  k: int,
  budget: jax.Array | None = None,
) -> Tokens:
  """Of TRIES random extracts the one with the largest ln p_D. -> [B, k]"""
  s = batch.source

  def draw(t):
    score = shuffled(s, jax.random.fold_in(key, t), batch.row)
    return keep(s, score, k, budget)

  tried = jax.vmap(draw, out_axes=1)(jnp.arange(TRIES))  # [B, TRIES, k]
  best = jnp.argmax(likelihood(policy, params, D, s, tried), -1)
  return tokens.pick(tried, best)


def shuffled(s: Tokens, key: jax.Array, rows: jax.Array) -> jax.Array:
  """Random scores: all subsets of s are equally likely. -> [B, S]"""
  return noisy(jnp.ones(s.ids.shape), key, rows)


def drawn(s: Tokens, support: jax.Array, row_keys: jax.Array, k: int) -> Tokens:
  """k random tokens of s [B, S], in order, among the support [V]."""
  score = jax.vmap(lambda k: jax.random.uniform(k, s.ids.shape[1:]))(row_keys)
  allowed = s._replace(mask=s.mask & jnp.asarray(support)[s.ids])
  return keep(allowed, score, k)


def hashed(
  s: Tokens, ids: np.ndarray, k: int, budget: jax.Array | None = None
) -> Tokens:
  """k of `ids` with replacement, a fixed function of the whole text. -> [B, k]

  The control for memorisation: a D that was trained on a text can recognise its
  hash, and the hash of any other text carries nothing.
  """

  def hash_in(key, token: Tokens):
    folded = jax.random.fold_in(key, token.ids)
    return jnp.where(token.mask, folded, key), None

  def draw(s: Tokens):
    key = jax.random.key(0, impl="threefry2x32")  # the same on every backend
    # The length is hashed first, so that no prefix has the state of another
    # text.
    key = jax.random.fold_in(key, jnp.sum(s.mask))
    key, _ = jax.lax.scan(hash_in, key, s)
    # One key for each slot, so that a larger k only extends the code.
    keys = jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(k))
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, len(ids)))(keys)

  code = jnp.asarray(ids, jnp.int32)[jax.vmap(draw)(s)]
  code = Tokens(code, jnp.ones(code.shape, bool))
  return code if budget is None else tokens.cut(code, budget)


def by_base(
  policy: Policy, params: Params, C: Role, batch: Batch, key: jax.Array, budget
) -> Tokens:
  """C's code with these parameters, within budget [B] if any. -> [B, k]"""
  limits = None
  if budget is not None:
    free = jnp.full((len(budget), 1, 1), -1, jnp.int32)
    limits = Constraints(free, free, budget=budget[:, None])
  c = rollout.sample(
    policy, params, C, C.prompt(batch.source, limits),
    row_keys(key, batch.row), samples=1, constraints=limits,
  )  # fmt: skip
  return tokens.at(tokens.without_end(c.output, C.end), 0)


def writer(
  policy: Policy,
  roles: dict[str, Role],
  rule: str,
  k: int,
  *,
  idf: np.ndarray | None = None,
  code: np.ndarray | None = None,
) -> Callable[..., Tokens]:
  """write(params, frozen, batch, key, budget=None) -> code [B, k] by a rule.

  budget [B] int32 is the most tokens of each row's code; None is k for all.
  Only the oracles read the parameters of the arm itself.

  Args:
    policy: the model's functions.
    roles: "C", "D" and "text".
    rule: "lead": the first tokens. "surprising": the most surprising tokens
      under the frozen base. "tfidf": the tokens most frequent in s and rarest
      elsewhere. "random": any tokens. "oracle": the best tokens for the arm's
      own D. "sampled_oracle": the best of a few extracts, cheap enough to train
      D on. All of these are in order. "sft": the greedy code of the frozen
      base, trained on extracts, as C. "hash": ids by a hash of s.
    k: the largest budget.
    idf: [V] of inverse_frequency, for "tfidf"; ids that no text may hold count
      0.
    code: [V] bool, the ids of a "hash".

  Raises:
    ValueError: an unknown rule, or one without what it needs.
  """
  C, D, text = roles["C"].greedy(), roles["D"], roles["text"]
  if rule not in (*RULES, SAMPLED):
    rules = ", ".join((*RULES, SAMPLED))
    raise ValueError(f"extract rule {rule!r} is none of {rules}.")
  if rule == "tfidf":
    if idf is None:
      raise ValueError("extract rule 'tfidf' needs idf: inverse_frequency().")
    idf = np.where(text.support, idf, 0.0).astype(np.float32)
  if rule == "hash" and (code is None or not np.any(code)):
    raise ValueError("extract rule 'hash' needs code, with an id to choose.")

  def score(frozen, batch, key):
    if rule == "surprising":
      with jax.named_scope("C"):
        return surprisal(policy, frozen["base"], text, batch.source)
    if rule == "tfidf":
      return tfidf(batch.source, idf)
    if rule == "random":
      return shuffled(batch.source, key, batch.row)
    return lead(batch.source)

  def write(params, frozen, batch: Batch, key, budget=None):
    s = batch.source
    if rule == "hash":
      return hashed(s, np.flatnonzero(code), k, budget)
    with jax.named_scope("C"):
      if rule == "sft":
        return by_base(policy, frozen["base"], C, batch, key, budget)
      if rule == "oracle":
        return oracle(policy, params, D, s, k, budget)
      if rule == SAMPLED:
        return sampled_oracle(policy, params, D, batch, key, k, budget)
    return keep(s, score(frozen, batch, key), k, budget)

  return write


def _at(x, index):
  return jnp.take_along_axis(x, jnp.minimum(index, x.shape[-1] - 1), -1)
