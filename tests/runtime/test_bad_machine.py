"""Disks that are full or read-only, names and clocks that are odd, in a run.

The quick tests call what checks and writes; the slow ones run the command on a
file system of their own.
"""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import runs

from rsrc_jax.output import files
from rsrc_jax.runtime import cards, failures, run_dir, run_log


def fails(number, path=None):
  """A function that raises the OSError of a number."""

  def fail(*arguments, **settings):
    raise OSError(number, os.strerror(number), path)

  return fail


@pytest.mark.parametrize(
  "number, remedy",
  [
    (errno.EROFS, "make it writable"),
    (errno.EACCES, "make it writable"),
    (errno.ENOSPC, "free some space"),
    (errno.EDQUOT, "free some space"),
  ],
)
def test_an_unwritable_workdir_is_one_line_before_any_work(
  tmp_path, monkeypatch, number, remedy
):
  monkeypatch.setattr(files.tempfile, "TemporaryFile", fails(number))
  workdir = tmp_path / "not" / "there"
  with pytest.raises(ValueError) as refused:
    run_dir.check_writable(workdir)
  said = str(refused.value)
  assert said.startswith(f"--workdir={workdir} can't be written to (")
  assert remedy in said and os.strerror(number) in said and "\n" not in said
  assert not list(tmp_path.iterdir())
  # A finished run is only read.
  workdir.mkdir(parents=True)
  (workdir / "summary.json").write_text("{}")
  run_dir.check_writable(workdir)


def test_a_workdir_that_can_be_made_leaves_no_trace_of_the_check(tmp_path):
  run_dir.check_writable(tmp_path / "a" / "b")
  assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_workdir(tmp_path):
  (tmp_path / "file").write_text("")
  for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
    with pytest.raises(ValueError, match=r"--workdir=.*file is no folder"):
      run_dir.check_writable(workdir)


def test_a_name_that_is_not_utf8_is_refused_in_one_line(tmp_path):
  workdir = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
  with pytest.raises(ValueError) as refused:
    run_dir.check_writable(workdir)
  assert "--workdir=" in str(refused.value)
  assert r"caf\udce9 is not UTF-8" in str(refused.value)
  str(refused.value).encode()  # can be printed


@pytest.mark.parametrize(
  "error",
  [
    RuntimeError("Unable to initialize backend 'tpu': no TPU\nand more"),
    RuntimeError(""),
    AssertionError(),
  ],
)
def test_a_backend_that_is_not_there_is_one_line(monkeypatch, error):
  def fail():
    raise error

  monkeypatch.setattr("jax.default_backend", fail)
  monkeypatch.setenv("JAX_PLATFORMS", "tpu")
  with pytest.raises(ValueError) as refused:
    cards.backend()
  said = str(refused.value)
  assert said.startswith("JAX_PLATFORMS=tpu: jax can't start it (")
  assert "JAX_PLATFORMS=cpu" in said and "\n" not in said


def test_a_full_disk_is_named_by_the_flag_and_the_file(tmp_path):
  path = str(tmp_path / "metrics.jsonl")
  error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
  error.add_note("code is saved at step 3.")
  said = failures.line(error, tmp_path)
  assert said.startswith(f"--workdir={tmp_path}: {path}: No space left")
  assert "free some space" in said and said.endswith("saved at step 3.")
  assert failures.code(error) == 1
  # A file of elsewhere is no matter of the workdir.
  error = OSError(errno.EACCES, os.strerror(errno.EACCES), "/data/x.txt")
  assert failures.line(error, tmp_path).startswith("/data/x.txt: Permission")
  assert failures.line(ValueError("config.x=1"), tmp_path) == "config.x=1"
  assert failures.code(ValueError("config.x=1")) == 2
  assert failures.line(KeyError("x"), tmp_path) is None


def test_what_a_library_says_of_a_full_disk_is_an_error_of_the_disk(tmp_path):
  said = "RESOURCE_EXHAUSTED: Error writing: No space left on device [x=1]"
  with pytest.raises(OSError) as found, failures.writing(tmp_path):
    raise ValueError(said)
  assert found.value.errno == errno.ENOSPC
  assert found.value.filename == str(tmp_path)
  with pytest.raises(ValueError, match="shape"), failures.writing(tmp_path):
    raise ValueError("another shape")
  with pytest.raises(OSError) as found, failures.writing(tmp_path):
    try:
      fails(errno.EROFS)()
    except OSError as error:
      raise RuntimeError("a thread has failed") from error
  assert found.value.errno == errno.EROFS


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
def test_a_cut_file_is_named_with_the_remedy(tmp_path, name):
  config = runs.shrunk()
  text = config.to_json_best_effort()
  (tmp_path / "config.json").write_text(text)
  (tmp_path / "summary.json").write_text(text)
  (tmp_path / name).write_text(text[:200])
  with pytest.raises(ValueError) as refused:
    run_dir.summary_of(config, tmp_path)
  said = str(refused.value)
  assert said.startswith(f"{tmp_path / name} is not whole") and "\n" not in said


