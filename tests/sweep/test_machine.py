"""What is known of a machine: quotas, shares of cores, processes."""

import os
import subprocess
import sys

import pytest
from helpers.fake_runs import wait_for

from rsrc_jax.runtime import procs
from rsrc_jax.sweep import local, machine


def test_cores_are_shared_out_evenly_and_apart():
  assert local.shares([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3]]
  assert local.shares([3, 7], 2) == [[3], [7]]
  assert local.shares([5, 6, 7], 1) == [[5, 6, 7]]
  assert local.shares([4], 2) == [[4], [4]]  # fewer cores than slots


def test_a_quota_is_the_smallest_of_all_groups_above(tmp_path):
  own = tmp_path / "a" / "b"
  own.mkdir(parents=True)
  of = lambda text="0::/a/b\n": machine.quota(tmp_path, text)
  assert of() is None
  (own / "cpu.max").write_text("max 100000\n")
  assert of() is None
  (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
  assert of() == 1.5
  (own / "cpu.max").write_text("300000 100000\n")
  assert of() == 1.5
  old = tmp_path / "cpu" / "x"
  old.mkdir(parents=True)
  (old / "cpu.cfs_quota_us").write_text("50000\n")
  (old / "cpu.cfs_period_us").write_text("100000\n")
  assert of("4:cpu,cpuacct:/x\n3:memory:/y\n") == 0.5
  (old / "cpu.cfs_quota_us").write_text("-1\n")
  assert of("4:cpu,cpuacct:/x\n") is None


def test_cores_are_capped_by_the_quota(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 2, 9})
  for quota, found in ((None, [2, 4, 9]), (2.7, [2, 4]), (0.5, [2])):
    monkeypatch.setattr(machine, "quota", lambda quota=quota: quota)
    assert machine.cores() == found


@pytest.mark.processes
def test_a_process_is_known_by_its_start_and_its_boot():
  child = subprocess.Popen(
    [sys.executable, "-S", "-c", "import time; time.sleep(60)"],
    start_new_session=True,
    env={machine.MARK: "of test_machine, this one"},
  )
  try:
    who = procs.me(child.pid)
    assert procs.alive(who) and procs.here(who)
    assert not procs.alive(who | {"start": who["start"] + 1})
    assert not procs.alive(who | {"boot": "another"})
    assert machine.session(child.pid) == [child.pid]
    assert machine.resident(child.pid) > 1 << 20
    mark = f"{machine.MARK}=of test_machine, this one".encode()
    wait_for(lambda: mark in machine.environment(child.pid))
    machine.end_marked("another")
    assert procs.alive(who)
    machine.end_marked("of test_machine, this one")
    child.wait(10)
    assert not procs.alive(who)
  finally:
    child.kill()
    child.wait()
