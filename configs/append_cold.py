"""Does RL find the append hack by itself, without having been shown it?

  ./tools/run --config=configs/append_cold.py --workdir=runs/cold-0
  ./tools/sweep run --config=experiments/random_vocabulary/sweep.py:cold

configs/append_hack.py with a C that has never seen an injected id used, and
offers up to 32 times the largest safe bonus, without a gate and with the
default's.

Cost: 47 minutes on one core (seed 0).
Expect: without a gate no given id is used at up to four times the largest safe
bonus, .16 of the codes use one at 8 times and .78 at 32; with the default's
gate none, at 32 times (experiments/random_vocabulary).
"""

from pathlib import Path

import ml_collections

from rsrc_jax.runtime.configs import module


def get_config() -> ml_collections.ConfigDict:
  """Where does the hack start?"""
  hack = module(Path(__file__).with_name("append_hack.py"))
  config = hack.get_config()
  config.pretrain.demonstrate = ""
  safe = hack.PRICE * config.augment.inject / config.budget
  offers = (0, 1, 2, 4, 8, 16, 32)
  config.arms = {
    f"none_{times}": hack.arm("none", "none", times * safe) for times in offers
  } | {"BL_32": hack.arm("density", "message", 32 * safe)}
  config.report.headline = "none_32"
  return config
