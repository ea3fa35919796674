"""Five seeds of the default as one program, beside what was predicted of it.

The sweep runs first, in a process of its own that has the whole card; then the
step of one seed is compiled here, to count what it does.
"""

import json
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu import runs as gpu_runs
from benchmarks.gpu.table import SEEDS
from benchmarks.gpu.timing import Rates

ROOT = gpu_runs.ROOT
ARM = "code"
SHORT = {
  "steps": 200, "pretrain.steps": 200, "pretrain.warmup_from": 60,
  "only": "english_rl,code", "ledger.service_seconds": 0.2,
}  # fmt: skip
# A config of another name, so that its runs have a folder of their own.
CONFIG = """from rsrc_jax.runtime.configs import load


def get_config():
  return load({tiny!r})
"""


class Work(NamedTuple):
  """What a training step of one seed does."""

  flops: float
  moved: float  # bytes, by XLA's count
  kernels: int


def seeds(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  changes, these = SHORT, SEEDS
  if toy:
    from tests.helpers.runs import SHRUNK

    changes, these = SHRUNK | {"only": ARM}, SEEDS[:2]
  flags = gpu_runs.settings(changes)
  # The prediction is worth having even where the sweep fails.
  yield from ran(out, flags, these, changes, toy)
  from benchmarks.gpu import device as gpu_device

  yield from gpu_runs.cells(
    forecast(work_of(flags), len(these), gpu_device.rates(toy, out))
  )


def ran(out: Path, flags: list, these: tuple, changes: dict, toy: bool):
  """The rows of the sweep, or its error."""
  yield "steps of an arm", {"value": changes["steps"]}
  try:
    seconds, rate = sweep(out, flags, these)
  except Exception as error:
    yield "seconds", {"error": str(error)}
    return
  one = single(out, toy)
  yield from gpu_runs.cells({
    "seconds": seconds,
    "code, steps a second, all seeds": rate,
    "code, steps a second, one run": one,
    "five single runs take as long, x": one and len(these) * rate / one,
  })  # fmt: skip


def sweep(out: Path, flags: list, these: tuple) -> tuple[float, float]:
  """-> seconds of the whole sweep, steps a second of the arm (all seeds)."""
  name = f"gpu_seeds_{len(these)}"
  config, runs = out / f"{name}.py", ROOT / "runs" / name
  config.write_text(CONFIG.format(tiny=str(ROOT / "configs" / "tiny.py")))
  shutil.rmtree(runs, ignore_errors=True)
  begun = time.monotonic()
  gpu_runs.call([
    "-m", "rsrc_jax.sweep", "run", f"--config={config}", "--together=vmap",
    f"--seeds={','.join(map(str, these))}", *flags,
  ])  # fmt: skip
  seconds = time.monotonic() - begun
  logs = sorted(runs.glob("*/metrics.jsonl"))
  if len(logs) != len(these):
    raise RuntimeError(f"{runs} has {len(logs)} logs for {len(these)} seeds")
  rates = [gpu_runs.steps_a_second(x.parent)[ARM] for x in logs]
  shutil.rmtree(runs)
  return seconds, statistics.median(rates)


def single(out: Path, toy: bool) -> float | None:
  """Steps a second of one run, as the step `default` stored it."""
  path = out / f"default{'.toy' if toy else ''}.json"
  if not path.is_file():
    return None
  row = json.loads(path.read_text())["values"].get(f"{ARM}, steps a second")
  return row and row["value"]


def work_of(flags: list[str]) -> Work:
  """A step of the arm, counted."""
  from rsrc_jax.build.setup import make_setup
  from rsrc_jax.runtime import cache, configs
  from rsrc_jax.stages import plan

  config = configs.from_flags([f"--config={ROOT}/configs/tiny.py", *flags])
  config.only = ARM
  setup = make_setup(config, cache.tokenizers(ROOT / "runs"))
  return counted(setup, plan.make_stages(setup)[-1])


def counted(setup, stage) -> Work:
  """A step of a stage: its jaxpr walked, its program read."""
  import jax
  import jax.numpy as jnp

  from benchmarks.gpu.timing import kernels
  from rsrc_jax.accounting import flops
  from rsrc_jax.data import sources
  from rsrc_jax.runtime import sharding

  params = jax.jit(setup.policy.init)(jax.random.key(0))
  put = lambda tree: sharding.put(tree, sharding.shardings(setup.mesh, tree))
  frozen = put({"base": params, "reader": params})
  state = put(stage.init(jax.tree.map(jnp.copy, params)))
  batch = sharding.put(
    sources.batch(setup.corpus.train, 0, stage.batch_size),
    sharding.batch_sharding(setup.mesh),
  )
  controls = stage.controls(state, frozen, batch)
  traced = stage.step.trace(state, frozen, batch, controls)
  program = traced.lower().compile()
  # The one loop writes codes: at most so many tokens behind the first.
  trips = setup.roles["C"].length - 1
  found = flops.count(traced.jaxpr)
  cost = program.cost_analysis() or {}
  cost = cost[0] if isinstance(cost, list) else cost
  return Work(
    flops.evaluate(found, dict.fromkeys(found.loops, trips))["hardware"],
    float(cost.get("bytes accessed", 0.0)),
    kernels(program.as_text(), trips),
  )


def predicted(work: Work, seeds: int, rates: Rates) -> float:
  """Seconds of a step of so many seeds in one program.

  Kernels run one after another, each at least as long as a small one takes; a
  batch over seeds has as many of them as one seed. Products in float32 at the
  default precision, and bytes, grow with the seeds; they overlap.
  """
  starting = work.kernels * rates.kernel
  products = seeds * work.flops / rates.products["float32"]
  moving = seeds * work.moved / rates.bandwidth
  return starting + max(products, moving)


def forecast(work: Work, seeds: int, rates: Rates) -> dict:
  one, every = (predicted(work, n, rates) for n in (1, seeds))
  return {
    "predicted, one seed, ms a step": 1e3 * one,
    "predicted, all seeds, ms a step": 1e3 * every,
    "predicted: five single runs take as long, x": seeds * one / every,
    "kernels a step": work.kernels,
    "GFLOP a step": work.flops / 1e9,
    "GB a step": work.moved / 1e9,
  }
