"""A trained arm of a pretrained model, as a folder that `transformers` loads.

  ./.venv/bin/python tools/export.py --workdir=runs/smollm2 --arm=code --out=DIR

Adapters are merged into the weights; config.json and the tokenizer are those of
the checkpoint that the run began with.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rsrc_jax.build.setup import arm_config, initial_params, make_setup  # noqa: E402
from rsrc_jax.models import lora  # noqa: E402
from rsrc_jax.runtime import checkpoint, weights  # noqa: E402
from rsrc_jax.stages import plan  # noqa: E402

KEPT = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json",
        "generation_config.json", "special_tokens_map.json")  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--workdir", type=Path, required=True)
  flags.add_argument("--arm", required=True)
  flags.add_argument("--out", type=Path, required=True)
  flags.add_argument("--dtype", default="float32",
                     choices=("float32", "bfloat16", "float16"))  # fmt: skip
  asked = flags.parse_args(arguments)
  try:
    export(asked.workdir, asked.arm, asked.out, asked.dtype)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from None
  print(
    f"{asked.out}: AutoModelForCausalLM.from_pretrained({str(asked.out)!r})"
  )


def export(workdir: Path, arm: str, out: Path, dtype: str) -> None:
  """Writes `out`.

  Raises:
    ValueError: no run there, not of a pretrained model, or no such arm.
  """
  path = workdir / "config.json"
  if not path.is_file():
    raise ValueError(f"{workdir} holds no run: it has no config.json.")
  config = ml_collections.ConfigDict(json.loads(path.read_text()))
  if config.model_name != "pretrained":
    raise ValueError(
      f"{workdir} is a run of config.model_name={config.model_name!r}: only "
      "pretrained models have a form that others read."
    )
  setup = make_setup(config, workdir)
  phases = {phase.name: phase for phase in plan.make_stages(setup)}
  if arm not in phases:
    raise ValueError(f"--arm={arm!r} is none of {', '.join(phases)}.")
  base = initial_params(setup)
  saver = checkpoint.open_saver(
    workdir / "checkpoints" / arm,
    keep_last=config.checkpoint.keep_last,
    keep_best=config.checkpoint.keep_best,
    metric="nll_bits",
  )
  found = checkpoint.restore(saver, jax.eval_shape(phases[arm].init, base))
  checkpoint.close(saver)
  if found is None:
    raise ValueError(f"{workdir} has no checkpoint of {arm}.")
  params, settings = found[0].params, arm_config(config, arm)
  if settings.get("lora") and settings.lora.rank:
    params = lora.merge(base, params, settings.lora.alpha / settings.lora.rank)
  out = Path(out)
  weights.save(out, params, setup.checkpoint.config, jnp.dtype(dtype))
  for name in KEPT:
    if (file := setup.checkpoint.folder / name).is_file():
      shutil.copy(file, out / name)


if __name__ == "__main__":
  main()
