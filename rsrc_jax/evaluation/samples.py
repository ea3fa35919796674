"""Rows of the test split, token by token: samples.jsonl and shown.jsonl."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.accounting import metering
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.build import writers
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources
from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.metrics import compression
from rsrc_jax.output import files
from rsrc_jax.rl import supervised
from rsrc_jax.runtime import processes
from rsrc_jax.stages.stage import Stage
from rsrc_jax.types import Constraints, Params, Tokens


def rows(
  setup: Setup,
  arm: str,
  table: dict[str, Any],
  count: int,
  *readouts: list[dict[str, Any]],
) -> list[dict[str, Any]]:
  """The first `count` rows of an arm, as tokens and as text.

  readouts: each has more fields for every one of these rows.
  """
  vocab, found = setup.corpus.vocab, []
  novel = np.asarray(compression.novel(table["source"], table["code"]))
  for i in range(min(count, len(table["row"]))):
    s, c, d = (_row(table[x], i) for x in ("source", "code", "decoded"))
    found.append(
      {
        "arm": arm,
        "row": int(table["row"][i]),
        "source": vocab.decode(s),
        "source_ids": s,
        "source_pieces": vocab.pieces(s),
        "code": vocab.decode(c),
        "code_ids": c,
        "code_pieces": vocab.pieces(c),
        "code_novel": novel[i][table["code"].mask[i]].tolist(),
        "decoded": vocab.decode(d),
        "decoded_ids": d,
        "decoded_pieces": vocab.pieces(d),
        "scores": {k: float(v[i]) for k, v in table["scores"].items()},
      }
    )
  for more in readouts:
    found = [line | one for line, one in zip(found, more, strict=True)]
  return found


def readouts(
  setup: Setup,
  arm: Stage,
  params: Params,
  table: dict[str, Any],
  surprisal: Callable,
  place: Callable,
  ledger: Ledger,
) -> list[list[dict[str, Any]]]:
  """Further fields of an arm's rows in samples.jsonl, beyond the scores.

  They are the surprisal of each token in bits, null for an id that its role may
  never write; and, for an arm that injects ids, a code written with the
  injected ids in the prompt.
  """
  config = setup.config
  count = min(config.eval.samples, len(table["row"]))
  # The mesh divides the number of rows; the extra rows are not used.
  ways = setup.mesh.shape["data"] * setup.mesh.shape["fsdp"]
  size = -(-count // ways) * ways
  if not count:
    return []
  some = [
    sources.batch(table[x], 0, size) for x in ("source", "code", "decoded")
  ]
  told = _told(arm_config(config, arm.name), size)
  with ledger.phase("test", arm.name):
    bits = processes.fetch(
      surprisal(params, *(place(x.source) for x in some), *map(place, told))
    )
  surprisals = [
    [_finite(x[i], y.source, i, setup.roles[role].support)
     for i in range(count)]
    for x, y, role in zip(bits, some[1:], ("C", "D"), strict=True)
  ]  # fmt: skip
  found = [
    [
      {"code_surprisal": c, "decoded_surprisal": d}
      for c, d in zip(*surprisals, strict=True)
    ]
  ]
  injects = arm_config(config, arm.name).augment.inject
  if injects and not writers.of(config.arms[arm.name].write).rule:
    found.append(
      _controlled(setup, arm.name, params, place(some[0]), count, ledger)
    )
  return found


def _told(config, rows: int) -> tuple[np.ndarray, ...]:
  """The budget that an arm's prompts say at evaluation; () without budgets."""
  if not config.budgets:
    return ()
  told = max(config.budgets) * writers.announced_at_evaluation(config)
  return (np.full(rows, told, np.int32),)


def _controlled(setup, arm, params, batch, count, ledger) -> list[dict]:
  """Codes of `count` rows, with the controls of the first step."""
  config, vocab = setup.config, setup.corpus.vocab
  seed = arm_config(config, arm).augment.seed
  key = jax.random.key(seed if seed >= 0 else config.seed)
  loops = metering.decoding("C", config.budget)
  write = metering.charged(
    ledger, "C", jax.jit(make_controlled_writer(setup, arm)),
    lambda out: loops(out[0]), arm,
  )  # fmt: skip
  with ledger.phase("test", arm):
    code, ids = processes.fetch(write(params, batch, key))
  found = []
  for i in range(count):
    c, listed = _row(code, i), [x for x in ids[i].tolist() if x >= 0]
    found.append(
      {
        "asked_code_pieces": vocab.pieces(c),
        "asked_code_injected": [x in listed for x in c],
        "injected_pieces": vocab.pieces(listed),
      }
    )
  return found


