"""Are reconstructions and codes Python? config.evals.NAME.type "python".

For sources that are Python functions (config.data.path="functions"). What an
arm's D reads from its codes of the test split is parsed, and so are the codes.
Nothing is run.
"""

from collections.abc import Callable

import jax
import numpy as np

from rsrc_jax import rules
from rsrc_jax.build.setup import Setup
from rsrc_jax.data import functions
from rsrc_jax.evaluation import code_judge, fresh_decoder
from rsrc_jax.runtime import processes, sharding
from rsrc_jax.types import Tokens

RULES = {"rows": rules.whole(1)}


def make(setup: Setup, *, rows: int = 2_048) -> Callable[..., dict[str, float]]:
  """Builds evaluate(stage, params, carry, frozen) -> shares of texts.

  {} where the arm writes nothing. Of greedy codes c of the test split, and what
  D reads from them greedily, d:

    d_parses, code_parses, source_parses: the share that is Python and not
      empty.
    d_defines, code_defines, source_defines: that is one whole function besides.
    wrong_parses: of the d that are not the source, the share that is Python.
      Where every d is its source, it is not there.

  Args:
    setup: of the run.
    rows: of the test split, at most those that there are.

  Raises:
    ValueError: rows is below 1.
  """
  rules.check_some(RULES, {"rows": rows}, "config.evals: python")
  read = jax.jit(code_judge.make_reader(setup.policy, setup.roles["D"]))

  def evaluate(stage, params, carry, frozen) -> dict[str, float]:
    del carry
    if stage.write is None:
      return {}
    codes = fresh_decoder.written(setup, stage, params, frozen, "test", rows)
    size, found = setup.config.eval.batch_size, []
    for start in range(0, len(codes.code.ids), size):
      index = (start + np.arange(size)) % len(codes.code.ids)
      code = sharding.rows(setup.mesh, codes.rows(index).code)
      found.append(processes.fetch(read(params, code)))
    d = jax.tree.map(
      lambda *x: np.concatenate(x)[: len(codes.code.ids)], *found
    )
    say = lambda rows: said(setup.corpus.vocab.decode, rows)
    return shares(say(codes.source), say(codes.code), say(d))

  return evaluate


def said(decode: Callable[[list[int]], str], rows: Tokens) -> list[str]:
  """[n, T] -> n texts."""
  return [
    decode(ids[there].tolist())
    for ids, there in zip(rows.ids, rows.mask, strict=True)
  ]


def shares(
  source: list[str], code: list[str], decoded: list[str]
) -> dict[str, float]:
  """The scores of `make`, from texts of n rows each."""
  found = {}
  texts = {"source": source, "code": code, "d": decoded}
  for name, rows in texts.items():
    found[f"{name}_parses"] = _share(functions.parses, rows)
    found[f"{name}_defines"] = _share(functions.defines, rows)
  wrong = [d for s, d in zip(source, decoded, strict=True) if d != s]
  if wrong:
    found["wrong_parses"] = _share(functions.parses, wrong)
  return found


def _share(holds: Callable, texts: list[str]) -> float:
  """The share of texts of which something holds."""
  return float(np.mean([bool(holds(x)) for x in texts]))
