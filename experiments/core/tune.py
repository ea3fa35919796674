"""Stores the trials of tuning, and prints which bonus each arm is to have.

  ./tools/sweep run --config=experiments/core/sweep.py:tune
  ./.venv/bin/python experiments/core/tune.py runs/core_tune/tune-10* ...

Reads the validation lines of the run on seed 10 (or of several, each with some
of the arms by config.only) and writes tuning.json beside this file: of each
trial the bits conveyed at the last look. The largest wins,
and is entered into registration.json by hand.
"""

import json
import sys
from pathlib import Path

from rsrc_jax.runtime import run_log

HERE = Path(__file__).resolve().parent


def trials(lines: list[dict]) -> dict[str, dict[str, float]]:
  """Arm -> trial -> bits conveyed on validation at the last look."""
  found = {}
  for line in lines:
    if line.get("split") == "valid" and "bits_conveyed" in line:
      arm, trial = line["phase"].rsplit("_", 1)
      found.setdefault(arm, {})[trial] = line["bits_conveyed"]
  return found


def main(workdirs: list[str]):
  lines = [run_log.read_jsonl(Path(x) / "metrics.jsonl") for x in workdirs]
  found = trials([x for of in lines for x in of])
  (HERE / "tuning.json").write_text(json.dumps(found, indent=2) + "\n")
  for arm, of in found.items():
    said = ", ".join(f"{k} {x:.2f}" for k, x in of.items())
    print(f"{arm}: {max(of, key=of.get)} ({said})")


if __name__ == "__main__":
  main(sys.argv[1:])
