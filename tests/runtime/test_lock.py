"""lock.py: one process writes a folder; the next one is told who does."""

import contextlib
import errno
import json
import os
import re
import socket
import subprocess
import sys

import pytest

from rsrc_jax.runtime import lock, processes, procs, run_dir

HOLD = """
import sys
from pathlib import Path
from rsrc_jax.runtime import lock
with lock.held(Path(sys.argv[1]), 0):
  print("held", flush=True)
  sys.stdin.read()
"""


@contextlib.contextmanager
def holder(folder):
  """Another process that holds the lock of a folder, until it is ended."""
  child = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(folder)], text=True,
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
  )  # fmt: skip
  try:
    assert child.stdout.readline() == "held\n"
    yield child
  finally:
    child.kill()
    child.communicate()


def refusal(folder, wait=0.0):
  with pytest.raises(ValueError) as error, lock.held(folder, wait):
    pass
  assert "\n" not in str(error.value)
  return str(error.value)


@pytest.mark.processes
def test_a_second_process_is_told_who_writes_and_a_dead_one_is_replaced(
  tmp_path, monkeypatch, capsys
):
  run = tmp_path / "run"
  with holder(run) as child:
    said = refusal(run)
    assert said.startswith(
      f"{run} is being written by process {child.pid} on {socket.gethostname()}"
      " since 20"
    )
    assert re.search(rf"UTC: wait .* \(kill {child.pid} .* --workdir\.$", said)
    # A run's own opening asks the same.
    monkeypatch.setattr(lock, "WAIT", 0.0)
    with pytest.raises(ValueError, match="is being written by process"):
      run_dir.owned(run).__enter__()
    child.kill()
    child.wait()
    assert json.loads((run / "lock").read_text())["pid"] == child.pid
    with lock.held(run, 5.0):
      assert json.loads((run / "lock").read_text())["pid"] == os.getpid()
  assert capsys.readouterr().err == ""


def test_one_process_may_write_again_but_not_twice_at_once(tmp_path):
  for _ in range(2):
    with lock.held(tmp_path, 0.0):
      assert f"process {os.getpid()} on" in refusal(tmp_path, 0.05)
    assert (tmp_path / "lock").read_text() == ""
  with pytest.raises(KeyError), lock.held(tmp_path, 0.0):
    raise KeyError
  with lock.held(tmp_path, 0.0):
    pass


def test_only_process_0_of_a_job_takes_the_lock(tmp_path, monkeypatch):
  monkeypatch.setattr(processes, "first", lambda: False)
  with run_dir.owned(tmp_path):
    assert not (tmp_path / "lock").exists()


def left_by(folder, **changes):
  """A lock file of a process that has not said that it ended."""
  who = {**procs.me(), "since": 1.7e9, **changes}
  (folder / "lock").write_text(json.dumps(who))


def test_a_file_system_without_locks_goes_by_the_text(
  tmp_path, monkeypatch, capsys
):
  import fcntl

  def none(*_):
    raise OSError(errno.ENOLCK, "no locks available")

  monkeypatch.setattr(fcntl, "flock", none)
  left_by(tmp_path)  # this process lives
  assert "written by process" in refusal(tmp_path)
  left_by(tmp_path, host="elsewhere")
  said = refusal(tmp_path)
  assert "on elsewhere since 2023-11-14 22:13:20 UTC" in said
  assert f"or remove {tmp_path / 'lock'} if it has ended" in said
  assert capsys.readouterr().err == ""
  left_by(tmp_path, start=1)  # its number is another one's by now
  with lock.held(tmp_path, 0.0):
    assert "is on a file system without locks" in capsys.readouterr().err
  with lock.held(tmp_path, 0.0):
    pass


def test_a_lock_that_another_host_left_is_taken_and_said(tmp_path, capsys):
  left_by(tmp_path, host="elsewhere")
  with lock.held(tmp_path, 0.0):
    said = capsys.readouterr().err
  assert said.count("\n") == 1 and "on elsewhere since" in said
  assert "it is taken for dead" in said
  (tmp_path / "lock").write_text("no JSON")
  with lock.held(tmp_path, 0.0):
    assert capsys.readouterr().err == ""
