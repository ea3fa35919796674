"""What a lane says while it is trained."""

import io
from types import SimpleNamespace

import ml_collections
from rich.console import Console

from rsrc_jax.runtime import run_log
from rsrc_jax.training import lane


def test_dead_groups_are_warned_of_once_with_the_arms_pattern(tmp_path):
  """Windows of 50 steps: the second makes a hundred."""
  console = Console(file=io.StringIO(), width=300)
  log = run_log.Log(tmp_path, console=console)
  log.start("mine", "mine (1/1)", 0, 300)
  config = ml_collections.ConfigDict({"arms": {"mine": {"pattern": "qa"}}})
  shared = SimpleNamespace(
    run=SimpleNamespace(log=log), setup=SimpleNamespace(config=config)
  )
  here = SimpleNamespace(shared=shared, stage=SimpleNamespace(name="mine"))
  for step in (50, 100, 150, 200):
    run_log.flush_window(log, step, [{"A_dead_groups": 0.75}] * 50)
    lane.warn_of_dead_groups(here)
  log.close()
  said = [x for x in console.file.getvalue().split("\n") if "Warning" in x]
  assert said == [
    "Warning: mine: 75 % of A's groups were dead over 100 steps up to step 100:"
    " their rewards are all equal and teach nothing. Raise "
    "config.loss.entropy_bonus.A, config.temperature or "
    "config.patterns.qa.answers."
  ]
