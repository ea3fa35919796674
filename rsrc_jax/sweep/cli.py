"""Grids of runs: planned, started, resumed, watched and collected.

  ./tools/sweep plan --config=configs/qa.py --seeds=0,1,2 --measure
  ./tools/sweep run --config=configs/qa.py --seeds=0,1,2 --jobs=2
  ./tools/sweep status | collect | cancel runs/qa
  ./tools/sweep logs runs/qa qa-0

Without a word it is `run`. docs/sweeps.md has the states and the files.
"""

import argparse
import fnmatch
import os
import sys
from pathlib import Path

from rsrc_jax.output.files import check_folder
from rsrc_jax.output.plain import lines, plain
from rsrc_jax.runtime import cache, places, provenance
from rsrc_jax.sweep import (
  actions,
  drive,
  files,
  local,
  machine,
  owner,
  plan,
  slurm,
  state,
  stored,
)
from rsrc_jax.sweep.plan import Plan, Run

COMMANDS = ("plan", "run", "status", "logs", "collect", "cancel")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main() -> None:
  """The command line of tools/sweep, and of `rsrc sweep`."""
  words = sys.argv[1:]
  if words and words[0].startswith("--") and words[0] != "--help":
    words = ["run", *words]
  flags, settings = _parser().parse_known_args(words)
  settings = [x for x in settings if x != "--"]
  try:
    if flags.command in ("plan", "run"):
      _plan_or_run(flags, settings)
      return
    if settings:
      raise ValueError(f"unknown argument {settings[0]!r}")
    named = flags.config or flags.into or flags.workdir
    if named and flags.folder and flags.command in ("logs", "cancel"):
      # The sweep is named by a flag: the first word is a run, too.
      flags.runs, flags.folder = [flags.folder, *flags.runs], None
    folder = _folder(flags)
    of = stored.load(folder)
    getattr(actions, f"on_{flags.command}")(folder, of, flags)
  except (ValueError, owner.Lost) as error:
    sys.exit(lines(f"error: {error}"))
  except OSError as error:
    sys.exit(
      lines(
        f"error: {files.said(error)}, and give the same command: nothing was "
        "left running."
      )
    )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="sweep", description=__doc__.splitlines()[0], allow_abbrev=False
  )
  commands = parser.add_subparsers(dest="command", required=True)
  said = {
    "plan": "the grid and what it costs; starts nothing",
    "run": "starts what isn't done, and waits",
    "status": "a line a run", "logs": "what a run printed",
    "collect": "tables of the results", "cancel": "stops all, or some runs",
  }  # fmt: skip
  for name in COMMANDS:
    one = commands.add_parser(name, help=said[name], allow_abbrev=False)
    if name not in ("plan", "run"):
      one.add_argument("folder", nargs="?", help="of the sweep: runs/NAME")
    if name in ("logs", "cancel"):
      one.add_argument("runs", nargs="*", help="names or ids of runs")
    one.add_argument("--config", help="a config file, or FILE:ARGUMENT")
    one.add_argument("--workdir", default="", help="the sweep's folder")
    one.add_argument("--into", default="", help="of experiments/: its results")
    if name in ("plan", "run"):
      _add_running(one)
  collect = commands.choices["collect"]
  collect.add_argument("--scores", default="", help="of summary.json: a.*.b,c")
  collect.add_argument("--partial", action="store_true", help="some may miss")
  return parser


def _add_running(one: argparse.ArgumentParser) -> None:
  add = one.add_argument
  add("--seeds", default="", help="0,1,2; the config's own")
  add("--variants", default="*", help="of get_sweep(): a,b*")
  add("--jobs", type=int, default=1, help="at a time")
  add("--cores", type=int, default=0, help="that runs may use, of all")
  add("--memory", type=_bytes, default=0, help="of a run: 4G")
  add("--grace", type=float, default=30.0, help="seconds from TERM to KILL")
  add("--retries", type=int, default=1, help="of a run that failed")
  add("--again", action="store_true", help="also what has failed for good")
  add("--together", choices=plan.TOGETHER, default="",
      help="seeds of a variant in one process")  # fmt: skip
  add("--slurm", help="write an sbatch script, start nothing")
  add("--plan", action="store_true", help="show the plan, start nothing")
  add("--measure", action="store_true", help="by a short run of each shape")


