"""Every arm of experiments/dead_compute and experiments/improvement_targets.

  ./tools/run --config=configs/dead_compute.py
  ./tools/sweep run --config=configs/dead_compute.py --into=dead_compute \\
      --seeds=0,1,2

The quick form is configs/trm.py, which says what the settings are. Here each
arm runs until its curve is flat, or as far as is said: trm is what
arXiv 2510.04871 has (T = 3, n = 6, 16 supersteps, halting), trm_medium its
small loop (T = 1, n = 2), dis_random and dis_solver that loop with six
supersteps and a target each (arXiv 2511.16886; in random order, and in that of
a solver by singles), final_target the control: the same with the answer as
every target. ff_deep is a feed-forward net of as many blocks as dis_random runs
(6 x 3 calls x 2 blocks), each with weights of its own; ff_small has as many
parameters as the recursive nets, each used once.

Cost: 12 to 16 minutes of one core a seed.
Expect: some 98 % of the test puzzles right from trm_medium and final_target, 92
to 99 % from trm, 96 to 97 % from the other two, and next to none from the
feed-forward nets.
"""

from pathlib import Path

from rsrc_jax.runtime.configs import module

SMALL = {"cycles": 1, "inner": 2}
DEEP = {"cycles": 6, "cycles_with_gradient": 6, "inner": 2, "untied": True}
ONCE = {"cycles": 1, "inner": 1, "depth": 1, "untied": True}


def get_config():
  """All arms, to the end."""
  quick = module(Path(__file__).with_name("trm.py"))
  config, arm = quick.get_config(), quick.arm
  config.arms = {
    "trm": arm(3_000, 16, {"cycles": 3, "inner": 6, "halting": True}),
    "trm_medium": arm(3_000, 16, {**SMALL, "halting": True}),
    "dis_random": arm(3_000, 6, {**SMALL, "steps": 6}, "random_linear"),
    "dis_solver": arm(3_000, 6, {**SMALL, "steps": 6}, "solver_order"),
    "final_target": arm(3_000, 6, {**SMALL, "steps": 6}),
    "ff_deep": arm(2_000, 1, DEEP, learning_rate=1e-3),
    "ff_small": arm(3_000, 1, ONCE),
  }
  config.eval.every = 300
  return config
