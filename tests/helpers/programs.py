"""The contract of every shipped training step, as a table.

  python tests/helpers/programs.py            writes tests/golden/programs.json
  python tests/helpers/programs.py --check    compares, and prints what differs

Of each step, at the shrunk shapes of the tests: that two calls compile once and
move nothing between host and device behind the caller's back, how many arrays
of the state are updated in place, the peak bytes of one device, and what eight
devices say to each other. A difference is not an error by itself: it has to be
looked at, and the table written anew.
"""

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":  # by hand: as the tests set it up
  sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
  import conftest  # noqa: F401

import jax  # noqa: E402

from rsrc_jax.accounting import hlo  # noqa: E402
from rsrc_jax.build.setup import initial_params, make_setup  # noqa: E402
from rsrc_jax.data import sources  # noqa: E402
from rsrc_jax.recursive import arms, puzzles  # noqa: E402
from rsrc_jax.runtime import sharding  # noqa: E402
from rsrc_jax.runtime.configs import load  # noqa: E402
from rsrc_jax.stages import plan  # noqa: E402
from rsrc_jax.stages.stage import frozen_of  # noqa: E402
from rsrc_jax.training import lane  # noqa: E402

TABLE = ROOT / "tests" / "golden" / "programs.json"
# XLA lays out memory anew with every version: bytes are held to this share.
BYTES = 0.05
SMALL = {
  "steps": 8, "batch_size": 8, "data.sentences": 400, "data.heldout": 32,
  "model.width": 16, "model.depth": 1, "model.hidden": 24,
  "pretrain.steps": 6, "pretrain.batch_size": 8, "patterns.cdv.group": 4,
  "eval.test_rows": 24, "eval.batch_size": 16,
}  # fmt: skip
CCV = {"buffer": 16, "parents": 8, "group": 4}


class Case(NamedTuple):
  """A stage of a shipped config."""

  config: str
  stage: str
  changes: dict[str, Any] = {}  # noqa: RUF012, never written to


CASES = {
  "reader": Case(
    "tiny", "reader", {"verifier.reader": 0.5, "reader.batch_size": 8},
  ),
  "base": Case("tiny", "base"),
  "rule": Case("tiny", "lead"),
  "cdv": Case("tiny", "code"),
  "gated": Case("random_vocabulary", "F"),
  "qa": Case("qa", "qa_cold", {"patterns.qa.group": 4, "patterns.qa.each": 2}),
  "ccv": Case(
    "ccv", "rewrite", {f"patterns.ccv.{k}": v for k, v in CCV.items()}
    | {"patterns.ccv.fresh.group": 4},
  ),
  "cc": Case("cc", "cc", {"patterns.cc.group": 2}),
  "recursive": Case("trm", "dis_random"),
}  # fmt: skip
QUICK = ("base",)  # compiled by other tests too
MESH = {"data": 2, "fsdp": 2, "tensor": 2}


def contract(name: str) -> dict[str, Any]:
  """The row of a case."""
  if CASES[name].config == "trm":
    return _row(*_recursive(CASES[name]))
  with tempfile.TemporaryDirectory() as folder:
    found = _row(*_stage(CASES[name], folder, {}))
    step, arguments = _stage(CASES[name], folder, MESH)
    text = step.lower(*arguments()).compile().as_text()
    talk = hlo.collectives(text)
    found["collectives"] = {k: int(times) for k, (times, _) in talk.items()}
  return found


def _row(step, arguments) -> dict[str, Any]:
  """step: jitted; arguments() -> the arguments of a call, on the device."""
  executable = step.lower(*arguments()).compile()
  memory = executable.memory_analysis()
  state, *rest = arguments()
  with jax.transfer_guard("disallow"):
    for _ in range(2):
      state, _ = step(state, *rest)
    jax.block_until_ready(state)
  aliases = re.search(
    r"input_output_alias=\{(.*?)\}, entry", executable.as_text()
  )
  return {
    "programs": step._cache_size(),
    "state_arrays": len(jax.tree.leaves(state)),
    "updated_in_place": len(re.findall(r"may-alias|must-alias", aliases[1])),
    "peak_bytes": memory.argument_size_in_bytes + memory.output_size_in_bytes
    + memory.temp_size_in_bytes - memory.alias_size_in_bytes,
  }  # fmt: skip


def _stage(case: Case, folder: str, mesh: dict[str, int]):
  config = load(ROOT / "configs" / f"{case.config}.py")
  config.update_from_flattened_dict(SMALL | case.changes)
  config.mesh.update(mesh)
  if case.stage not in ("base", "reader"):
    # The arms that it starts from are not trained: any parameters will do.
    config.arms[case.stage].start = "base"
    config.only = case.stage
  setup = make_setup(config, Path(folder))
  stages = {stage.name: stage for stage in plan.make_stages(setup)}
  stage = stages[case.stage]
  params = initial_params(setup)
  frozen = frozen_of(stage, {"base": params, "reader": params})
  place = lambda tree: sharding.put(tree, sharding.shardings(setup.mesh, tree))

  def arguments():
    state = place(stage.init(params))
    batch = sources.batch(lane.rows_of(setup, stage), 0, stage.batch_size)
    batch = sharding.rows(setup.mesh, batch)
    controls = stage.controls(state, place(frozen), batch)
    return jax.device_put(state), place(frozen), batch, controls

  return stage.step, arguments


def _recursive(case: Case):
  config = load(ROOT / "configs" / f"{case.config}.py")
  config.data.update({"side": 4, "train": 12, "heldout": 4})
  config.model.update({"width": 16, "hidden": 16, "cell_hidden": 16})
  config.batch_size = 8
  config.arms[case.stage].update({"steps": 6, "supersteps": 3})
  data = puzzles.load(**config.data, seed=0)
  arm = arms.arm_of(config, case.stage, data)

  def arguments():
    state = arm.init(jax.random.key(0))
    return jax.device_put((state, arms.items_of(config, data, 0)))

  return arm.step, arguments


def differences(name: str, stored: dict[str, Any]) -> list[str]:
  """What a row is now and was not when the table was written."""
  return compare(name, stored, contract(name))


def compare(name: str, stored: dict, found: dict) -> list[str]:
  """A sentence on each value that differs; bytes may by a share of BYTES."""
  said = []
  for key in sorted({*found, *stored}):
    now, before = found.get(key), stored.get(key)
    alike = now == before
    if key == "peak_bytes" and now and before:
      alike = abs(now / before - 1) <= BYTES
    if not alike:
      said.append(f"{name}.{key}: {before} in the table, {now} now")
  return said


def main(arguments: list[str]) -> int:
  """The command line."""
  if arguments not in ([], ["--check"]):
    print(__doc__, file=sys.stderr)
    return 2
  if arguments:
    stored = json.loads(TABLE.read_text())["steps"]
    said = [x for name in CASES for x in differences(name, stored[name])]
    print("\n".join(said) or "All steps are as in the table.")
    return 1 if said else 0
  table = {"jax": jax.__version__, "mesh": MESH}
  table["steps"] = {name: contract(name) for name in CASES}
  TABLE.write_text(json.dumps(table, indent=1) + "\n")
  print(TABLE.read_text())
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
