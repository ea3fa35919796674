"""What codes hold of every fact, for a reader that was taught to look for it.

  ./.venv/bin/python experiments/qa/probe.py
  ./.venv/bin/python experiments/qa/probe.py --seeds=0 --steps=300

After ./tools/sweep has run configs/qa.py and configs/mixed.py (README.md). A
reader begins with the base and learns to answer questions about all eight
facts, from the frozen codes of an arm or of a rule: the same way for each, so
that facts that training never asked for are asked for here as well as the
others. Results: results/probe-SEED.json, which plot.py reads.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from rsrc_jax import runs
from rsrc_jax.build.setup import make_info
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge, probe
from rsrc_jax.rl import questions
from rsrc_jax.runtime import cache, provenance
from rsrc_jax.types import Tokens

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RULES = ("lead", "surprising", "tfidf")  # of patterns/extract.py
LEARNING_RATE, BATCH, ROWS = 1e-3, 128, 1_024

SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the runs.")
RUNS = flags.DEFINE_string(
  "runs", str(ROOT / "runs"), "Holds qa/ and mixed/, by ./tools/sweep."
)
STEPS = flags.DEFINE_integer("steps", 1_000, "Of every reader's training.")


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  cache.keep_programs()
  for seed in SEEDS.value:
    found = {}
    for name in ("qa", "mixed"):
      folder = Path(RUNS.value) / name
      if not list(folder.glob(f"{name}-{seed}-*/summary.json")):
        continue
      print(f"== {name} seed {seed}", flush=True)
      workdir = runs.find(folder, f"{name}-{seed}")
      found |= probed(workdir, RULES if name == "qa" else ())
    if not found:
      raise SystemExit(
        f"{RUNS.value} holds no run of seed {seed} that has ended: run "
        "./tools/sweep run --config=configs/qa.py --into=qa --seeds=0,1,2 "
        "--config.only= first."
      )
    path = HERE / "results" / f"probe-{seed}.json"
    stored = {"seed": int(seed), "steps": STEPS.value, "rows": ROWS}
    stored["git"] = provenance.environment()["git"]
    path.write_text(json.dumps(stored | {"arms": found}) + "\n")


def probed(workdir: Path, rules: tuple[str, ...]) -> dict:
  """-> by arm or rule, and by what is read: right answers by fact, [8]."""
  config = runs.read_config(workdir)
  for rule in rules:
    config.arms[rule] = {
      "pattern": "extract", "write": rule, "start": "base", "overrides": ()
    }  # fmt: skip
  if config.only:
    config.only = ",".join((config.only, *rules))
  run = runs.open(workdir, config)
  setup, first = run.setup, run.base
  _, *arms = run.stages.values()
  info, frozen = make_info(setup.corpus), {"base": first}
  reader = probe.make(
    setup.policy, questions.answerer(setup.roles, info)._replace(length=1),
    info.questions, lambda s: questions.right_words(info, s),
    learning_rate=LEARNING_RATE,
  )  # fmt: skip
  found = {}
  for arm in arms:
    mine = first if arm.name in rules else run.params(arm.name)
    found[arm.name] = answers(setup, reader, first, written(arm, mine, frozen))
    print(f"  {arm.name} {np.mean(found[arm.name]['code']):.3f}", flush=True)
  if rules:
    asked = [n not in config.patterns.qa.unasked for n in info.names]
    write = widest(info, np.array(asked), config.budget)
    found["widest"] = answers(setup, reader, first, write)
    print(f"  widest {np.mean(found['widest']['code']):.3f}", flush=True)
  return found


def written(arm, params, frozen):
  """-> write(batch, k): the greedy codes of an arm, nothing forced."""
  key = jax.random.key(0)  # of the rules: all of RULES decide alone
  return lambda batch, k: Tokens(
    *jax.device_get(arm.write(params, frozen, batch, key, np.int32(k)))
  )


def widest(info, asked: np.ndarray, budget: int):
  """A rule that knows the grammar: the words of the facts with most of them.

  Of those that training asks for, and only where the sentence says them.
  """
  many = np.where(asked, np.sum(info.words, -1), 0)
  which = np.sort(np.argsort(-many, stable=True)[:budget])

  def write(batch, k):
    del k
    source = Tokens(*map(jnp.asarray, batch.source))
    ids = questions.right_words(info, source)[:, which]
    mask = ids != info.unknown
    return Tokens(jnp.where(mask, ids, 0), mask)

  return jax.jit(write)


def answers(setup, reader, first, write) -> dict[str, list[float]]:
  """Teaches a reader the codes of `write`, and asks it on the test split."""
  config, corpus = setup.config, setup.corpus
  params = probe.train(
    reader, jax.tree.map(jnp.copy, first), write,
    sources.batches(corpus.train, batch_size=BATCH, seed=config.seed + 2),
    steps=STEPS.value, budgets=(config.budget,), seed=config.seed,
  )  # fmt: skip
  test = sources.batch(corpus.test, 0, ROWS)
  code = write(test, config.budget)
  texts = {
    "code": code,
    "other": code_judge.shuffled_code(test, code),
    "nothing": code_judge.no_code(test, code),
  }
  _, answer, _ = reader
  right = lambda text: np.asarray(answer(params, test.source, text))
  return {
    name: [round(float(x), 4) for x in np.mean(right(text), 0)]
    for name, text in texts.items()
  }


if __name__ == "__main__":
  app.run(main)
