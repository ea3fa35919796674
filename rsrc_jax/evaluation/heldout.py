"""The held-out comparison of a finished run: scores, codes, what each cost."""

import json
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
from rsrc_jax.build.setup import Setup, arm_config
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge, service
from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.metrics import compression
from rsrc_jax.rl import supervised
from rsrc_jax.runtime import processes, run_log
from rsrc_jax.stages import stage
from rsrc_jax.types import Constraints, Params, Tokens

CONTROLS = {
  "no_code": code_judge.no_code,
  "shuffled_code": code_judge.shuffled_code,
  "source_given": code_judge.source_given,
}


def evaluate_arms(
  setup: Setup,
  arms: list[stage.Stage],
  trained: dict[str, Params],
  examine: code_judge.CodeJudge,
  workdir: Path,
  books: Ledger,
) -> tuple[dict[str, Any], dict[str, service.Measured]]:
  """Judges every arm on the test split, on which no setting was picked.

  Writes samples.jsonl; returns the summary (its keys are listed in the README)
  and what was measured of each arm's capability and service.

  trained: parameters by arm, "base" and "untrained" among them.
  """
  config, corpus = setup.config, setup.corpus
  heldout = {"english": {}, "controls": {}, "budget_curve": {}}
  lines, utilisation, measured, ood = [], None, {}, {}
  examined, shown = {}, []
  parts = {}
  ruler = service.ruler(setup, trained["base"])
  surprise = metering.charged(books, "V", jax.jit(make_surprise(setup)))
  for arm in arms:
    books.arm, frozen = arm.name, stage.frozen_of(arm, trained)
    measure = _measure(setup, arm, trained[arm.name], frozen, examine, books)
    metrics, table = measure(None)
    raw = trained["untrained"]
    nothing = dict.fromkeys(frozen, raw)
    _, before = _measure(setup, arm, raw, nothing, examine, books)(None)
    if books.path is not None:
      measured[arm.name], parts[arm.name] = service.measure(
        setup, arm, trained[arm.name], frozen, table, before, ruler, examine,
        books,
      )  # fmt: skip
    if arm.name == "code":
      heldout["code"] = metrics
      for name, alter in CONTROLS.items():
        heldout["controls"][name] = measure(alter)[0]
      utilisation = code_judge.channel_utilisation(
        heldout["controls"]["no_code"]["nll_bits"],
        metrics["nll_bits"],
        ids=int(corpus.vocab.code.sum()),
        budget=config.budget,
      )
    elif writers.english(config, arm.name):
      heldout["english"][arm.name] = metrics
    else:
      heldout[arm.name] = metrics
    if corpus.ood is not None:
      ood[arm.name] = measure(None, corpus.ood)[0]
    # A policy that knows its budget is asked for k tokens, others are cut off.
    heldout["budget_curve"][arm.name] = {
      str(k): (
        measure(None, k=k) if config.budgets else measure(code_judge.cut_to(k))
      )[0]
      for k in config.eval.budgets
    }
    lines += samples(
      setup, arm.name, table, config.eval.samples,
      *_looks(setup, arm, trained[arm.name], table, surprise, examine, books),
    )  # fmt: skip
    if arm.examine is not None:
      with books.phase("test"):
        examined[arm.name], more = _examined(
          setup, arm, trained[arm.name], frozen, table, examine
        )
      shown += more
  _write_lines(workdir / "samples.jsonl", lines)
  if shown:
    _write_lines(workdir / "shown.jsonl", shown)
  summary = {
    "seed": config.seed,
    "source": config.data.source,
    "corpus": {
      "name": corpus.name,
      "digest": corpus.digest,
      "train": len(corpus.train.ids),
      "valid": len(corpus.valid.ids),
      "test": len(corpus.test.ids),
    },
    "budget_tokens": config.budget,
    "steps": config.steps,
    "params": sum(x.size for x in jax.tree.leaves(trained["base"])),
    "entropy_bits": corpus.entropy_bits,
    "bounds": bounds(setup),
    "channel_utilisation": utilisation,
    "heldout": heldout,
    "strange": {"name": corpus.ood_name, "arms": ood},
    "examined": examined,
  }
  return summary, service.serve(setup, measured, parts, books)


