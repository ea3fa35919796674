"""An sbatch script of a sweep: an array of its runs, which requeues them."""

import os
import shlex
from collections.abc import Sequence

from rsrc_jax.runtime import places
from rsrc_jax.sweep import state
from rsrc_jax.sweep.plan import Process

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


def sbatch(processes: Sequence[Process]) -> str:
  """A script for `sbatch --time=... FILE`: an array of the processes."""
  quoted = lambda process: shlex.quote(shlex.join(process.command))
  cases = [f"  {i}) command={quoted(x)} ;;" for i, x in enumerate(processes)]
  # What lies beside an accelerator image's own packages: tools/env.sh.
  own = [os.environ.get("PYTHONPATH")] if os.environ.get("RSRC_ENV") else []
  paths = os.pathsep.join(filter(None, own)) or str(places.PACKAGE.parent)
  return SBATCH.format(
    last=len(processes) - 1, saved=state.SAVED, cases="\n".join(cases),
    folder=shlex.quote(os.getcwd()), paths=shlex.quote(paths),
  )  # fmt: skip
