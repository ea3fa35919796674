"""Five seeds of the default on a card that was not had: a forecast, on paper.

  ./.venv/bin/python benchmarks/gpu/forecast.py        (a minute, on a CPU)

The steps' FLOPs, bytes and kernels are those of the programs that XLA makes
here, for a CPU; a GPU's program fuses otherwise. The rates are a data sheet's,
and the time of a small kernel is assumed. `benchmarks/gpu.sh --only=seeds`
makes the same forecast with rates that it has measured, and runs the grid.
Written to benchmarks/gpu_forecast.md.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.seeds import Work, counted, predicted  # noqa: E402
from benchmarks.gpu.timing import Rates  # noqa: E402

# NVIDIA H100 SXM, by its data sheet: dense TF32, and the memory's bandwidth.
H100 = Rates({"float32": 494e12}, 3.35e12, kernel=4e-6)
SEEDS = 5


def main() -> None:
  from rsrc_jax.build.setup import make_setup
  from rsrc_jax.runtime import cache, configs
  from rsrc_jax.stages import plan
  from rsrc_jax.training import together

  cache.keep_programs()
  config = configs.load(ROOT / "configs" / "tiny.py")
  with tempfile.TemporaryDirectory() as scratch:
    setup = make_setup(config, cache.tokenizers(scratch))
    stages = plan.make_stages(setup)
    groups = [[stages[i] for i in group] for group in together.groups(stages)]
    work = [counted(setup, group[0]) for group in groups]
  text = page([(g, w) for g, w in zip(groups, work, strict=True)])
  print(text)
  (ROOT / "benchmarks" / "gpu_forecast.md").write_text(text + "\n")


def page(found: list[tuple[list, Work]]) -> str:
  """The table, from each group of stages and the work of one of its lanes."""
  rows, alone, joined = [], 0.0, 0.0
  for group, work in found:
    steps, arms = group[0].steps, len(group)
    one, every = (predicted(work, n, H100) for n in (1, SEEDS * arms))
    alone += SEEDS * arms * steps * one
    joined += steps * every
    rows.append(
      f"| {', '.join(x.name for x in group)} | {steps} | {SEEDS * arms} "
      f"| {work.flops / 1e9:.2f} | {work.moved / 1e9:.2f} | {work.kernels} "
      f"| {1e3 * one:.1f} | {1e3 * every:.1f} |"
    )
  rate, starting = H100.products["float32"], 0.0
  for group, work in found:
    starting += group[0].steps * work.kernels * H100.kernel
  return "\n".join([
    f"# {SEEDS} seeds of the default on one H100: a forecast",
    "",
    "Printed by benchmarks/gpu/forecast.py. Nothing here was run on a card. "
    f"Rates: {rate / 1e12:.0f} TFLOP/s (TF32, dense) and "
    f"{H100.bandwidth / 1e12:.2f} TB/s by the data sheet, "
    f"{1e6 * H100.kernel:.0f} microseconds a kernel by assumption; FLOPs, "
    "bytes and kernels of the programs that XLA makes for a CPU.",
    "",
    "| stages in one program | steps | lanes | GFLOP a lane | GB a lane "
    "| kernels | ms a step, one lane | ms a step, all lanes |",
    "|---|---|---|---|---|---|---|---|",
    *rows,
    "",
    f"Training alone: {alone / 60:.1f} minutes one lane after another, "
    f"{joined / 60:.1f} minutes as one program a row, {starting / 60:.1f} of "
    "them to start kernels. Compiling, evaluation and the timing of the "
    "service come on top and are not forecast.",
  ])  # fmt: skip


if __name__ == "__main__":
  main()
