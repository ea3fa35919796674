"""The command line, in a process that ends itself at a named point.

    python ended_run.py KILL code:4 --workdir=... --config=...

sends its own process SIGKILL as soon as the checkpoint of step 4 of the stage
`code` is written; with `writing:code:4`, while it is being written. TERM sends
SIGTERM in place of SIGKILL.
"""

import os
import signal
import sys
import threading
import time

from absl import app

from rsrc_jax import main
from rsrc_jax.runtime import checkpoint


def end_at(number: signal.Signals, point: str) -> None:
  """Has checkpoint.save end this process when it comes to `point`."""
  *writing, stage, step = point.split(":")
  real = checkpoint.save
  end = lambda: os.kill(os.getpid(), number)

  def save(saver, state, host, metrics):
    here = saver.directory.name == stage and int(state.step) == int(step)
    if here and writing:

      def watch():
        while not any("tmp" in path.name for path in saver.directory.iterdir()):
          time.sleep(1e-4)
        end()

      threading.Thread(target=watch, daemon=True).start()
    real(saver, state, host, metrics)
    if here:
      end()

  checkpoint.save = save


if __name__ == "__main__":
  name, point = sys.argv[1:3]
  end_at(signal.Signals[f"SIG{name}"], point)
  del sys.argv[1:3]
  app.run(main.main)
