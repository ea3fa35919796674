"""cache.py: compiled programs are kept where the user can say, and memory."""

import platform
import resource
import subprocess
import sys

import pytest

from rsrc_jax.runtime import cache

FAULTS = """
import resource, sys
import numpy as np
from rsrc_jax.runtime import cache
if sys.argv[1] == "kept":
  assert cache.keep_memory()
for _ in range(3):
  np.empty(40 << 20, np.uint8)[::4096] = 1  # more than glibc keeps by itself
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
  np.empty(40 << 20, np.uint8)[::4096] = 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_what_the_user_has_set_stays(tmp_path):
  mine = {"XDG_CACHE_HOME": str(tmp_path)}
  cache.keep_programs(mine)
  assert mine["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "rsrc-jax" / "jax")
  theirs = {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
  cache.keep_programs(theirs)
  assert theirs["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_is_kept_is_not_paid_for_again():
  faults = {
    how: int(
      subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True,
        check=True,
      ).stdout
    )
    for how in ("kept", "plain")
  }  # fmt: skip
  pages = 5 * (40 << 20) // resource.getpagesize()
  assert faults["plain"] > pages // 100  # huge pages may cover many
  assert faults["kept"] < faults["plain"] / 4
