"""python -m rsrc_jax.report RUN_DIR: writes the report of a run."""

import sys

from rsrc_jax.report import run_report

if __name__ == "__main__":
  sys.exit(run_report.main(sys.argv[1:]))