def test_metrics_that_cannot_be_written_are_kept_for_the_checkpoint(
  tmp_path, monkeypatch
):
  """The next session writes what the full disk has refused, once."""
  log = run_log.Log(tmp_path, quiet=True)
  log.start("code", "code", 0, 6)
  log.train(2, {"loss": 1.0})
  with monkeypatch.context() as patch:
    patch.setattr(files.os, "write", fails(errno.ENOSPC))
    log.train(4, {"loss": 0.5})
    log.valid(4, {"nll_bits": 2.0})
  assert log.failed.errno == errno.ENOSPC
  assert log.failed.filename == str(log.path)
  assert [x["step"] for x in log.unwritten] == [4, 4]
  saved = json.loads(json.dumps(log.unwritten))
  again = run_log.Log(tmp_path, quiet=True)
  again.start("code", "code", 4, 6, saved)
  assert [x["step"] for x in run_log.read_jsonl(again.path)] == [2, 4, 4]


def test_a_run_goes_on_without_tensorboard(tmp_path, monkeypatch, capsys):
  """One line, and no thread that dies of it."""
  log = run_log.Log(tmp_path)
  log.start("code", "code", 0, 6)
  with monkeypatch.context() as patch:
    patch.setattr(files, "append_bytes", fails(errno.ENOSPC, "tensorboard/x"))
    patch.setattr(files, "append", lambda path, value: None)
    log.train(2, {"loss": 1.0})
    log.train(4, {"loss": 1.0})
  log.close()
  said = capsys.readouterr().err
  assert log.failed is None and said.count("without TensorBoard") == 1
  assert "tensorboard/x: No space left on device: free some space." in said


def test_a_clock_that_was_set_back(tmp_path, monkeypatch):
  monkeypatch.setattr(run_log.time, "time", lambda: 0.0)
  log = run_log.Log(tmp_path, quiet=True)
  log.start("code", "code", 0, 6)
  log.compiled(1)
  log.train(3, {"loss": 1.0})
  [line] = run_log.read_jsonl(log.path)
  assert line["steps_per_second"] > 0


# The command, on file systems that are what they are said to be.


@pytest.fixture
def mounted(tmp_path):
  """Mounts a tmpfs with options; -> its folder."""
  folder = tmp_path / "disk"
  folder.mkdir()

  def mount(options):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
      pytest.skip("no file system can be mounted here")
    return folder

  yield mount
  subprocess.run(["umount", str(folder)], capture_output=True)


def one_line(done, flag, code):
  """The last line is the error, there is no other, and no traceback."""
  assert done.returncode == code, done.stderr
  *before, last = done.stderr.strip().splitlines()
  assert last.startswith(f"error: {flag}"), done.stderr
  assert not any("rror" in x or x.startswith(" ") for x in before), done.stderr
  return last


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("loop", ["tiny", "trm"])
def test_a_read_only_workdir_ends_the_command(mounted, loop):
  folder = mounted("ro,size=1m")
  command = [sys.executable, "-m", "rsrc_jax.main", f"--config={loop}"]
  done = subprocess.run(
    [*command, f"--workdir={folder}/run"], env=runs.environment(1),
    cwd=runs.ROOT, capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  last = one_line(done, f"--workdir={folder}/run can't be written to", 2)
  assert "Read-only file system" in last


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("size", ["40k", "160k", "400k"])
def test_a_disk_that_fills_up_ends_the_command_and_room_lets_it_go_on(
  mounted, size
):
  # It is full in the first files, or in a checkpoint.
  folder = mounted(f"size={size}")
  done = runs.run(folder / "run")
  last = one_line(done, f"--workdir={folder}/run: ", 1)
  assert "No space left on device: free some space" in last
  subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
  done = runs.run(folder / "run")
  assert done.returncode == 0, done.stderr
  assert (folder / "run" / "report.html").is_file()
  parts = [x.name for x in (folder / "run").rglob("*.part")]
  assert parts == []


@pytest.mark.slow
@pytest.mark.processes
def test_a_limit_on_files_ends_the_command(tmp_path):
  """A checkpoint outgrows the limit; its library has threads that say so."""
  limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
  environment = runs.environment(1) | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
  done = subprocess.run(
    runs.command(tmp_path / "run"), env=environment, cwd=runs.ROOT,
    capture_output=True, text=True, timeout=300, preexec_fn=limit,
  )  # fmt: skip
  last = one_line(done, f"--workdir={tmp_path}/run: ", 1)
  assert "ulimit -f" in last


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
  "platform, code", [("tpu", 2), ("cuda", 1), ("nonsense", 2)]
)
def test_a_backend_that_is_not_there_ends_the_command(tmp_path, platform, code):
  environment = runs.environment() | {"JAX_PLATFORMS": platform}
  done = subprocess.run(
    runs.command(tmp_path / "run"), env=environment, cwd=runs.ROOT,
    capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  one_line(done, f"JAX_PLATFORMS={platform}", code)
  assert not (tmp_path / "run").exists()
