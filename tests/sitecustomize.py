"""Read at the start of each process that the tests start, and by no other.

helpers/runs.environment puts this folder on their path. Their collector of
cycles comes less often, as in the tests' own process (conftest.py): it changes
nothing but their time.
"""

import gc

gc.set_threshold(50_000, 20, 50)
