"""Codes of one seed read by the decompressor of another: language or private?

  ./.venv/bin/python experiments/random_vocabulary/crossplay.py

Needs the runs of run.py at hand. Writes results/facts-crossplay.json: for each
arm the edit similarity of seed i's codes (rows) as seed j's D (columns) reads
them, on seed i's test split.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE)]

import examine  # noqa: E402
import finished  # noqa: E402
import run  # noqa: E402

from rsrc_jax.build.setup import Setup, make_setup  # noqa: E402
from rsrc_jax.evaluation import code_judge  # noqa: E402
from rsrc_jax.stages import plan  # noqa: E402

ARMS, K = ("E4", "E5", "B1", "B6", "F"), 3


def main() -> None:
  opened = [
    seed
    for seed in run.REGISTERED["seeds"]
    if (workdir(seed) / "summary.json").exists()
  ]
  if len(opened) < 2:
    raise SystemExit("Fewer than two seeds are there: start run.py first.")
  worlds = {seed: world_of(seed) for seed in opened}
  found = {}
  for arm in ARMS:
    trained = {seed: parameters(worlds[seed], arm, seed) for seed in opened}
    some = worlds[opened[0]]
    read = jax.jit(code_judge.make_reader(some.policy, some.roles["D"]))
    judge = jax.jit(code_judge.make_judge(some.policy, some.roles["D"]))
    matrix = [
      [cross(worlds[i], trained[i], trained[j][1], read, judge) for j in opened]
      for i in opened
    ]
    found[arm] = {"seeds": opened, "budget": K, "matrix": matrix}
    print(arm, np.round(matrix, 3).tolist(), flush=True)
  path = HERE / "results" / "facts-crossplay.json"
  path.write_text(json.dumps(found) + "\n")


def cross(setup, writer, reader, read, judge) -> float:
  phase, params, frozen = writer
  key = jax.random.key(setup.config.seed)
  _, table = code_judge.judge_split(
    lambda batch: phase.write(params, frozen, batch, key, np.int32(K)),
    *code_judge.CodeJudge(read, judge).of(reader), phase.saved,
    setup.corpus.test, rows=examine.ROWS,
    batch_size=setup.config.eval.batch_size, entropy_bits=None,
  )  # fmt: skip
  return float(np.mean(table["scores"]["edit_similarity"]))


def parameters(setup, arm: str, seed: int):
  """-> (phase, its parameters with the frozen ones), parameters."""
  phases = {p.name: p for p in plan.make_stages(setup)}
  folder = workdir(seed)
  base = finished.restore_base(setup, folder)
  frozen = {"base": base, "reader": base}
  params = finished.restore(setup, phases[arm], folder, frozen)
  return phases[arm], params, frozen


def world_of(seed: int) -> Setup:
  config = run.load(ROOT / run.TIERS["facts"][0])
  config.seed, config.budget, config.eval.budgets = seed, K, (K,)
  return make_setup(config, workdir(seed))


def workdir(seed: int) -> Path:
  return ROOT / "runs" / "random_vocabulary" / f"facts-k{K}-{seed}"


if __name__ == "__main__":
  main()
