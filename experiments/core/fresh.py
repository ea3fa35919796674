"""A new D for the frozen codes of the arms of three tokens.

  ./.venv/bin/python experiments/core/fresh.py runs/core/core-20* ...

Of ended runs of sweep.py and explore.py. C and D of an arm have learnt
together; a D that had no part in its codes tells what they say to another
reader (rsrc_jax/evaluation/fresh_decoder.py). Adds to results/fresh-SEED.json,
arm by arm; an arm that is there is not done again.
"""

import json
import sys
from pathlib import Path

from experiments.core import explore
from rsrc_jax import runs
from rsrc_jax.evaluation import fresh_decoder

RESULTS = Path(__file__).resolve().parent / "results"
# At most these steps; it stops earlier where four looks in a row are no better.
SETTINGS = {"starts": ("base",), "steps": 2_000, "settle": 300}


def of_three(arms: list[str]) -> list[str]:
  """The arms of three tokens, of either sweep."""
  return [
    x for x in arms
    if x.endswith(f"_k{explore.K}") or x in explore.arms()
  ]  # fmt: skip


def add(workdir: str, results: Path = RESULTS) -> Path:
  """Trains the new D's of a run that are not stored yet. -> the file."""
  run = runs.open(workdir)
  path = results / f"fresh-{run.config.seed}.json"
  found = {"seed": run.config.seed, "arms": {}}
  if path.exists():
    found = json.loads(path.read_text())
  evaluate = fresh_decoder.make(run.setup, **SETTINGS)
  for arm in of_three(list(run.config.arms)):
    if arm in found["arms"]:
      continue
    frozen = {"base": run.base} | run.frozen(arm)
    found["arms"][arm] = evaluate(
      run.stages[arm], run.params(arm), None, frozen, print
    )
    path.write_text(json.dumps(found, indent=1) + "\n")
  return path


if __name__ == "__main__":
  if not sys.argv[1:]:
    raise SystemExit(__doc__)
  for folder in sys.argv[1:]:
    print(f"wrote {add(folder)}")
