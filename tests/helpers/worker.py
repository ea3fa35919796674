"""What each of two processes does in test_processes.py; says it in JSON."""

import json
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
from absl import logging as absl_logging

from rsrc_jax.runtime import checkpoint, processes, sharding
from rsrc_jax.types import TrainState


def main(port: str, index: int, folder: str) -> dict:
  processes.join(f"localhost:{port}", 2, index)
  mesh = sharding.make_mesh(data=2, fsdp=2)
  batch = sharding.rows(mesh, np.arange(16.0).reshape(8, 2))
  mine = sorted(int(x.data[0, 0]) for x in batch.addressable_shards)
  total = jax.jit(lambda x: x.sum())(batch)
  said = {"rows": mine, "total": float(total)}
  said["whole"] = processes.fetch(batch).tolist()
  said["one_says_yes"] = processes.any_of(index == 1)
  said["none_says_yes"] = processes.any_of(False)
  processes.check_same("config", "as agreed")
  try:
    processes.check_same("config", f"as {index} likes it")
  except ValueError as error:
    said["refused"] = str(error)
  with processes.log_dir(Path(folder) / "run") as where:
    said["log_dir"] = str(where)
  # A state whose parts are split in both ways, and a number.
  params = {"embed": np.arange(32.0, dtype=np.float32).reshape(8, 4)}
  state = TrainState(np.int32(7), params, (), (), (), np.uint32(3))
  state = sharding.put(state, sharding.shardings(mesh, state))
  saver = checkpoint.open_saver(
    Path(folder) / "saved", keep_last=2, keep_best=1, metric="x"
  )
  checkpoint.save(saver, state, {"said": "by all"}, {"x": 1.0})
  checkpoint.close(saver)
  return said


if __name__ == "__main__":
  absl_logging.set_verbosity(absl_logging.ERROR)
  warnings.simplefilter("ignore")
  print(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
