"""The command line: flags -> train.train(config, workdir) -> a report.

  rsrc --config=tiny --config.steps=100       trains
  rsrc --list                                 the shipped configs
  rsrc sweep | report | codes | accounting    further commands, with --help

An installed package has the command `rsrc`; a clone has ./tools/run.
"""

import os
import runpy
import shlex
import sys
import traceback
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from rsrc_jax.output.plain import complain, lines, plain
from rsrc_jax.runtime import cache, cards, configs, listing, named, places

# What `rsrc` runs besides training: a word, and the module that it starts.
COMMANDS = {
  "sweep": "rsrc_jax.sweep",
  "report": "rsrc_jax.report",
  "codes": "rsrc_jax.report.codes_text",
  "accounting": "rsrc_jax.accounting",
}
# Loops with faster steps if glibc keeps XLA's scratch memory, which must be set
# before jax is imported (see cache.keep_memory).
KEEP_MEMORY = ("rsrc_jax.recursive.loop",)
# Without a default here, which would be read, and could fail, at the import.
CONFIG = config_flags.DEFINE_config_file(
  "config", None,
  "Experiment to run: a path, or a shipped config's name; default: default.",
)  # fmt: skip
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Run directory; default: runs/<config>-seed<seed>."
)
COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of process 0, if several run one job."
)
PROCESSES = flags.DEFINE_integer("processes", None, "How many run this job.")
PROCESS = flags.DEFINE_integer(
  "process", None, "Which of them this is, from 0."
)
CLUSTER = flags.DEFINE_bool(
  "cluster", False, "Let jax find the other processes (TPU pods). Processes of "
  "srun or mpirun are found without it."
)  # fmt: skip


LIST = flags.DEFINE_bool(
  "list", False, "Prints the shipped configs, their costs and expected numbers."
)


def check_machine() -> None:
  """Ends the process, in one line, where packages or a card do not fit."""
  try:
    from rsrc_jax.runtime import versions  # needs a package itself

    for note in [*versions.check(), *cards.check()]:
      print(f"note: {note}", file=sys.stderr)
  except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed: pip install {error.name}.")
  except ValueError as error:
    sys.exit(lines(f"error: {error}"))


def main(argv: list[str]) -> None:
  """Trains, prints the results table and the path of the report."""
  if len(argv) > 1:
    raise app.UsageError(
      f"unknown argument {argv[1]!r}: flags start with --, and the commands "
      f"of rsrc are {', '.join(COMMANDS)}"
    )
  if LIST.value:
    print(listing.table())
    return
  check_machine()
  cache.keep_programs()
  absl_logging.set_verbosity(absl_logging.WARNING)
  # Orbax logs, with a traceback, what it raises as well.
  absl_logging.get_absl_logger().addFilter(
    lambda record: "raised an exception" not in record.getMessage()
  )
  # Imported late, so that wrong flags are refused without waiting for jax.
  import jax
  from rich.console import Console

  from rsrc_jax.runtime import failures, processes
  from rsrc_jax.runtime.signals import Interrupted

  config = CONFIG.value
  if named.loop_path(config) in KEEP_MEMORY:
    cache.keep_memory()
  name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
  workdir = Path(
    WORKDIR.value or places.home() / "runs" / f"{name}-seed{config.seed}"
  )
  console = Console(stderr=True)
  try:
    processes.join(
      COORDINATOR.value, PROCESSES.value, PROCESS.value, cluster=CLUSTER.value
    )
    cards.check_used(cards.backend())
    loop = named.loop_of(config)
    summary = loop.train(config, workdir)
  except Interrupted as stopped:
    command = shlex.join([places.command(sys.argv[0]), *sys.argv[1:]])
    # Not wrapped, so that the command can be copied.
    text = f"Stopped: {stopped}. Go on with:\n  {command}"
    console.print(lines(text), style="bold", soft_wrap=True, markup=False)
    sys.exit(3)
  except Exception as error:
    said = failures.line(error, workdir)
    if os.environ.get("RSRC_TRACEBACK") and said is not None:
      raise
    if said is not None:
      console.print(
        lines(f"error: {said}"), style="bold red", soft_wrap=True, markup=False
      )
      processes.leave(failures.code(error))
    if not jax.distributed.is_initialized():
      raise
    traceback.print_exc()
    console.print(
      f"error: process {processes.index()} of {processes.count()} can't go on "
      f"({plain(str(error))[:200]}): another one may have died. When all have "
      "ended, start them again as before: the run goes on from its last "
      "checkpoint.",
      style="bold red", soft_wrap=True, markup=False,
    )  # fmt: skip
    processes.leave(1)
  if processes.first() and hasattr(loop, "show"):  # optional
    _show(loop, summary, workdir)


def _show(loop, summary: dict, workdir: Path) -> None:
  """Prints the tables of a run that has ended, and writes its report."""
  from rsrc_jax.output import tables  # imports rich

  try:
    path, found = loop.show(summary, workdir)
  except OSError as error:
    complain(
      f"--workdir={workdir}: the report can't be written ({error.strerror}); "
      "the results are in summary.json. Make the folder writable, or free some "
      "space, and give the same command."
    )
    sys.exit(1)
  for table in found:
    tables.show(table, end="\n\n")
  print(f"report: {plain(path)}")


def cli() -> None:
  """The command `rsrc`: trains, or starts what its first word names."""
  word = sys.argv[1] if len(sys.argv) > 1 else ""
  if word in COMMANDS:
    del sys.argv[1]
    runpy.run_module(COMMANDS[word], run_name="__main__", alter_sys=True)
    return
  try:
    line = [sys.argv[0], *configs.resolved(sys.argv[1:], default="default")]
  except ValueError as error:
    sys.exit(lines(f"error: {error}"))
  app.run(main, argv=line, flags_parser=parse)


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; ends the process, in one line, where they are wrong."""
  try:
    return configs.parsed(argv)
  except ValueError as error:
    sys.exit(lines(f"error: {error}"))


if __name__ == "__main__":
  cli()
