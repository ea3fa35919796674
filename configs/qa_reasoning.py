"""C -> (Q -> A) -> V on reasoning-gym's texts: each comes with its question.

  pip install "rsrc-jax[reasoning]"
  ./tools/run --config=configs/qa_reasoning.py --workdir=runs/qa_reasoning-0

Stories of families, and how two of their members are related; codes of eight
tokens, written before the question is known. The other families of
data/reasoning.py: --config.data.family=needle_haystack.

Cost: not known: it was run for six steps only.
Expect: not known (experiments/qa).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """configs/qa.py, with the question that each source comes with."""
  config = beside(__file__, "qa")
  config.data = {
    "source": "reasoning",
    "path": "",
    "family": "family_relationships",
    "options": {  # as reasoning-gym names them, by family
      "family_relationships": {"min_family_size": 3, "max_family_size": 5},
      "needle_haystack": {"min_num_statements": 2, "max_num_statements": 4},
      "syllogism": {"invalid_ratio": 0.5},
    },
    "tasks": 20_000,
    "vocab_size": 704,
    "max_tokens": 64,
    "heldout": 512,
    "asks": False,
  }
  config.model.absolute = 128
  config.budget, config.eval.budgets = 8, (8,)
  config.eval.rows = config.eval.test_rows = 512
  config.eval.batch_size = 256
  one = {"each": 1, "unasked": (), "pairs": 0.0}
  config.patterns.qa = config.patterns.qa.to_dict() | one
  return config
