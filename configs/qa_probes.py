"""C -> (Q -> A) -> V where a role Q writes questions too, an opponent of C.

  ./tools/run --config=configs/qa_probes.py --workdir=runs/qa_probes-0

The codes and the A of configs/qa.py, trained for as many steps again, with Q
and without.

Cost: not known: it was run at a shrunk size only.
Expect: not known.
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """configs/qa.py, and two arms that go on from its arm qa."""
  config = beside(__file__, "qa")
  config.patterns.qa.probes = {
    "count": 4,  # N: probes about a source, Q's group
    "length": 2,  # most ids of a probe; of facts: 1, or 2 for two at a time
    "reads": "source",  # or nothing: a Q that can't tell the sources apart
    "opponent": 0.5,  # share of C's word that comes from probes
  }
  config.loss.weights.Q = 1.0
  config.loss.entropy_bonus.Q = 0.1
  qa = config.arms.qa.to_dict()
  without = (*qa["overrides"], ("patterns.qa.probes", None))
  config.arms = {
    "code": config.arms.code.to_dict(),
    "qa": qa | {"overrides": without},
    # Both start with a trained A: it is the reader of V's checks.
    "program": qa | {"start": "qa", "overrides": without},
    "probes": qa | {"start": "qa"},
  }
  config.only = "code,qa,program,probes"
  config.report.headline = "probes"
  return config