def make_surprisal(
  setup: Setup,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """surprisal(params, s [n, S], c [n, k], d [n, T], told) -> bits of c and d.

  -log2 of the probability of each token of c [n, k] under C, which reads s and
  the budget told [n] int32 as the only control, 0 or None for none; and of each
  token of d [n, T] under D, which reads c. Temperature 1, no truncation; 0
  where there is no token. For an id that a role may never write, the value has
  no meaning.
  """
  policy = setup.policy
  C, D = (
    setup.roles[x]._replace(temperature=1.0, top_p=1.0) for x in ("C", "D")
  )

  def bits(params, role, prompt, output):
    log_probs, _ = rollout.score(
      policy, params, role, prompt, tokens.expand(output)
    )
    return -log_probs[:, 0] / jnp.log(2.0)

  def surprisal(params, source: Tokens, code: Tokens, d: Tokens, told=None):
    controls = None
    if told is not None:
      controls = Constraints(None, None, budget=told[:, None])
    with jax.named_scope("V"):
      return (
        bits(params, C, C.prompt(source, controls), code),
        bits(params, D, D.prompt(code), d),
      )

  return surprisal


def make_controlled_writer(
  setup: Setup, arm: str
) -> Callable[..., tuple[Tokens, jax.Array]]:
  """write(params, batch, key) -> greedy codes [B, k], injected ids [B, N].

  For an arm that injects ids: with its controls before any relaxation, and the
  largest budget. -1 pads the ids.
  """
  config = arm_config(setup.config, arm)
  constrain = writers.make_controls(setup, config, config.arms[arm].write)
  full = supervised.FULL._replace(hidden=np.float32(config.curriculum.hidden))
  C = setup.roles["C"].greedy()

  def write(params, batch, key):
    limits = constrain(key, batch, full).constraints
    if config.budgets:
      k = jnp.full_like(limits.budget, max(config.budgets))
      limits = limits._replace(budget=k, announced=None)
    with jax.named_scope("C"):
      c = rollout.sample(
        setup.policy, params, C, C.prompt(batch.source, limits),
        keys.row_keys(key, batch.row), samples=1, constraints=limits,
      )  # fmt: skip
    code = tokens.without_end(c.output, C.end)
    return tokens.at(code, 0), limits.injected[:, 0]

  return write


def _finite(bits, text: Tokens, i: int, support) -> list[float | None]:
  """Bits of the real tokens of row i; None for ids outside the support."""
  ids, bits = _row(text, i), bits[text.mask[i]].astype(float)
  # Adding zero turns -0.0 into 0.0.
  return [
    round(x, 4) + 0.0 if support[k] and math.isfinite(x) else None
    for k, x in zip(ids, bits.tolist(), strict=True)
  ]


def examine(setup, arm: Stage, params, frozen, carry, table, place):
  """Runs Pattern.examine of an arm on the test split.

  carry: at the end of training. table: of the arm's codes; None if it writes
  none, and the pattern gets empty codes.

  -> means by name, over finite values, and some rows of the texts.
  """
  config = setup.config
  size, key = config.eval.batch_size, jax.random.key(config.seed)
  found, lines = [], []
  count = min(config.eval.test_rows, len(setup.corpus.test.ids))
  test = jax.tree.map(lambda x: x[:count], setup.corpus.test)
  codes = table["code"] if table else _no_codes(count, config.budget)
  # Whole batches, so that no source is counted twice.
  for start in range(0, max(count - size, 0) + 1, size):
    batch = place(sources.batch(test, start, size))
    code = place(sources.batch(codes, start, size).source)
    k = keys.child(key, keys.Examined.BATCH)
    key = keys.child(key, keys.Examined.NEXT)
    scores, shown = processes.fetch(
      arm.examine(params, frozen, carry, batch, code, k)
    )
    found.append(scores)
    if not lines:
      lines = _shown(setup, arm.name, shown, config.eval.samples)
  mean = lambda x: float(np.nanmean(x)) if np.isfinite(x).any() else None
  return {
    name: mean(np.concatenate([np.atleast_1d(x[name]) for x in found]))
    for name in found[0]
  }, lines


def _no_codes(rows: int, budget: int) -> Tokens:
  shape = (rows, budget)
  return Tokens(np.zeros(shape, np.int32), np.zeros(shape, bool))


def _shown(setup, arm: str, shown, count: int) -> list[dict[str, Any]]:
  """Rows of tokens as pieces: [n, T] a list, [n, rounds, T] a list of lists."""
  vocab, lines = setup.corpus.vocab, []
  spell = lambda ids, mask: vocab.pieces(ids[mask].tolist())
  for i in range(min([count, *(len(x.ids) for x in shown.values())])):
    line = {"arm": arm, "index": i}
    for name, text in shown.items():
      ids, mask = np.asarray(text.ids[i]), np.asarray(text.mask[i])
      line[name] = (
        spell(ids, mask) if ids.ndim == 1 else list(map(spell, ids, mask))
      )
    lines.append(line)
  return lines if shown else []


def write_lines(path: Path, lines: list[dict]) -> None:
  """Writes JSON lines, whole or not at all."""
  files.write_lines(path, lines)


def _row(text: Tokens, i: int) -> list[int]:
  return text.ids[i][text.mask[i]].tolist()
