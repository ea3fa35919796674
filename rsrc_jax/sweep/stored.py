"""SWEEP/plan.json: which runs the sweep of a folder has.

A folder has one sweep. Its plan stays as it is, but for being replaced by one
that has all of its runs and more: further seeds, or further variants.
"""

from pathlib import Path

from rsrc_jax.sweep import files
from rsrc_jax.sweep.plan import Plan, Run


def path(folder: Path) -> Path:
  """The file of a folder's plan."""
  return folder / "plan.json"


def save(folder: Path, plan: Plan) -> None:
  """Writes the plan, unless the folder's own has all of its runs already.

  Raises:
    ValueError: the folder has another sweep: each has runs that the other has
      not.
    OSError: it can't be written.
  """
  if path(folder).is_file():
    have = {x.workdir.name: x for x in load(folder).runs}
    want = {x.workdir.name: x for x in plan.runs}
    if want.keys() <= have.keys():
      return
    if missing := [x.name for k, x in have.items() if k not in want]:
      raise ValueError(
        f"{folder} has another sweep, whose {missing[0]} is not in this one: "
        "give --workdir, or the settings, seeds and variants of both."
      )
  runs = [
    run._asdict() | {"workdir": run.workdir.name, "argv": list(run.argv)}
    for run in plan.runs
  ]
  values = {"config": plan.config, "settings": plan.settings, "runs": runs}
  files.write(path(folder), values)


def load(folder: Path) -> Plan:
  """The plan of a folder.

  Raises:
    ValueError: it has none.
  """
  found = files.read(path(folder))
  if found is None:
    raise ValueError(
      f"{folder} has no plan.json: ./tools/sweep run --config=... makes one."
    )
  runs = [
    Run(**(x | {"workdir": folder / x["workdir"], "argv": tuple(x["argv"])}))
    for x in found["runs"]
  ]
  return Plan(found["config"], found["settings"], runs)


def run_called(plan: Plan, name: str) -> Run:
  """The run of a name, VARIANT-SEED, or of an id.

  Raises:
    ValueError: there is none.
  """
  found = [x for x in plan.runs if name in (x.name, x.id, x.workdir.name)]
  if not found:
    names = ", ".join(x.name for x in plan.runs[:5])
    more = f", and {len(plan.runs) - 5} more" if len(plan.runs) > 5 else ""
    raise ValueError(f"there is no run {name!r}, but {names}{more}.")
  return found[0]
