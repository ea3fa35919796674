"""C -> D -> V on facts: codes of three tokens, of other and of free lengths.

  ./tools/run                                  (this config is the default)
  ./tools/run --config=configs/default.py --config.seed=1 --workdir=runs/1

Cost: 9.1 minutes on two cores (seed 7, with a little other work on them), 13 on
one core beside another run; compiling included. 1.5 to 2.1 GB.
Expect: codes of three tokens convey 16.7 bits, the best English arm 12.5;
seeds differ by two bits (experiments/core_loop).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """The default experiment: 24 bits a sentence, codes of up to six tokens.

  All arms start from one base that writes extracts of any length. Those of the
  first five write three tokens. The last two go on from them and learn all
  lengths in one policy: for half of the sources a budget is announced, for the
  others the code ends by itself and pays for its length.
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
  config.ledger.service_seconds = 0.1
  three = {"budgets": (3,)}
  # Nothing is hidden any more: what the lengths before have taught would be
  # forgotten. At a price of .6 a third token is still worth it.
  lengths = {
    "steps": 400, "budgets": (2, 3, 4, 6), "augment.unannounced": 0.5,
    "patterns.cdv.length_price": 0.6, "curriculum.hidden": 0.0,
    "curriculum.explore_steps": 400,
  }  # fmt: skip
  config.arms = {
    "lead": _arm("extract", "lead", **three),
    "surprising": _arm("extract", "surprising", **three),
    "sft": _arm("extract", "sft", **three),
    "english_rl": _arm("cdv", "source", **three),
    "code": _arm("cdv", "force", **three),
    "english_lengths": _arm("cdv", "source", "english_rl", **lengths),
    "code_lengths": _arm("cdv", "force", "code", **lengths),
  }
  # Arms of as many tokens as the headline's: codes of free length are longer.
  config.report.baselines = ("lead", "surprising", "sft", "english_rl")
  return config


def _arm(pattern: str, write: str, start: str = "base", **overrides) -> dict:
  """overrides: what of the config is another in this arm, by dotted name."""
  changed = tuple(overrides.items())
  return {
    "pattern": pattern, "write": write, "start": start, "overrides": changed,
  }  # fmt: skip
