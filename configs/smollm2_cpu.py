"""A few real steps of configs/smollm2.py on two CPU cores: does the path hold?

  ./.venv/bin/python tools/fetch_smollm2.py        (once)
  ./tools/run --config=configs/smollm2_cpu.py --workdir=runs/smollm2-cpu

Four steps of LoRA on sentences of the standard library.

Cost: 7 minutes on two cores, once measured.
Expect: 0 bits gained: nothing is learnt in four steps.
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """Two sources a step, four codes each."""
  config = beside(__file__, "smollm2")
  config.model.dtype, config.model.scan = "float32", False
  config.data.path = "stdlib"
  config.steps, config.log_every = 4, 1
  config.batch_size, config.patterns.cdv.group = 2, 4
  config.pretrain.batch_size = 2
  config.eval.every = config.checkpoint.every = 4
  config.eval.rows = config.eval.test_rows = config.eval.batch_size = 8
  config.eval.samples = 8
  config.ledger.service_seconds = 0.1
  config.only = "english_rl,code"
  return config
