"""benchmarks/gpu.py: what is run, kept and shown; its arithmetic; its toy."""

import argparse
import ctypes
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks import (
  gpu,
  gpu_energy,
  gpu_mismatch,
  gpu_nvml,
  gpu_seeds,
  gpu_speed,
  gpu_timing,
)
from benchmarks.gpu_table import NOT_RUN, STEPS, page, section
from rsrc_jax.accounting import flops
from rsrc_jax.models import pretrained

ROOT = Path(gpu.__file__).resolve().parents[1]
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
  # 60 seconds are left: enough for parity and text, not for the default run.
  names = ["device", "parity", "default", "text"]
  left = gpu.run_all(names, tmp_path, CARD, asked(seconds=90), now - 30)
  assert [name for name, _ in ran] == ["parity", "text"]
  assert left == ["parity", "default"]
  assert all(limit <= 60 for _, limit in ran)
  said = capsys.readouterr().out
  assert "device: stored already" in said
  assert "default: skipped, since it takes 85 s" in said
  # Again, with time: only what failed or was skipped.
  ran.clear()
  gpu.run_all(names, tmp_path, CARD, asked(), time.time())
  assert [name for name, _ in ran] == ["parity", "default"]


def test_the_steps_fit_into_eight_minutes():
  assert gpu.START + sum(x.seconds for x in STEPS.values()) <= 480
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


# Arithmetic.


HLO = """HloModule m, num_partitions=1

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[4]{0} get-tuple-element(%p), index=1
  %f = f32[4]{0} fusion(%x), kind=kLoop, calls=%inner
  %d = f32[4]{0} custom-call(%f), custom_call_target="__cublas$gemm"
  ROOT %t = (s32[], f32[4]) tuple(%i, %d)
}

%test (p: (s32[], f32[4])) -> pred[] {
  %p = (s32[], f32[4]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %c = pred[] fusion(%i), kind=kLoop, calls=%inner
}

%graph (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %a = f32[4]{0} fusion(%x), kind=kLoop, calls=%inner
  ROOT %b = f32[4]{0} fusion(%a), kind=kLoop, calls=%inner
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %z = s32[] constant(0)
  %g = f32[4]{0} call(%x), to_apply=%graph
  %t = (s32[], f32[4]) tuple(%z, %g)
  %w = (s32[], f32[4]) while(%t), condition=%test, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %v = (s32[], f32[4]) while(%w), condition=%test, body=%body
  ROOT %r = f32[4]{0} get-tuple-element(%v), index=1
}
"""  # noqa: E501


def test_kernels_of_a_program_are_counted_with_its_loops():
  # The graph has 2. A turn of a loop has the body's 2 and the test's 1; one
  # loop is known to turn 5 times, the other is taken to turn as often as said.
  assert gpu_timing.kernels(HLO) == 2 + 5 * 3 + 1 * 3
  assert gpu_timing.kernels(HLO, trips=7) == 2 + 5 * 3 + 7 * 3


RATES = gpu_timing.Rates(
  {"float32": 1e12, "float32 highest": 5e11, "bfloat16": 4e12}, 1e11, 1e-5
)


def test_a_floor_is_the_longer_of_products_and_bytes():
  # 8e12 FLOPs take 2 s at 4e12 a second; 1e11 bytes 1 s, 4e11 bytes 4 s.
  bound = lambda moved: gpu_timing.bound(8e12, moved, RATES, "bfloat16")
  assert bound(1e11) == (2.0, "products")
  assert bound(4e11) == (4.0, "bytes")


