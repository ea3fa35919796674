"""The codes of a finished run, token by token: in the terminal and as a page.

./.venv/bin/python tools/show_codes.py RUN [--arm=code,qa] [--rows=8]
"""

import sys

from rsrc_jax.report.codes_text import main

if __name__ == "__main__":
  sys.exit(main())
