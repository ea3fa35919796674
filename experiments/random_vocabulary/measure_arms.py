"""What a finished run of the experiment can do: measured on its checkpoints.

Everything is of the test split and of the last parameters, with nothing forced
unless said. Written to results/NAME.json, which the analysis reads.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources, tokenizer
from rsrc_jax.evaluation import code_judge, probe
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import codebook, language
from rsrc_jax.rl import supervised
from rsrc_jax.runs import Run
from rsrc_jax.runtime import run_log
from rsrc_jax.stages import watch
from rsrc_jax.types import Tokens

SHOWN = ("source", "code", "decoded")
ROWS = 512  # of the test and of the validation split
LOOKS = 8  # batches in which the use of injected ids is watched
PROBE = {"steps": 300, "batch_size": 128, "learning_rate": 1e-3}
OF_USERS = ("tail_share", "rote_share", "swap_bits")  # means over users


def measure(run: Run) -> dict[str, Any]:
  """Measures every arm of an ended run. -> what results/NAME.json holds."""
  setup = run.setup
  _, *arms = run.stages.values()
  frozen = {"base": run.base, "reader": run.base}
  trained = {arm.name: run.params(arm.name) for arm in arms}
  tools = Tools(setup, run.base)
  found = {}
  for arm in arms:
    print(f"  {arm.name}", flush=True)
    found[arm.name] = one(setup, tools, arm, trained[arm.name], frozen)
    found[arm.name]["held"] = held(run.workdir, arm.name)
  if setup.corpus.questions:
    add_questions(setup, tools, arms, trained, frozen, found)
  kept = ("seed", "corpus", "steps", "params", "entropy_bits", "made_with",
          "seconds")  # fmt: skip
  return {
    **{name: run.summary.get(name) for name in kept},
    "budgets": list(run.config.eval.budgets),
    "arms": found,
  }


class Tools:
  """Programs that all arms share, compiled once."""

  def __init__(self, setup: Setup, base):
    policy, D = setup.policy, setup.roles["D"]
    reader = lambda role: jax.jit(code_judge.make_reader(policy, role))
    judge = jax.jit(code_judge.make_judge(policy, D))
    self.judge = code_judge.CodeJudge(reader(D), judge)
    # Longer sources than any that was trained on need room in d.
    wide = max([s.ids.shape[1] for s in setup.corpus.shifts.values()] or [0])
    wide = D._replace(length=max(D.length, wide + 1))
    self.wide = code_judge.CodeJudge(reader(wide), judge)
    coder = jax.jit(code_judge.make_coder(policy, setup.roles["text"]))
    self.surprise = lambda c: np.asarray(coder(base, c))  # bits [n, k + 1]


def one(setup, tools, arm, params, frozen) -> dict[str, Any]:
  config, corpus = setup.config, setup.corpus
  key = jax.random.key(config.seed)

  def judged(split, k, alter=None, by=tools.judge):
    rows = min(ROWS, len(split.ids))
    return code_judge.judge_split(
      lambda batch: arm.write(params, frozen, batch, key, np.int32(k)),
      *by.of(params), arm.saved, split, rows=rows,
      batch_size=min(config.eval.batch_size, rows),
      entropy_bits=corpus.entropy_bits if split is corpus.test else None,
      alter=alter,
    )  # fmt: skip

  found = {"by_budget": {}, "valid": {}, "shifts": {}}
  for k in config.eval.budgets:
    means, table = judged(corpus.test, k)
    s, d = table["source"], table["decoded"]
    means["token_f1"] = float(np.mean(codebook.token_f1(s, d)))
    text = lambda x: [corpus.vocab.decode(row) for row in rows_of(x)]
    means["chrf"] = float(np.mean(codebook.chrf(text(s), text(d))))
    floor = judged(corpus.test, k, code_judge.no_code)[1]["scores"]
    found["by_budget"][str(k)] = {
      "means": means,
      "edit_similarity": short(table["scores"]["edit_similarity"]),
      "nll_bits": short(table["scores"]["nll_bits"]),
      "no_code_rows": short(floor["edit_similarity"]),
    }
    # Gain, on what an arm may be chosen by.
    heard, empty = (
      judged(corpus.valid, k, alter)[0]["edit_similarity"]
      for alter in (None, code_judge.no_code)
    )
    found["valid"][str(k)] = heard - empty
  # What the last, largest budget shows.
  found["codes"] = codes(setup, tools, table)
  means, table = judged(corpus.test, k, code_judge.no_code)
  found["no_code"] = means
  found["no_code_rows"] = short(table["scores"]["edit_similarity"])
  found["shuffled"] = judged(corpus.test, k, code_judge.shuffled_code)[0]
  rng = np.random.default_rng(config.seed)
  found["permuted"] = judged(
    corpus.test, k, lambda _, code: codebook.permute(code, rng)
  )[0]
  for name, split in corpus.shifts.items():
    found["shifts"][name] = {str(k): judged(split, k, by=tools.wide)[0]}
  mine = arm_config(config, arm.name)
  if config.arms[arm.name].pattern == "cdv" and mine.augment.inject:
    found["use"] = use(setup, arm, params, frozen)
  return found


def codes(setup, tools, table) -> dict[str, Any]:
  """The language of the codes at one budget."""
  s, c, vocab = table["source"], table["code"], setup.corpus.vocab
  train = setup.corpus.train
  counts = np.bincount(train.ids[train.mask], minlength=vocab.size)
  rng = np.random.default_rng(0)
  said = language.measure(c, tools.surprise(c)[:, :-1], vocab.text)
  found = {
    "foreign_share": said.foreign,
    "lm_bits_of_text": said.bits,
    "unigram_kl": codebook.unigram_kl(
      c, counts, support=vocab.code | vocab.text
    ),
    "copy_rate": float(np.mean(codebook.copy_rate(s, c))),
    "type_token_ratio": codebook.type_token_ratio(c),
    "zipf_slope": codebook.zipf_slope(c),
    "distinct_1": float(np.mean(codebook.distinct(c, 1))),
    "longest_run": float(np.mean(codebook.longest_run(c))),
    "zlib_ratio": codebook.zlib_ratio(c, vocab.size),
    "topographic_similarity": codebook.topographic_similarity(c, s, rng),
    "samples": [
      {x: vocab.pieces(rows_of(table[x])[i]) for x in SHOWN}
      for i in range(8)
    ],
  }  # fmt: skip
  if setup.corpus.slots is not None:
    facts = s.ids[:, list(setup.corpus.slots)]
    share = codebook.attribution(c, facts, rng).share
    found["attribution"] = np.round(np.asarray(share), 4).tolist()
  return found


def use(setup, arm, params, frozen) -> dict[str, dict[str, float]]:
  """How injected ids are used, forced as in this arm at first, and asked for.

  Means over looks; what is said of users is weighted by how many there were.
  """
  config = arm_config(setup.config, arm.name)
  look, size = watch.watched(setup, arm.name), config.batch_size
  full = supervised.FULL._replace(hidden=np.float32(config.curriculum.hidden))
  asked = full._replace(hidden=np.float32(0.0), ban=np.float32(0.0))
  found = {}
  for name, schedule in (("forced", full), ("asked", asked)):
    seen = []
    for number in range(LOOKS):
      batch = sources.batch(setup.corpus.test, number * size, size)
      key = jax.random.fold_in(jax.random.key(config.seed), number)
      seen.append(look(params, frozen, batch, key, schedule))
    seen = jax.device_get(seen)
    users = np.array([m["use_rate"] for m in seen])
    found[name] = {
      k: weighted([m[k] for m in seen], users if k in OF_USERS else None)
      for k in sorted(seen[0])
    }
  return found


def weighted(values: list[float], weights: np.ndarray | None) -> float | None:
  """Mean; None where all weights are 0: nobody used what is asked about."""
  if weights is not None and not weights.sum():
    return None
  return float(np.average(values, weights=weights))


def add_questions(setup, tools, arms, trained, frozen, found) -> None:
  """Answers from c, from d, from the question alone, from a shuffled c."""
  corpus, seed = setup.corpus, setup.config.seed
  vocab, key = corpus.vocab, jax.random.key(setup.config.seed)
  A = Role(
    vocab.control_tags["question"], tokenizer.SEPARATOR, tokenizer.END, 1,
    vocab.text,
  )  # fmt: skip
  asks, place = np.asarray(corpus.questions, np.int32).T
  tried = probe.make(
    setup.policy, A, asks, lambda s: s.ids[:, place],
    learning_rate=PROBE["learning_rate"],
  )  # fmt: skip

  def learn(params, write, budgets):
    batches = sources.batches(
      corpus.train, batch_size=PROBE["batch_size"], seed=seed + 2
    )
    return probe.train(
      tried, jax.tree.map(jnp.copy, params), write, batches,
      steps=PROBE["steps"], budgets=budgets, seed=seed,
    )  # fmt: skip

  whole = lambda batch, k: Tokens(*(jnp.asarray(x) for x in batch.source))
  reader = learn(frozen["base"], whole, (0,))
  test = sources.batch(corpus.test, 0, ROWS)
  right = lambda params, text: probe.accuracy(tried, params, test.source, text)
  for arm in arms:
    params = trained[arm.name]
    write = lambda batch, k, arm=arm, params=params: Tokens(
      *jax.device_get(arm.write(params, frozen, batch, key, np.int32(k)))
    )
    asked = learn(params, write, setup.config.eval.budgets)
    answers = {}
    for k in setup.config.eval.budgets:
      c = write(test, k)
      d = tools.judge.read(params, c)
      nothing = code_judge.no_code(test, c)
      other = code_judge.shuffled_code(test, c)
      answers[str(k)] = {
        "code": np.round(right(asked, c), 4).tolist(),
        "decoded": float(np.mean(right(reader, d))),
        "shuffled": float(np.mean(right(asked, other))),
        "question": float(np.mean(right(asked, nothing))),
      }  # fmt: skip
    found[arm.name]["questions"] = answers
  ceiling = float(np.mean(right(reader, test.source)))
  found["U0"] = {"questions": {"source": ceiling}}


def held(workdir: Path, arm: str) -> list[dict[str, float]]:
  """What the curriculum saw, and what it set."""
  lines = run_log.read_jsonl(workdir / "metrics.jsonl")
  names = ("held_reward", "held_gain", "held_use_rate", "held_rote_share",
           "held_used", "held_decoy_rate", "held_tau",
           "held_tail_share", "held_swap_bits", "held_pay_bonus",
           "held_pay_gate", "held_pay_load", "held_mass_used",
           "held_varentropy_used", "held_collision_used",
           "held_varentropy_other", "held_collision_other")  # fmt: skip
  drawn = ("hidden", "inject", "ban", "bonus", "curriculum_phase", "gain",
           "C_spread_bonus")  # fmt: skip
  found = []
  for line in lines:
    keep = {"held": names, "train": drawn}.get(line["split"], ())
    if line["phase"] == arm and keep:
      values = {k: round(line[k], 5) for k in keep if k in line}
      found.append({"step": line["step"], **values})
  return found


def short(rows: np.ndarray) -> list[float]:
  return np.round(rows, 4).tolist()


def rows_of(tokens: Tokens) -> list[list[int]]:
  return [i[m].tolist() for i, m in zip(*map(np.asarray, tokens), strict=True)]