def bounds(setup: Setup) -> dict[str, Any]:
  """What a code of k tokens, and an ordered extract, can carry at most."""
  budgets = range(1, setup.config.budget + 1)
  ids = int(setup.corpus.vocab.code.sum())
  channel = {
    str(k): compression.channel_nats(ids, k) / math.log(2) for k in budgets
  }
  found = {
    "channel_bits": channel[str(setup.config.budget)],
    "channel_bits_by_k": channel,
    "english_extract_bits": None,
  }
  if setup.corpus.slots is not None:
    # Which slots were kept, and the word in each, 3 bits.
    slots = len(setup.corpus.slots)
    word = setup.corpus.entropy_bits / slots
    extract = {
      str(k): word * min(k, slots) + math.log2(math.comb(slots, min(k, slots)))
      for k in budgets
    }
    found["english_extract_bits_by_k"] = extract
    found["english_extract_bits"] = extract[str(setup.config.budget)]
  return found


def samples(
  setup: Setup,
  arm: str,
  table: dict[str, Any],
  count: int,
  *looks: list[dict[str, Any]],
) -> list[dict[str, Any]]:
  """The first `count` rows of an arm, as tokens and as text.

  looks: what else is known of each of these rows, and how it is called.
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
  for look in looks:
    found = [line | more for line, more in zip(found, look, strict=True)]
  return found


def make_surprise(
  setup: Setup,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """surprise(params, s [n, S], c [n, k], d [n, T]) -> bits [n, k], [n, T].

  -log2 of the probability of each token of c under C, which reads s and hears
  no ask but the budget that the test asks for; and of each token of d under D,
  which reads c. Temperature 1, nothing truncated; 0 where there is no token.
  What a role may never write has no such number: what stands there is none.
  """
  policy, budgets = setup.policy, setup.config.budgets
  C, D = (
    setup.roles[x]._replace(temperature=1.0, top_p=1.0) for x in ("C", "D")
  )

  def bits(params, role, prompt, output):
    log_probs, _ = rollout.score(
      policy, params, role, prompt, tokens.expand(output)
    )
    return -log_probs[:, 0] / jnp.log(2.0)

  def surprise(params, source: Tokens, code: Tokens, d: Tokens):
    ask = None
    if budgets:
      k = jnp.full((len(source.ids), 1), setup.config.budget, jnp.int32)
      ask = Constraints(None, None, budget=k)
    with jax.named_scope("V"):
      return (
        bits(params, C, C.prompt(source, ask), code),
        bits(params, D, D.prompt(code), d),
      )

  return surprise


def make_asked(
  setup: Setup, arm: str
) -> Callable[..., tuple[Tokens, jax.Array]]:
  """write(params, batch, key) -> greedy codes [B, k], what was injected [B, N].

  Of an arm that injects: its own constraints with nothing relaxed, as they are
  when its training begins, and the largest budget. -1 pads the ids.
  """
  config = arm_config(setup.config, arm)
  constrain = writers.make_controls(setup, config, setup.config.arms[arm].write)
  full = supervised.FULL._replace(hidden=np.float32(config.curriculum.hidden))
  C = setup.roles["C"].greedy()

  def write(params, batch, key):
    ask = constrain(key, batch, full).constraints
    # One code a source: of several subsets the first.
    ask = jax.tree.map(lambda x: x[:, :1], ask)
    if config.budgets:
      k = jnp.full_like(ask.budget, config.budget)
      ask = ask._replace(budget=k)
    with jax.named_scope("C"):
      c = rollout.sample(
        setup.policy, params, C, C.prompt(batch.source, ask),
        row_keys(key, batch.row), samples=1, constraints=ask,
      )  # fmt: skip
    code = tokens.without_end(c.output, C.end)
    return tokens.at(code, 0), ask.injected[:, 0]

  return write


def _looks(setup, arm, params, table, surprise, examine, books):
  """What samples.jsonl says of an arm's rows that no score needs.

  -> surprisal in bits by token, null for an id that its role may never write;
  and, of an arm that injects ids, a code that was written while they are asked
  for.
  """
  config, vocab = setup.config, setup.corpus.vocab
  count = min(config.eval.samples, len(table["row"]))
  # As many rows as the mesh can share out; the last ones are not looked at.
  ways = setup.mesh.shape["data"] * setup.mesh.shape["fsdp"]
  size = -(-count // ways) * ways
  if not count:
    return []
  some = [
    sources.batch(table[x], 0, size) for x in ("source", "code", "decoded")
  ]
  with books.phase("test"):
    found = processes.fetch(
      surprise(params, *(examine.place(x.source) for x in some))
    )
  roles = (setup.roles[x] for x in ("C", "D"))
  told = [
    [_finite(x[i], y.source, i, role.support) for i in range(count)]
    for x, y, role in zip(found, some[1:], roles, strict=True)
  ]
  looks = [
    [
      {"code_surprisal": c, "decoded_surprisal": d}
      for c, d in zip(*told, strict=True)
    ]
  ]
  mine = arm_config(config, arm.name)
  if config.arms[arm.name].pattern == "extract" or not mine.augment.inject:
    return looks  # what a rule writes, nobody is asked for
  drawn = mine.augment.seed if mine.augment.seed >= 0 else config.seed
  loops = metering.decoding("C", config.budget)
  write = metering.charged(
    books, "C", jax.jit(make_asked(setup, arm.name)), lambda out: loops(out[0])
  )
  with books.phase("test"):
    code, ids = processes.fetch(
      write(params, examine.place(some[0]), jax.random.key(drawn))
    )
  asked = []
  for i in range(count):
    c, given = _row(code, i), [x for x in ids[i].tolist() if x >= 0]
    asked.append(
      {
        "asked_code_pieces": vocab.pieces(c),
        "asked_code_injected": [x in given for x in c],
        "injected_pieces": vocab.pieces(given),
      }
    )
  return [*looks, asked]


def _finite(bits, tokens: Tokens, i: int, support) -> list[float | None]:
  """Bits of the real tokens of row i; None outside of what may be written."""
  ids, bits = _row(tokens, i), bits[tokens.mask[i]].astype(float)
  # Adding zero: what is certain is printed as -0.0 otherwise.
  return [
    round(x, 4) + 0.0 if support[k] and math.isfinite(x) else None
    for k, x in zip(ids, bits.tolist(), strict=True)
  ]


def _measure(setup, arm, params, frozen, examine, books):
  config, key = setup.config, jax.random.key(setup.config.seed)

  def measure(alter, split=None, k=None):
    budget = () if k is None else (np.int32(k),)
    with books.phase("test"):
      return code_judge.judge_split(
        lambda batch: arm.write(
          params, frozen, examine.place(batch), key, *budget
        ),
        *examine.of(params),
        arm.saved,
        setup.corpus.test if split is None else split,
        rows=config.eval.test_rows,
        batch_size=config.eval.batch_size,
        entropy_bits=None if split else setup.corpus.entropy_bits,
        alter=alter,
      )

  return measure


def _examined(setup, arm, params, frozen, table, examine):
  """What the arm's pattern measures of itself on the test split.

  -> means by name, over what is a number, and some rows of what it shows.
  """
  config, place = setup.config, examine.place
  size, key = config.eval.batch_size, jax.random.key(config.seed)
  carry, found, lines = arm.carry(), [], []
  rows = len(table["row"])
  test = jax.tree.map(lambda x: x[:rows], setup.corpus.test)
  # Whole batches, so that no source is counted twice.
  for start in range(0, max(rows - size, 0) + 1, size):
    batch = place(sources.batch(test, start, size))
    code = place(sources.batch(table["code"], start, size).source)
    key, k = jax.random.split(key)
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


def _write_lines(path: Path, lines: list[dict]) -> None:
  text = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines)
  run_log.write_atomic(path, text)


def _row(tokens: Tokens, i: int) -> list[int]:
  return tokens.ids[i][tokens.mask[i]].tolist()
