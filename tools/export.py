"""A trained arm of a pretrained model, as a folder that `transformers` loads.

  ./.venv/bin/python tools/export.py --workdir=runs/smollm2 --arm=code --out=DIR

DIR must be new or empty. Adapters are merged into the weights; all else, such
as config.json, the tokenizer and its chat template, is of the checkpoint that
the run began with. --best takes the kept checkpoint that validation liked most
instead of the last one.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp

from rsrc_jax import runs
from rsrc_jax.runtime import weights


def main(arguments: list[str] | None = None) -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--workdir", type=Path, required=True)
  flags.add_argument("--arm", required=True)
  flags.add_argument("--out", type=Path, required=True)
  flags.add_argument("--best", action="store_true", help="by validation")
  flags.add_argument("--dtype", default="float32",
                     choices=("float32", "bfloat16", "float16"))  # fmt: skip
  asked = flags.parse_args(arguments)
  try:
    export(asked.workdir, asked.arm, asked.out, asked.dtype, best=asked.best)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from None
  print(
    f"{asked.out}: AutoModelForCausalLM.from_pretrained({str(asked.out)!r})"
  )


def export(
  workdir: Path, arm: str, out: Path, dtype: str, *, best: bool = False
) -> None:
  """Writes `out`.

  Raises:
    ValueError: not of a pretrained model, `out` is not empty, or see runs.open
      and Run.params.
  """
  name = runs.read_config(workdir).get("model_name")
  if name != "pretrained":
    raise ValueError(
      f"{workdir} is a run of config.model_name={name!r}: only pretrained "
      "models have a form that others read."
    )
  weights.check_new(out)
  run = runs.open(workdir)
  checkpoint = run.setup.checkpoint
  weights.save(
    out, run.merged(arm, best=best), checkpoint.config, jnp.dtype(dtype),
    beside=weights.others(checkpoint.folder),
  )  # fmt: skip


if __name__ == "__main__":
  main()
