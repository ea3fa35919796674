"""Every numeric setting of every config, by values that could be wrong.

  ./.venv/bin/python benchmarks/settings.py tried --part=1/3   (and 2/3, 3/3)
  ./.venv/bin/python benchmarks/settings.py run --part=1/4     (to 4/4)
  ./.venv/bin/python benchmarks/settings.py table

`tried` checks each case as a run does before its data are read: it is accepted,
or refused in one line that names it, within two seconds of CPU. `run` takes 20
of the accepted ones at random, shrinks their configs and trains them for two
steps. Outcomes are kept in settings.json, and `table` prints settings.md.
"""

import argparse
import collections
import json
import random
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers import setting_cases, small_checkpoint  # noqa: E402
from helpers.runs import SHRUNK  # noqa: E402
from helpers.setting_cases import (  # noqa: E402
  ACCEPTED,
  CONFIGS,
  KINDS,
  VALUES,
  Case,
)

from rsrc_jax.runtime import named  # noqa: E402

STORE = HERE / "settings.json"
SEED, RUNS = 0, 20
# Configs whose data are made at once, without a download or an extra.
RUNNABLE = (
  "append_hack", "cc", "ccv", "mixed", "qa", "random_vocabulary",
  "recursive_policy", "tiny", "trm", "dead_compute",
)  # fmt: skip
POLICY = {
  **SHRUNK, "steps": 2, "pretrain.steps": 2, "pretrain.warmup_from": 1,
  "eval.every": 2, "checkpoint.every": 2, "log_every": 1, "only": "",
  "batch_size": 8, "model.width": 32,
}  # fmt: skip
BY_CONFIG = {
  "cc": {"only": "code"}, "ccv": {"only": "early,rewrite",
  "patterns.ccv.parents": 4, "patterns.ccv.buffer": 32},
  "mixed": {"only": "code"}, "qa": {"only": "code,qa"},
  "append_hack": {"only": "none_4"}, "random_vocabulary": {"only": "F"},
  "tiny": {"only": "code"}, "recursive_policy": {"only": "code"},
}  # fmt: skip
RECURSIVE = {
  "data.side": 4, "data.train": 12, "data.heldout": 4, "model.width": 16,
  "model.hidden": 16, "model.cell_hidden": 16, "batch_size": 8,
  "log_every": 1, "eval.every": 2, "eval.rows": 4, "eval.batch_size": 4,
  "eval.causal_rows": 2, "eval.samples": 1, "checkpoint.every": 2,
  "only": "final_target", "arms.final_target.steps": 2,
}  # fmt: skip


def cases() -> list[Case]:
  """All of them, in a fixed order."""
  return [
    Case(config, field, value)
    for config in CONFIGS
    for field in setting_cases.fields(config)
    for value in VALUES
  ]


def try_all(part: slice) -> None:
  """Adds the outcomes of some cases to the store."""
  store, counts = load(), collections.Counter()
  others, slowest = [], 0.0
  with tempfile.TemporaryDirectory() as folder:
    checkpoint = small_checkpoint.make(Path(folder) / "checkpoint")
    every = cases()[part]
    for case in every:
      found = setting_cases.tried(case, checkpoint)
      counts[case.config, found.kind] += 1
      slowest = max(slowest, found.seconds)
      if found.kind == setting_cases.OTHER:
        others.append([repr(case), found.said])
  store["tried"][f"{part.start}/{part.step}"] = {
    "counts": [[*key, n] for key, n in sorted(counts.items())],
    "cases": len(every), "slowest_cpu_seconds": round(slowest, 3),
    "others": others,
  }  # fmt: skip
  save(store)
  print(counts.total(), "tried,", len(others), "other")


def run_some(part: slice) -> None:
  """Trains some of the accepted cases, two steps each."""
  store = load()
  with tempfile.TemporaryDirectory() as folder:
    checkpoint = small_checkpoint.make(Path(folder) / "checkpoint")
    for case in chosen(checkpoint)[part]:
      begun = time.monotonic()
      said = trained(case, Path(folder) / f"{time.monotonic_ns()}")
      row = [case.config, case.field, repr(case.value), said]
      store["run"] = [x for x in store["run"] if x[:3] != row[:3]]
      store["run"].append([*row, round(time.monotonic() - begun, 1)])
      save(store)
      print(row, flush=True)


def chosen(checkpoint: Path) -> list[Case]:
  """RUNS accepted cases, each of another field, drawn with a seed."""
  drawn = [x for x in cases() if x.config in RUNNABLE]
  random.Random(SEED).shuffle(drawn)
  found, seen = [], set()
  for case in drawn:
    if len(found) == RUNS:
      return found
    changes = unlike_default(case)
    if case.field in seen or not changes:
      continue
    if setting_cases.tried(case, checkpoint).kind == ACCEPTED:
      seen.add(case.field)
      found.append(case)
  return found


