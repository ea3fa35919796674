"""A training step of the 6x6 recursive models beside its matrix products.

  ./.venv/bin/python benchmarks/recursive.py                        (1 minute)

For every arm of configs/dead_compute.py: seconds to compile the step, its time,
the time of its matrix products alone, and how much scratch memory it takes. The
products are run in one program of their own, of the same shapes and as many,
one after the other. "share" is products / step. Written to recursive.md.
"""

import statistics
import time
from pathlib import Path

import jax

from rsrc_jax.recursive import arms, puzzles
from rsrc_jax.runtime import cache
from rsrc_jax.runtime.configs import load

HERE = Path(__file__).resolve().parent
ROUNDS = 15


def main():
  """Prints the table and writes it."""
  cache.keep_memory()
  config = load(HERE.parent / "configs" / "dead_compute.py")
  config.data.update({"train": 64, "heldout": 8})
  data = puzzles.load(**config.data, seed=0)
  rows = [
    "# A step of a recursive model", "",
    "Printed by benchmarks/recursive.py. "
    f"{jax.devices()[0].device_kind}, jax {jax.__version__}; batch "
    f"{config.batch_size}, median of {ROUNDS} rounds that take turns.", "",
    "| arm | net calls, with gradient | compile, s | step, ms | products, ms "
    "| share | GFLOP/s in the step | scratch memory, MB |",
    "|---|---|---|---|---|---|---|---|",
  ]  # fmt: skip
  for name in config.arms:
    rows.append(row(config, name, data))
    print(rows[-1], flush=True)
  again = {
    S: memory(config, "final_target", data, supersteps=S) for S in (2, 6, 32)
  }
  flat = ", ".join(f"{x / 1e6:.1f}" for x in again.values())
  rows += ["", f"Scratch memory with 2, 6 and 32 supersteps: {flat} MB."]
  print(rows[-1])
  (HERE / "recursive.md").write_text("\n".join(rows) + "\n")


def row(config, name, data) -> str:
  arm = arms.arm_of(config, name, data)
  state = arm.init(jax.random.key(0))
  items = arms.items_of(config, data, 0)
  begun = time.perf_counter()
  compiled = arm.step.lower(state, items).compile()
  compiling = time.perf_counter() - begun
  scratch = compiled.memory_analysis().temp_size_in_bytes
  products, args = alone(config, arm, data)
  jax.block_until_ready(products(*args))
  state, _ = arm.step(state, items)
  steps, dots = [], []
  for _ in range(ROUNDS):
    begun = time.perf_counter()
    state, _ = jax.block_until_ready(arm.step(state, items))
    steps.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    jax.block_until_ready(products(*args))
    dots.append(time.perf_counter() - begun)
  step, dot = statistics.median(steps), statistics.median(dots)
  model = arm.model
  rate = arms.step_flops(arm, config.batch_size) / step / 1e9
  return (
    f"| {name} | {model.calls}, {model.calls_with_gradient} "
    f"| {compiling:.1f} | {1e3 * step:.1f} | {1e3 * dot:.1f} "
    f"| {dot / step:.0%} | {rate:.0f} | {scratch / 1e6:.1f} |"
  )


def memory(config, name, data, supersteps: int) -> int:
  config = config.copy_and_resolve_references()
  config.arms[name].supersteps = supersteps
  arm = arms.arm_of(config, name, data)
  state = jax.eval_shape(arm.init, jax.random.key(0))
  step = arm.step.lower(state, arms.items_of(config, data, 0)).compile()
  return step.memory_analysis().temp_size_in_bytes


def alone(config, arm, data):
  """The products of a step in a program of their own, and its arguments."""
  settings = {**config.model, **arm.settings.model}
  L, N, D = data.cells, config.batch_size, settings["width"]
  H, C = settings["hidden"], settings["cell_hidden"] or settings["hidden"]
  calls = arm.model.calls * settings["depth"]
  backward = arm.model.calls_with_gradient * settings["depth"]
  draw = lambda n, *shape: jax.random.normal(jax.random.key(n), shape)
  cell, channel = draw(0, L, N * D), draw(1, L * N, D)
  into, out = draw(2, C, L), draw(3, L, C)
  up, down = draw(4, D, H), draw(5, H, D)

  def forward(cell, channel):
    # Two in, one out: a gated MLP over cells, then one over channels.
    a, b = into @ cell, (into + 1.0) @ cell
    g, u = channel @ up, channel @ (up + 1.0)
    return (a, b, g, u), out @ a, g @ down

  def gradient(kept, cell, channel):
    a, b, g, u = kept
    da, dg = out.T @ cell, channel @ down.T
    weights = (
      cell @ a.T, g.T @ channel,  # of what goes out
      da @ cell.T, b @ cell.T, channel.T @ dg, channel.T @ u,
    )  # fmt: skip
    dcell = into.T @ da + (into + 1.0).T @ b
    dchannel = dg @ up.T + u @ (up + 1.0).T
    return weights, dcell, dchannel

  def run(cell, channel):
    kept = None
    for n in range(calls):
      kept, cell, channel = jax.lax.optimization_barrier(forward(cell, channel))
      cell, channel = 1e-3 * cell, 1e-3 * channel
      if n >= calls - backward:
        weights, cell, channel = jax.lax.optimization_barrier(
          gradient(kept, cell, channel)
        )
        cell, channel = 1e-3 * cell, 1e-3 * channel
    return cell, channel, kept, weights

  return jax.jit(run), (cell, channel)


if __name__ == "__main__":
  main()
