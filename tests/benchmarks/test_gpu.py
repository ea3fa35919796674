"""benchmarks/gpu/run.py: which steps run, what is kept of them and shown."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.gpu import energy as gpu_energy
from benchmarks.gpu import run as gpu
from benchmarks.gpu.table import NOT_RUN, STEPS, page, section

ROOT = Path(gpu.__file__).resolve().parents[2]
CARD = {
  "backend": "gpu", "device": "a card", "driver": "1", "jax": "2",
  "revision": "3", "files": "4", "toy": False,
}  # fmt: skip
CPU = CARD | {"backend": "cpu", "device": "cpu", "toy": True}


def asked(**changes):
  """The flags of a run."""
  found = {"seconds": 480.0, "again": False}
  return argparse.Namespace(**found | changes)


def result(here=CARD, status="done", values=None, **more):
  return gpu.made(here, status, values or {}, seconds=1.0, error="", **more)


# Which steps run.


def test_a_step_runs_once_for_a_card_and_its_files():
  decide = lambda stored, here=CARD, again=False, left=1e3: gpu.decide(
    "device", stored, here, again, left
  )
  assert decide(None) == "run"
  assert decide(result()) == "stored"
  assert decide(result(), again=True) == "run"
  for status in ("failed", "partial"):
    assert decide(result(status=status)) == "run"
  for name in ("device", "driver", "jax", "files"):
    assert decide(result(), CARD | {name: "another"}) == "run"
  # A commit that changes none of the files makes no result stale.
  assert decide(result(), CARD | {"revision": "another"}) == "stored"


def test_a_step_that_would_not_fit_is_skipped():
  need = STEPS["device"].seconds
  decide = lambda left: gpu.decide("device", None, CARD, False, left)
  assert decide(need) == "run"
  assert decide(need - 0.1) == "late"


def test_only_names_steps_and_keeps_their_order():
  assert gpu.chosen("") == [*STEPS]
  assert gpu.chosen("seeds,device") == ["device", "seeds"]
  with pytest.raises(SystemExit, match="'kernel' is none of"):
    gpu.chosen("kernel")


def test_what_is_left_runs_and_what_does_not_fit_is_named(
  tmp_path, monkeypatch, capsys
):
  ran = []

  def run_step(name, out, here, limit):
    ran.append((name, limit))
    status = "failed" if name == "parity" else "done"
    gpu.store(gpu.result_path(out, name, False), result(status=status))
    return result(status=status)

  monkeypatch.setattr(gpu, "run_step", run_step)
  gpu.store(tmp_path / "device.json", result())
  now = time.time()
  # 120 seconds are left: enough for parity and text, not for the default run.
  names = ["device", "parity", "default", "text"]
  left = gpu.run_all(names, tmp_path, CARD, asked(seconds=150), now - 30)
  assert [name for name, _ in ran] == ["parity", "text"]
  assert left == ["parity", "default"]
  assert all(limit <= 120 for _, limit in ran)
  said = capsys.readouterr().out
  assert "device: stored already" in said
  assert "default: skipped, since it takes 300 s" in said
  # Again, with time: only what failed or was skipped.
  ran.clear()
  gpu.run_all(names, tmp_path, CARD, asked(), time.time())
  assert [name for name, _ in ran] == ["parity", "default"]


def test_the_steps_fit_into_the_time_that_is_given():
  assert gpu.START + sum(x.seconds for x in STEPS.values()) <= 1_300
  assert all(x.seconds < x.limit for x in STEPS.values())
  assert gpu_energy.SECONDS >= 20
  assert f"{gpu.START + sum(x.seconds for x in STEPS.values())} s in all" in (
    gpu.listed()
  )


def test_a_step_that_hangs_leaves_time_to_end_it():
  limit = lambda left, toy=False: gpu.limit_of("device", toy, left)
  step = STEPS["device"]
  assert limit(1e3) == step.limit
  assert limit(40.0) == 40.0 - gpu.GRACE
  assert limit(step.seconds + 1) == step.seconds
  assert limit(1e3, toy=True) == 1e3


def test_steps_use_the_card_or_fail_and_share_programs(monkeypatch):
  for name in ("JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR"):
    monkeypatch.delenv(name, raising=False)
  found = gpu.environment(toy=False)
  assert found["JAX_PLATFORMS"] == "cuda,cpu"
  assert found["JAX_COMPILATION_CACHE_DIR"].endswith("jax")
  assert found["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
  assert gpu.environment(toy=True)["JAX_PLATFORMS"] == "cpu"
  monkeypatch.setenv("JAX_PLATFORMS", "rocm")
  assert gpu.environment(toy=False)["JAX_PLATFORMS"] == "rocm"


def test_a_card_that_jax_does_not_see_is_an_error(monkeypatch):
  monkeypatch.setattr(gpu, "driver_version", lambda: "580.1")
  cpu = {"backend": "cpu", "device": "cpu"}
  monkeypatch.setattr(gpu, "seen", lambda: cpu)
  with pytest.raises(SystemExit, match=r"580\.1.*jax\[cuda13\].*--toy"):
    gpu.probe(False)
  assert gpu.probe(True)["toy"]
  # No driver and no card: a rehearsal.
  monkeypatch.setattr(gpu, "driver_version", lambda: None)
  assert gpu.probe(False)["toy"]
  card = {"backend": "gpu", "device": "H100"}
  monkeypatch.setattr(gpu, "seen", lambda: card)
  found = gpu.probe(False)
  assert (found["toy"], found["device"]) == (False, "H100")


def test_the_script_takes_the_interpreter_of_the_launchers(tmp_path):
  for folder in ("benchmarks", "tools"):
    (tmp_path / folder).mkdir()
  script = tmp_path / "benchmarks" / "gpu.sh"
  shutil.copy(ROOT / "benchmarks" / "gpu.sh", script)
  stub = f"root={tmp_path}; python=echo\n"
  (tmp_path / "tools" / "env.sh").write_text(stub)
  said = subprocess.run(
    [script, "--only=device", "--out=a b"], capture_output=True, text=True,
    check=True,
  ).stdout  # fmt: skip
  program, begun, *rest = said.split(" ", 2)
  assert program == f"{tmp_path}/benchmarks/gpu/run.py"
  assert abs(float(begun.removeprefix("--begun=")) - time.time()) < 60
  assert rest == ["--only=device --out=a b\n"]


# A step's process.


ROW = """
import json, sys
from pathlib import Path
path = Path(sys.argv[1])
result = json.loads(path.read_text())
result["values"] = {"card": {"value": "seen"}}
path.write_text(json.dumps(result))
"""


@pytest.fixture
def step(tmp_path, monkeypatch):
  """step(code, limit) -> the result of a step whose process runs the code."""

  def run(code, limit=60.0):
    path = tmp_path / "device.json"
    program = [sys.executable, "-c", ROW + code, str(path)]
    monkeypatch.setattr(gpu, "command", lambda *_: program)
    found = gpu.run_step("device", tmp_path, CARD, limit)
    assert json.loads(path.read_text()) == found
    return found

  return run


def test_a_step_that_ends_well_is_done(step):
  found = step("")
  assert found["status"] == "done" and not found["error"]
  assert found["values"] == {"card": {"value": "seen"}}
  assert (found["here"], found["toy"]) == (CARD, False)


def test_a_step_that_fails_keeps_its_rows_and_its_last_line(step):
  found = step("raise ValueError('no such\\nkernel')")
  assert found["status"] == "failed"
  assert found["error"] == "kernel (1)"
  assert found["values"] == {"card": {"value": "seen"}}
  assert step("import os; os.abort()")["error"].endswith("(-6)")


def test_a_step_that_hangs_is_ended_with_all_that_it_started(step, tmp_path):
  child = tmp_path / "child"
  begun = time.monotonic()
  found = step(
    "import subprocess, time\n"
    "p = subprocess.Popen([sys.executable, '-c', 'import time; "
    "time.sleep(600)'])\n"
    f"Path({str(child)!r}).write_text(str(p.pid))\n"
    "time.sleep(600)",
    limit=1.5,
  )
  assert found["error"] == "ended after 2 s, its limit"
  assert found["values"] == {"card": {"value": "seen"}}
  assert time.monotonic() - begun < 60
  state = Path(f"/proc/{child.read_text()}/stat")
  until = time.monotonic() + 30
  while state.exists() and " Z " not in state.read_text():
    assert time.monotonic() < until, "the grandchild lives"
    time.sleep(0.05)


def test_rows_are_stored_one_by_one_and_an_error_fails_the_step(
  tmp_path, monkeypatch
):
  path, seen = tmp_path / "device.json", []

  def device(toy, out):
    yield "card", {"value": "one"}
    seen.append(json.loads(path.read_text())["values"])
    yield "driver", {"error": "no driver"}
    yield "CUDA", {"value": "two"}

  module = SimpleNamespace(device=device)
  monkeypatch.setattr(gpu.importlib, "import_module", lambda _: module)
  with pytest.raises(SystemExit, match="1 rows failed, the first: no driver"):
    gpu.child("device", tmp_path, CARD, False)
  assert seen == [{"card": {"value": "one"}}]
  stored = json.loads(path.read_text())
  assert [*stored["values"]] == ["card", "driver", "CUDA"]
  assert stored["status"] == "partial"  # until the runner has seen its end
  text = "\n".join(section("device", stored))
  assert "| driver | failed: no driver |" in text and "It was cut." in text


# The page.


def cells(text):
  """All cells of figures of a page."""
  rows = [x for x in text.splitlines() if re.match(r"\| [^|]", x)]
  kept = [x.strip("|").split(" | ")[1:] for x in rows]
  return [c.strip(" |") for row in kept for c in row]


FIGURES = sum(len(x.rows) * len(x.columns) for x in STEPS.values())


def test_without_results_every_figure_reads_not_run():
  text = page({})
  figures = [c for c in cells(text) if c == NOT_RUN]
  assert len(figures) == FIGURES
  assert text.count("Not run;") == len(STEPS)
  assert "nothing below was run" in text


def test_what_was_run_stands_in_the_page_and_the_rest_reads_not_run():
  values = {"card": {"value": "H100"}, "in place, GB/s": {"value": 3012.7}}
  text = page({"device": result(values=values)})
  assert "| card | H100 |" in text and "| in place, GB/s | 3,013 |" in text
  assert "a card, driver 1, jax 2; revision 3, files 4" in text
  assert len([c for c in cells(text) if c == NOT_RUN]) == FIGURES - 2
  assert "nothing below was run" not in text


def test_toy_results_never_reach_the_page(tmp_path):
  toy = result(CPU, values={"card": {"value": "toy"}})
  assert page({"device": toy}) == page({})
  # Nor do they meet real ones in a folder.
  gpu.store(gpu.result_path(tmp_path, "device", True), toy)
  assert gpu.read(tmp_path) == {}
  assert gpu.read(tmp_path, toy=True) == {"device": toy}


def test_the_stored_page_is_that_of_the_stored_results():
  stored = (ROOT / "benchmarks" / "gpu.md").read_text()
  assert stored == page(gpu.read(gpu.OUT))


# What a machine without network is given.


def test_the_tracked_tree_is_light():
  if gpu.git("rev-parse", "--is-inside-work-tree") != "true":
    pytest.skip("no git checkout")
  assert gpu.tracked() < 60e6
  assert re.search(r"tracked files [\d.]+ MB, \.beside", gpu.weight())
