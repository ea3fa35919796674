"""C -> D -> V on facts: codes of three tokens, of free length, of all lengths.

  ./tools/run                                  (this config is the default)
  ./tools/run --config=configs/default.py --config.seed=1 --workdir=runs/1

Cost: not known: not timed yet.
Expect: not known yet.
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """The default experiment: 24 bits a sentence, codes of one to six tokens.

  All arms start from one base that writes extracts of any length. Those of the
  first five write three tokens. The free ones write as many as are worth their
  price. The last two have one policy for all lengths, for the curve.
  """
  config = beside(__file__, "tiny")
  config.batch_size = 16
  config.budget = 6
  config.budgets = (1, 2, 3, 4, 5, 6)  # of the base; arms have fewer
  config.data.vocab_size = 132  # four of them ask
  config.data.asks = True
  config.model.absolute = 48
  config.pretrain.steps = 650
  config.pretrain.unannounced = 0.3
  config.loss.entropy_bonus.C = 0.15
  config.loss.entropy_per_code = True
  config.patterns.cdv.group = 12
  config.eval.budgets = (2, 3, 4, 6)
  three = {"budgets": (3,)}
  # Of six tokens a price of 1 lets about half be worth it.
  price = {"patterns.cdv.length_price": 1.0}
  free = price | {"budgets": (6,), "augment.unannounced": 1.0}
  mixed = price | {
    "budgets": (2, 3, 4, 6), "augment.unannounced": 0.5, "augment.ease": 0.6,
    "loss.entropy_bonus.C": 0.2,
  }  # fmt: skip
  config.arms = {
    "lead": _arm("extract", "lead", **three),
    "surprising": _arm("extract", "surprising", **three),
    "sft": _arm("extract", "sft", **three),
    "english_rl": _arm("cdv", "source", **three),
    "code": _arm("cdv", "force", **three),
    "english_free": _arm("cdv", "source", **free),
    "code_free": _arm("cdv", "force", **free),
    "english_mixed": _arm("cdv", "source", **mixed),
    "code_mixed": _arm("cdv", "force", **mixed),
  }
  return config


def _arm(pattern: str, write: str, **overrides) -> dict:
  """overrides: what of the config is another in this arm, by dotted name."""
  changed = tuple(overrides.items())
  return {"pattern": pattern, "write": write, "overrides": changed}
