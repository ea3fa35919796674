"""The steps of benchmarks/gpu.sh: arithmetic by hand, and all in toy form."""

import ctypes
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.gpu import mismatch, nvml, seeds, speed, timing
from benchmarks.gpu import run as gpu
from benchmarks.gpu.table import STEPS, page
from rsrc_jax.accounting import flops
from rsrc_jax.models import pretrained

ROOT = Path(gpu.__file__).resolve().parents[2]

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
  assert timing.kernels(HLO) == 2 + 5 * 3 + 1 * 3
  assert timing.kernels(HLO, trips=7) == 2 + 5 * 3 + 7 * 3


RATES = timing.Rates(
  {"float32": 1e12, "float32 highest": 5e11, "bfloat16": 4e12}, 1e11, 1e-5
)


def test_a_floor_is_the_longer_of_products_and_bytes():
  # 8e12 FLOPs take 2 s at 4e12 a second; 1e11 bytes 1 s, 4e11 bytes 4 s.
  bound = lambda moved: timing.bound(8e12, moved, RATES, "bfloat16")
  assert bound(1e11) == (2.0, "products")
  assert bound(4e11) == (4.0, "bytes")


def test_seeds_share_the_kernels_and_not_the_work():
  predicted = lambda work, n: seeds.predicted(work, n, RATES)
  # 200 kernels of 10 us are 2 ms, whatever the seeds; 1e9 FLOPs are 1 ms each.
  work = seeds.Work(flops=1e9, moved=0.0, kernels=200)
  assert predicted(work, 1) == pytest.approx(3e-3)
  assert predicted(work, 5) == pytest.approx(7e-3)
  # 5 single runs take 15 ms.
  found = seeds.forecast(work, 5, RATES)
  speedup = found["predicted: five single runs take as long, x"]
  assert speedup == pytest.approx(15 / 7)
  # 1e9 bytes are 10 ms, beside which products are hidden.
  work = seeds.Work(flops=1e9, moved=1e9, kernels=0)
  assert predicted(work, 2) == pytest.approx(20e-3)


def test_mismatch_by_hand():
  # Two outputs of two tokens; the last token is masked. d is learner less
  # sampler: ln 2, 0 and 0. r = 2, 1, 1.
  sampler = np.zeros((2, 1, 2), np.float32)
  learner = sampler + np.float32([[[math.log(2), 0]], [[0, 9]]])
  mask = np.array([[[True, True]], [[True, False]]])
  found = mismatch.compared(sampler, learner, mask)
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
  found = mismatch.alike({1: last[:1].copy(), 8: eight, 64: last})
  assert found == "at 1: 1 of 1, at 8: 7 of 8"
  # 0 and -0 are equal, and are other bits.
  zero = np.zeros((64, 1, 1), np.float32)
  assert mismatch.alike({1: -zero[:1], 64: zero}) == "at 1: 0 of 1"


@pytest.mark.parametrize(
  ("size", "count"),
  # 4M: V D + L (4 D^2 + 3 D H + 2 D) + D. The others: as their makers say.
  [("4M", 4_262_144), ("135M", 134_515_008), ("1B", 1_235_814_400)],
)
def test_the_sizes_are_those_of_the_models(size, count):
  policy = pretrained.make(**pretrained.settings(speed.SHAPES[size]))
  shapes = jax.eval_shape(policy.init, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(shapes)) == count


def test_calls_take_turns_and_the_first_is_not_counted():
  calls = []
  found = timing.in_turns(
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
  bound = nvml.bind(Fake)
  bound.nvmlInit()
  assert bound.nvmlDeviceGetCount() == 2
  first, second = map(bound.nvmlDeviceGetHandleByIndex, range(2))
  assert bound.nvmlDeviceGetTotalEnergyConsumption(first) == 2**40 + 100
  assert bound.nvmlDeviceGetPowerUsage(second) == 350_000
  with pytest.raises(OSError, match="TotalEnergyConsumption answered 3"):
    bound.nvmlDeviceGetTotalEnergyConsumption(second)


# The whole script, small.


@pytest.mark.slow
@pytest.mark.processes
def test_the_toy_fills_every_figure(tmp_path):
  """Each row and column of the page has a step that writes it."""
  from helpers import runs

  program = [
    sys.executable, "benchmarks/gpu/run.py", "--toy", f"--out={tmp_path}",
    "--seconds=3000",
  ]  # fmt: skip
  env = runs.environment(devices=1)
  done = subprocess.run(
    program, cwd=ROOT, env=env, capture_output=True, text=True, timeout=3_000
  )
  found = gpu.read(tmp_path, toy=True)
  for name, step in STEPS.items():
    values, log = found[name]["values"], (tmp_path / f"{name}.log").read_text()
    assert found[name]["status"] == "done", log[-2_000:]
    assert values.keys() == {*step.rows}, log[-2_000:]
    for row, cell in values.items():
      assert cell.keys() == {*step.columns}, (row, cell)
  assert done.returncode == 0, done.stdout[-2_000:]
  # Again: nothing is left, and nothing counts.
  again = subprocess.run(
    [*program, "--only=device,parity"], cwd=ROOT, env=env,
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert again.stdout.count("stored already") == 2
  assert page(gpu.read(tmp_path)) == page({})


@pytest.mark.slow
@pytest.mark.parametrize("size", speed.SIZES)
def test_programs_of_full_size_lower_for_a_card(size):
  """Update and decoding; their FLOPs are near 6 N and 2 N a token."""
  case = speed.build(size, "bfloat16", toy=False, abstract=True)
  full = jax.ShapeDtypeStruct((speed.PROMPTS, 1), np.int32)
  sample = case.sample.trace(case.params, case.prompt, case.keys, full)
  update = case.update.trace(case.params, case.state, case.work)
  for traced in (sample, update):
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.dot_general" in text
  count = sum(x.size for x in jax.tree.leaves(case.params))
  sequences = speed.PROMPTS * speed.GROUP
  found = flops.evaluate(flops.count(update.jaxpr))["hardware"]
  # The prompts, an eighth of the tokens, are read too, and attention comes on
  # top of the weights.
  assert 1.1 < found / (6 * count * sequences * speed.NEW) < 1.25
  counted = flops.count(sample.jaxpr, ("C",))
  at = lambda n: flops.evaluate(counted, {"C": n})["hardware"]
  assert 1.0 < (at(5) - at(4)) / (2 * count * sequences) < 1.1


@pytest.mark.slow
def test_shapes_are_those_of_the_compiler_benchmark():
  code = (
    "from benchmarks.gpu.speed import SHAPES as a\n"
    "from tools.aot_compile import SHAPES as b\n"
    "assert a['135M'] == b['smollm2-135m']"
  )
  env = os.environ | {"PYTHONPATH": str(ROOT)}
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
