"""What keeping a ledger costs: 200 steps with them and without, in turn.

  ./.venv/bin/python benchmarks/ledger.py

The loop is the default config's own (lane.advance): the same data, the same
steps, from the same state. Prints each pair's ratio of wall time, and whether
the losses are equal bit for bit.
"""

import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from rsrc_jax.accounting import energy_sources, metering
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import sources
from rsrc_jax.runtime import run_dir, sharding
from rsrc_jax.stages import plan
from rsrc_jax.training import lane

ROOT = Path(__file__).resolve().parent.parent
CONFIG = config_flags.DEFINE_config_file(
  "config", str(ROOT / "configs" / "tiny.py"), "Whose loop to time."
)
STEPS = flags.DEFINE_integer("steps", 200, "Steps of a run.")
PAIRS = flags.DEFINE_integer("pairs", 5, "Runs with a ledger, and without.")


def run(setup, arm, params, frozen, path) -> tuple[float, np.ndarray]:
  """-> seconds of the loop, and its losses [steps]."""
  config = setup.config
  state = arm.init(jax.tree.map(jnp.copy, params))
  state = sharding.put(state, sharding.shardings(setup.mesh, state))
  stream = sources.batches(
    setup.corpus.train, batch_size=arm.batch_size, seed=arm.data_seed
  )
  ledger = Ledger(path, energy_sources.open_meter())
  opened = run_dir.Run(path, path, None, stop=lambda: False)
  shared = lane.Shared(setup, None, ledger, opened)
  ledger.resume(arm.name, None)
  now = lane.Lane(shared, arm, "", frozen, None, stream, {}, state, 0, [])
  counts = lane.compile_step(now)
  jax.block_until_ready(state)
  begun = time.perf_counter()
  while now.step < STEPS.value:
    until = min(now.step + config.log_every, STEPS.value)
    now = lane.advance(now, until, counts)
  jax.block_until_ready(now.state)
  losses = [m["loss"] for m in now.window]
  seconds = time.perf_counter() - begun
  ledger.close()
  return seconds, np.asarray(jax.device_get(losses))


def main(argv):
  """Prints a line a pair and the verdict."""
  del argv
  config = CONFIG.value
  config.only = "code"
  setup = make_setup(config, ROOT / ".cache")
  _, arm = plan.make_stages(setup)
  params = jax.jit(setup.policy.init)(jax.random.key(config.seed))
  frozen = {"base": params, "reader": params}
  frozen = sharding.put(frozen, sharding.shardings(setup.mesh, frozen))
  ratios, equal = [], True
  with tempfile.TemporaryDirectory() as folder:
    run(setup, arm, params, frozen, None)  # compiles, warms up
    for pair in range(PAIRS.value):
      path = Path(folder) / f"{pair}.jsonl"
      # Which comes first changes, so that a drift of the machine cancels.
      order = [path, None] if pair % 2 else [None, path]
      found = {p: run(setup, arm, params, frozen, p) for p in order}
      (on, with_ledger), (off, without) = found[path], found[None]
      ratios.append(on / off)
      equal &= with_ledger.tobytes() == without.tobytes()
      print(
        f"pair {pair}: {on:.3f} s with a ledger, {off:.3f} s without, ratio "
        f"{ratios[-1]:.4f}",
        flush=True,
      )
    lines = len(path.read_text().splitlines())
  print(
    f"{STEPS.value} steps, {lines} lines: median ratio "
    f"{statistics.median(ratios):.4f} ({min(ratios):.4f} to "
    f"{max(ratios):.4f}); losses bitwise equal: {equal}"
  )
  cost = per_phase()
  share = cost * STEPS.value / config.log_every / off
  print(
    f"one phase costs {1e6 * cost:.0f} us: {100 * share:.4f} % of the loop, "
    f"which opens one every {config.log_every} steps"
  )


def per_phase(calls: int = 2_000) -> float:
  """Seconds that an empty phase takes, FLOPs of a step and all."""
  with tempfile.TemporaryDirectory() as folder:
    ledger = Ledger(Path(folder) / "x.jsonl", energy_sources.open_meter())
    begun = time.perf_counter()
    for step in range(calls):
      with ledger.phase("step") as spend:
        spend(step=step, **metering.work([]), steps=20)
    seconds = (time.perf_counter() - begun) / calls
    ledger.close()
  return seconds


if __name__ == "__main__":
  app.run(main)
