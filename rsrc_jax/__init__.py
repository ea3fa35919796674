"""rsrc-jax: recursive compression RL in JAX.

The names of `__all__` are what a user of the library needs, in docs/api.md with
their shapes. Each is imported when it is first asked for, so that
`import rsrc_jax` starts neither jax nor anything else. `train`, `runs` and all
other modules are imported by their own names as well.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Name -> the module that defines it; "" for a module itself.
_HOMES = {
  "load_config": "runtime.configs",
  "train": "",
  "runs": "",
  "figure": "report.run_report",
  "make_setup": "build.setup",
  "make_stages": "stages.plan",
  "initial_params": "runs",
  "batch_of": "build.texts",
  "decode": "build.texts",
  "pieces": "build.texts",
  "sample": "lm.rollout",
  "greedy": "lm.rollout",
  "score": "lm.rollout",
  "likelihood": "lm.rollout",
  "Tokens": "types",
  "Batch": "types",
  "Role": "lm.roles",
  "Constraints": "types",
  "Policy": "types",
  "Pattern": "types",
  "Context": "types",
  "Episode": "types",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:  # what type checkers and editors see
  from rsrc_jax import runs as runs
  from rsrc_jax import train as train
  from rsrc_jax.build.setup import make_setup as make_setup
  from rsrc_jax.build.texts import batch_of as batch_of
  from rsrc_jax.build.texts import decode as decode
  from rsrc_jax.build.texts import pieces as pieces
  from rsrc_jax.lm.roles import Role as Role
  from rsrc_jax.lm.rollout import greedy as greedy
  from rsrc_jax.lm.rollout import likelihood as likelihood
  from rsrc_jax.lm.rollout import sample as sample
  from rsrc_jax.lm.rollout import score as score
  from rsrc_jax.report.run_report import figure as figure
  from rsrc_jax.runs import initial_params as initial_params
  from rsrc_jax.runtime.configs import load_config as load_config
  from rsrc_jax.stages.plan import make_stages as make_stages
  from rsrc_jax.types import Batch as Batch
  from rsrc_jax.types import Constraints as Constraints
  from rsrc_jax.types import Context as Context
  from rsrc_jax.types import Episode as Episode
  from rsrc_jax.types import Pattern as Pattern
  from rsrc_jax.types import Policy as Policy
  from rsrc_jax.types import Tokens as Tokens


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  home = _HOMES[name]
  module = importlib.import_module(f"{__name__}.{home or name}")
  found = getattr(module, name) if home else module
  globals()[name] = found  # the next time it is found without this function
  return found


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
