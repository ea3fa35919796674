"""cache.py: programs and tokenizers are kept where the user says."""

import os
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


START = """
import json, sys
from rsrc_jax.runtime import cache
cache.keep_programs()
if len(sys.argv) > 1:
  import resource
  resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
import jax
import jax.numpy as jnp
for i in range(5):
  print(jax.jit(lambda x, i=i: jnp.sin(x) @ x + i)(jnp.ones((8, 8)))[0, 0])
"""


def start(folder, *arguments, **more):
  """A process that compiles programs, with its cache in a folder."""
  kept = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
  return subprocess.Popen(
    [sys.executable, "-c", START, *arguments], stdout=subprocess.PIPE,
    stderr=subprocess.PIPE, text=True,
    env=kept | {"RSRC_CACHE": str(folder)} | more,
  )  # fmt: skip


def ended(process):
  out, said = process.communicate(timeout=100)
  assert process.returncode == 0 and len(out.splitlines()) == 5, said
  return said


def entries(folder):
  return sorted((folder / "jax").glob("*-cache"))


def test_what_the_user_has_set_stays(tmp_path):
  mine = {"XDG_CACHE_HOME": str(tmp_path)}
  cache.keep_programs(mine)
  assert mine["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "rsrc-jax" / "jax")
  assert mine["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(cache.PROGRAMS)
  theirs = {
    "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "theirs"),
    "XLA_FLAGS": "--xla_backend_extra_options=xla_cpu_optimize_for_size",
  }
  before = dict(theirs)
  cache.keep_programs(theirs)
  assert before.items() <= theirs.items()
  assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in theirs
  flags = {"XLA_FLAGS": "--xla_dump_to=x"}
  cache.compile_fast(flags)
  cache.compile_fast(flags)
  assert flags["XLA_FLAGS"].startswith("--xla_dump_to=x --xla_backend")
  assert flags["XLA_FLAGS"].count("--xla_backend_extra_options") == 1


@pytest.mark.slow
def test_two_processes_fill_one_cold_cache(tmp_path):
  both = [start(tmp_path) for _ in range(2)]
  assert [ended(x) for x in both] == ["", ""]
  found = entries(tmp_path)
  assert len(found) >= 5
  assert ended(start(tmp_path)) == ""
  assert entries(tmp_path) == found  # a third one finds everything


@pytest.mark.slow
def test_the_cache_is_bounded(tmp_path):
  most = 8_000
  assert ended(start(tmp_path, JAX_COMPILATION_CACHE_MAX_SIZE=str(most))) == ""
  sizes = [x.stat().st_size for x in entries(tmp_path)]
  assert 0 < sum(sizes) <= most
  assert ended(start(tmp_path / "all")) == ""
  assert sum(x.stat().st_size for x in entries(tmp_path / "all")) > most


def test_a_disk_that_is_full_costs_one_line(tmp_path, monkeypatch, capfd):
  # Files can't grow, as on a full disk: writing fails halfway.
  said = ended(start(tmp_path, "100"))
  assert said.count("\n") == 1 and "can't be kept in" in said
  # What was left half written is gone at the next start, which writes it anew.
  assert ended(start(tmp_path)) == ""
  assert len(entries(tmp_path)) >= 5
  assert all(x.stat().st_size > 100 for x in entries(tmp_path))
  monkeypatch.setattr(cache, "FREE", 1 << 60)
  mine = {"RSRC_CACHE": str(tmp_path / "more")}
  cache.keep_programs(mine)
  assert mine["JAX_ENABLE_COMPILATION_CACHE"] == "false"
  assert "No space left" in capfd.readouterr().err


def test_a_folder_that_is_none_costs_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  said = ended(start(tmp_path / "file"))
  assert said.count("\n") == 1
  assert "can't be kept in" in said and "RSRC_CACHE" in said


def test_an_entry_that_is_cut_short_is_compiled_again(tmp_path):
  ended(start(tmp_path))
  for entry in entries(tmp_path):
    entry.write_bytes(entry.read_bytes()[:50])
  said = ended(start(tmp_path))
  assert said.count("\n") == 1 and "compiled again" in said


def test_runs_share_their_tokenizers(tmp_path):
  """One folder for all run directories, where the user says."""
  mine = {"RSRC_CACHE": str(tmp_path / "mine")}
  for run in ("a", "b"):
    found = cache.tokenizers(tmp_path / run, mine)
    assert found == tmp_path / "mine" / "tokenizers" and found.is_dir()
  home = {"XDG_CACHE_HOME": str(tmp_path / "home")}
  expected = tmp_path / "home" / "rsrc-jax" / "tokenizers"
  assert cache.tokenizers(tmp_path / "a", home) == expected


def test_a_cache_that_is_out_of_reach_is_not_used(tmp_path):
  (tmp_path / "file").write_text("")  # in the place of a folder
  mine = {"RSRC_CACHE": str(tmp_path / "file")}
  with pytest.warns(UserWarning, match="can't be written to.*RSRC_CACHE"):
    assert cache.tokenizers(tmp_path / "run", mine) == tmp_path / "run"


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
