"""The base that its validation split ends: when, with what, and resumed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import Killed, Runs, assert_same_run, final_state, shrunk

from rsrc_jax.runtime import run_log
from rsrc_jax.stages import stopping


def followed(losses, *, taught=0, patience=2):
  """The looks at a curve of losses; the parameters are the look's number."""
  now, found = stopping.begin({"w": jnp.float32(-1.0)}), []
  for number, loss in enumerate(losses):
    now = stopping.looked(
      now, {"w": jnp.float32(number)}, jnp.float32(loss),
      counts=jnp.bool(number >= taught), patience=patience,
      last=jnp.bool(number == len(losses) - 1),
    )  # fmt: skip
    found.append(now)
    if now.ended:
      break
  return float(now.best["w"]), len(found), [int(x.waited) for x in found]


def test_it_ends_after_looks_that_are_no_lower_and_keeps_the_lowest():
  assert followed([5, 4, 4.5, 3, 3, 3.5, 0]) == (3, 6, [0, 0, 1, 0, 1, 2])
  # It never stops falling: the last look ends it.
  assert followed([5, 4, 3]) == (2, 3, [0, 0, 0])
  # The roles are not taught before the third look: what it saw is not kept.
  assert followed([1, 1, 5, 4], taught=2) == (3, 4, [0, 0, 0, 0])
  # Nor is a loss that is no number.
  assert followed([2, np.nan, np.nan, 1]) == (0, 3, [0, 1, 2])


def config(**changes):
  """A base that is too quick for its own good, so that it ends early."""
  found = shrunk(**{
    "only": "english_rl", "steps": 2, "pretrain.steps": 60,
    "pretrain.patience": 2, "eval.every": 4, "checkpoint.every": 6,
  } | changes)  # fmt: skip
  found.pretrain.optimizer.learning_rate = 0.5
  found.pretrain.optimizer.warmup = 1
  return found


@pytest.mark.slow
def test_a_run_goes_on_with_the_best_base_and_resumes_bitwise(tmp_path):
  runs = Runs.of(config(), tmp_path)
  lines = run_log.read_jsonl(runs.whole / "metrics.jsonl")
  looks = [x for x in lines if x["phase"] == "base" and x["split"] == "held"]
  loss = [x["held_loss"] for x in looks]
  state = final_state(runs.whole, "base")
  state = {k: np.asarray(v) for k, v in state.items()}
  steps = int(next(v for k, v in state.items() if k.endswith("step")))
  assert looks[-1]["step"] == steps < 60 and looks[-1]["held_waited"] == 2
  assert min(loss) == loss[-3] and looks[0]["step"] == 4
  for kill in (5, 9):
    with pytest.raises(Killed):
      runs.run(tmp_path / "again", kill=kill)
  runs.run(tmp_path / "again")
  assert_same_run(runs.whole, tmp_path / "again", ("base", "english_rl"))
  # What the arm starts from has the lowest loss.
  from rsrc_jax import runs as opening

  opened = opening.open(runs.whole)
  best = opened.state("base").carry.best
  jax.tree.map(np.testing.assert_array_equal, opened.base, best)
