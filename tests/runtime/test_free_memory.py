"""Memory that is free: of the host, of a cgroup, and what is refused."""

import jax
import pytest

from rsrc_jax.runtime import memory, sharding


def test_the_largest_need_is_named_with_both_numbers():
  needs = {"config.a=1": 2e9, "config.b=2": 3e9}
  memory.check(needs, 5e9)
  with pytest.raises(ValueError, match=r"^config\.b=2: 3\.0 GB") as error:
    memory.check(needs, 4e9)
  assert "5.0 GB" in str(error.value) and "4.0 GB" in str(error.value)
  with pytest.raises(ValueError, match="2,000 GB"):
    memory.check({"config.a=1": 2e12}, 4e9)


def test_host_memory_is_what_can_be_given_up(tmp_path):
  (tmp_path / "meminfo").write_text("MemFree: 10 kB\nMemAvailable: 300 kB\n")
  assert memory.available(tmp_path) == 300 * 1024
  assert memory.available(tmp_path / "none") > 0  # another system


def write(folder, **files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, value in files.items():
    (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_a_cgroup_and_those_above_it_bound_what_is_free(tmp_path):
  write(tmp_path / "a", memory__max=1_000, memory__current=400)
  write(tmp_path / "a" / "b", memory__max="max", memory__current=300)
  room = lambda path: memory.room_of_cgroup(tmp_path, f"0::{path}\n")
  assert room("/a/b") == 600
  stat = "anon 5\ninactive_file 150"  # files that were read can be given up
  write(tmp_path / "a", memory__stat=stat)
  assert room("/a/b") == 750
  assert room("/c") == float("inf")


def test_a_cgroup_of_the_first_version_bounds_too(tmp_path):
  folder = tmp_path / "memory" / "x"
  write(folder, memory__limit_in_bytes=900, memory__usage_in_bytes=100)
  line = "4:memory:/x\n3:cpu:/x\n0::/\n"
  assert memory.room_of_cgroup(tmp_path, line) == 800
  assert memory.room_of_cgroup(tmp_path, "") == float("inf")


def test_a_device_on_cpu_has_its_share(monkeypatch):
  monkeypatch.setattr(memory, "available", lambda: 800.0)
  monkeypatch.setattr(memory, "room_of_cgroup", lambda: 400.0)
  count = len(jax.devices())
  assert memory.free(sharding.make_mesh(data=count)) == 400.0 / count
