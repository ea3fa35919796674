"""The policy as a recursion: one tied block, run four times for each token.

  ./tools/run --config=configs/recursive_policy.py
  ./tools/run --config=configs/recursive_policy.py --config.model.depth=4 \
      --config.model.loops=1 --workdir=runs/untied

C -> D -> V of configs/tiny.py, a shorter run of its arm `code` alone. Depth 4
once, 2 twice and 1 four times are the same FLOPs a token with 4, 2 and 1 blocks
of parameters.

Cost: about 4 minutes of one core, compiling included.
Expect: 16.4 bits conveyed, +- 1.3 over three seeds; the fourth loop adds .17 of
them (experiments/policy_recursion).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """One block, four loops; experiments/policy_recursion has the rest."""
  config = beside(__file__, "tiny")
  config.model.depth, config.model.loops = 1, 4
  config.model.reinject = False
  config.only = "code"
  config.steps = 700
  config.curriculum.steps, config.curriculum.explore_steps = 450, 700
  config.eval.budgets = (3,)
  config.ledger.service_seconds = 0.05
  return config