def test_seeds_share_the_kernels_and_not_the_work():
  predicted = lambda work, n: gpu_seeds.predicted(work, n, RATES)
  # 200 kernels of 10 us are 2 ms, whatever the seeds; 1e9 FLOPs are 1 ms each.
  work = gpu_seeds.Work(flops=1e9, moved=0.0, kernels=200)
  assert predicted(work, 1) == pytest.approx(3e-3)
  assert predicted(work, 5) == pytest.approx(7e-3)
  # 5 single runs take 15 ms.
  found = gpu_seeds.forecast(work, 5, RATES)
  speedup = found["predicted: five single runs take as long, x"]
  assert speedup == pytest.approx(15 / 7)
  # 1e9 bytes are 10 ms, beside which products are hidden.
  work = gpu_seeds.Work(flops=1e9, moved=1e9, kernels=0)
  assert predicted(work, 2) == pytest.approx(20e-3)


def test_mismatch_by_hand():
  # Two outputs of two tokens; the last token is masked. d is learner less
  # sampler: ln 2, 0 and 0. r = 2, 1, 1.
  sampler = np.zeros((2, 1, 2), np.float32)
  learner = sampler + np.float32([[[math.log(2), 0]], [[0, 9]]])
  mask = np.array([[[True, True]], [[True, False]]])
  found = gpu_mismatch.compared(sampler, learner, mask)
  near = lambda x: pytest.approx(x, abs=1e-6)
  assert found["KL a token, nats"] == near((1 - math.log(2)) / 3)
  assert found["the same, estimated directly"] == near(-math.log(2) / 3)
  assert found["largest difference of a log-probability"] == near(math.log(2))
  # (2 + 1 + 1)^2 / (3 (4 + 1 + 1)), and (2 + 1)^2 / (2 (4 + 1)).
  assert found["effective sample size, tokens"] == near(16 / 18)
  assert found["effective sample size, outputs"] == near(9 / 10)


def test_rows_are_compared_bit_by_bit():
  last = np.arange(64 * 6, dtype=np.float32).reshape(64, 2, 3)
  eight = last[:8].copy()
  eight[5, 1, 2] = np.nextafter(eight[5, 1, 2], np.float32(1e9))
  found = gpu_mismatch.alike({1: last[:1].copy(), 8: eight, 64: last})
  assert found == "at 1: 1 of 1, at 8: 7 of 8"
  # 0 and -0 are equal, and are other bits.
  zero = np.zeros((64, 1, 1), np.float32)
  assert gpu_mismatch.alike({1: -zero[:1], 64: zero}) == "at 1: 0 of 1"


@pytest.mark.parametrize(
  ("size", "count"),
  # 4M: V D + L (4 D^2 + 3 D H + 2 D) + D. The others: as their makers say.
  [("4M", 4_262_144), ("135M", 134_515_008), ("1B", 1_235_814_400)],
)
def test_the_sizes_are_those_of_the_models(size, count):
  policy = pretrained.make(**pretrained.settings(gpu_speed.SHAPES[size]))
  shapes = jax.eval_shape(policy.init, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(shapes)) == count


