"""Codes of one seed read by the decompressor of another: language or private?

  ./.venv/bin/python experiments/random_vocabulary/crossplay.py

Needs the runs of sweep.py at hand. Writes results/facts-crossplay.json: for
each arm the edit similarity of seed i's codes (rows) as seed j's D (columns)
reads them, on seed i's test split.
"""

import json
from pathlib import Path

import jax
import numpy as np

from experiments.random_vocabulary import measure_arms
from rsrc_jax import runs
from rsrc_jax.evaluation import code_judge

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REGISTERED = json.loads((HERE / "registration.json").read_text())
ARMS, K = ("E4", "E5", "B1", "B6", "F"), 3
FACTS = ROOT / "runs" / "random_vocabulary-facts"  # the sweep


def main() -> None:
  ended = [
    seed
    for seed in REGISTERED["seeds"]
    if list(FACTS.glob(f"facts-k{K}-{seed}-*/summary.json"))
  ]
  if len(ended) < 2:
    raise SystemExit("Fewer than two seeds are there: start sweep.py first.")
  opened = [runs.open(workdir(seed)) for seed in ended]
  found = {}
  for arm in ARMS:
    trained = [run.params(arm) for run in opened]
    setup = opened[0].setup
    read = jax.jit(code_judge.make_reader(setup.policy, setup.roles["D"]))
    judge = jax.jit(code_judge.make_judge(setup.policy, setup.roles["D"]))
    judge = code_judge.CodeJudge(read, judge)
    matrix = [
      [cross(run, arm, mine, judge.of(reader)) for reader in trained]
      for run, mine in zip(opened, trained, strict=True)
    ]
    found[arm] = {"seeds": ended, "budget": K, "matrix": matrix}
    print(arm, np.round(matrix, 3).tolist(), flush=True)
  path = HERE / "results" / "facts-crossplay.json"
  path.write_text(json.dumps(found) + "\n")


def cross(run: runs.Run, arm: str, params, reader) -> float:
  """Edit similarity of an arm's codes as another seed's D reads them."""
  setup, stage = run.setup, run.stages[arm]
  key, frozen = jax.random.key(setup.config.seed), run.frozen(arm)
  _, table = code_judge.judge_split(
    lambda batch: stage.write(params, frozen, batch, key, np.int32(K)),
    *reader, stage.saved, setup.corpus.test, rows=measure_arms.ROWS,
    batch_size=setup.config.eval.batch_size, entropy_bits=None,
  )  # fmt: skip
  return float(np.mean(table["scores"]["edit_similarity"]))


def workdir(seed: int) -> Path:
  return runs.find(FACTS, f"facts-k{K}-{seed}")


if __name__ == "__main__":
  main()