def _bytes(text: str) -> int:
  unit = UNITS.get(text[-1:].upper(), 0)
  return int(float(text[:-1]) * unit) if unit else int(text)


def _folder(flags: argparse.Namespace) -> Path:
  """The sweep's folder: as it is given, or runs/NAME of --into or --config.

  Raises:
    ValueError: neither is there.
  """
  runs = places.home() / "runs"
  if given := flags.workdir or getattr(flags, "folder", None):
    named = runs / given
    inside = named.is_dir() and not Path(given).exists()
    return named if inside else Path(given).absolute()
  if not flags.into and not flags.config:
    raise ValueError("which sweep? Give its folder, runs/NAME, or --config.")
  return runs / (flags.into or plan.stem(flags.config))


def _plan_or_run(flags: argparse.Namespace, settings: list[str]) -> None:
  if not flags.config:
    raise ValueError("give --config, a config file.")
  if flags.jobs < 1 or flags.retries < 0:
    raise ValueError("--jobs is at least 1, and --retries at least 0.")
  folder = _folder(flags)
  seeds = [int(x) for x in flags.seeds.split(",") if x]
  of = plan.plan(flags.config, folder, seeds=seeds, settings=settings)
  chosen = _chosen(of, flags.variants)
  if flags.slurm:
    left = [x for x in chosen if not state.done(x)]
    text = slurm.sbatch(plan.processes(left, flags.together))
    files.write_text(Path(flags.slurm), text)
    print(f"{len(left)} runs: sbatch --time=... {plain(flags.slurm)}")
  elif flags.command == "plan" or flags.plan:
    roots = [places.home() / "runs", folder]
    measure = (lambda runs: _drive(flags, folder / "measured", runs)) if (
      flags.measure) else None  # fmt: skip
    shown = of._replace(runs=chosen)
    print(actions.costs(shown, folder, roots, flags.jobs, measure))
  else:
    run(flags, folder, of, chosen)


def _chosen(of: Plan, variants: str) -> list[Run]:
  """The runs whose variant, or whole name, fits a pattern."""
  wanted = [y for x in variants.split(",") for y in (x, f"{x}-*")]
  fits = lambda run: any(fnmatch.fnmatchcase(run.name, x) for x in wanted)
  if not (found := [run for run in of.runs if fits(run)]):
    names = ", ".join(dict.fromkeys(run.variant for run in of.runs))
    raise ValueError(f"--variants={variants} is none of {names}.")
  return found


def run(
  flags: argparse.Namespace, folder: Path, of: Plan, chosen: list[Run]
) -> None:
  """Runs the chosen ones of a plan; exits with 1 if one isn't done."""
  check_folder(folder, "--workdir")
  state.check_inputs(of.runs)
  stored.save(folder, of)
  before = sum(map(state.done, chosen))
  found = _drive(flags, folder, chosen)
  if flags.into:
    results = places.home() / "experiments" / flags.into / "results"
    for one in chosen:
      if found[one.name].word == "done":
        text = (one.workdir / "summary.json").read_text()
        files.write_text(results / f"{one.name}.json", text)
  if left := drive.unfinished(found):
    sys.exit(lines(left))
  print(f"{len(chosen)} runs have ended, {len(chosen) - before} of them now.")


def _drive(
  flags: argparse.Namespace, folder: Path, runs: list[Run]
) -> dict[str, state.State]:
  environment = dict(os.environ)
  cache.keep_programs(environment)  # seeds run the same programs
  cores = machine.cores()
  cores = cores[: flags.cores] if flags.cores else cores
  if flags.jobs > len(cores):
    print(f"note: {flags.jobs} runs at a time share {len(cores)} cores.")
  executor = local.make(
    flags.jobs, environment=environment, memory=flags.memory,
    grace=flags.grace, cores=cores,
  )  # fmt: skip
  since = {}
  if flags.again:
    since = {run.id: len(state.attempts(run)) for run in runs}
    for one in runs:
      if (one.workdir / "sweep.json").is_file():
        state.cancel(one, False)
  how = drive.How(
    flags.together, flags.retries, since, provenance.revision(),
    lambda text: print(plain(text), flush=True),
  )  # fmt: skip
  return drive.drive(runs, executor, folder, how)
