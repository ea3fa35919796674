"""A new D for an arm's codes: config.evals.NAME.type "fresh_decoder".

C and D of an arm learn together, so that what its codes convey says something
of both. Here the arm's greedy codes are frozen and a D that had no part in them
is trained on those of the training split, by likelihood, until its validation
NLL stops falling. What it then reads from the codes of the test split is what
the codes say; what the arm's own D reads beside it is what the pair has made of
them. rsrc_jax/evaluation/probe.py does the same for questions.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsrc_jax import rules
from rsrc_jax.build.setup import Setup, initial_params
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge
from rsrc_jax.lm import likelihood, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.rl import learner
from rsrc_jax.runtime import processes
from rsrc_jax.types import Params, Policy, Tokens

STARTS = ("base", "untrained")
ROWS = 512  # codes that are scored at once
RULES = {
  "starts": rules.items(rules.one_of(*STARTS)),
  "patience": rules.whole(1),
  "least": rules.number(0),
  "learning_rate": rules.number(above=0),
  **dict.fromkeys(("look", "batch_size", "rows", "valid_rows"), rules.whole(1)),
  **dict.fromkeys(("steps", "settle", "sentences", "seed"), rules.whole()),
}


class Codes(NamedTuple):
  """Sources and their codes, n rows on the host."""

  source: Tokens  # [n, S]
  code: Tokens  # [n, k]

  def rows(self, index: np.ndarray) -> "Codes":
    """Those rows, in that order."""
    return jax.tree.map(lambda x: x[index], self)


class Training(NamedTuple):
  """The settings of `train`; see make."""

  look: int
  patience: int
  least: float
  steps: int
  settle: int
  batch_size: int
  learning_rate: float
  seed: int


class Tools(NamedTuple):
  """Jitted functions, one program for all arms."""

  step: Callable  # params, moments, rate, Codes -> params, moments
  nll: Callable  # params, Codes -> bits [B], end included
  judge: Callable  # params, Codes -> scores [B] by name
  init: Callable  # params -> moments


def make(
  setup: Setup,
  *,
  starts: tuple[str, ...] = ("base",),
  look: int = 100,
  patience: int = 4,
  least: float = 0.01,
  steps: int = 4_000,
  settle: int = 400,
  batch_size: int = 128,
  learning_rate: float = 1e-3,
  sentences: int = 0,
  rows: int = 2_048,
  valid_rows: int = 512,
  seed: int = 0,
) -> Callable[..., dict[str, float]]:
  """Builds evaluate(stage, params, carry, frozen, note) -> scores.

  {} where the arm writes nothing. "own" is the arm's D; of the new ones each is
  named by its start. Of codes of the test split:

    own_nll, base_nll: bits of s given its code, end included.
    own_bits, base_bits: conveyed; where the entropy of sources is known.
    own_edit, own_exact and so on: of the free-running greedy d.

  And of each new D:

    base_steps: of its training, the settling among them.
    base_valid_nll: what it was stopped by.
    base_ended: 1 where its NLL had stopped falling, 0 where `steps` ended it;
      its codes may then say more than it reads.

  Args:
    setup: of the run.
    starts: what a new D begins with: the parameters of the run's "base", which
      read extracts and know the sentences, or "untrained" ones.
    look: steps from one validation to the next.
    patience: validations in a row that are no better, after which it stops.
    least: bits by which a better one is better.
    steps: of training at most. With 0, and `settle` 0, the start itself reads
      the codes: what an arm's codes say to the base's D.
    settle: further steps from the best parameters, in which the learning rate
      falls to 0 along a line.
    batch_size: codes of a step.
    learning_rate: of Adam, before it falls.
    sentences: of the training split, whose codes it learns from; 0: all.
    rows: of the test split, at most those that there are.
    valid_rows: of the validation split, likewise.
    seed: of the order of the codes.

  Raises:
    ValueError: a setting is out of its range.
  """
  given = {k: v for k, v in locals().items() if k != "setup"}
  rules.check_some(RULES, given, "config.evals: fresh_decoder")
  how = Training(**{k: given[k] for k in Training._fields})
  tools = make_tools(setup.policy, setup.roles["D"])
  counts = {"train": sentences, "valid": valid_rows, "test": rows}

  def evaluate(stage, params, carry, frozen, note) -> dict[str, float]:
    del carry
    if stage.write is None:
      return {}
    codes = {
      name: written(setup, stage, params, frozen, name, count)
      for name, count in counts.items()
    }
    found = _scores(setup, tools, params, codes["test"], "own")
    for start in starts:
      begin = frozen["base"] if start == "base" else initial_params(setup)
      said = lambda text, start=start: note(
        f"{stage.name}: a new D from {start}, {text}"
      )
      decoder, facts = train(tools, how, begin, codes, said)
      found |= _scores(setup, tools, decoder, codes["test"], start)
      found |= {f"{start}_{name}": value for name, value in facts.items()}
    return found

  return evaluate


def written(
  setup: Setup, stage: Any, params: Params, frozen: Any, split: str, count: int
) -> Codes:
  """An arm's greedy codes of the first `count` sources of a split; 0: all."""
  source = getattr(setup.corpus, split)
  total = min(count or len(source.ids), len(source.ids))
  size, key = setup.config.eval.batch_size, jax.random.key(setup.config.seed)
  found = []
  for start in range(0, total, size):
    batch = sources.batch(source, start, size)
    code = processes.fetch(stage.write(params, frozen, batch, key))
    found.append(Codes(batch.source, code))
  return jax.tree.map(lambda *x: np.concatenate(x)[:total], *found)


