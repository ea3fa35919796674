"""Seeds in turn against seeds as an axis of one program, on this machine.

  ./.venv/bin/python benchmarks/population.py                (4 minutes)
  ./.venv/bin/python benchmarks/population.py --devices=2    (for shard_map)

The default config's RL arms: english_rl and code share a step, so that S seeds
are 2 S lanes. "loop" steps one lane after another with its own program. The
ways take turns; a ratio is of neighbours. Written to population.md, where the
rows of other devices and numbers of devices are kept.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HEADER = """# Seeds as an axis

Printed by benchmarks/population.py: lanes (seeds x arms) of the default config,
steps a second of a lane times the number of lanes.

| machine | seeds | way | lane steps/s | of the loop's | spread | compile s |
|---|---|---|---|---|---|---|"""


def main():
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--seeds", type=int, default=4)
  flags.add_argument("--steps", type=int, default=20, help="of a round")
  flags.add_argument("--rounds", type=int, default=5)
  flags.add_argument("--devices", type=int, default=1, help="of a CPU")
  asked = flags.parse_args()
  if asked.devices > 1:
    name = "--xla_force_host_platform_device_count"
    os.environ["XLA_FLAGS"] = (
      f"{os.environ.get('XLA_FLAGS', '')} {name}={asked.devices}"
    )
  sys.path.insert(0, str(ROOT))
  rows = measure(asked)
  print(HEADER)
  print("\n".join(rows))
  write(HERE / "population.md", rows)


def measure(asked) -> list[str]:
  """The rows of the table."""
  from rsrc_jax.runtime import cache

  cache.keep_programs()
  import jax

  from rsrc_jax.training import lane, together

  with tempfile.TemporaryDirectory() as scratch:
    grid = lanes(Path(scratch), asked.seeds)
    ways, seconds, compiling = {"loop": None, "vmap": None}, {}, {}
    if jax.device_count() > 1:
      ways["shard_map"] = together.mesh_of(asked.seeds)
    programs = {}
    for way, mesh in ways.items():
      begun = time.perf_counter()
      if way == "loop":
        grid = [[lane.advance(x, x.step + 1, {}) for x in row] for row in grid]
      else:
        programs[way] = together.compile_grid(grid, mesh)
      compiling[way] = time.perf_counter() - begun
    for number in range(asked.rounds + 1):
      for way in ways:
        until = grid[0][0].step + asked.steps
        begun = time.perf_counter()
        if way == "loop":
          grid = [[lane.advance(x, until, {}) for x in row] for row in grid]
        else:
          grid, _ = together.advance(grid, programs[way], until)
        if number:  # the first warms up
          taken = time.perf_counter() - begun
          seconds.setdefault(way, []).append(taken)
        grid = [[x._replace(window=[]) for x in row] for row in grid]
  count = sum(map(len, grid)) * asked.steps
  machine = f"{jax.devices()[0].device_kind} x {jax.device_count()}"
  return [
    row(machine, asked.seeds, way, count, seconds, compiling) for way in ways
  ]


def lanes(scratch: Path, seeds: int):
  """[S][2] lanes of the default config at their beginning."""
  from rsrc_jax.accounting import energy_sources
  from rsrc_jax.accounting.ledger import Ledger
  from rsrc_jax.build.setup import initial_params, make_setup
  from rsrc_jax.runtime import cache, configs, run_dir, run_log
  from rsrc_jax.stages import plan
  from rsrc_jax.stages.stage import arms_of, frozen_of
  from rsrc_jax.training import lane

  grid = []
  for seed in range(seeds):
    config = configs.load(ROOT / "configs" / "tiny.py")
    config.update({"seed": seed, "only": "english_rl,code"})
    setup = make_setup(config, cache.tokenizers(scratch))
    folder = scratch / str(seed)
    folder.mkdir()
    log = run_log.Log(folder, quiet=True)
    opened = run_dir.Run(folder, folder, log, stop=lambda: False)
    ledger = Ledger(None, energy_sources.open_meter())
    shared = lane.Shared(setup, None, ledger, opened)
    params = initial_params(setup)
    grid.append(
      [
        lane.open_lane(
          shared,
          stage,
          params,
          frozen_of(stage, {"base": params, "reader": params}),
          stage.name,
        )
        for stage in arms_of(plan.make_stages(setup))
      ]
    )
  return grid


def row(machine, seeds, way, count, seconds, compiling) -> str:
  ratios = [a / b for a, b in zip(seconds["loop"], seconds[way], strict=True)]
  return (
    f"| {machine} | {seeds} | {way} "
    f"| {count / statistics.median(seconds[way]):.1f} "
    f"| {statistics.median(ratios):.2f} "
    f"| {min(ratios):.2f} to {max(ratios):.2f} | {compiling[way]:.0f} |"
  )


def write(path: Path, rows: list[str]) -> None:
  """Adds the rows, in place of older ones of the same machine and seeds."""
  key = lambda line: tuple(x.strip() for x in line.split("|")[1:4])
  found = path.read_text().splitlines() if path.exists() else []
  table = [x for x in found if re.match(r"\| .+ \| \d+ \|", x)]
  kept = {key(x): x for x in table} | {key(x): x for x in rows}
  path.write_text("\n".join([HEADER, *kept.values()]) + "\n")


if __name__ == "__main__":
  main()
