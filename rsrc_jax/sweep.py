"""Many runs of one config (seeds, variants) on the cores of this machine.

  ./tools/sweep --config=configs/qa.py --seeds=0,1,2 --jobs=2
  ./tools/sweep --config=configs/qa.py --seeds=0,1,2 --into=qa --config.only=
  ./tools/sweep --config=configs/qa.py --seeds=0,1,2 --slurm=qa.sbatch
  ./tools/sweep --config=configs/qa.py --seeds=0,1,2 --together=vmap

A config file may have get_sweep(), which yields overrides, a dict for each
variant: {"name": "unforced", "curriculum.hidden": 0.0}. A run's folder is
runs/NAME/VARIANT-SEED-ID, where ID is a hash of all its settings. The command
can be repeated: finished runs are skipped, interrupted ones are resumed. With
--together, the seeds of a variant share a process: see rsrc_jax/population.py.
"""

import argparse
import fnmatch
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.runtime import cache, configs, places, provenance

TOGETHER = ("auto", "loop", "vmap", "shard_map")  # rsrc_jax/population.py
SAVED = 3  # the exit status of a run that a signal stopped


class Job(NamedTuple):
  """A process to start, and the folder of its summary.json and output."""

  name: str
  command: Sequence[str]
  workdir: Path


def plan(
  path: str | Path,
  runs: Path,
  *,
  seeds: Sequence[int] = (),
  variants: Iterable[dict[str, Any]] | None = None,
  settings: Sequence[str] = (),
) -> list[Job]:
  """The runs of a config file.

  Args:
    path: of the config, or the name of a shipped one.
    runs: the folder of the runs' folders.
    seeds: for every variant that sets none; by default the config's own.
    variants: overrides by dotted name; by default those of get_sweep().
    settings: `--config.NAME=VALUE` for all runs.

  Raises:
    ValueError: an unknown setting, or two runs with one name.
  """
  path = configs.find(path)
  if variants is None:
    variants = getattr(configs.module(path), "get_sweep", lambda: [{}])()
  jobs = {}
  for overrides in map(dict, variants):
    variant = overrides.pop("name", Path(path).stem)
    every = [] if "seed" in overrides else [{"seed": x} for x in seeds]
    for seed in every or [{}]:
      own = (overrides | seed).items()
      argv = [f"--config.{name}={value}" for name, value in own]
      argv = [f"--config={path}", *settings, *argv]
      config = configs.from_flags(argv)
      name = f"{variant}-{config.seed}"
      if name in jobs:
        raise ValueError(f"two runs are called {name}: name the variants.")
      workdir = folder(runs, variant, config)
      command = [sys.executable, "-m", "rsrc_jax.main", *argv]
      jobs[name] = Job(name, [*command, f"--workdir={workdir}"], workdir)
  return list(jobs.values())


def folder(runs: Path, variant: str, config: Any) -> Path:
  """The run directory of a config of a sweep."""
  return runs / f"{variant}-{config.seed}-{provenance.identity(config)}"


def joined(jobs: Sequence[Job], how: str) -> list[Job]:
  """One job for all seeds of a variant, in one process.

  how: of rsrc_jax.population.
  """
  groups = {}
  for job in jobs:
    *argv, _ = job.command[3:]  # without --workdir
    seed = [x for x in argv if x.startswith("--config.seed=")]
    variant = job.name.rpartition("-")[0]
    same = tuple(x for x in argv if x not in seed)
    groups.setdefault((variant, same), []).append(job)
  return [_joined(*key, own, how) for key, own in groups.items()]


def _joined(
  variant: str, argv: Sequence[str], jobs: list[Job], how: str
) -> Job:
  seeds = ",".join(job.name.rpartition("-")[2] for job in jobs)
  runs = jobs[0].workdir.parent
  command = [
    sys.executable, "-m", "rsrc_jax.population", f"--together={how}",
    f"--seeds={seeds}", f"--runs={runs}", f"--variant={variant}", *argv,
  ]  # fmt: skip
  return Job(f"{variant}-{seeds}", command, jobs[0].workdir)


def run(jobs: Sequence[Job], at_a_time: int = 1) -> dict[str, int]:
  """Runs each job in a process of its own. -> exit status by name.

  If several run at a time, each is pinned to a core and writes to
  WORKDIR/output.log; otherwise a job writes to the terminal. SIGTERM and Ctrl-C
  are forwarded as SIGTERM. A job that was not started has no status.
  """
  env = dict(os.environ)
  cache.keep_programs(env)  # seeds run the same programs
  cores = sorted(getattr(os, "sched_getaffinity", lambda _: {0})(0))
  free = [cores[i % len(cores)] for i in range(at_a_time)]
  waiting, running, status = list(jobs), {}, {}
  signals, forwarded = [], False
  note = lambda number, _: signals.append(number)
  before = {x: signal.signal(x, note) for x in (signal.SIGTERM, signal.SIGINT)}
  try:
    while running or (waiting and not signals):
      while waiting and free and not signals:
        job, core = waiting.pop(0), free.pop(0)
        print(f"== {job.name}: {job.workdir}", flush=True)
        pinned = core if at_a_time > 1 else None
        running[job.name] = _start(job, env, pinned), core
      time.sleep(0.05)
      if signals and not forwarded:
        forwarded = True
        for process, _ in running.values():
          process.send_signal(signal.SIGTERM)
      for name, (process, core) in list(running.items()):
        if process.poll() is not None:
          status[name] = process.returncode
          free.append(core)
          del running[name]
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  return status