def unlike_default(case: Case) -> bool:
  """Whether the value is another than the config's."""
  arm, _, field = case.field.rpartition(":")
  config = setting_cases.configs.load_config(case.config)
  if arm:
    return dict(config.arms[arm].overrides)[field] != case.value
  for part in field.split("."):
    config = config[part]
  return config != case.value


def trained(case: Case, workdir: Path) -> str:
  """What becomes of a shrunk run of a case."""
  shrink = RECURSIVE if case.config in ("trm", "dead_compute") else POLICY
  shrink = shrink | BY_CONFIG.get(case.config, {})
  if "." in case.field and case.field.startswith("arms."):
    shrink = shrink | {"only": case.field.split(".")[1]}
  known = setting_cases.configs.load_config(case.config)
  shrink = {
    name: value for name, value in shrink.items()
    if name != case.field and there(known, name)
  }  # fmt: skip
  try:
    config = setting_cases.changed(case, **shrink)
    named.loop_of(config).train(config, workdir)
  except (ValueError, FloatingPointError) as error:
    said = str(error)
    kind = "a line" if "\n" not in said else "LINES"
    return f"{kind}: {said[:160]}"
  except Exception as error:
    return f"FAILED: {type(error).__name__}: {str(error)[:300]}"
  return "trained"


def there(config, name: str) -> bool:
  """Whether a config has a setting."""
  for part in name.split("."):
    if not hasattr(config, "get") or part not in config:
      return False
    config = config[part]
  return True


def load() -> dict:
  """What is stored so far."""
  if STORE.exists():
    return json.loads(STORE.read_text())
  return {"tried": {}, "run": []}


def save(store: dict) -> None:
  """Writes the outcomes."""
  STORE.write_text(json.dumps(store, indent=1) + "\n")


def table() -> str:
  """settings.md."""
  store, counts = load(), collections.Counter()
  for part in store["tried"].values():
    for config, kind, n in part["counts"]:
      counts[config, kind] += n
  slowest = max(x["slowest_cpu_seconds"] for x in store["tried"].values())
  others = [x for part in store["tried"].values() for x in part["others"]]
  total = lambda kind: sum(counts[x, kind] for x in CONFIGS)
  lines = [
    "# Settings that could be wrong",
    "",
    "Printed by `benchmarks/settings.py table`. Every numeric field of every",
    f"config, with each of {len(VALUES)} values (nan, infinities, zeros, small",
    "numbers, negative and huge ones, a text, None, True, a tuple), is",
    "accepted, or refused in one line that names it, before data are read.",
    "`other` is a traceback, a message without the field, or more than two CPU",
    "seconds.",
    f"Stored are {sum(counts.values())} of {len(cases())} cases. The slowest",
    f"took {slowest} CPU seconds.",
    "",
    "| config | fields | tried | refused | accepted | other |",
    "|---|---|---|---|---|---|",
  ]
  for config in CONFIGS:
    row = [counts[config, kind] for kind in KINDS]
    fields = len(setting_cases.fields(config))
    lines.append(row_of(config, fields, sum(row), *row))
  whole = [total(kind) for kind in KINDS]
  fields = sum(len(setting_cases.fields(x)) for x in CONFIGS)
  lines.append(row_of("**all**", fields, sum(whole), *whole))
  lines += ["", *(f"- other: {case}: {said}" for case, said in others)]
  lines += [
    f"{len(store['run'])} of the accepted ones, drawn with seed {SEED}, on",
    "shrunk configs for two steps a stage:", "",
    "| config | field | value | what became of it |", "|---|---|---|---|",
  ]  # fmt: skip
  lines += [row_of(*x[:4]) for x in store["run"]]
  return "\n".join(lines) + "\n"


def row_of(*cells) -> str:
  """A row of a table."""
  return f"| {' | '.join(str(x).replace('|', '/') for x in cells)} |"


def main() -> None:
  """Runs what the command line asks for."""
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("what", choices=("tried", "run", "table"))
  parser.add_argument("--part", default="1/1", help="1/3: the first of three")
  asked = parser.parse_args()
  number, count = map(int, asked.part.split("/"))
  part = slice(number - 1, None, count)
  if asked.what == "table":
    (HERE / "settings.md").write_text(table())
    print(table())
    return
  {"tried": try_all, "run": run_some}[asked.what](part)


if __name__ == "__main__":
  main()