def make_tools(policy: Policy, D: Role) -> Tools:
  """The functions of a D; its role's sampling is not used: d is greedy."""
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))
  read, judge = (
    f(policy, D) for f in (code_judge.make_reader, code_judge.make_judge)
  )

  def step(params, moments, rate, codes: Codes):
    lessons = likelihood.decode_batch(
      D, codes.source, codes.code, jax.random.key(0), 0.0
    )  # none is cut, so the key draws nothing
    count = jnp.sum(learner.token_weights(lessons))
    of = lambda params: learner.nll_loss(policy, params, D, lessons, count)
    change, moments = tx.update(jax.grad(of)(params), moments, params)
    move = lambda x, by: x - rate * by
    return jax.tree.map(move, params, change), moments

  def nll(params, codes: Codes):
    code = tokens.expand(codes.code)
    found = likelihood.of_source(policy, params, D, codes.source, code)
    return -found[:, 0] / jnp.log(2.0)

  def scores(params, codes: Codes):
    found = judge(params, *codes, read(params, codes.code))
    names = {"nll_bits": "nll", "edit_similarity": "edit",
             "exact_match": "exact"}  # fmt: skip
    return {new: found[old] for old, new in names.items()}

  return Tools(*map(jax.jit, (step, nll, scores, tx.init)))


def train(
  tools: Tools,
  how: Training,
  params: Params,
  codes: dict[str, Codes],
  said: Callable[[str], None],
) -> tuple[Params, dict[str, float]]:
  """Trains a D until its validation NLL stops falling.

  Args:
    tools: of make_tools.
    how: the settings.
    params: it begins with; they are not changed.
    codes: of "train" and "valid".
    said: shows a line of progress.

  Returns:
    The parameters with the least validation NLL, settled if that is less still,
    and "steps", "valid_nll" in bits and "ended".
  """
  batches = _batches(codes["train"], how.batch_size, how.seed)
  valid = functools.partial(_mean, tools.nll, codes=codes["valid"])
  moments, rate = tools.init(params), jnp.float32(how.learning_rate)
  step, waited, best = 0, 0, (valid(params), params, moments)
  while waited < how.patience and step < how.steps:
    params, moments = tools.step(params, moments, rate, next(batches))
    step += 1
    if step % how.look and step < how.steps:
      continue
    bits = valid(params)
    waited = 0 if bits < best[0] - how.least else waited + 1
    best = (bits, params, moments) if not waited else best
    said(f"step {step}: {bits:.3f} bits on the validation split")
  ended, (bits, kept, moments) = waited >= how.patience, best
  params = kept
  for number in range(how.settle):
    left = jnp.float32(rate * (1 - number / how.settle))
    params, moments = tools.step(params, moments, left, next(batches))
  if how.settle and (settled := valid(params)) < bits:
    bits, kept = settled, params
  said(f"settled: {bits:.3f} bits after {step + how.settle} steps")
  return kept, {
    "steps": float(step + how.settle), "valid_nll": bits, "ended": float(ended)
  }  # fmt: skip


def _batches(codes: Codes, size: int, seed: int):
  """Endless batches of rows in a new order each epoch, all of one size."""
  rng, total = np.random.default_rng(seed), len(codes.source.ids)
  left = rng.permutation(total)
  while True:
    while len(left) < size:
      left = np.concatenate([left, rng.permutation(total)])
    yield codes.rows(left[:size])
    left = left[size:]


def _mean(score: Callable, params: Params, codes: Codes) -> Any:
  """Means over rows of score(params, Codes), a [B] or a dict of them."""
  total, found = len(codes.source.ids), []
  size = min(total, ROWS)
  for start in range(0, total, size):
    index = (start + np.arange(size)) % total
    got = processes.fetch(score(params, codes.rows(index)))
    found.append(jax.tree.map(lambda x, n=total - start: x[:n], got))
  mean = lambda *x: float(np.mean(np.concatenate(x), dtype=np.float64))
  return jax.tree.map(mean, *found)


def _scores(setup, tools, params, codes: Codes, name: str) -> dict[str, float]:
  found = _mean(tools.judge, params, codes)
  if setup.corpus.entropy_bits is not None:
    found["bits"] = setup.corpus.entropy_bits - found["nll"]
  return {f"{name}_{x}": value for x, value in found.items()}
