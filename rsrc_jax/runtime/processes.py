"""Several processes that run one program: a TPU pod, a cluster, one machine.

All processes run the same host code on the same config and corpus. Each holds
its own rows of a batch and its own parts of the parameters. Process 0 writes
the run directory. The others write the same files to a folder that is removed
at the end, so that callers need not distinguish processes. All processes write
checkpoints, to a shared folder. They must agree on every decision that depends
on a clock or a signal, or they would wait for each other forever.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 30  # without a sign of life for so long, a process is lost


def join(
  coordinator: str | None = None,
  count: int | None = None,
  index: int | None = None,
  *,
  cluster: bool = False,
) -> None:
  """Joins the other processes, if there are any. Call it before jax is used.

  Args:
    coordinator: "host:port" of process 0, with `count` and `index`.
    count: of processes.
    index: of this one, from 0.
    cluster: jax finds the others itself (TPU pods, SLURM, Open MPI,
      Kubernetes). It is not needed if `launched` recognises the launcher.

  Raises:
    ValueError: only some of the three are set, or they are out of range.
  """
  flags = (coordinator, count, index)
  if any(x is not None for x in flags):
    if any(x is None for x in flags):
      raise ValueError(
        f"--coordinator={coordinator} --processes={count} --process={index}: "
        "give all three to every process, or none of them."
      )
    if count < 1 or not 0 <= index < count:
      raise ValueError(
        f"--process={index} must be 0 to {count - 1}, one less than "
        f"--processes={count}."
      )
  elif not (cluster or launched(os.environ)):
    return
  jax.distributed.initialize(
    coordinator, count, index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
  )


def launched(environment: Mapping[str, str]) -> bool:
  """Whether the environment is that of one of several launched processes."""
  number = lambda name: int(environment.get(name) or 1)
  pod = environment.get("TPU_WORKER_HOSTNAMES", "")
  return (
    number("SLURM_STEP_NUM_TASKS") > 1  # srun; not a shell of salloc
    or number("OMPI_COMM_WORLD_SIZE") > 1
    or "," in pod
  )


def count() -> int:
  """How many processes run this program."""
  return jax.process_count()


def index() -> int:
  """The index of this process."""
  return jax.process_index()


def first() -> bool:
  """Whether this is process 0, which writes the run directory."""
  return index() == 0


def leave(code: int) -> NoReturn:
  """Ends this process, without waiting for the others.

  A normal exit would wait for all of them, and one may have died.
  """
  # Not count(): where the backend has not started it raises.
  if not jax.distributed.is_initialized():
    sys.exit(code)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def any_of(value: bool) -> bool:
  """Whether `value` is true in any process. All processes must call it."""
  if count() == 1:
    return bool(value)
  return bool(np.any(multihost_utils.process_allgather(np.array(bool(value)))))


def check_same(what: str, value: str) -> None:
  """Raises ValueError if a text differs between processes.

  All processes must call it.

  Args:
    what: a name of the text for the message, such as "config".
    value: the text.
  """
  if count() == 1:
    return
  digest = hashlib.sha256(value.encode()).digest()[:8]
  mine = np.frombuffer(digest, np.uint32)
  others = multihost_utils.process_allgather(mine)
  differing = [i for i, x in enumerate(others) if (x != others[0]).any()]
  if differing:
    raise ValueError(
      f"processes {differing} have another {what} than process 0: start all of "
      "them with the same command, source tree and data."
    )


def fetch(tree: Any) -> Any:
  """A pytree of arrays as whole NumPy arrays.

  Other processes may hold parts of them. All must call it for the same tree.
  """

  def whole(x):
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
      return jax.device_get(x)
    if x.is_fully_replicated:
      return np.asarray(x.addressable_data(0))
    return multihost_utils.process_allgather(x, tiled=True)

  return jax.device_get(tree) if count() == 1 else jax.tree.map(whole, tree)


@contextlib.contextmanager
def log_dir(workdir: Path) -> Iterator[Path]:
  """Where this process writes its logs.

  On process 0 it is the run directory, which is made if missing. On the others
  it is a temporary folder.
  """
  if first():
    workdir.mkdir(parents=True, exist_ok=True)
    yield workdir
    return
  with tempfile.TemporaryDirectory(prefix="rsrc-jax-") as folder:
    yield Path(folder)