def test_calls_take_turns_and_the_first_is_not_counted():
  calls = []
  found = gpu_timing.in_turns(
    {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
    rounds=5, inner=2,
  )  # fmt: skip
  assert "".join(calls) == "ab" + "bbaa" + "aabb" + "bbaa" + "aabb" + "bbaa"
  assert found.keys() == {"a", "b"}


class Fake:
  """libnvidia-ml of two boards; the second refuses its energy."""

  nvmlInit_v2 = nvmlShutdown = staticmethod(lambda: 0)

  @staticmethod
  def nvmlDeviceGetCount_v2(found):
    found._obj.value = 2
    return 0

  @staticmethod
  def nvmlDeviceGetHandleByIndex_v2(index, found):
    found._obj.value = 100 + index.value
    return 0

  @staticmethod
  def nvmlDeviceGetTotalEnergyConsumption(handle, found):
    found._obj.value = 2**40 + handle.value
    return 3 if handle.value == 101 else 0

  @staticmethod
  def nvmlDeviceGetPowerUsage(handle, found):
    assert isinstance(found._obj, ctypes.c_uint)
    found._obj.value = 350_000
    return 0


def test_nvml_is_read_without_pynvml():
  nvml = gpu_nvml.bind(Fake)
  nvml.nvmlInit()
  assert nvml.nvmlDeviceGetCount() == 2
  first, second = map(nvml.nvmlDeviceGetHandleByIndex, range(2))
  assert nvml.nvmlDeviceGetTotalEnergyConsumption(first) == 2**40 + 100
  assert nvml.nvmlDeviceGetPowerUsage(second) == 350_000
  with pytest.raises(OSError, match="TotalEnergyConsumption answered 3"):
    nvml.nvmlDeviceGetTotalEnergyConsumption(second)


# The whole script, small.


@pytest.mark.slow
@pytest.mark.processes
def test_the_toy_fills_every_figure(tmp_path):
  """Each row and column of the page has a step that writes it."""
  from helpers import runs

  program = [
    sys.executable, "benchmarks/gpu.py", "--toy", f"--out={tmp_path}",
    "--seconds=3000",
  ]  # fmt: skip
  env = runs.environment(devices=1)
  done = subprocess.run(
    program, cwd=ROOT, env=env, capture_output=True, text=True, timeout=3_000
  )
  found = gpu.read(tmp_path, toy=True)
  ask = [sys.executable, "-m", "rsrc_jax.sweep", "--help"]
  told = subprocess.run(ask, cwd=ROOT, env=env, capture_output=True, text=True)
  together = "--together" in told.stdout
  for name, step in STEPS.items():
    values, log = found[name]["values"], (tmp_path / f"{name}.log").read_text()
    if name == "seeds" and not together:
      assert "together" in values["seconds"]["error"], log[-2_000:]
      continue
    assert found[name]["status"] == "done", log[-2_000:]
    assert values.keys() == {*step.rows}, log[-2_000:]
    for row, cell in values.items():
      assert cell.keys() == {*step.columns}, (row, cell)
  assert done.returncode == (0 if together else 1), done.stdout[-2_000:]
  # Again: nothing is left, and nothing counts.
  again = subprocess.run(
    [*program, "--only=device,parity"], cwd=ROOT, env=env,
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert again.stdout.count("stored already") == 2
  assert page(gpu.read(tmp_path)) == page({})


@pytest.mark.slow
@pytest.mark.parametrize("size", gpu_speed.SIZES)
def test_programs_of_full_size_lower_for_a_card(size):
  """Update and decoding; their FLOPs are near 6 N and 2 N a token."""
  case = gpu_speed.build(size, "bfloat16", toy=False, abstract=True)
  full = jax.ShapeDtypeStruct((gpu_speed.PROMPTS, 1), np.int32)
  sample = case.sample.trace(case.params, case.prompt, case.keys, full)
  update = case.update.trace(case.params, case.state, case.work)
  for traced in (sample, update):
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.dot_general" in text
  count = sum(x.size for x in jax.tree.leaves(case.params))
  sequences = gpu_speed.PROMPTS * gpu_speed.GROUP
  found = flops.evaluate(flops.count(update.jaxpr))["hardware"]
  # The prompts, an eighth of the tokens, are read too, and attention comes on
  # top of the weights.
  assert 1.1 < found / (6 * count * sequences * gpu_speed.NEW) < 1.25
  counted = flops.count(sample.jaxpr, ("C",))
  at = lambda n: flops.evaluate(counted, {"C": n})["hardware"]
  assert 1.0 < (at(5) - at(4)) / (2 * count * sequences) < 1.1


@pytest.mark.slow
def test_shapes_are_those_of_the_compiler_benchmark():
  code = (
    "from benchmarks.gpu_speed import SHAPES as a\n"
    "from tools.aot_compile import SHAPES as b\n"
    "assert a['135M'] == b['smollm2-135m']"
  )
  env = os.environ | {"PYTHONPATH": str(ROOT)}
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
