"""What an arithmetic coder says of s in the bits that a code has.

  ./.venv/bin/python experiments/core/bounds.py runs/RUN_DIR

The coder's model is the frozen base of the run, and sentences are those of its
test split. It prints a row for each budget and alphabet: all ids that codes may
use, and the ids of texts.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsrc_jax import runs
from rsrc_jax.data import sources
from rsrc_jax.evaluation import service
from rsrc_jax.metrics import arithmetic

BUDGETS = range(1, 9)


class Row(NamedTuple):
  """Means over the sentences; bits as of codes that are learnt."""

  symbols: int
  k: int
  capacity_bits: float
  bits_conveyed: float | None  # None where the entropy of s is not known
  nll_bits: float
  token_share: float
  exact_match: float


def rows(
  token_bits: np.ndarray,
  length: np.ndarray,
  symbols: list[int],
  entropy_bits: float | None,
  *,
  spare: float = 0.0,
) -> list[Row]:
  """The bound at each budget; arguments as of metrics/arithmetic.py."""
  found = []
  for size in symbols:
    for k in BUDGETS:
      room = arithmetic.capacity(size, k)
      said = arithmetic.coded(token_bits, length, room, spare)
      left = float(said.nll_bits.mean())
      conveyed = None if entropy_bits is None else entropy_bits - left
      found.append(
        Row(size, k, room, conveyed, left, float(said.share.mean()),
            float(said.exact.mean()))
      )  # fmt: skip
  return found


def of_run(run: runs.Run) -> dict[str, list[Row]]:
  """The bound of a run's base, and what a coder of fixed length reaches."""
  setup = run.setup
  count = min(run.config.eval.test_rows, len(setup.corpus.test.ids))
  s = sources.batch(setup.corpus.test, 0, count).source
  bits = service.ruler(setup, run.base).token_bits(s)
  vocab = setup.corpus.vocab
  words = int((vocab.text & vocab.code).sum())
  symbols = sorted({int(vocab.code.sum()), words}, reverse=True)
  of = lambda spare: rows(
    bits, s.mask.sum(-1), symbols, setup.corpus.entropy_bits, spare=spare
  )
  return {"bound": of(0.0), "reached": of(1.0)}


def table(found: list[Row]) -> str:
  """Markdown."""
  head = "| ids | k | capacity, bits | bits conveyed | tokens | exact |"
  shown: Any = lambda x: "-" if x is None else f"{x:.2f}"
  lines = [
    f"| {x.symbols} | {x.k} | {x.capacity_bits:.1f} | {shown(x.bits_conveyed)} "
    f"| {x.token_share:.3f} | {x.exact_match:.3f} |"
    for x in found
  ]
  return "\n".join([head, "|---|---|---|---|---|---|", *lines])


def main(workdir: str) -> None:
  for name, found in of_run(runs.open(Path(workdir))).items():
    print(f"{name}\n\n{table(found)}\n")


if __name__ == "__main__":
  main(sys.argv[1])
