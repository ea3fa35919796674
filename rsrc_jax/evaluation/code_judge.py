"""Scores of codes on held-out sources: D decodes them, d is compared with s.

An arm is two functions here: one writes a code, and D reads it. D has the arm's
own parameters and decodes greedily, with one program for all arms.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.accounting import metering
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources
from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import capability, compression
from rsrc_jax.runtime import processes, sharding
from rsrc_jax.types import Batch, Params, Policy, Tokens


class CodeJudge(NamedTuple):
  """Functions that decode and score codes; parameters are an argument."""

  read: Callable[..., Tokens]  # params, code -> d
  judge: Callable[
    ..., dict[str, jax.Array]
  ]  # params, source, code, d -> scores
  place: Callable = lambda tree: tree  # rows on the host -> on the devices

  def of(self, params: Params) -> tuple[Callable, Callable]:
    """read(code) and judge(source, code, d) with these parameters."""
    return (
      lambda code: self.read(params, self.place(code)),
      lambda *rows: self.judge(params, *map(self.place, rows)),
    )


def charged(setup: Setup, ledger: Ledger) -> CodeJudge:
  """The judge of a run: D of the setup, with calls charged to D and to V."""
  D = setup.roles["D"]
  read = jax.jit(make_reader(setup.policy, D))
  judge = jax.jit(make_judge(setup.policy, D))
  return CodeJudge(
    metering.charged(ledger, "D", read, metering.decoding("D", D.length)),
    metering.charged(ledger, "V", judge),
    functools.partial(sharding.rows, setup.mesh),
  )


def make_reader(policy: Policy, role: Role) -> Callable[..., Tokens]:
  """read(params, code [B, k]) -> the free-running greedy d [B, T] of a role."""

  def read(params: Params, code: Tokens) -> Tokens:
    with jax.named_scope("D"):
      return rollout.greedy(policy, params, role, role.prompt(code))

  return read


def make_judge(policy: Policy, role: Role) -> Callable[..., dict[str, Any]]:
  """judge(params, source [B, S], code [B, k], d [B, T]) -> scores [B].

  nll and D's entropy a token are teacher-forced, in bits, with the end token;
  all other scores are of the free-running greedy d. A D that is calibrated has
  an entropy of about nll a token; one that is too sure has less.
  """
  D = role.greedy()
  plain = D._replace(temperature=1.0, top_p=1.0)

  def judge(params: Params, source: Tokens, code: Tokens, d: Tokens):
    target = tokens.expand(tokens.with_end(source, D.end))
    with jax.named_scope("V"):
      log_probs, entropy = rollout.score(
        policy, params, plain, D.prompt(code), target
      )
    total = lambda x: jnp.sum(x[:, 0], -1) / jnp.log(2.0)
    return {
      "nll_bits": -total(log_probs),
      "d_entropy_bits": total(entropy) / jnp.sum(target.mask[:, 0], -1),
      "token_accuracy": compression.token_accuracy(source, d),
      "exact_match": compression.exact_match(source, d),
      "edit_similarity": compression.edit_similarity(source, d),
      "mean_tokens": jnp.sum(code.mask, -1) * 1.0,
      "novel_fraction": compression.novel_fraction(source, code),
    }

  return judge


def make_coder(policy: Policy, role: Role) -> Callable[..., jax.Array]:
  """length(params, s [B, S]) -> bits [B, S + 1] of each token and of the end.

  The policy is a language model without context, as for an arithmetic coder:
  V's l_V(s).
  """
  plain = role.greedy()._replace(temperature=1.0)

  def length(params: Params, source: Tokens) -> jax.Array:
    target = tokens.expand(tokens.with_end(source, plain.end))
    prompt = plain.prompt(tokens.empty(len(source.ids)))
    log_probs, _ = rollout.score(policy, params, plain, prompt, target)
    return -log_probs[:, 0] / jnp.log(2.0)

  return length


def make_answerer(policy: Policy, role: Role) -> Callable[..., Tokens]:
  """answer(params, text [B, T]) -> one token [B, 1] after reading a text.

  It is timed, for the cost of a later question about s or its code.
  """
  A = role.greedy()._replace(length=1)

  def answer(params: Params, text: Tokens) -> Tokens:
    keys = row_keys(jax.random.key(0), jnp.arange(len(text.ids)))
    with jax.named_scope("D"):
      a = rollout.sample(policy, params, A, A.prompt(text), keys, samples=1)
    return tokens.at(a.output, 0)

  return answer


def judge_split(
  write: Callable[[Batch], Tokens],
  read: Callable[[Tokens], Tokens],
  judge: Callable[[Tokens, Tokens, Tokens], dict[str, Any]],
  saved: Callable[[Tokens, Tokens, Tokens], capability.Saved],
  split: Tokens,
  *,
  rows: int,
  batch_size: int,
  entropy_bits: float | None,
  alter: Callable[[Batch, Tokens], Tokens] | None = None,
) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
  """Mean metrics over the first `rows` sources of a split, and their table.

  Args:
    write: Batch -> code [B, k], parameters bound.
    read: code -> d [B, T], parameters bound.
    judge: (source, code, d) -> scores [B], parameters bound.
    saved: (source, code, d) -> verified bits, under a uniform V.
    split: [n, S].
    rows: how many sources; at most n.
    batch_size: B, one compiled shape.
    entropy_bits: of a source, or None where it is not known exactly.
    alter: changes the codes, for a control.

  Returns: The arm's metrics (docs/run_directory.md), and the source, code, d
    and scores of each row.
  """
  rows = min(rows, len(split.ids))
  found = []
  for start in range(0, rows, batch_size):
    batch = sources.batch(split, start, batch_size)
    # Through the host, so that different writers do not recompile D.
    code = processes.fetch(write(batch))
    if alter is not None:
      code = alter(batch, code)
    d = processes.fetch(read(code))
    row = {"row": batch.row, "source": batch.source, "code": code, "decoded": d}
    scores = judge(batch.source, code, d)
    found.append({**row, "scores": processes.fetch(scores)})
  # The last batch wraps around; its repeated rows are dropped.
  table = jax.tree.map(lambda *x: np.concatenate(x)[:rows], *found)
  table["scores"]["verified_bits"] = saved(
    table["source"], table["code"], table["decoded"]
  ).bits
  means = {
    k: float(np.mean(v, dtype=np.float64)) for k, v in table["scores"].items()
  }
  bits = None if entropy_bits is None else entropy_bits - means["nll_bits"]
  return {"bits_conveyed": bits, **means}, table


def whole_batches(
  split: Tokens, rows: int, batch_size: int
) -> list[tuple[int, int, int]]:
  """(start, size, how many of them count) of batches of one shape.

  They cover the first `rows` of a split; the last one wraps around.
  """
  rows = min(rows, len(split.ids))
  size = min(batch_size, rows)
  return [(x, size, min(size, rows - x)) for x in range(0, rows, size)]


def mean_scores(
  score: Callable[[Batch], dict[str, jax.Array]],
  split: Tokens,
  batches: list[tuple[int, int, int]],
) -> dict[str, float]:
  """Means over rows of score(batch), [B] each. batches: of whole_batches."""
  found = []
  for start, size, counted in batches:
    scores = processes.fetch(score(sources.batch(split, start, size)))
    found.append({name: x[:counted] for name, x in scores.items()})
  table = jax.tree.map(lambda *x: np.concatenate(x), *found)
  return {k: float(np.mean(v, dtype=np.float64)) for k, v in table.items()}


def no_code(batch: Batch, code: Tokens) -> Tokens:
  """Control: D reads an empty code."""
  del batch
  return Tokens(np.zeros_like(code.ids), np.zeros_like(code.mask))


def shuffled_code(batch: Batch, code: Tokens) -> Tokens:
  """Control: D reads the code of another source."""
  del batch
  return Tokens(*(np.roll(np.asarray(x), 1, 0) for x in code))


def source_given(batch: Batch, code: Tokens) -> Tokens:
  """Control: D reads the source itself, for which it was not trained."""
  del code
  return batch.source


def cut_to(k: int) -> Callable[[Batch, Tokens], Tokens]:
  """Budget curve: keeps the first k tokens of each code."""

  def alter(batch: Batch, code: Tokens) -> Tokens:
    del batch
    return tokens.cut(code, jnp.full(code.ids.shape[0], k))

  return alter


def channel_utilisation(
  nll_without: float, nll_with: float, *, ids: int, budget: int
) -> float:
  """eta = (NLL_D(s; no code) - NLL_D(s; c)) / ln(number of codes), bits in.

  ids: number of ids that a code may use. It exceeds 1 only if information leaks
  or D is undertrained on empty codes.
  """
  capacity = compression.channel_nats(ids, budget) / np.log(2.0)
  return (nll_without - nll_with) / capacity
