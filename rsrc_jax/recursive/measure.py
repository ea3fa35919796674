"""What is measured of an arm: during training, and on the test puzzles."""

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rsrc_jax.accounting import metering
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.data.grids import PuzzleData
from rsrc_jax.output import files
from rsrc_jax.recursive import dead_compute, puzzles
from rsrc_jax.recursive.arms import Arm, step_flops
from rsrc_jax.types import TrainState

EVERY_STEP = jnp.int32(dead_compute.NOBODY)  # no superstep is left out


def make_reader(arm: Arm, ledger: Ledger) -> Any:
  """read(params, items, skip) of dead_compute, charged to the ledger."""
  read = dead_compute.make(arm.model, arm.settings.supersteps)
  return metering.charged(ledger, "evaluation", jax.jit(read), arm=arm.name)


def validate(
  config: ml_collections.ConfigDict,
  arm: Arm,
  data: PuzzleData,
  state: TrainState,
  read: Any,
  seconds: float,
) -> dict[str, float]:
  """One point of the learning curve, on config.eval.rows validation puzzles.

  seconds: of training so far.
  """
  items = puzzles.items(data.valid, data.valid_identity)
  items = jax.tree.map(lambda x: x[: config.eval.rows], items)
  found = dead_compute.over(
    read, state.carry.ema, items, config.eval.batch_size, EVERY_STEP
  )
  passes = jax.device_get(state.carry.passes)
  step = int(state.step)
  return {
    "step": step,
    "exact": float(found.exact[-1].mean()),
    "cell": float(found.cell[-1].mean()),
    "exact_first": float(found.exact[1].mean()),
    "passes": float(passes.calls) / config.batch_size,
    "flops": step * step_flops(arm, config.batch_size),
    "seconds": seconds,
  }


def measure(
  config: ml_collections.ConfigDict,
  arm: Arm,
  data: PuzzleData,
  read: Any,
  state: TrainState,
  workdir: Path,
  ledger: Ledger,
) -> dict[str, Any]:
  """Everything that is reported of a trained arm, on the test puzzles.

  Writes each puzzle's numbers to examined-NAME.npz in `workdir`.

  Returns:
    JSON values; `boards` are taken out of them for samples.jsonl.
  """
  settings, model = arm.settings, arm.model
  params, size = state.carry.ema, config.eval.batch_size
  items = puzzles.items(data.test, data.test_identity)
  everything = dead_compute.over(read, params, items, size, EVERY_STEP)
  found = dead_compute.summary(
    everything, calls=model.calls, call_flops=model.call_flops(1)
  )
  some = jax.tree.map(lambda x: x[: config.eval.causal_rows], items)
  whole = everything.exact[-1, : config.eval.causal_rows]
  found["skip"] = []
  for s in range(settings.supersteps):
    left_out = dead_compute.over(read, params, some, size, jnp.int32(s))
    lost = whole * 1.0 - left_out.exact[-1]
    found["skip"].append(dead_compute.interval(lost))
  every_call = jax.jit(dead_compute.make_calls(model, settings.supersteps))
  calls = metering.charged(ledger, "test", every_call, arm=arm.name)
  found["calls"] = {
    name: np.asarray(x).tolist()
    for name, x in calls(params, some)._asdict().items()
  }
  found |= _costs(config, arm, state)
  found["boards"] = boards(config, arm, data, everything.said)
  stream = io.BytesIO()
  np.savez_compressed(
    stream,
    exact=everything.exact, log_prob=everything.log_prob.astype(np.float32),
    advantage=everything.steps.advantage.astype(np.float32),
    kl=everything.steps.kl.astype(np.float32),
  )  # fmt: skip
  files.write_bytes(workdir / f"examined-{arm.name}.npz", stream.getvalue())
  return found


def _costs(
  config: ml_collections.ConfigDict, arm: Arm, state: TrainState
) -> dict[str, Any]:
  """The size of an arm and the passes that it has cost, by formula."""
  settings, model = arm.settings, arm.model
  passes = jax.device_get(state.carry.passes)
  finished = max(int(passes.finished), 1)
  return {
    "params": sum(x.size for x in jax.tree.leaves(state.params)),
    "supersteps": settings.supersteps,
    "calls_per_superstep": model.calls,
    "passes_inference": settings.supersteps * model.calls,
    "flops_inference": settings.supersteps * model.calls * model.call_flops(1),
    "steps": settings.steps,
    "passes_training": int(passes.calls),
    "passes_with_gradient": int(passes.calls_with_gradient),
    "finished": int(passes.finished),
    "passes_per_item": int(passes.calls) / finished,
    "flops_training": settings.steps * step_flops(arm, config.batch_size),
    "targets": settings.targets,
  }


def boards(
  config: ml_collections.ConfigDict,
  arm: Arm,
  data: PuzzleData,
  said: np.ndarray,
) -> list[dict[str, Any]]:
  """The first test puzzles as they are solved, one object each.

  said: [S + 1, n, cells] int, the answer after each superstep.
  """
  return [
    {
      "arm": arm.name, "row": row, "side": data.side, "name": data.name,
      "question": data.test.question[row].tolist(),
      "answer": data.test.answer[row].tolist(),
      "said": said[1:, row].tolist(),
    }
    for row in range(min(config.eval.samples, len(data.test.question)))
  ]  # fmt: skip