def _start(job: Job, env: dict[str, str], core: int | None) -> subprocess.Popen:
  # In its own session, so that it gets a Ctrl-C only once, from `run`.
  how = {"env": env, "start_new_session": True}
  if core is None:
    return subprocess.Popen(job.command, **how)
  pin = getattr(os, "sched_setaffinity", lambda *_: None)
  how["preexec_fn"] = lambda: pin(0, {core})
  job.workdir.mkdir(parents=True, exist_ok=True)
  with (job.workdir / "output.log").open("a") as log:
    both = {"stdout": log, "stderr": subprocess.STDOUT}
    return subprocess.Popen(job.command, **how, **both)


def check(jobs: Sequence[Job], status: dict[str, int]) -> None:
  """Raises SystemExit if a job has not finished, with a line for each."""
  words, failures = {None: "was not started", SAVED: "was interrupted"}, []
  for job in (job for job in jobs if status.get(job.name) != 0):
    code, log = status.get(job.name), job.workdir / "output.log"
    what = f"{job.name} {words.get(code, f'failed with {code}')}"
    lines = log.read_text().splitlines() if log.is_file() else []
    failures.append(": ".join([what, *lines[-1:]]))
  if failures:
    raise SystemExit("\n".join([*failures, "The same command resumes them."]))


SBATCH = """#!/bin/bash
#SBATCH --array=0-{last} --requeue --open-mode=append
#SBATCH --signal=B:USR1@120 --output=%A_%a.log
cd {folder} && export PYTHONPATH={paths} || exit 1
case $SLURM_ARRAY_TASK_ID in
{cases}
esac
# A TERM to srun kills the step at once, so the signal goes to the step itself.
trap : TERM
trap 'scancel --signal=TERM "$SLURM_JOB_ID.0"' USR1
eval "srun --unbuffered $command" & pid=$!; wait $pid; code=$?
while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done
me=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID  # the job id may be the array's
case $code in {saved}|134|137|143)
  [ "${{SLURM_RESTART_COUNT:-0}}" -lt 20 ] &&
    scontrol requeue "$me" && sleep 120
esac
exit $code
"""


def sbatch(jobs: Sequence[Job]) -> str:
  """A script for `sbatch --time=... FILE`: an array of the jobs."""
  quoted = lambda job: shlex.quote(shlex.join(job.command))
  cases = [f"  {i}) command={quoted(job)} ;;" for i, job in enumerate(jobs)]
  # What lies beside an accelerator image's own packages: tools/env.sh.
  own = [os.environ.get("PYTHONPATH")] if os.environ.get("RSRC_ENV") else []
  paths = os.pathsep.join(filter(None, own)) or str(places.PACKAGE.parent)
  return SBATCH.format(
    last=len(jobs) - 1, saved=SAVED, cases="\n".join(cases),
    folder=shlex.quote(os.getcwd()), paths=shlex.quote(paths),
  )  # fmt: skip


def main() -> None:
  """The command line of tools/sweep, and of `rsrc sweep`."""
  parser = argparse.ArgumentParser(
    description=__doc__.splitlines()[0], allow_abbrev=False
  )
  parser.add_argument("--config", required=True, help="a config file")
  parser.add_argument("--seeds", default="", help="0,1,2; the config's own")
  parser.add_argument("--variants", default="*", help="of get_sweep(): a,b*")
  parser.add_argument("--jobs", type=int, default=1, help="at a time")
  parser.add_argument("--together", choices=TOGETHER, default="",
                      help="seeds of a variant in one process")  # fmt: skip
  parser.add_argument("--into", default="", help="of experiments/: its results")
  parser.add_argument("--slurm", help="write an sbatch script, start nothing")
  flags, settings = parser.parse_known_args()
  name = flags.into or Path(flags.config).stem
  wanted = [f"{x}-*" for x in flags.variants.split(",")]
  try:
    seeds = [int(x) for x in flags.seeds.split(",") if x]
    jobs = plan(flags.config, places.home() / "runs" / name, seeds=seeds,
                settings=[x for x in settings if x != "--"])  # fmt: skip
  except (ValueError, OSError) as error:
    raise SystemExit(f"error: {error}") from None
  jobs = [j for j in jobs if any(fnmatch.fnmatch(j.name, x) for x in wanted)]
  summary = lambda job: job.workdir / "summary.json"
  left = [job for job in jobs if not summary(job).is_file()]
  if flags.slurm:
    Path(flags.slurm).write_text(sbatch(left))
    return print(f"{len(left)} runs: sbatch --time=... {flags.slurm}")
  started = joined(left, flags.together) if flags.together else left
  status = run(started, flags.jobs)
  results = places.home() / "experiments" / name / "results"
  for job in jobs if flags.into else ():
    if summary(job).is_file():
      results.mkdir(parents=True, exist_ok=True)
      shutil.copy(summary(job), results / f"{job.name}.json")
  check(started, status)
  print(f"{len(jobs)} runs have ended, {len(left)} of them now.")


if __name__ == "__main__":
  main()
